"Wrong answers to the exercises of lesson 06, and a part of what each check must say."
WRONG = [
    ("check_decoder_sigma", """
def decoder_sigma(beta, pixels):
    return beta * pixels / 2
""", "take its root"),
    ("check_decoder_sigma", """
def decoder_sigma(beta, pixels):
    return (beta / 2)**0.5
""", "took the squared error for a sum"),
    ("check_decoder_sigma", """
def decoder_sigma(beta, pixels):
    return (pixels / (2 * beta))**0.5
""", "you divided by β"),
    ("check_reported_correlation", """
import math
def corrected(reported, latents, dataset_size):
    return reported - latents * math.log(dataset_size)
""", "enters with a plus"),
    ("check_reported_correlation", """
import math
def corrected(reported, latents, dataset_size):
    return reported - math.log(dataset_size)
""", "each latent has its own"),
    ("check_reported_correlation", """
def corrected(reported, latents, dataset_size):
    return reported / latents
""", "a constant that was added"),
    ("check_latent_gap", """
def latent_gap(table, entropy, least=0.05):
    first, second = table.topk(2, dim=0).values
    return ((first - second) / entropy).mean()
""", "this is the MIG"),
    ("check_latent_gap", """
def latent_gap(table, entropy, least=0.05):
    first, second = (table / entropy).topk(2, dim=1).values.T
    return ((first - second) / first).mean()
""", "counted as perfect"),
    ("check_latent_gap", """
def latent_gap(table, entropy, least=0.05):
    first, second = (table / entropy).topk(2, dim=1).values.T
    return (first - second)[first > least].mean()
""", "did not divide by the largest share"),
    ("check_next_beta", """
import math
def next_beta(beta, rate, target, speed=0.5):
    return beta * math.exp(speed * (target - rate))
""", "moves the wrong way"),
    ("check_next_beta", """
def next_beta(beta, rate, target, speed=0.5):
    return beta + speed * (rate - target)
""", "and not its logarithm"),
    ("check_next_beta", """
import math
def next_beta(beta, rate, target, speed=0.5):
    return math.log(beta) + speed * (rate - target)
""", "give β itself"),
]
