"""Wrong answers to the exercises of lesson 03: (check, code, part of the message)."""

WRONG = [
    ("check_gaussian_nll", """
def at_best_sigma(nll, sigma, pixels):
    return nll
""", "as it was"),
    ("check_gaussian_nll", """
def at_best_sigma(nll, sigma, pixels):
    mse = 2 * sigma**2 * abs(nll) / pixels
    return pixels * (0.5 + 0.5 * math.log(2 * math.pi * mse))
""", "take off the normalizer"),
    ("check_gaussian_nll", """
def at_best_sigma(nll, sigma, pixels):
    mse = 2 * sigma**2 * (nll / pixels - 0.5 * math.log(2 * math.pi * sigma**2))
    return pixels * 0.5 * math.log(2 * math.pi * mse)
""", "still costs ½ for each pixel"),
    ("check_gaussian_nll", """
def at_best_sigma(nll, sigma, pixels):
    mse = 2 * sigma**2 * (nll / pixels - 0.5 * math.log(2 * math.pi * sigma**2))
    return pixels * (1 + 0.5 * math.log(2 * math.pi * mse))
""", "½ for each pixel at the best σ, not 1"),
    ("check_gaussian_nll", """
def at_best_sigma(nll, sigma, pixels):
    mse = 2 * sigma**2 * (nll / pixels - 0.5 * math.log(2 * math.pi * sigma**2))
    return pixels * (0.5 + 0.5 * math.log(2 * math.pi * mse**2))
""", "it is the best σ²"),
    ("check_gaussian_nll", """
def at_best_sigma(nll, sigma, pixels):
    mse = 2 * sigma**2 * (nll / pixels - 0.5 * math.log(2 * math.pi * sigma**2))
    return pixels * (0.5 + 0.5 * math.log(2 * math.pi * mse**0.5))
""", "you took the error for the variance"),
    ("check_gaussian_nll", """
def at_best_sigma(nll, sigma, pixels):
    mse = 2 * sigma**2 * (nll / pixels - 0.5 * math.log(2 * math.pi * sigma**2))
    return 0.5 + 0.5 * math.log(2 * math.pi * mse)
""", "nats per pixel"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    error = (x - mean)**2 / (2 * pixel_logvar.exp())
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return error.mean(), kl.mean()
""", "normalizer is missing"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    error = (x - mean)**2 / (2 * pixel_logvar.exp())
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return error.sum(-1).mean(), kl.sum(-1).mean()
""", "normalizer is missing"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    nll = ((x - mean)**2 / (2 * pixel_logvar.exp())
           + 0.5 * (math.log(2 * math.pi) + pixel_logvar))
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return nll.mean(), kl.sum(-1).mean()
""", "weighs 30 times as much"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    nll = ((x - mean)**2 / (2 * pixel_logvar.exp())
           + 0.5 * (math.log(2 * math.pi) + pixel_logvar))
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return nll.sum(-1).mean(), kl.mean()
""", "averaged over the latents"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    nll = ((x - mean)**2 / (2 * pixel_logvar.exp())
           + 0.5 * (math.log(2 * math.pi) + pixel_logvar))
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return nll.sum(-1).mean(), -kl.sum(-1).mean()
""", "sign of the KL is wrong"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    nll = ((x - mean)**2 / (2 * pixel_logvar.exp())
           + 0.5 * (math.log(2 * math.pi) + pixel_logvar))
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return nll.sum(), kl.sum()
""", "summed over the batch"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    nll = ((x - mean)**2 / (2 * pixel_logvar.exp())
           + 0.5 * (math.log(2 * math.pi) + pixel_logvar))
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return nll.sum(-1).mean() + kl.sum(-1).mean()
""", "and not their sum"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    nll = ((x - mean)**2 / (2 * pixel_logvar.exp())
           + 0.5 * (math.log(2 * math.pi) + pixel_logvar))
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return nll.sum(-1).mean().item(), kl.sum(-1).mean().item()
""", "no gradient comes back"),
    ("check_elbo_terms", """
def elbo_terms(x, mean, pixel_logvar, mu, logvar):
    nll = ((x - mean)**2 / (2 * pixel_logvar.exp())
           + 0.5 * math.log(2 * math.pi) + pixel_logvar)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    return nll.sum(-1).mean(), kl.sum(-1).mean()
""", "counts half"),
    ("check_effective_beta", """
def effective_beta(pixels, latents, reconstruction, kl):
    a = 1 / pixels if reconstruction == 'mean' else 1
    b = 1 / latents if kl == 'mean' else 1
    return a / b
""", "the KL was made smaller, so it weighs less"),
    ("check_effective_beta", """
def effective_beta(pixels, latents, reconstruction, kl):
    return 1
""", "in every case"),
    ("check_effective_beta", """
def effective_beta(pixels, latents, reconstruction, kl):
    if reconstruction == kl: return 1
    return pixels if reconstruction == 'mean' else 1 / latents
""", "two means do not cancel"),
    ("check_effective_beta", """
def effective_beta(pixels, latents, reconstruction, kl):
    return pixels if reconstruction == 'mean' else 1
""", "left out the mean over the latents"),
    ("check_mixture_prior", """
def mixture_prior(means):
    return diagonal_gaussian(means.mean(0), torch.zeros_like(means[0]))
""", "one Gaussian in the middle"),
    ("check_mixture_prior", """
def mixture_prior(means):
    which = D.Categorical(logits=torch.zeros(means.shape[1], len(means)))
    return D.Independent(D.MixtureSameFamily(which, D.Normal(means.T, 1.)), 1)
""", "each dimension picks its own hump"),
    ("check_mixture_prior", """
def mixture_prior(means):
    which = D.Categorical(logits=torch.zeros(len(means)))
    return D.MixtureSameFamily(which, D.Normal(means, 1.))
""", "the mixture cannot be built"),
]
