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
    ("check_round_through", """
def round_through(x):
    return x.round()
""", "the gradient is 0"),
    ("check_round_through", """
def round_through(x):
    return x + x.round() - x
""", "detach the difference"),
    ("check_round_through", """
def round_through(x):
    return 2 * x + (x.round() - 2 * x).detach()
""", "doubled"),
    ("check_round_through", """
def round_through(x):
    return x + (x.round() - x.round().detach())
""", "not rounded"),
]
