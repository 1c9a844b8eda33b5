"""What must hold on a GPU, checked on a pretended one (`far_device`) in a process of
its own: `far_checks.py mps` prints the outcome of every check as JSON,
`far_checks.py lesson 03_elbo` runs a lesson statement by statement and prints the
statements that a GPU refuses."""
import ast
import contextlib
import io
import json
import os
import signal
import sys
import time
import traceback
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vae_course import (anomaly_detection, beta_vae, classifier, cli, cvae, data,
                        datasets, elbo, evaluation, generation, gpu, latent, plots,
                        reparameterization, run, step, training, vq_vae, widgets)
from vae_course.data import Batches, Examples

here = Path(__file__).resolve().parent
SMALL = dict(
    vae=dict(hidden=[32], latent_dim=4), conv_vae=dict(widths=[4, 8], latent_dim=4),
    beta_vae=dict(hidden=[32], latent_dim=4, data_shape=[1, 28, 28]),
    beta_tcvae=dict(hidden=[32], latent_dim=4, data_shape=[1, 28, 28], dataset_size=96),
    cvae=dict(hidden=[32], latent_dim=4),
    m2=dict(hidden=[32], latent_dim=4, width=16),
    vq_vae=dict(n_codes=16, widths=[4, 8]),
    flexible_vae=dict(hidden=[32], latent_dim=4, prior="vamp", components=5,
                      posterior="flow", couplings=2, width=8, k=2),
    two_layer_vae=dict(hidden=[32], latent_dims=[4, 3], between=16),
    autoencoder=dict(hidden=[32], latent_dim=4),
    sigma_vae=dict(widths=[4, 8], latent_dim=4),
    perceptual_vae=dict(widths=[4, 8], latent_dim=4, classifier=dict(
        name="classifier", data_shape=[1, 28, 28], classes=10, widths=[4, 8],
        features=16, dropout=0.2)),
    vae_gan=dict(widths=[4, 8], latent_dim=4),
    speech_vq_vae=dict(data_shape=[1, 28, 28], n_codes=16, dim=4, width=8),
    text_vae=dict(alphabet="abcde", longest=4, latent_dim=4, width=12, embedding=6),
    code_prior=dict(n_codes=2, shape=[1, 28, 28], width=4, depth=1, heads=1),
    classifier=dict(data_shape=[1, 28, 28], classes=10, widths=[4, 8], features=16))
VARIANTS = dict(
    cvae_columns=(
        "cvae", dict(condition=[{"labels": 10}, {"number": [-3, 3]}],
                     sees=["encoder", "decoder", "prior"], hidden=[32], latent_dim=4)),
    cvae_quadrants=("cvae", dict(condition={"quadrants": ["lower left"]}, hidden=[32],
                                 latent_dim=4)),
    vq_vae_uniform=("vq_vae",
                    dict(n_codes=16, widths=[4, 8], prior="uniform", ema=False)))
# the pretended device has no kernel of a GRU, so the model of text is not asked here
MODELS = {name: (name, config) for name, config in SMALL.items()
          if name != "text_vae"} | VARIANTS


def images(n=96):
    "Some images of 0 and 1, and labels, on the CPU."
    numbers = torch.Generator().manual_seed(0)
    return Examples((torch.rand(n, 1, 28, 28, generator=numbers) < 0.2).float(),
                    torch.arange(n) % 10)


def examples_of(name, n=96):
    "Some of what the model called `name` takes."
    if name != "text_vae": return images(n)
    numbers = torch.Generator().manual_seed(0)
    return Examples((torch.randint(5, (n, 4), generator=numbers),
                     torch.randint(1, 5, (n,), generator=numbers)),
                    torch.arange(n) % 10)


def conditions(name, examples):
    "What the model called `name` is conditioned on."
    if name == "cvae_columns":
        return torch.stack([examples.y.float(), examples.y % 3 - 1.0], 1)
    return examples.x if name == "cvae_quadrants" else examples.y


def of_labels(name, examples):
    return (Examples(examples.x, conditions(name, examples)) if name == "cvae_columns"
            else examples)


