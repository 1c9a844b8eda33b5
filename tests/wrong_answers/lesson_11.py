"""Wrong answers to the exercises of lesson 11: (check, code, part of the message)."""

WRONG = [
    ("check_tightest", """
def tightest(neg_elbo, log_share):
    return torch.logsumexp(log_share - neg_elbo, -1)
""", "the sign is wrong: U bounds"),
    ("check_tightest", """
def tightest(neg_elbo, log_share):
    return -torch.logsumexp(-neg_elbo, -1)
""", "you left out p(y)"),
    ("check_tightest", """
def tightest(neg_elbo, log_share):
    return (neg_elbo - log_share).min(-1).values
""", "being sure of the best label"),
    ("check_tightest", """
def tightest(neg_elbo, log_share):
    return -(log_share - neg_elbo).exp().sum(-1).log()
""", "exp gives 0 for every label"),
    ("check_tightest", """
def tightest(neg_elbo, log_share):
    return (neg_elbo * log_share.exp()).sum(-1)
""", "is the prior p(y)"),
    ("check_class_masses", """
def class_masses(F, shares):
    return F / F.sum(0) * shares
""", "the rows do not add up to 1"),
    ("check_class_masses", """
def class_masses(F, shares):
    F = F / F.sum(0)
    return F / F.sum(1, keepdim=True)
""", "multiply by the shares"),
    ("check_class_masses", """
def class_masses(F, shares):
    F = F * shares
    return F / F.sum(1, keepdim=True)
""", "did not divide by the present mass"),
    ("check_class_masses", """
def class_masses(F, shares):
    F = F / F.sum(1, keepdim=True)
    return F / F.sum(0) * shares
""", "rows before columns"),
    ("check_paired_t", """
def paired_t(a, b):
    return (a - b).mean() / (a.var() / len(a) + b.var() / len(b)).sqrt()
""", "look at the differences"),
    ("check_paired_t", """
def paired_t(a, b):
    return (a - b).mean() / (a - b).std()
""", "smaller, by √n"),
    ("check_paired_t", """
def paired_t(a, b):
    d = a - b
    return d.mean() / (d.std(correction=0) / len(d)**0.5)
""", "divides by n − 1"),
    ("check_paired_t", """
def paired_t(a, b):
    return (a - b).mean()
""", "divide it by its standard error"),
]
