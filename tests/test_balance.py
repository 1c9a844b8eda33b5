"""Which β a loss trains, by arithmetic and by measurement, over reductions, likelihoods
and sizes; what is refused; and the balance held at a distortion, through `fit`."""
import json, math, subprocess, sys
from pathlib import Path

import pytest, torch, torch.nn.functional as F

from vae_course.balance import (MeasuredBeta, TargetDistortion, effective_beta,
                                measured_beta)
from vae_course.data import Batches, Examples
from vae_course.elbo import mlp_vae
from vae_course.step import evaluate
from vae_course.training import fit

root = Path(__file__).resolve().parent.parent
x = torch.rand(16, 3, 4, generator=torch.Generator().manual_seed(0))
errors = dict(bernoulli=F.binary_cross_entropy, gaussian=F.mse_loss, laplace=F.l1_loss,
              bernoulli_logits=F.binary_cross_entropy_with_logits)


def kl_each(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def reduced(each, how):
    return dict(sum=each.sum, mean=each.mean,
                batchmean=lambda: each.flatten(1).sum(1).mean())[how]()


def loss_of(likelihood, reconstruction="mean", kl="batchmean", a=1.0, b=1.0):
    def loss(x_hat, x, mu, logvar):
        error = errors[likelihood](x_hat, x, reduction="none")
        return (a * reduced(error, reconstruction)
                + b * reduced(kl_each(mu, logvar), kl))
    return loss


@pytest.mark.parametrize("likelihood", errors)
@pytest.mark.parametrize("reconstruction", ["sum", "batchmean", "mean"])
@pytest.mark.parametrize("kl", ["sum", "batchmean", "mean"])
def test_measurement_and_arithmetic_agree(likelihood, reconstruction, kl):
    "Over all reductions, with weights on both terms, to 1 %."
    found = measured_beta(loss_of(likelihood, reconstruction, kl, 0.3, 7.0), x, 5)
    right = effective_beta(likelihood.removesuffix("_logits"), 12, 5, 16,
                           reconstruction, kl, 0.3, 7.0)
    assert found.likelihood == likelihood and abs(found.beta / right - 1) < 0.01
    assert found.misfit < 1e-6 and float(found) == found.beta


def test_a_vae_of_the_course_trains_beta_1():
    "The terms of `VAE.losses`, rebuilt as a loss, have weights of 1."
    def loss(x_hat, x, mu, logvar):
        p = torch.distributions.Normal(x_hat, 1.0)
        q = torch.distributions.Normal(mu, (logvar / 2).exp())
        prior = torch.distributions.Normal(torch.zeros_like(mu), 1.0)
        return (-p.log_prob(x).flatten(1).sum(1).mean()
                + torch.distributions.kl_divergence(q, prior).sum(1).mean())
    found = measured_beta(loss, x, 5)
    assert found.reconstruction == pytest.approx(1) and found.kl == pytest.approx(1)
    assert found.beta == pytest.approx(1) and found.sigma == pytest.approx(1)


def test_sigma_and_beta_are_one_choice():
    loss = loss_of("gaussian", "sum", "sum", b=0.02)
    found = measured_beta(loss, x, 5)
    assert found.sigma == pytest.approx(0.1) and "σ = 0.1" in repr(found)
    assert measured_beta(loss, x, 5, sigma=0.1).beta == pytest.approx(1)
    assert effective_beta("gaussian", 12, 5, 16, "sum", "sum", kl_weight=0.02,
                          sigma=0.1) == pytest.approx(1)
    laplace = measured_beta(loss_of("laplace", "sum", "sum", b=0.02), x, 5)
    assert laplace.sigma == pytest.approx(0.02)


def test_whole_numbers_are_classes():
    "A loss per character: β is the number of characters."
    tokens = torch.randint(7, (6, 11), generator=torch.Generator().manual_seed(0))

    def loss(x_hat, x, mu, logvar):
        return (F.cross_entropy(x_hat.flatten(0, 1), x.flatten())
                + kl_each(mu, logvar).sum(1).mean())
    found = measured_beta(loss, tokens, 4, classes=7)
    assert found.likelihood == "categorical" and found.beta == pytest.approx(11)
    assert found.sigma is None
    with pytest.raises(ValueError, match="classes="):
        measured_beta(loss, tokens, 4)


@pytest.mark.parametrize("nodes, edges", [(12, 30), (30, 100)])
def test_the_graph_loss_of_exercise_1(nodes, edges):
    """Both terms of the graph autoencoder are divided by N²: β is 1/norm, measured with
    its weighted cross-entropy as the likelihood; in each batch one graph."""
    norm = nodes**2 / (2 * (nodes**2 - edges))
    weight = torch.tensor((nodes**2 - edges) / edges)
    graph = (torch.rand(1, nodes * nodes,
                        generator=torch.Generator().manual_seed(0)) < 0.2).double()

    def nats(logits, graph):
        return F.binary_cross_entropy_with_logits(logits, graph, reduction="none",
                                                  pos_weight=weight)

    def loss(logits, graph, mu, logvar):
        mu, log_sigma = (t.view(nodes, 4) for t in (mu, logvar / 2))
        kl = -(0.5 / nodes) * (1 + 2 * log_sigma - mu**2
                               - log_sigma.exp()**2).sum(1).mean()
        return norm * nats(logits, graph).mean() + kl
    found = measured_beta(loss, graph, nodes * 4, likelihood=nats)
    assert found.likelihood == "your own" and found.beta == pytest.approx(1 / norm)


BAD = [
    (lambda r, x, m, v: F.mse_loss(r, x), "does not change with mu or logvar"),
    (lambda r, x, m, v: F.mse_loss(r, x) + kl_each(m, v).detach().mean(),
     "or it is detached"),
    (lambda r, x, m, v: kl_each(m, v).mean(), "does not change with x_hat"),
    (lambda r, x, m, v: torch.zeros(()), "does not change with mu or logvar"),
    (lambda r, x, m, v: F.mse_loss(r, x) + kl_each(m, 2 * v).mean(), "log σ"),
    (lambda r, x, m, v: F.mse_loss(r, x) + (m**2).mean(), "not proportional to the KL"),
    (lambda r, x, m, v: F.mse_loss(r, x) + kl_each(m, v).clamp(min=1).mean(),
     "something clipped"),
    (lambda r, x, m, v: F.mse_loss(r, x) + kl_each(m, v).mean() + m.abs().mean(),
     "another penalty"),
    (lambda r, x, m, v: F.mse_loss(r, x) - kl_each(m, v).mean(),
     "KL has the wrong sign"),
    (lambda r, x, m, v: kl_each(m, v).mean() - F.mse_loss(r, x),
     "reconstruction has the wrong sign"),
    (lambda r, x, m, v: ((r - x)**4).mean() + kl_each(m, v).mean(),
     "the reconstruction is none of"),
    (lambda r, x, m, v: F.mse_loss(r, x).log() + kl_each(m, v).mean(),
     "weight of the reconstruction is"),
    (lambda r, x, m, v: F.mse_loss(r, x) + (kl_each(m, v).sum(1).mean() - 9)**2,
     "weight of the KL is|wrong sign"),
    (lambda r, x, m, v: kl_each(m, v).sum(1), r"a tensor \(16,\), and β needs one"),
    (lambda r, x, m, v: 1.5, "gave a float"),
    (lambda r, x, m, v: F.mse_loss(r, x) / 0, "is inf on a batch of ordinary numbers")]


@pytest.mark.parametrize("loss, said", BAD)
def test_a_loss_that_has_no_beta_is_refused(loss, said):
    with pytest.raises(ValueError, match=said):
        measured_beta(loss, x, 5)


def test_a_named_likelihood_is_held_to():
    "It is not replaced by another that fits; an unknown one is refused."
    loss = loss_of("gaussian")
    assert measured_beta(loss, x, 5, likelihood="gaussian").likelihood == "gaussian"
    with pytest.raises(ValueError, match="none of bernoulli"):
        measured_beta(loss, x, 5, likelihood="bernoulli")
    with pytest.raises(ValueError, match="no likelihood 'mse'"):
        measured_beta(loss, x, 5, likelihood="mse")


def test_measuring_leaves_no_trace():
    "Random numbers and the batch are as before; it works where gradients are off."
    before, kept = torch.get_rng_state(), x.clone()
    with torch.no_grad():
        first = measured_beta(loss_of("gaussian"), x, 5)
    assert first == measured_beta(loss_of("gaussian"), x, 5)
    assert torch.equal(before, torch.get_rng_state()) and torch.equal(x, kept)
    assert not x.requires_grad and isinstance(first, MeasuredBeta)


@pytest.mark.parametrize("words, said", [
    (dict(likelihood="mse"), "bernoulli, categorical"),
    (dict(kl="average"), "batchmean"),
    (dict(reconstruction="none"), "batchmean"), (dict(values=0), "at least 1"),
    (dict(latents=-3), "at least 1"), (dict(batch=0), "at least 1"),
    (dict(sigma=0.0), "above 0"), (dict(sigma=-1.0), "above 0"),
    (dict(sigma=math.nan), "above 0"), (dict(reconstruction_weight=0.0), "above 0")])
def test_bad_sizes_and_names_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        effective_beta(**dict(likelihood="gaussian", values=12, latents=5) | words)


def two_clusters(n=512):
    "Binary rows of 32 around two patterns, a tenth of the bits wrong."
    g = torch.Generator().manual_seed(0)
    patterns = (torch.rand(2, 32, generator=g) < 0.5).float()
    rows = patterns[torch.randint(2, (n,), generator=g)]
    return Examples((rows + (torch.rand(n, 32, generator=g) < 0.1).float()) % 2)


@pytest.mark.parametrize("target", [12.0, 15.0])
def test_fit_reaches_a_target_distortion(target):
    data = two_clusters()
    torch.manual_seed(0)
    model = mlp_vae((32,), latent_dim=3, hidden=(32,))
    fit(model, data, epochs=60, batch_size=64, lr=5e-3, seed=0, device="cpu",
        progress=False, callbacks=[TargetDistortion(target)])
    found = evaluate(model, Batches(data, 512), seed=0)
    assert abs(found["reconstruction"] - target) < 1


def test_beta_stays_within_its_limits():
    "However far the reconstruction is from its target, or NaN never enters β."
    from types import SimpleNamespace
    model = mlp_vae((4,), 2, (4,))
    callback = TargetDistortion(0.0)
    for _ in range(200):
        callback.on_step(SimpleNamespace(model=model, terms=dict(
            reconstruction=torch.tensor(1e6))))
    assert model.beta.item() == pytest.approx(1e-4)


@pytest.mark.slow
def test_the_bench_is_resumed(tmp_path):
    "A second quick run trains nothing and writes the same rows."
    command = [sys.executable, "bench/balance.py", "--quick", "--out", str(tmp_path)]
    results = []
    for _ in range(2):
        done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8")
        assert not done.returncode, done.stderr
        path, = tmp_path.glob("balance-*.json")
        results.append((done.stdout, json.loads(path.read_text(encoding="utf-8"))))
    assert results[0][0].count("beta ") == 6 and results[1][0].count("beta ") == 0
    assert results[0][1]["rows"] == results[1][1]["rows"]
    assert all(v["reached"] is None for v in results[0][1]["verdicts"])
