"Wrong answers to the exercises of lesson 06, and a part of what each check must say."
WRONG = [
    ("check_beta_loss", """
def beta_loss(reconstruction, kl, beta):
    return (beta * reconstruction + kl.sum(1)).mean()
""", "weighted the reconstruction"),
    ("check_beta_loss", """
def beta_loss(reconstruction, kl, beta):
    return reconstruction.mean() + beta * kl.mean()
""", "averaged the KL over the latents"),
    ("check_beta_loss", """
def beta_loss(reconstruction, kl, beta):
    return reconstruction + beta * kl.sum(1)
""", "average over the batch"),
    ("check_beta_loss", """
def beta_loss(reconstruction, kl, beta):
    return (reconstruction - beta * kl.sum(1)).mean()
""", "it is a cost"),
    ("check_free_bits", """
def with_free_bits(kl, free):
    return kl.clamp(min=free).sum(1).mean()
""", "the mean over the batch comes first"),
    ("check_free_bits", """
def with_free_bits(kl, free):
    return kl.mean(0).clamp(max=free).sum()
""", "the smaller of the two"),
    ("check_free_bits", """
def with_free_bits(kl, free):
    return (kl.mean(0) - free).clamp(min=0).sum()
""", "subtracted the free nats"),
    ("check_sawtooth", """
def sawtooth(t, cycles):
    return min(1.0, t * cycles)
""", "rise once and stay"),
    ("check_sawtooth", """
def sawtooth(t, cycles):
    return t % (1 / cycles)
""", "rise to 1 / cycles only"),
    ("check_sawtooth", """
def sawtooth(t, cycles):
    return 1 - t * cycles % 1
""", "fall from 1 to 0"),
    ("check_gap", """
def gap(table, entropy):
    return (table.max(0).values / entropy).mean()
""", "largest alone"),
    ("check_gap", """
def gap(table, entropy):
    first, second = table.topk(2, dim=0).values
    return (first - second).mean()
""", "forgot the entropy"),
    ("check_gap", """
def gap(table, entropy):
    first, second = table.topk(2, dim=1).values.T
    return first - second
""", "down the column"),
]
