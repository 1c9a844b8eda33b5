"""Wrong answers to the exercises of lesson 12: (check, code, part of the message)."""

WRONG = [
    ("check_bits_per_character", """
def bits_per_character(each, lengths):
    return each.mean() / math.log(2)
""", "padding is counted"),
    ("check_bits_per_character", """
def bits_per_character(each, lengths):
    counts = torch.arange(each.shape[1]) < lengths[:, None]
    return (each * counts).sum() / counts.sum() / math.log(2)
""", "the end is missing"),
    ("check_bits_per_character", """
def bits_per_character(each, lengths):
    counts = torch.arange(each.shape[1]) <= lengths[:, None]
    return ((each * counts).sum(1) / counts.sum(1)).mean() / math.log(2)
""", "a short line would weigh"),
    ("check_bits_per_character", """
def bits_per_character(each, lengths):
    counts = torch.arange(each.shape[1]) <= lengths[:, None]
    return (each * counts).sum() / counts.sum()
""", "these are nats"),
    ("check_text_beta", """
def effective_beta(weight, lengths):
    return weight
""", "this is the weight in the code"),
    ("check_text_beta", """
def effective_beta(weight, lengths):
    return weight * lengths.double().mean()
""", "the end counts"),
    ("check_text_beta", """
def effective_beta(weight, lengths):
    return weight / (lengths + 1).double().mean()
""", "the wrong way round"),
    ("check_useless_kl", """
def useless(n, D, nats):
    return torch.zeros(n, D), torch.zeros(n, D)
""", "the prior itself"),
    ("check_useless_kl", """
def useless(n, D, nats):
    return torch.full((n, D), math.sqrt(2 * nats)), torch.zeros(n, D)
""", "each latent has the whole KL"),
    ("check_useless_kl", """
def useless(n, D, nats):
    signs = torch.where(torch.arange(n) % 2 > 0, 1., -1.)[:, None]
    return signs * torch.full((n, D), math.sqrt(2 * nats / D)), torch.zeros(n, D)
""", "the rows differ"),
    ("check_annealed_report", """
def gain(loss, beta, kl, language_model):
    return language_model - loss
""", "the annealed loss"),
    ("check_annealed_report", """
def gain(loss, beta, kl, language_model):
    return language_model - (loss + kl)
""", "β of it was counted already"),
    ("check_annealed_report", """
def gain(loss, beta, kl, language_model):
    return loss + (1 - beta) * kl - language_model
""", "the sign is wrong"),
]
