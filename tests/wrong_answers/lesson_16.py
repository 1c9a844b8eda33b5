"""Wrong answers to the exercises of lesson 16: (check, code, part of the message)."""

WRONG = [
    ("check_planar", """
def mended(u, w):
    return u + (-1 + F.softplus(u @ w) - u @ w) * w
""", "divide by w·w"),
    ("check_planar", """
def mended(u, w):
    return u + (-1 + F.softplus(u @ w)) * w / (w @ w)
""", "add the difference"),
    ("check_planar", """
def mended(u, w):
    return u + (-1 - u @ w).clamp(min=0) * w / (w @ w)
""", "a clamp at −1"),
    ("check_flow_kl", """
def flow_kl(log_q0, log_p_z0, log_p_zT, log_dets):
    return (log_q0 - log_p_z0).mean()
""", "this is what was reported"),
    ("check_flow_kl", """
def flow_kl(log_q0, log_p_z0, log_p_zT, log_dets):
    return (log_q0 + log_dets.sum(0) - log_p_zT).mean()
""", "the sign of the log-determinants"),
    ("check_flow_kl", """
def flow_kl(log_q0, log_p_z0, log_p_zT, log_dets):
    return (log_q0 - log_dets.sum(0) - log_p_z0).mean()
""", "p(z₀) where p(z_T) is meant"),
    ("check_vamp_nll", """
def right_nll(reported, components):
    return reported - components.log()
""", "K times too large"),
    ("check_vamp_nll", """
def right_nll(reported, components):
    return reported + components.log2()
""", "in bits"),
    ("check_owed", """
def owed(neg_elbo, best, nll, nll_with_mixture):
    return torch.stack([nll - nll_with_mixture, neg_elbo - nll, neg_elbo - best])
""", "not the family's alone"),
    ("check_owed", """
def owed(neg_elbo, best, nll, nll_with_mixture):
    return torch.stack([nll - nll_with_mixture, neg_elbo - best, best - nll])
""", "have changed places"),
    ("check_owed", """
def owed(neg_elbo, best, nll, nll_with_mixture):
    return torch.stack([nll - nll_with_mixture, best - nll, neg_elbo - nll])
""", "not the encoder's alone"),
]