# Public methods of the models: name → what is asked, of the model, images x, conditions
# c, codes z, and lists of codes k.
VAES = dict(encode=lambda m, x, c, z, k: m.encode(x).mean,
            decode=lambda m, x, c, z, k: m.decode(z).mean,
            prior=lambda m, x, c, z, k: m.prior().sample((2,)),
            sample=lambda m, x, c, z, k: m.sample(3),
            reconstruct=lambda m, x, c, z, k: m.reconstruct(x),
            forward=lambda m, x, c, z, k: m(x),
            likelihood_of=lambda m, x, c, z, k: m.likelihood_of(
                m.decoder(z.to(m.device)), 2).mean)
CVAES = dict(encode=lambda m, x, c, z, k: m.encode(x, c).mean,
             decode=lambda m, x, c, z, k: m.decode(z, c).mean,
             prior=lambda m, x, c, z, k: m.prior(c).mean,
             sample=lambda m, x, c, z, k: torch.cat([m.sample(len(c), c), m.sample(
                 2, c[0].tolist() if c.dim() < 3 else c[0])]),
             reconstruct=lambda m, x, c, z, k: torch.cat(
                 [m.reconstruct(x, c), m.reconstruct(x, c, new=c.flip(0))]),
             forward=lambda m, x, c, z, k: m(x, c),
             as_condition=lambda m, x, c, z, k: [
                 m.as_condition(c, len(x)), m.as_condition(
                     c[0].tolist() if c.dim() < 3 else c[0], 3)],
             likelihood_of=lambda m, x, c, z, k: m.likelihood_of(x.to(m.device),
                                                                 2).mean,
             at=lambda m, x, c, z, k: [v for h in [m.at(c[0])] for v in (
                 h.encode(x).mean, h.decode(z).mean, h.prior().sample((2,)),
                 h.sample(2), h.reconstruct(x), h(x), *h.losses((x, c)).values())])
VQS = dict(
    encode=lambda m, x, c, z, k: [m.encode(x).sample((2,)), m.encode(x).mode,
                                  m.encode(x).log_prob(k.to(m.device))],
    codes=lambda m, x, c, z, k: m.codes(x), forward=lambda m, x, c, z, k: m(x),
    vectors=lambda m, x, c, z, k: m.vectors(x),
    decode=lambda m, x, c, z, k: m.decode(k).mean,
    decode_entries=lambda m, x, c, z, k: m.decode_entries(
        m.quantizer.look_up(k).to(x.device)).mean,
    sample=lambda m, x, c, z, k: m.sample(2),
    reconstruct=lambda m, x, c, z, k: m.reconstruct(x),
    prior=lambda m, x, c, z, k: [m.prior().log_prob(k), m.prior().sample((2,))],
    quantizer=lambda m, x, c, z, k: [m.quantizer.look_up(k),
                                     m.quantizer.codes(m.vectors(x).to(x.device))])
# a list of codes is a row there, and the methods of its condition are its own
SPEECH = {name: lambda m, x, c, z, k, f=f: f(m, x, c, z, k[..., :1, :])
          for name, f in VQS.items()}
JUDGES = dict(forward=lambda m, x, c, z, k: m(x),
              features=lambda m, x, c, z, k: m.features(x))
EVERY = dict(losses=lambda m, x, c, z, k: list(m.losses((x, c)).values()),
             inputs=lambda m, x, c, z, k: [
                 t for t in m.inputs((x, c)) if t is not None]
                 if hasattr(m, "inputs") else next(m.parameters()))
CODES = dict(logits=lambda m, x, c, z, k: m.logits(x[:2].long().flatten(1)[:, :9]),
             log_prob=lambda m, x, c, z, k: m.log_prob(x[:2].long()),
             sample=lambda m, x, c, z, k: m.sample(1))
M2S = CVAES | dict(
    classify=lambda m, x, c, z, k: m.classify(x).probs,
    given_label=lambda m, x, c, z, k: list(m.given_label(x.to(m.device),
                                                         c.to(m.device))),
    every_label=lambda m, x, c, z, k: list(m.every_label(x.to(m.device))))
