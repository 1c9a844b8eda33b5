"""Wrong answers to the exercises of lesson 07: (check, code, part of the message)."""

WRONG = [
    ("check_one_hot", """
def one_hot(y, classes):
    return torch.eye(classes)[y]
""", "the last class"),
    ("check_one_hot", """
def one_hot(y, classes):
    return (y[:, None] == torch.arange(1, classes + 1)).float()
""", "off by one"),
    ("check_one_hot", """
def one_hot(y, classes):
    if y.min() < 0 or y.max() > classes: raise ValueError('out of range')
    return (y[:, None] == torch.arange(classes)).float()
""", "label 4 of 4 classes got through"),
    ("check_one_hot", """
def one_hot(y, classes):
    if y.min() < 0 or y.max() >= classes: raise ValueError('out of range')
    return F.one_hot(y, classes)
""", "a network needs float32"),
    ("check_unseen_loss", """
def unseen_loss(x, logits, seen):
    return F.binary_cross_entropy_with_logits(logits, x, reduction='sum') / len(x)
""", "no merit in predicting"),
    ("check_unseen_loss", """
def unseen_loss(x, logits, seen):
    each = F.binary_cross_entropy_with_logits(logits, x, reduction='none')
    return (each * (1 - seen)).mean()
""", "averaged over the pixels"),
    ("check_unseen_loss", """
def unseen_loss(x, logits, seen):
    logits, target = logits * (1 - seen), x * (1 - seen)
    nll = F.binary_cross_entropy_with_logits(logits, target, reduction='sum')
    return nll / len(x)
""", "each then still costs log 2"),
    ("check_unseen_loss", """
def unseen_loss(x, logits, seen):
    each = F.binary_cross_entropy_with_logits(logits, x, reduction='none')
    return (each * seen).flatten(1).sum(1).mean()
""", "left out the unseen ones"),
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
]
