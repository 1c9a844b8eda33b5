"""Wrong answers to the exercises of lesson 14: (check, code, part of the message)."""

WRONG = [
    ("check_noise_free", """
def noise_free(reported, sigma, real_energy):
    return reported - 20 * sigma**2
""", "an energy from a share"),
    ("check_noise_free", """
def noise_free(reported, sigma, real_energy):
    return reported - 20 * sigma / real_energy
""", "energy is a square"),
    ("check_noise_free", """
def noise_free(reported, sigma, real_energy):
    return reported - sigma**2 / real_energy
""", "whose squares add up to 20"),
    ("check_noise_free", """
def noise_free(reported, sigma, real_energy):
    return reported - 5 * sigma**2 / real_energy
""", "not 5"),
    ("check_noise_free", """
def noise_free(reported, sigma, real_energy):
    return reported * real_energy - 20 * sigma**2
""", "divide it by that of the data"),
    ("check_noise_free", """
def noise_free(reported, sigma, real_energy):
    return reported + 20 * sigma**2 / real_energy
""", "the sign is wrong"),
    ("check_noise_free", """
def noise_free(reported, sigma, real_energy):
    return 20 * sigma**2 / real_energy
""", "the share of the noise"),
    ("check_laplace_scale", """
def laplace_scale(x, mean, floor):
    return (x - mean).square().mean().sqrt().detach().clamp(min=floor)
""", "the best σ of a Gaussian"),
    ("check_laplace_scale", """
def laplace_scale(x, mean, floor):
    return (x - mean).mean().abs().detach().clamp(min=floor)
""", "errors of both signs cancel"),
    ("check_laplace_scale", """
def laplace_scale(x, mean, floor):
    return (x - mean).abs().flatten().median().detach().clamp(min=floor)
""", "this is the median"),
    ("check_laplace_scale", """
def laplace_scale(x, mean, floor):
    return (x - mean).abs().flatten(1).mean(1).detach().clamp(min=floor)
""", "a b for each image"),
    ("check_laplace_scale", """
def laplace_scale(x, mean, floor):
    return (x - mean).abs().flatten(1).sum(1).mean().detach().clamp(min=floor)
""", "you summed over the pixels"),
    ("check_laplace_scale", """
def laplace_scale(x, mean, floor):
    return (x - mean).abs().mean().clamp(min=floor)
""", "your b has a gradient"),
    ("check_laplace_scale", """
def laplace_scale(x, mean, floor):
    return (x - mean).abs().mean().detach()
""", "must stay at the floor"),
    ("check_hinge_loss", """
def hinge_loss(discriminator, real, made):
    return (F.relu(1 - discriminator(real)).mean()
            + F.relu(1 + discriminator(made.detach())).mean())
""", "half of the sum"),
    ("check_hinge_loss", """
def hinge_loss(discriminator, real, made):
    return (F.relu(1 + discriminator(real)).mean()
            + F.relu(1 - discriminator(made.detach())).mean()) / 2
""", "the sides are swapped"),
    ("check_hinge_loss", """
def hinge_loss(discriminator, real, made):
    return ((1 - discriminator(real)).mean()
            + (1 + discriminator(made.detach())).mean()) / 2
""", "`relu` is missing"),
    ("check_hinge_loss", """
def hinge_loss(discriminator, real, made):
    return (F.softplus(-discriminator(real)).mean()
            + F.softplus(discriminator(made.detach())).mean()) / 2
""", "this is the cross-entropy"),
    ("check_hinge_loss", """
def hinge_loss(discriminator, real, made):
    return (F.relu(1 - discriminator(real)).mean()
            + F.relu(1 + discriminator(made)).mean()) / 2
""", "would learn to be recognised"),
    ("check_hinge_loss", """
def hinge_loss(discriminator, real, made):
    return (F.relu(1 - discriminator(real)).mean()
            + F.relu(1 + discriminator(made)).mean()).detach() / 2
""", "gets no gradient"),
]