# p(x|z) of lines has no mean: what it says of x, and a draw
TEXTS = dict(encode=lambda m, x, c, z, k: m.encode(x).mean,
             decode=lambda m, x, c, z, k: [m.decode(z).log_prob(x),
                                           m.decode(z).sample(),
                                           m.decode(z).most_likely(2)],
             prior=lambda m, x, c, z, k: m.prior().sample((2,)),
             sample=lambda m, x, c, z, k: m.sample(3),
             reconstruct=lambda m, x, c, z, k: m.reconstruct(x),
             forward=lambda m, x, c, z, k: m(x),
             inputs=lambda m, x, c, z, k: data.tensors_of(m.inputs((x, c))[0]))
# a flow has no mean; a pair of layers takes and gives pairs
FLEXIBLE = VAES | dict(encode=lambda m, x, c, z, k: (
    lambda q: [q.sample((2,)), q.log_prob(z.to(m.device))])(m.encode(x)))
PAIRS = dict(encode=lambda m, x, c, z, k: (
    lambda q: [*q.mode, q.log_prob(q.sample())])(m.encode(x)),
             decode=lambda m, x, c, z, k: m.decode((z[:, :3], z)).mean,
             prior=lambda m, x, c, z, k: m.prior().sample((2,)),
             sample=lambda m, x, c, z, k: m.sample(3),
             reconstruct=lambda m, x, c, z, k: m.reconstruct(x),
             forward=lambda m, x, c, z, k: m(x))
OF_KIND = dict(flexible_vae=FLEXIBLE, two_layer_vae=PAIRS, text_vae=TEXTS,
               perceptual_vae=VAES | dict(
                   maps=lambda m, x, c, z, k: list(m.maps(x.to(m.device)))),
               code_prior=CODES, cvae=CVAES, m2=M2S, vq_vae=VQS,
               speech_vq_vae=SPEECH, classifier=JUDGES)
METHODS = {name: EVERY | OF_KIND.get(kind, VAES)
           for name, (kind, _) in MODELS.items()}
# they take no tensor, or the data set on the CPU
NOT_ASKED = {"device", "after_step", "check_examples", "optimizers", "overrides",
             "training_step", "remember", "last_weights"}
# without a condition they refuse one, and give no tensor
NOT_ASKED_OF = dict.fromkeys(("vae", "conv_vae", "beta_vae", "beta_tcvae",
                              "autoencoder", "vq_vae", "vq_vae_uniform",
                              "flexible_vae", "two_layer_vae", "sigma_vae",
                              "perceptual_vae", "vae_gan", "speech_vq_vae"),
                             {"at", "as_condition"}) | dict(
    text_vae={"at", "as_condition", "conditional"})
# functions of one kind of model
OWN = dict(cvae_quadrants=dict(complete=lambda m, x, c, z, k: [
    cvae.complete(m, x, 2), cvae.complete(m, x, 2, drawn=True)]))
TAKES_EVERYTHING = dict(
    encode_point=lambda m, x, c, z, k: generation.encode_point(m, x),
    decode_mean=lambda m, x, c, z, k: generation.decode_mean(m, z),
    generate=lambda m, x, c, z, k: [
        generation.generate(m, 2), generation.generate(m, 2, temperature=0.5),
        generation.generate(m, 2, source=torch.distributions.MultivariateNormal(
            z[0].cpu().double(), torch.eye(4).double()))],
    interpolate=lambda m, x, c, z, k: generation.interpolate(m, x[:2], x[2:4], 3))
TAKES_CONDITIONS = dict(
    encode_point=lambda m, x, c, z, k: generation.encode_point(m, x, c),
    decode_mean=lambda m, x, c, z, k: generation.decode_mean(m, z, c),
    generate=lambda m, x, c, z, k: [
        generation.generate(m, len(c), c=c),
        generation.generate(m, len(c), temperature=0.5, c=c)],
    interpolate=lambda m, x, c, z, k: generation.interpolate(m, x[:2], x[2:4], 3,
                                                             c=c[:2]))
OWN |= {name: OWN.get(name, {}) | TAKES_CONDITIONS
        for name in ("cvae", "cvae_columns", "cvae_quadrants", "m2")}
OWN |= {name: TAKES_EVERYTHING
        for name in ("vae", "conv_vae", "beta_vae", "beta_tcvae")}
