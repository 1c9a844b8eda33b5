"Wrong answers to the exercises of lesson 05, and a part of what each check must say."
WRONG = [
    ("check_bits_per_dimension", """
def bits_per_dimension(nats, dims, levels=None):
    return nats / dims
""", "still in nats"),
    ("check_bits_per_dimension", """
def bits_per_dimension(nats, dims, levels=None):
    return nats / dims / math.log(2)
""", "did not undo the shrinking"),
    ("check_bits_per_dimension", """
def bits_per_dimension(nats, dims, levels=None):
    return nats / math.log(2)
""", "divide by its dimensions"),
    ("check_bits_per_dimension", """
def bits_per_dimension(nats, dims, levels=None):
    return nats / dims / math.log(2) - (math.log2(levels) if levels else 0)
""", "you subtracted the bits"),
    ("check_bits_per_dimension", """
def bits_per_dimension(nats, dims, levels=None):
    return nats / dims / math.log(2) + 8
""", "added 8 bits to a probability"),
    ("check_active_units", """
def count_active(mu, threshold=0.01):
    return int((mu.var(1) > threshold).sum())
""", "variance over the units"),
    ("check_active_units", """
def count_active(mu, threshold=0.01):
    return int((mu.std(0) > threshold).sum())
""", "the threshold is on the variance"),
    ("check_active_units", """
def count_active(mu, threshold=0.01):
    return int(((mu**2).mean(0) > threshold).sum())
""", "says the same of every image"),
    ("check_active_units", """
def count_active(mu, threshold=0.01):
    return int((mu.var(0) > 0.01).sum())
""", "threshold of your own"),
    ("check_importance_bound", """
def importance_bound(log_w):
    return log_w.mean(0)
""", "this is the ELBO"),
    ("check_importance_bound", """
def importance_bound(log_w):
    return torch.logsumexp(log_w, 0)
""", "forgot − log K"),
    ("check_importance_bound", """
def importance_bound(log_w):
    return log_w.exp().mean(0).log()
""", "became 0 before you added them"),
    ("check_importance_bound", """
def importance_bound(log_w):
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])
""", "averaged over the examples"),
    ("check_importance_bound", """
def importance_bound(log_w):
    return math.log(len(log_w)) - torch.logsumexp(log_w, 0)
""", "sign is turned"),
    ("check_importance_bound", """
def importance_bound(log_w):
    largest = log_w.max()
    return largest + (log_w - largest).exp().mean(0).log()
""", "each has its own"),
    ("check_effective_samples", """
def effective_size(log_w):
    w = (log_w - log_w.max()).exp()
    return w.sum(0)**2 / (w**2).sum(0)
""", "each has its own"),
    ("check_effective_samples", """
def effective_size(log_w):
    w = log_w.exp()
    return w.sum(0)**2 / (w**2).sum(0)
""", "became 0 before you added them"),
    ("check_effective_samples", """
def effective_size(log_w):
    return (torch.softmax(log_w, 0)**2).sum(0)
""", "gave the inverse"),
    ("check_effective_samples", """
def effective_size(log_w):
    return log_w.sum(0)**2 / (log_w**2).sum(0)
""", "log weights where the weights belong"),
    ("check_effective_samples", """
def effective_size(log_w):
    w = torch.softmax(log_w, 1)
    return 1 / (w**2).sum(1)
""", "summed over the examples"),
]
