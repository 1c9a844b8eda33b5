"""Every registered model with every measure and image of a model: it works, or one
clear error says what the model lacks."""
import re

import pytest, torch

from test_models import SMALL
from vae_course import (
    anomaly_detection, classifier, cvae, evaluation, generation, plots, vq_vae, widgets)
from vae_course.data import Examples
from vae_course.model import Unsupported
from vae_course.training import build, registry

numbers = torch.Generator().manual_seed(0)
examples = Examples((torch.rand(20, 1, 28, 28, generator=numbers) < 0.2).float(),
                    torch.arange(20) % 10)
x, y = examples.x[:4], examples.y[:4]

# name → what is asked of a model, and which capabilities it takes, as `capabilities`
# names them
MEASURES = dict(
    elbo=(lambda m: evaluation.elbo(m, examples), "encode decode prior"),
    nll=(lambda m: evaluation.nll(m, examples, 3), "encode decode prior"),
    rate_distortion=(lambda m: evaluation.rate_distortion(m, examples),
                     "encode decode prior"),
    posterior_mean_variance=(lambda m: evaluation.posterior_mean_variance(m, examples),
                             "encode"),
    active_units=(lambda m: evaluation.active_units(m, examples), "encode"),
    reliability=(lambda m: evaluation.reliability(m, examples), "encode decode"),
    interval_coverage=(lambda m: evaluation.interval_coverage(m, examples),
                       "encode decode"),
    encode_point=(lambda m: generation.encode_point(m, x), "encode"),
    decode_mean=(lambda m: generation.decode_mean(m, torch.zeros(2, 4)), "decode"),
    generate=(lambda m: generation.generate(m, 2), "decode prior"),
    aggregated_posterior=(lambda m: generation.aggregated_posterior(m, x), "encode"),
    interpolate=(lambda m: generation.interpolate(m, x[:2], x[2:], 3), "encode decode"),
    confidence=(lambda m: generation.confidence(m, x), "features"),
    quality=(lambda m: generation.quality(m, examples.x, examples.x), "features"),
    classify=(lambda m: classifier.classify(m, x), "features"),
    agreement=(lambda m: classifier.agreement(m, x, y), "features"),
    features=(lambda m: classifier.features(m, x), "features"),
    variety=(lambda m: classifier.variety(m, examples.x, examples.y), "features"),
    dataset_codes=(lambda m: vq_vae.dataset_codes(m, examples), "codes"),
    reconstruction_mse=(lambda m: vq_vae.reconstruction_mse(m, examples),
                        "reconstruct"),
    plot_manifold=(lambda m: plots.plot_manifold(m, 3), "prior decode"),
    plot_traversal=(lambda m: plots.plot_traversal(m, x, steps=3), "encode decode"),
    latent_explorer=(lambda m: widgets.latent_explorer(m, examples),
                     "prior encode decode"),
    traversal_explorer=(lambda m: widgets.traversal_explorer(m, examples, 2),
                        "encode decode"))
MEASURES |= {
    how: (lambda m, how=how: anomaly_detection.score_methods[how](m, x),
          "encode decode" if "reconstruction" in how else "encode decode prior")
    for how in anomaly_detection.score_methods}
MEASURES |= {f"score {how}": (
    lambda m, how=how: anomaly_detection.anomaly_scores(m, examples, how, samples=2)
                       if "error" not in how else anomaly_detection.anomaly_scores(
        m, examples, how), MEASURES[how][1]) for how in anomaly_detection.score_methods}
HAS = (dict.fromkeys(("vae", "conv_vae", "beta_vae", "beta_tcvae", "cvae at 7"),
                     "encode decode prior reconstruct")
       | dict(cvae="", vq_vae="codes reconstruct", classifier="features"))
# what the message says of a model that has something of that name, but not in its usual
# sense; of any other it says that it has none
SAYS = {("cvae", n): "a CVAE has it for one condition: give `model.at(c)`"
        for n in ("encode", "decode", "prior", "reconstruct")}
SAYS |= {
    ("vq_vae", "encode"): "a VQVAE has none: it gives whole numbers, `model.codes(x)`",
    ("vq_vae", "decode"): "a VQVAE decodes entries of its codebook: see "
                          "`model.reconstruct(x)`",
    ("vq_vae", "prior"): "that of a VQVAE is over lists of whole numbers: see "
                         "`model.sample(n)`"}
# also a model that has all it takes: for its likelihood, its size, or the number of
# images
REFUSES = ("interval_coverage", "quality", "plot_manifold", "latent_explorer")


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    found = {name: build(name, **SMALL[name]).eval() for name in SMALL}
    return found | {"cvae at 7": found["cvae"].at(7)}


def test_the_table_of_models_is_complete():
    assert HAS.keys() - {"cvae at 7"} == registry.keys()


@pytest.mark.parametrize("name", HAS)
@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_works_or_says_what_the_model_lacks(name, measure, models):
    ask, needs = MEASURES[measure]
    missing = [n for n in needs.split() if n not in HAS[name].split()]
    if missing:
        with pytest.raises(Unsupported) as e:
            ask(models[name])
        says = SAYS.get((name, missing[0]),
                        f"a {type(models[name]).__name__} has no `{missing[0]}`")
        assert re.match(rf"`{re.escape(measure.removeprefix('score '))}` needs .*, and "
                        rf"{re.escape(says)}", str(e.value))
        return
    try:
        assert ask(models[name]) is not None
    except ValueError as e:
        assert str(e).startswith("got ") and measure in REFUSES, e


def with_two_latents(likelihood="bernoulli"):
    torch.manual_seed(0)
    return build("vae", hidden=[32], latent_dim=2, likelihood=likelihood).eval()


def enough_for_quality(model):
    many = (torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(1))
            < 0.2).float()
    return generation.quality(model, many[:100], many[100:])


@pytest.mark.parametrize("measure", REFUSES)
def test_what_refuses_some_models_measures_others(measure, models):
    ask = MEASURES[measure][0]
    if measure == "quality":
        assert enough_for_quality(models["classifier"]) is not None
    else:
        assert ask(with_two_latents(
            "gaussian" if measure == "interval_coverage" else "bernoulli")) is not None


def test_completing_says_that_a_model_takes_no_condition(models):
    with pytest.raises(ValueError,
                       match="conditioned on nothing: completing needs one built with"):
        cvae.complete(models["vae"], x)


def test_the_message_names_the_measure_the_capability_and_the_way_out(models):
    with pytest.raises(Unsupported,
                       match=r"^`nll` needs a distribution q\(z\|x\), and a VQVAE has "
                             r"none: it gives whole numbers, `model.codes\(x\)`$"):
        evaluation.nll(models["vq_vae"], examples)
    with pytest.raises(Unsupported,
                       match=r"^`plot_traversal` needs a distribution q\(z\|x\), and a "
                             r"CVAE has it for one condition: give `model.at\(c\)`, "
                             r"such as `model.at\(7\)`$"):
        plots.plot_traversal(models["cvae"], x)
