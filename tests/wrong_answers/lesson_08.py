"Wrong answers to the exercises of lesson 08, and a part of what each check must say."
WRONG = [
    ("check_straight_through", """
def through(z, e):
    return e
""", "blocked"),
    ("check_straight_through", """
def through(z, e):
    return z - z.detach() + e
""", "reaches e as well"),
    ("check_straight_through", """
def through(z, e):
    return 2 * z + (e - 2 * z).detach()
""", "doubled"),
    ("check_straight_through", """
def through(z, e):
    return (z + (e - z)).detach()
""", "the gradient is blocked"),
    ("check_straight_through", """
def through(z, e):
    return z + e.detach()
""", "you added e to z"),
    ("check_straight_through", """
def through(z, e):
    return z + (z - e).detach()
""", "the value is not e"),
    ("check_vq_terms", """
def vq_terms(z, e):
    def distance(a, b): return (a - b).square().flatten(1).sum(1).mean()
    return distance(z, e.detach()), distance(z.detach(), e)
""", "swapped the terms"),
    ("check_vq_terms", """
def vq_terms(z, e):
    def distance(a, b): return (a - b).square().mean()
    return distance(z.detach(), e), distance(z, e.detach())
""", "averaged over the dimensions"),
    ("check_vq_terms", """
def vq_terms(z, e):
    def distance(a, b): return (a - b).square().sum()
    return distance(z.detach(), e), distance(z, e.detach())
""", "over the batch"),
    ("check_vq_terms", """
def vq_terms(z, e):
    def distance(a, b): return (a - b).square().flatten(1).sum(1).mean()
    return distance(z, e), distance(z, e.detach())
""", "moves both z and e"),
    ("check_vq_terms", """
def vq_terms(z, e):
    def distance(a, b): return (a - b).square().flatten(1).sum(1).mean()
    return distance(z.detach(), e.detach()), distance(z, e.detach())
""", "moves nothing"),
    ("check_vq_terms", """
def vq_terms(z, e):
    def distance(a, b): return (a - b).square().flatten(1).sum(1).mean()
    return distance(z.detach(), e), 0.25 * distance(z, e.detach())
""", "multiplied by ¼"),
    ("check_perplexity", """
def code_perplexity(codes, n_codes):
    share = codes.flatten().bincount(minlength=n_codes) / codes.numel()
    return torch.special.entr(share).sum()
""", "entropy in nats"),
    ("check_perplexity", """
def code_perplexity(codes, n_codes):
    share = codes.flatten().bincount(minlength=n_codes) / codes.numel()
    return (-(share * share.log()).sum()).exp()
""", "made it NaN"),
    ("check_perplexity", """
def code_perplexity(codes, n_codes):
    share = codes.flatten().bincount(minlength=n_codes) / codes.numel()
    return (-torch.special.entr(share).sum()).exp()
""", "sign is turned"),
    ("check_perplexity", """
def code_perplexity(codes, n_codes):
    return torch.tensor(float(len(codes.unique())))
""", "counted the codes"),
    ("check_perplexity", """
def code_perplexity(codes, n_codes):
    share = codes.flatten().bincount(minlength=n_codes) / codes.numel()
    return (torch.special.entr(share).sum() / math.log(2)).exp()
""", "one base for both"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    return (torch.tanh(z) * half).round() / half
""", "gradient is blocked"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    return z + ((torch.tanh(z) * half).round() / half - z).detach()
""", "passes around tanh"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    bounded = torch.tanh(z) * half
    return bounded + (bounded.round() - bounded).detach()
""", "whole numbers"),
    ("check_fsq", """
def fsq(z, levels):
    bounded = torch.tanh(z)
    return bounded + ((bounded * levels).round() / levels - bounded).detach()
""", "levels − 1 steps"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    return z + ((z * half).round() / half - z).detach()
""", "beyond −1 and 1"),
]
