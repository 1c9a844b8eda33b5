"""Wrong answers to the exercises of lesson 01: (check, code, part of the message)."""

WRONG = [
    ("check_kl_to_wide_prior", """
def kl_to_wide_prior(mu, logvar, s):
    kl = 0.5 * ((mu / s)**2 + logvar.exp() / s**2 - 1 - logvar + 2 * math.log(s))
    return kl.mean(-1)
""", "averaged over the latents"),
    ("check_kl_to_wide_prior", """
def kl_to_wide_prior(mu, logvar, s):
    kl = 0.5 * (1 + logvar - 2 * math.log(s) - (mu / s)**2 - logvar.exp() / s**2)
    return kl.sum(-1)
""", "sign is wrong"),
    ("check_kl_to_wide_prior", """
def kl_to_wide_prior(mu, logvar, s):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)
""", "does not depend on s"),
    ("check_kl_to_wide_prior", """
def kl_to_wide_prior(mu, logvar, s):
    return 0.5 * (mu**2 / s + logvar.exp() / s - 1 - logvar + math.log(s)).sum(-1)
""", "took s for a variance"),
    ("check_kl_to_wide_prior", """
def kl_to_wide_prior(mu, logvar, s):
    kl = 0.5 * ((mu / s)**2 + logvar.exp() / s**2 - 1 - logvar + 2 * math.log(s))
    return kl.sum(-1).mean()
""", "all examples together"),
    ("check_kl_to_wide_prior", """
def kl_to_wide_prior(mu, logvar, s):
    logvar = logvar - math.log(s)
    return 0.5 * ((mu / s)**2 + logvar.exp() - 1 - logvar).sum(-1)
""", "logvar − 2 log s"),
    ("check_posterior_1d", """
def posterior_1d(x, w, sigma):
    return x / w, sigma / w
""", "without the prior"),
    ("check_posterior_1d", """
def posterior_1d(x, w, sigma):
    M = w**2 + sigma**2
    return w * x / M, sigma**2 / M
""", "this is the variance"),
    ("check_posterior_1d", """
def posterior_1d(x, w, sigma):
    M = w**2 + sigma**2
    return x / M, sigma / M**0.5
""", "a factor w is missing"),
    ("check_kl_estimate", """
def kl_estimate(spread, draws, wanted):
    return spread, (spread / wanted)**2
""", "standard deviation of one term"),
    ("check_kl_estimate", """
def kl_estimate(spread, draws, wanted):
    return spread / draws, (spread / wanted)**2
""", "divided by the number of draws"),
    ("check_kl_estimate", """
def kl_estimate(spread, draws, wanted):
    return spread**2 / draws, (spread / wanted)**2
""", "variance of the mean"),
    ("check_kl_estimate", """
def kl_estimate(spread, draws, wanted):
    return spread / draws**0.5, spread / wanted
""", "draws grow with the square"),
    ("check_kl_estimate", """
def kl_estimate(spread, draws, wanted):
    error = spread / draws**0.5
    return error, draws * error / wanted
""", "square the ratio"),
    ("check_log_evidence", """
def log_evidence(model, x, samples):
    z = model.prior().sample((samples,))
    return model.likelihood(z).log_prob(x[:, None]).mean(1)
""", "mean belongs inside"),
    ("check_log_evidence", """
def log_evidence(model, x, samples):
    z = model.prior().sample((samples,))
    return torch.logsumexp(model.likelihood(z).log_prob(x[:, None]), 1)
""", "subtract log K"),
    ("check_log_evidence", """
def log_evidence(model, x, samples):
    z = model.prior().sample((samples,))
    return model.likelihood(z).log_prob(x[:, None]).exp().mean(1).log()
""", "use torch.logsumexp"),
]