OWN |= dict(
    classifier=dict(classify=lambda m, x, c, z, k: classifier.classify(m, x),
                    features=lambda m, x, c, z, k: classifier.features(m, x)),
    vq_vae=dict(dataset_codes=lambda m, x, c, z, k: vq_vae.dataset_codes(
        m, Examples(x, torch.zeros(len(x), dtype=torch.long, device=x.device)))))

# Public measures: name → what is asked, of fitted models by name, and `to`, which moves
# a tensor to where the inputs shall be.
x, y = images().x, images().y
points, more = (torch.randn(60, 3, generator=torch.Generator().manual_seed(1)),
                torch.randn(50, 3, generator=torch.Generator().manual_seed(2)))
factors = torch.stack([torch.arange(60) % 3, torch.arange(60) % 4], 1)
low, high = (torch.randn(40, generator=torch.Generator().manual_seed(3)),
             1 + torch.randn(30, generator=torch.Generator().manual_seed(4)))
some = lambda to: Examples(to(x[:20]), to(y[:20]))
MEASURES = dict(
    evaluation=dict(
        per_example=lambda m, to: evaluation.per_example(
            lambda x: x.flatten(1).sum(1), m["vae"], some(to)),
        Estimate=lambda m, to: [evaluation.Estimate(to(low)).mean,
                                evaluation.Estimate(to(low)).standard_error,
                                evaluation.Estimate(to(low)).values],
        NLL=lambda m, to: [evaluation.NLL(to(low), to(high), 5).effective_samples,
                           evaluation.NLL(to(low), to(low.abs() + 1), 5).bias],
        elbo=lambda m, to: [evaluation.elbo(m["vae"], some(to)).mean,
                            evaluation.elbo(m["vae"], some(to)).values],
        nll=lambda m, to: [evaluation.nll(m["vae"], some(to), 5).mean,
                           evaluation.nll(m["vae"], some(to), 5).effective],
        rate_distortion=lambda m, to: [
            evaluation.rate_distortion(m["vae"], some(to)).neg_elbo.values],
        posterior_mean_variance=lambda m, to: evaluation.posterior_mean_variance(
            m["vae"], some(to)),
        active_units=lambda m, to: evaluation.active_units(m["vae"], some(to)),
        Reliability=lambda m, to: [
            evaluation.Reliability().add(to(x), to(x)).error,
            evaluation.Reliability().add(to(x), to(x)).predicted],
        reliability=lambda m, to: [evaluation.reliability(m["vae"], some(to)).error,
                                   evaluation.reliability(m["vae"], some(to)).observed],
        interval_coverage=lambda m, to: [e.values for e in evaluation.interval_coverage(
            m["gaussian"], some(to)).values()]),
    beta_vae=dict(mutual_information=lambda m, to: beta_vae.mutual_information(
                      to(factors[:, 0]), to(factors[:, 1])),
                  mig=lambda m, to: [beta_vae.mig(to(points), to(factors)).mean,
                                     beta_vae.mig(to(points), to(factors)).table],
                  factorvae_score=lambda m, to: beta_vae.factorvae_score(
                      to(points), to(factors), 50, 50)),
    generation=dict(
        aggregated_posterior=lambda m, to: [
            generation.aggregated_posterior(m["vae"], to(x)).log_prob(to(torch.zeros(
                3, 4))), generation.aggregated_posterior(m["vae"], to(x)).sample((3,))],
        AggregatedPosterior=lambda m, to: generation.AggregatedPosterior(
            to(points), to(points.abs())).log_prob(to(more)),
        confidence=lambda m, to: generation.confidence(m["classifier"], to(x)),
        fit_mixture=lambda m, to: generation.fit_mixture(to(points), 2).sample((3,)),
        hole_mass=lambda m, to: generation.hole_mass(lambda z: z.sum(1), to(points), to(
            more)), thickness=lambda m, to: generation.thickness(to(x)),
        slant=lambda m, to: generation.slant(to(x)), nearest_neighbours=lambda m, to: [
            *generation.nearest_neighbours(to(points), more, 2),
            *generation.nearest_neighbours(points, to(more), 2)],
        memorized_share=lambda m, to: generation.memorized_share(
            to(points), points[:30], to(more)),
        frechet_gaussians=lambda m, to: generation.frechet_gaussians(
            to(points[0]), to(torch.eye(3)), to(more[0]), torch.eye(3)),
        frechet_distance=lambda m, to: [generation.frechet_distance(to(points), more),
                                        generation.frechet_distance(points, to(more))],
        precision_recall=lambda m, to: [*generation.precision_recall(to(points), more),
                                        *generation.precision_recall(points, to(more))],
        quality=lambda m, to: [*generation.quality(m["classifier"], to(x), x),
                               *generation.quality(m["classifier"], x, to(x))]),
    anomaly_detection={name: lambda m, to, f=f: f(m["vae"], to(x[:8]))
                       for name, f in anomaly_detection.score_methods.items()} | dict(
        complexity=lambda m, to: anomaly_detection.complexity(to(x[:8])),
        auroc=lambda m, to: [anomaly_detection.auroc(to(low), high),
                             anomaly_detection.auroc(low, to(high))],
        auroc_interval=lambda m, to: [
            *anomaly_detection.auroc_interval(to(low), high, repeats=5)],
        anomaly_scores=lambda m, to: [anomaly_detection.anomaly_scores(
            m["vae"], some(to), how) for how in anomaly_detection.score_methods],
        conformal_threshold=lambda m, to: anomaly_detection.conformal_threshold(
            to(low), 0.1),
        Proportion=lambda m, to: [anomaly_detection.Proportion(to(low) > 0).low,
                                  anomaly_detection.Proportion(to(low) > 0).value],
        Detection=lambda m, to: [
            anomaly_detection.Detection(to(low), high, 0.5).auroc,
            anomaly_detection.Detection(low, to(high), 0.5).precision]),
    classifier=dict(
        agreement=lambda m, to: [classifier.agreement(m["classifier"], to(x), y),
                                 classifier.agreement(m["classifier"], x, to(y))],
        mean_distance=lambda m, to: classifier.mean_distance(to(points)),
        variety=lambda m, to: [classifier.variety(m["classifier"], to(x), y),
                               classifier.variety(m["classifier"], x, to(y))]),
    vq_vae=dict(
        reconstruction_mse=lambda m, to: [vq_vae.reconstruction_mse(m[name], some(to))
                                          for name in ("vae", "vq_vae")],
        train_steps=lambda m, to: list(
            vq_vae.train_steps(m["vq_vae"], some(to), 2, batch_size=8).values())),
    step=dict(
        evaluate=lambda m, to: [
            v for name in ("vae", "cvae", "vq_vae", "classifier")
            for v in step.evaluate(m[name], Batches(some(to), 8), seed=0).values()],
        map_rows=lambda m, to: step.map_rows(lambda x: x.sum(1), m["vae"], to(points))
                               .cpu()),
    latent=dict(PPCA=lambda m, to: [v for p in [latent.PPCA.fit(
        to(points), 1)] for v in (p.log_prob(to(points)), p.posterior(to(points)).mean,
                                  p.likelihood(to(points[:,  :1])).mean, p.sample(2))]),
    data=dict(binarized=lambda m, to: data.binarized(some(to)).x.cpu(),
              as_batches=lambda m, to: next(
                  iter(Batches(some(to), 8, shuffle=True, binarize=True,
                               generator=torch.Generator().manual_seed(0))))[0].cpu(),
              dequantize=lambda m, to: elbo.dequantize(
                  to((x * 255).byte()), torch.Generator().manual_seed(0)).cpu()),
    gpu=dict(losses_along=lambda m, to: gpu.losses_along(
        elbo.mlp_vae(latent_dim=4, hidden=(8,)), [(x[:8], y[:8])] * 2,
        torch.zeros(2, 8, 4), to(x).device)),
    reparameterization=dict({name: lambda m, to, f=getattr(reparameterization, name): f(
        lambda z: z.sum(1), to(low[:3]), to(high[:3]),
        5).cpu() for name in ("score_function_gradient", "pathwise_gradient")}),
    plots=dict(
        show_images=lambda m, to: bool(plots.show_images(to(x[:4]), titles=to(y[:4]))),
        show_reconstructions=lambda m, to: bool(
            plots.show_reconstructions(to(x[:4]), x[:4])),
        plot_latent_map=lambda m, to: bool(
            plots.plot_latent_map(to(points[:,  :2]), to(factors[:, 0]))),
        plot_manifold=lambda m, to: bool(plots.plot_manifold(m["flat"], 3)),
        plot_traversal=lambda m, to: bool(
            plots.plot_traversal(m["vae"], to(x[:4]), steps=3)),
        kl_per_latent=lambda m, to: list(
            map(float, plots.kl_per_latent(m["vae"].encode(to(x)))))),
    widgets=dict(latent_explorer=lambda m, to: moves(widgets.latent_explorer(m["flat"],
                                                                             some(to))),
                 traversal_explorer=lambda m, to: moves(
                     widgets.traversal_explorer(m["vae"], some(to), 2))))
