"""Wrong answers to the exercises of lesson 02: (check, code, part of the message)."""

WRONG = [
    ("check_draw_exponential", """
def draw_exponential(rate, u):
    return -torch.log(u) * rate
""", "multiplied by the rate"),
    ("check_draw_exponential", """
def draw_exponential(rate, u):
    return torch.log(1 - u) / rate
""", "your z is negative"),
    ("check_draw_exponential", """
def draw_exponential(rate, u):
    return -torch.log(u) / rate.detach()
""", "no gradient"),
    ("check_draw_exponential", """
def draw_exponential(rate, u):
    return torch.distributions.Exponential(rate).rsample()
""", "the same u gives another draw"),
    ("check_draw_correlated", """
def draw_correlated(mu, L, eps):
    return mu + eps @ L
""", "covariance Lᵀ L"),
    ("check_draw_correlated", """
def draw_correlated(mu, L, eps):
    return mu + eps @ (L @ L.T)
""", "multiplied by the covariance"),
    ("check_draw_correlated", """
def draw_correlated(mu, L, eps):
    return mu + eps @ L.detach().T
""", "one of them is detached"),
    ("check_draw_correlated", """
def draw_correlated(mu, L, eps):
    return mu + L @ eps
""", "the draws are rows"),
    ("check_leave_one_out", """
def leave_one_out(values, score):
    return (values - values.mean())[:, None] * score
""", "own value"),
    ("check_leave_one_out", """
def leave_one_out(values, score):
    return ((values.sum() - values) / (len(values) - 1) - values)[:, None] * score
""", "sign is wrong"),
    ("check_leave_one_out", """
def leave_one_out(values, score):
    return values[:, None] * score
""", "no baseline"),
    ("check_share_of_draws", """
def share_of_draws(one, many, S):
    return 1 - many / one, many
""", "variances add"),
    ("check_share_of_draws", """
def share_of_draws(one, many, S):
    return 1 - (many / one)**2, many
""", "there is still C/S"),
    ("check_share_of_draws", """
def share_of_draws(one, many, S):
    C = (one**2 - many**2) / (1 - 1 / S)
    return 1 - C / one**2, (one**2 - C)**0.5
""", "share of the images"),
    ("check_share_of_draws", """
def share_of_draws(one, many, S):
    C = (one**2 - many**2) / (1 - 1 / S)
    return C / one**2, one**2 - C
""", "this is a variance"),
    ("check_share_of_draws", """
def share_of_draws(one, many, S):
    C = (one**2 - many**2) / (1 - 1 / S)
    return C / one**2, 0.0
""", "the images still differ"),
    ("check_round_through", """
def round_through(x):
    return x.clamp(-2, 2).round()
""", "the gradient is 0"),
    ("check_round_through", """
def round_through(x):
    return straight_through(x.round().clamp(-2, 2), x)
""", "outside of ±2 too"),
    ("check_round_through", """
def round_through(x):
    return straight_through(x.round(), x)
""", "not limited"),
    ("check_round_through", """
def round_through(x):
    limited = x.clamp(-2, 2)
    return 2 * limited + (limited.round() - 2 * limited).detach()
""", "doubled"),
    ("check_round_through", """
def round_through(x):
    limited = x.clamp(-2, 2)
    return limited + (limited.round() - limited.round().detach())
""", "not rounded"),
]
