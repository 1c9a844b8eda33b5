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
    return 0 if kl > 0.5 else 4
""", "β is 8"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    if kl > 0.5: return 5 if information < 0.5 else 0
    if gap > 0.5: return 3
    if beta > 1.5: return 1
    return 2 if sigma else 4
""", "no encoder would help"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    if beta > 1.5: return 1
    if kl > 0.5: return 5 if information < 0.5 else 0
    if sigma is not None and sigma > 2 * error: return 2
    return 3 if gap > 0.5 else 4
""", "the prior has not switched the codes off"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    if kl > 0.5: return 5 if information < 0.5 else 0
    if beta > 1.5: return 1
    if sigma is not None: return 2
    return 3 if gap > 0.5 else 4
""", "σ is that of the error"),
    ("check_patient", """
def patient(kl, information, gap, beta, sigma, error):
    return 6
""", "from 0 to 5"),
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