# public functions of the rooms above that are no measures: what they give is a tensor
# where their inputs are, or no tensor
NO_MEASURE = dict(
    evaluation="importance_weighted ppca_vae base_distribution check_pixels "
               "log_weights effective_samples RateDistortion bits_per_dim",
    generation="encode_point decode_mean generate attribute_direction lerp slerp "
               "interpolate Autoencoder mlp_autoencoder Quality",
    classifier="Classifier classify features",
    anomaly_detection="score_methods precision_from_rates AnomalyDetector "
                      "read_image_folder")


def moves(explorer):
    "Move every slider of a widget once."
    for slider in explorer.sliders.values():
        slider.value = slider.value + slider.step
    return bool(explorer.description)


def values_of(result):
    "The numbers and tensors in what a function gave."
    return ([v for r in result for v in values_of(r)]
            if isinstance(result, (list, tuple)) else [result])


def fitted(name, kind, config, to):
    torch.manual_seed(0)
    model = training.build(kind, **config)
    training.fit(model, of_labels(name, examples_of(name)),
                 valid=of_labels(name, examples_of(name, 40)),
                 epochs=1, batch_size=32, progress=False)
    return model


def check_model(name, device):
    "A model of the registry: fitted, asked, saved and loaded on the far device."
    kind, config = MODELS[name]
    model = fitted(name, kind, config, device)
    at = {t.device.type for t in (*model.parameters(), *model.buffers())}
    assert at == {device.type}, f"after `fit` its weights are on {at}"
    examples = examples_of(name, 6)
    z, k = (torch.randn(6, 4, generator=torch.Generator().manual_seed(5)),
            torch.arange(6 * 49).view(6, 7, 7) % 16)
    for where in ("cpu", device):
        asked = (data.to_device(examples.x, where),
                 conditions(name, examples).to(where),
                 z.to(where), k.to(where))
        questions = METHODS[name] | OWN.get(name, {})
        assert questions, "nothing is asked of this model"
        for method, ask in questions.items():
            try:
                with torch.no_grad():
                    given = values_of(ask(model, *asked))
            except Exception as e:
                raise AssertionError(
                    f"{method} of inputs on {where}: {type(e).__name__}: {e}") from e
            assert given and all(v.device.type == device.type for v in given), (
                f"{method} of inputs on {where} gave {[v.device for v in given]}")
    path = (Path(os.environ.get("TMPDIR", "/tmp"))
            / f"far_{os.getpid()}_{name}.safetensors")
    try:
        training.save_model(model, path)
        again = training.load_model(path, device=str(device))
    finally:
        path.unlink(missing_ok=True)
    assert {p.device.type for p in again.parameters()} == {device.type}
    ours, theirs = model.state_dict(), again.state_dict()
    assert (ours and ours.keys() == theirs.keys()
            and all(torch.equal(v.cpu(), theirs[k].cpu()) for k, v in ours.items()))


