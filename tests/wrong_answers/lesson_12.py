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
    ("check_trained_beta", """
def effective_beta(weight, lengths):
    return weight
""", "this is the weight in the code"),
    ("check_trained_beta", """
def effective_beta(weight, lengths):
    return weight * lengths.double().mean()
""", "the end counts"),
    ("check_trained_beta", """
def effective_beta(weight, lengths):
    return weight / (lengths + 1).double().mean()
""", "the wrong way round"),
    ("check_in_order", """
def in_order(codes, lengths):
    return codes
""", "as they came"),
    ("check_in_order", """
def in_order(codes, lengths):
    return codes[lengths.argsort(descending=True, stable=True)]
""", "this sorts once more"),
    ("check_in_order", """
def in_order(codes, lengths):
    return codes[lengths.argsort(stable=True).argsort()]
""", "from the longest to the shortest"),
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
