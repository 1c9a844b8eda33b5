"""Wrong answers to the exercises of lesson 07: (check, code, part of the message)."""

WRONG = [
    ("check_heavier_kl", """
def heavier_kl(sigma, delta, beta):
    A, B = (1 + sigma**2) / sigma**2, 1 + sigma**2 + delta**2
    return delta * B / (A + B)
""", "this is the b for β = 1"),
    ("check_heavier_kl", """
def heavier_kl(sigma, delta, beta):
    A, B = (1 + sigma**2) / sigma**2, beta * (1 + sigma**2 + delta**2)
    return A / (A + B)
""", "the share that the code takes"),
    ("check_heavier_kl", """
def heavier_kl(sigma, delta, beta):
    A, B = beta * (1 + sigma**2) / sigma**2, 1 + sigma**2 + delta**2
    return delta * B / (A + B)
""", "β stands at the wrong term"),
    ("check_conditional_bound", """
def conditional_bound(reconstruction, mu, logvar, prior_mu, prior_logvar):
    return (reconstruction + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)).mean()
""", "this is the KL to N(0, I)"),
    ("check_conditional_bound", """
def conditional_bound(reconstruction, mu, logvar, prior_mu, prior_logvar):
    ratio = (prior_logvar - logvar).exp()
    kl = 0.5 * (ratio + (mu - prior_mu)**2 / logvar.exp() - 1 - ratio.log())
    return (reconstruction + kl.sum(-1)).mean()
""", "the wrong way round"),
    ("check_conditional_bound", """
def conditional_bound(reconstruction, mu, logvar, prior_mu, prior_logvar):
    ratio = (logvar - prior_logvar).exp()
    kl = 0.5 * (ratio + (mu - prior_mu)**2 / prior_logvar.exp() - 1 - ratio.log())
    return (reconstruction - kl.sum(-1)).mean()
""", "the sign of the KL is wrong"),
    ("check_class_probabilities", """
def class_probabilities(neg_elbo, share):
    p = share * (-neg_elbo).exp()
    return p / p.sum(-1, keepdim=True)
""", "exp gives 0 for every class"),
    ("check_class_probabilities", """
def class_probabilities(neg_elbo, share):
    return (-neg_elbo).softmax(-1)
""", "left out the share"),
    ("check_class_probabilities", """
def class_probabilities(neg_elbo, share):
    return (share.log() + neg_elbo).softmax(-1)
""", "the sign is wrong"),
    ("check_label_gain", """
def label_gain(without, told, share):
    return without - told
""", "this is the gain"),
    ("check_label_gain", """
def label_gain(without, told, share):
    return without - told - math.log(len(share))
""", "equally frequent classes"),
    ("check_label_gain", """
def label_gain(without, told, share):
    return without - told + (share * share.log2()).sum()
""", "the entropy is in bits"),
]