def check_measure(room, name, models, device):
    "A measure gives floats, or tensors of the CPU, wherever its inputs are."
    for where in ("cpu", device):
        try:
            given = values_of(MEASURES[room][name](models, lambda t: t.to(where)))
        except Exception as e:
            raise AssertionError(f"inputs on {where}: {type(e).__name__}: {e}") from e
        odd = [v for v in given if not (isinstance(v, (bool, int, float)) or (
            isinstance(v, torch.Tensor) and v.device.type == "cpu"))]
        assert given and not odd, f"inputs on {where} gave {odd[:2]}"


def check_seeds(models, device):
    """Draws from a seed are the same wherever the inputs are; not so of `dequantize`,
    whose noise is drawn on the device."""
    a, b = (MEASURES["data"]["binarized"](models, lambda t: t.to(where))
            for where in ("cpu", device))
    assert torch.equal(a, b)


def check_examples(device):
    "Labels go where the inputs are."
    examples = Examples(x.to(device), y)
    assert examples.y.device.type == device.type and next(
        iter(Batches(examples, 8, shuffle=True)))[1].device.type == device.type


def check_held(device):
    "A conditional model held at a condition goes to a device as a whole."
    model = training.build(*MODELS["cvae"][:1], **MODELS["cvae"][1])
    for held in (model.at(3).to(device), model.to(device).at(3)):
        assert {held.c.device.type, held.device.type,
                held.prior().mean.device.type} == {device.type}


