"""Wrong answers to the exercises of lesson 13: (check, code, part of the message)."""

WRONG = [
    ("check_bits_per_second", """
def bits_of_codec(codes_per_second, books, n_codes, nats):
    codes = codes_per_second * books
    return codes * math.log(n_codes), codes * nats
""", "the first is in nats"),
    ("check_bits_per_second", """
def bits_of_codec(codes_per_second, books, n_codes, nats):
    codes = codes_per_second * books
    return codes * math.log2(n_codes), codes * nats
""", "the second is in nats"),
    ("check_bits_per_second", """
def bits_of_codec(codes_per_second, books, n_codes, nats):
    return codes_per_second * math.log2(n_codes), codes_per_second * nats / math.log(2)
""", "you counted one codebook"),
    ("check_bits_per_second", """
def bits_of_codec(codes_per_second, books, n_codes, nats):
    codes = codes_per_second * books
    return codes * math.log2(n_codes), codes * nats * math.log(2)
""", "do not multiply"),
    ("check_dct", """
def smooth_spectrogram(coefficients, n_mels):
    n = len(coefficients)
    k, band = torch.arange(n)[:, None], torch.arange(n_mels)[None]
    basis = torch.cos(math.pi * k * (band + .5) / n_mels) * math.sqrt(2 / n_mels)
    return basis.T @ coefficients
""", "divided by √2 once more"),
    ("check_dct", """
def smooth_spectrogram(coefficients, n_mels):
    n = len(coefficients)
    k, band = torch.arange(n)[:, None], torch.arange(n_mels)[None]
    return torch.cos(math.pi * k * (band + .5) / n_mels).T @ coefficients
""", "the cosines have no unit length"),
    ("check_dct", """
def smooth_spectrogram(coefficients, n_mels):
    n = len(coefficients)
    k, band = torch.arange(n)[:, None], torch.arange(n_mels)[None]
    basis = torch.cos(math.pi * k * band / n_mels) * math.sqrt(2 / n_mels)
    basis[0] /= math.sqrt(2)
    return basis.T @ coefficients
""", "the middle of each band"),
    ("check_memory_of_voices", """
def accuracy_for_anyone(predicted, digit, speaker, heard):
    return (predicted == digit).float().mean()
""", "this is over all clips"),
    ("check_memory_of_voices", """
def accuracy_for_anyone(predicted, digit, speaker, heard):
    new = torch.tensor([s not in heard for s in speaker.tolist()])
    return (predicted == digit)[new].float().mean()
""", "Each speaker once"),
    ("check_memory_of_voices", """
def accuracy_for_anyone(predicted, digit, speaker, heard):
    old = torch.tensor([s in heard for s in speaker.tolist()])
    return (predicted == digit)[old].float().mean()
""", "these are the speakers that were heard"),
    ("check_memory_of_voices", """
def accuracy_for_anyone(predicted, digit, speaker, heard):
    right = (predicted == digit).float()
    return torch.stack([right[speaker == s].mean() for s in speaker.unique()]).mean()
""", "over all speakers"),
]
