"""Wrong answers to the exercises of lesson 03: (check, code, part of the message)."""

WRONG = [
    ("check_gaussian_nll", """
def gaussian_nll(x, mean, sigma):
    return ((x - mean)**2 / (2 * sigma**2)).sum(-1)
""", "normalizer is missing"),
    ("check_gaussian_nll", """
def gaussian_nll(x, mean, sigma):
    normalizer = 0.5 * math.log(2 * math.pi * sigma**2)
    return ((x - mean)**2).sum(-1) / (2 * sigma**2) + normalizer
""", "once for each of the 7 dimensions"),
    ("check_gaussian_nll", """
def gaussian_nll(x, mean, sigma):
    normalizer = 0.5 * math.log(2 * math.pi * sigma**2)
    return ((x - mean)**2 / (2 * sigma**2) + normalizer).mean(-1)
""", "averaged over the dimensions"),
    ("check_gaussian_nll", """
def gaussian_nll(x, mean, sigma):
    return D.Normal(mean, sigma).log_prob(x).sum(-1)
""", "sign is wrong"),
    ("check_gaussian_nll", """
def gaussian_nll(x, mean, sigma):
    return ((x - mean)**2 / (2 * sigma**2) + math.log(sigma)).sum(-1)
""", "2π is missing"),
    ("check_elbo_terms", """
def elbo_terms(x, logits, mu, logvar):
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    return F.binary_cross_entropy_with_logits(logits, x), kl
""", "weighs 784 times as much"),
    ("check_elbo_terms", """
def elbo_terms(x, logits, mu, logvar):
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean()
    return F.binary_cross_entropy_with_logits(logits, x, reduction='sum') / len(x), kl
""", "averaged over the latents"),
    ("check_elbo_terms", """
def elbo_terms(x, logits, mu, logvar):
    kl = 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
    return F.binary_cross_entropy_with_logits(logits, x, reduction='sum') / len(x), kl
""", "sign of the KL is wrong"),
    ("check_elbo_terms", """
def elbo_terms(x, logits, mu, logvar):
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    p = torch.sigmoid(logits)
    return F.binary_cross_entropy_with_logits(p, x, reduction='sum') / len(x), kl
""", "sigmoid twice"),
    ("check_elbo_terms", """
def elbo_terms(x, logits, mu, logvar):
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
    return F.binary_cross_entropy_with_logits(logits, x, reduction='sum'), kl
""", "summed over the batch"),
    ("check_elbo_terms", """
def elbo_terms(x, logits, mu, logvar):
    pixels = F.binary_cross_entropy_with_logits(logits, x, reduction='none')
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    return pixels.flatten(1).sum(1).mean() + kl
""", "and not their sum"),
    ("check_elbo_terms", """
def elbo_terms(x, logits, mu, logvar):
    pixels = F.binary_cross_entropy_with_logits(logits, x, reduction='none')
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    return pixels.flatten(1).sum(1).mean().item(), kl.item()
""", "no gradient comes back"),
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