def check_command_line(name, ask, device):
    "The command line trains on the device, and draws there."
    with (TemporaryDirectory() as folder,
          contextlib.redirect_stdout(io.StringIO()) as said):
        settings = [word for k, v in MODELS[name][1].items()
                    for word in ("--set", f"{k}={json.dumps(v)}")]
        cli.main(["train", "--model", MODELS[name][0], "--data", "digits", "--epochs",
                  "1", "--batch-size", "500", "--out", folder, "--device", str(device),
                  *settings])
        cli.main(["sample", folder, "-n", "4", "--device", str(device), *ask])
    assert "4 samples of the trained model" in said.getvalue()


def outcomes(pretend):
    "Check → None where it holds, or what was wrong."
    import far_device
    far_device.begin(pretend)
    device, found = far_device.device, {}

    def note(name, f, *args):
        try:
            f(*args)
            found[name] = None
        except (Exception, SystemExit) as e:
            found[name] = (
                f"{type(e).__name__}: {e}\n"
                f"{''.join(traceback.format_exc().splitlines(keepends=True)[-12:])}")
    for name in MODELS:
        note(f"model {name}", check_model, name, device)
    more = dict(
        gaussian=("vae", dict(hidden=[32], latent_dim=4, likelihood="gaussian")),
        flat=("vae", dict(hidden=[32], latent_dim=2)))
    models = {name: fitted(name, kind, config, device) for name, (kind, config) in (
        {k: MODELS[k] for k in ("vae", "cvae", "vq_vae", "classifier")} | more).items()}
    for room in MEASURES:
        for name in MEASURES[room]:
            note(f"{room} {name}", check_measure, room, name, models, device)
    note("seeds", check_seeds, models, device)
    note("examples", check_examples, device)
    note("held", check_held, device)
    for name, ask in COMMANDS.items():
        note(f"command line {name}", check_command_line, name, ask, device)
    return found


COMMANDS = dict(vae=[], cvae=["--condition", "7"], vq_vae=[])
NAMES = [f"model {name}" for name in MODELS] + [
    f"{room} {name}" for room in MEASURES for name in MEASURES[room]]
NAMES += ["seeds", "examples", "held", *(f"command line {name}" for name in COMMANDS)]


# Lessons

class Shorter(ast.NodeTransformer):
    """A statement that trains little. Every `assert a` becomes `a`: what is claimed is
    computed, and need not hold for models that were hardly trained."""

    def visit_Assert(self, node):
        return ast.copy_location(ast.Expr(node.test), node)

    def visit_comprehension(self, node):
        "What is repeated for statistics' sake, `for _ in …`, is done three times."
        self.generic_visit(node)
        if isinstance(node.target, ast.Name) and node.target.id == "_":
            node.iter = ast.copy_location(
                ast.Call(ast.Name("_few", ast.Load()), [node.iter], []), node.iter)
        return node

    def visit_keyword(self, node):
        self.generic_visit(node)
        if node.arg in ("samples", "repeats", "steps") and isinstance(
                node.value, ast.Constant) and isinstance(node.value.value, int):
            node.value = ast.copy_location(ast.Constant(min(node.value.value, 40)),
                                           node.value)
        return node

    def visit_For(self, node):
        "A loop that trains goes round three times."
        self.generic_visit(node)
        if any(word in ast.unparse(node.body)
               for word in ("backward(", "train_step(", "losses(", "loss(")):
            node.iter = ast.copy_location(
                ast.Call(ast.Name("_few", ast.Load()), [node.iter], []), node.iter)
        return node


