"Wrong answers to the exercises of lesson 05, and a part of what each check must say."
WRONG = [
    ("check_reported_bits", """
def reported_bits(nats, dims, std, levels=256):
    return nats / dims / math.log(2)
""", "changed the unit only"),
    ("check_reported_bits", """
def reported_bits(nats, dims, std, levels=256):
    return bits_per_dim(nats, dims, levels)
""", "you forgot the standard deviation"),
    ("check_reported_bits", """
def reported_bits(nats, dims, std, levels=256):
    return bits_per_dim(nats, dims, levels) - math.log2(std)
""", "the wrong way"),
    ("check_reported_bits", """
def reported_bits(nats, dims, std, levels=256):
    return bits_per_dim(nats, dims) + math.log2(levels * std) / dims
""", "one dimension only"),
    ("check_reported_bits", """
def reported_bits(nats, dims, std, levels=256):
    return nats / dims + math.log(levels * std)
""", "still in nats"),
    ("check_reported_bits", """
def reported_bits(nats, dims, std, levels=256):
    return bits_per_dim(nats, dims, 256) + math.log2(std)
""", "you always add 8 bits"),
    ("check_method_difference", """
def method_difference(a, b):
    d = Estimate(a.mean(0) - b.mean(0))
    return d.mean, d.standard_error
""", "your ± is over images"),
    ("check_method_difference", """
def method_difference(a, b):
    error = (a.var() / a.numel() + b.var() / b.numel()).sqrt()
    return a.mean() - b.mean(), error
""", "a training of its own"),
    ("check_method_difference", """
def method_difference(a, b):
    a, b = Estimate(a.mean(1)), Estimate(b.mean(1))
    return a.mean - b.mean, a.standard_error + b.standard_error
""", "the squares add"),
    ("check_method_difference", """
def method_difference(a, b):
    d = Estimate(a.mean(1) - b.mean(1))
    return d.mean, d.standard_error
""", "they share nothing"),
    ("check_method_difference", """
def method_difference(a, b):
    a, b = a.mean(1), b.mean(1)
    return a.mean() - b.mean(), (a.var() + b.var()).sqrt()
""", "the spread of one training"),
    ("check_method_difference", """
def method_difference(a, b):
    a, b = a.mean(1), b.mean(1)
    return b.mean() - a.mean(), (a.var() / len(a) + b.var() / len(b)).sqrt()
""", "you gave B − A"),
    ("check_method_difference", """
def method_difference(a, b):
    a, b = a.mean(1), b.mean(1)
    return a.mean() - b.mean(), ((a.var() + b.var()) / len(b)).sqrt()
""", "its own number of trainings"),
    ("check_unsure_error", """
def unsure_error(p, x):
    return Reliability().add(p, x).error
""", "hide the others"),
    ("check_unsure_error", """
def unsure_error(p, x):
    table = Reliability().add(p, x)
    return (table.observed - table.predicted)[1:9].abs().mean().item()
""", "averaged the bins as equals"),
    ("check_unsure_error", """
def unsure_error(p, x):
    table = Reliability().add(p, x)
    return (table.sums[1] - table.sums[2])[1:9].abs().sum() / table.count.sum()
""", "you divided by all pixels"),
    ("check_unsure_error", """
def unsure_error(p, x):
    unsure = (p >= 0.1) & (p < 0.9)
    return abs(p[unsure].mean() - x[unsure].mean())
""", "cancelled"),
    ("check_unsure_error", """
def unsure_error(p, x):
    unsure = (p >= 0.1) & (p < 0.9)
    return (p - x)[unsure].abs().mean()
""", "of single pixels"),
    ("check_normal_guess", """
def normal_guess(log_w):
    return -importance_weighted(log_w)
""", "the number that was reported"),
    ("check_normal_guess", """
def normal_guess(log_w):
    return -log_w.mean(0)
""", "you gave −ELBO"),
    ("check_normal_guess", """
def normal_guess(log_w):
    return log_w.mean(0) + log_w.var(0) / 2
""", "your sign is turned"),
    ("check_normal_guess", """
def normal_guess(log_w):
    return -log_w.mean(0) - log_w.var(0)
""", "the whole variance"),
    ("check_normal_guess", """
def normal_guess(log_w):
    return -log_w.mean(0) + log_w.var(0) / 2
""", "you went up from −ELBO"),
    ("check_normal_guess", """
def normal_guess(log_w):
    return -log_w.mean(1) - log_w.var(1) / 2
""", "averaged over the examples"),
]
