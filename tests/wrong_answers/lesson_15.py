"""Wrong answers to the exercises of lesson 15: (check, code, part of the message)."""

WRONG = [
    ("check_graph_beta", """
def graph_beta(N, E):
    return 1 / N
""", "what the thread concedes"),
    ("check_graph_beta", """
def graph_beta(N, E):
    return 1 / N**2
""", "this is what divides the KL"),
    ("check_graph_beta", """
def graph_beta(N, E):
    return N * N / (2 * (N * N - E))
""", "the wrong way round"),
    ("check_graph_beta", """
def graph_beta(N, E):
    return 2
""", "about right for a sparse graph"),
    ("check_graph_beta", """
def graph_beta(N, E):
    return 1.0
""", "norm stands before the cross-entropy alone"),
    ("check_graph_beta", """
def graph_beta(N, E):
    return N * 2 * (N * N - E) / (N * N)
""", "a second time"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    return 'healthy' if kl > 0.5 else 'collapse'
""", "β is 8"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    if kl > 0.5: return 'no information' if information < 0.5 else 'healthy'
    if gap > 0.5: return 'lagging'
    if beta > 1.5: return 'over-regularised'
    return 'sigma too large' if sigma else 'collapse'
""", "no encoder would help"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    if beta > 1.5: return 'over-regularised'
    if kl > 0.5: return 'no information' if information < 0.5 else 'healthy'
    if sigma is not None and sigma > 2 * error: return 'sigma too large'
    return 'lagging' if gap > 0.5 else 'collapse'
""", "the prior has not switched the codes off"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    if kl > 0.5: return 'no information' if information < 0.5 else 'healthy'
    if beta > 1.5: return 'over-regularised'
    if sigma is not None: return 'sigma too large'
    return 'lagging' if gap > 0.5 else 'collapse'
""", "σ is that of the error"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    return 'over-regularized'
""", "give one of"),
    ("check_reported_weight", """
def reported_beta(weight, values, mse):
    return weight
""", "this is the weight in the code"),
    ("check_reported_weight", """
def reported_beta(weight, values, mse):
    return weight * values / 2
""", "this is β for σ = 1"),
    ("check_reported_weight", """
def reported_beta(weight, values, mse):
    return weight * values / mse
""", "the ½ of the Gaussian"),
    ("check_reported_weight", """
def reported_beta(weight, values, mse):
    return weight * values * 2 * mse
""", "the wrong way round"),
    ("check_reported_weight", """
def reported_beta(weight, values, mse):
    return weight * values / (2 * mse**.5)
""", "no root is needed"),
]