def short_runs():
    "Cut what takes long: data sets, passes over them, steps, and samples."
    real_load, real_run, real_steps = (datasets.load, run.Run.__init__,
                                       vq_vae.train_steps)

    def few(examples, n):
        return examples[torch.arange(0, len(examples), max(1, len(examples) // n))[:n]]

    def load(*args, **kwargs):
        whole = real_load(*args, **kwargs)
        # all combinations belong together
        if whole.factors is not None:
            return whole
        for part, n in dict(train=1200, valid=120, test=400).items():
            if getattr(whole, part) is not None:
                object.__setattr__(whole, part, few(getattr(whole, part), n))
        return whole

    def short_run(self, model, train, valid, history, config, *rest, **named):
        if config.epochs is not None: config.epochs = min(config.epochs, 1)
        if isinstance(train, Examples):
            train = train[:320]
            config.batch_size = min(config.batch_size or 80, 80)
        if model.dataset_size is not None:
            model.dataset_size = len(train)
        return real_run(self, model, train, valid[:120] if isinstance(valid, Examples)
                                            else valid, history, config, *rest, **named)

    def steps(model, examples, steps=400, *args, **kwargs):
        return real_steps(model, examples, min(steps, 3), *args, **kwargs)
    datasets.load, run.Run.__init__, vq_vae.train_steps = load, short_run, steps
    for room in list(sys.modules.values()):
        if (getattr(room, "__name__", "").startswith("vae_course.")
                and vars(room).get("load") is real_load):
            room.load = load


class TooLong(BaseException):
    "A statement took too long."


def run_lesson(name, limit=8.0, whole=30.0):
    """The statements of a lesson that a GPU refuses, and how many of them ran; `limit`
    and `whole` are seconds of this process for one statement, and after which they get
    one second."""
    import far_device
    far_device.begin("mps")
    short_runs()
    # what torch imports at its first call must not be cut short
    datasets.load()

    def stop(*_):
        raise TooLong()
    signal.signal(signal.SIGPROF, stop)
    os.chdir(here.parent / "nbs")
    names, refused, others, count, ran = (
        {"__name__": "__main__", "_few": lambda loop: islice(loop, 3)}, [], [], 0, 0)
    start, spent = time.perf_counter(), time.process_time()
    cells = json.loads(Path(f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    for i, cell in enumerate(cells):
        code = "\n".join(line for line in "".join(cell["source"]).splitlines()
                         if not line.lstrip().startswith(("%", "!")))
        if cell["cell_type"] != "code" or "eval: false" in code:
            continue
        try:
            statements = Shorter().visit(ast.parse(code)).body
        except SyntaxError as e:
            others.append(f"cell {i}: {e}")
            continue
        for statement in statements:
            count += 1
            program = compile(ast.fix_missing_locations(ast.Module([statement], [])),
                              f"cell {i}", "exec")
            for lenient in (False, True):
                far_device.state["lenient"] = lenient
                signal.setitimer(signal.ITIMER_PROF,
                                 limit if time.process_time() - spent < whole else 1.0)
                try:
                    with (contextlib.redirect_stdout(io.StringIO()),
                          contextlib.redirect_stderr(io.StringIO())):
                        exec(program, names)
                    ran += 1
                    break
                except BaseException as e:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    words = (f"cell {i}, line {statement.lineno}: {type(e).__name__}: "
                             f"{str(e)[:200]} | {ast.unparse(statement)[:160]!r}")
                    device_error = any(w in str(e) for w in far_device.REFUSALS)
                    if not device_error:
                        others.append(words)
                        break
                    if not lenient:
                        # and once more without refusals, for the names that it makes
                        refused.append(words)
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
    far_device.state["lenient"] = False
    return dict(refused=refused, others=others, statements=count, ran=ran,
                seconds=time.perf_counter() - start, cpu=time.process_time() - spent)


if __name__ == "__main__":
    sys.path.insert(0, str(here))
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        found = (run_lesson(*sys.argv[2:3], *map(float, sys.argv[3:]))
                 if sys.argv[1] == "lesson" else outcomes(sys.argv[1]))
    json.dump(found, out)
