"""Every registered model, and models of kinds that no lesson has, with every public
function that takes a model: it works, or one clear error says what the model lacks."""
import importlib, inspect, pkgutil, re

import pytest, torch

import vae_course
from contract_models import CONTRACT, LATENTS, image_model, pictures, words
from test_models import SMALL
from vae_course import (
    anomaly_detection, beyond_gaussian, checks, classifier, cli, cvae, evaluation,
    export, generation, gpu, model as contract, plots, protocol, sharpness, step, text,
    training, use, vq_vae, widgets)
from vae_course.anomaly_detection import AnomalyDetector, score_methods
from vae_course.data import Batches, DataError, DataSet, Examples, tensors_of
from vae_course.elbo import VAE
from vae_course.model import LatentVariableModel, Unsupported
from vae_course.noise import Noise, recorded_noise, replayed_noise
from vae_course.training import build, registry

cpu = torch.device("cpu")


class World:
    "What is asked about: images or words, labels, codes, and a condition if need be."
    def __init__(self, x, y=None, z=None, conditional=False):
        self.x, self.y, self.z, self.conditional = x, y, z, conditional
        self.images = isinstance(x, torch.Tensor)
        self.examples = Examples(x, y) if self.images else [(x, None)]

    def few(self, n=4):
        return self.x[:n] if self.images else tuple(t[:n] for t in self.x)

    def each(self, n=4): return dict(c=self.y[:n]) if self.conditional else {}

    @property
    def one(self): return dict(c=7) if self.conditional else {}


g = torch.Generator().manual_seed(0)
digits = dict(x=(torch.rand(20, 1, 28, 28, generator=g) < 0.2).float(),
              y=torch.arange(20) % 10)
small = dict(x=pictures(), y=torch.arange(20) % 10)
WORLDS = {name: World(z=torch.zeros(4, 4), **digits) for name in SMALL} | {
    "cvae": World(z=torch.zeros(4, 4), conditional=True, **digits),
    "cvae at 7": World(z=torch.zeros(4, 4), **digits),
    "m2": World(z=torch.zeros(4, 4), conditional=True, **digits),
    "text_vae": World(words(), z=torch.zeros(4, 4)),
    "two_layer_vae": World(z=(torch.zeros(4, 3), torch.zeros(4, 4)), **digits),
    "vq_vae": World(z=torch.zeros(4, 7, 7, dtype=torch.int64), **digits),
    "speech_vq_vae": World(z=torch.zeros(4, 1, 7, dtype=torch.int64), **digits)}
WORLDS |= {name: World(z=torch.zeros(4, LATENTS), **small) for name in CONTRACT} | {
    "two layers": World(z=(torch.zeros(4, 2), torch.zeros(4, 3)), **small),
    "words": World(words(), z=torch.zeros(4, LATENTS))}

# what a message calls that which a model lacks
LACKS = dict(
    encode=r"a distribution q\(z\|x\)", decode=r"p\(x\|z\) for codes z",
    prior=r"a prior p\(z\)", codes="lists of codes", features="features of x",
    gaussian=r"a diagonal Gaussian q\(z\|x\)", mean="the mean of one tensor",
    prior_mean="the mean of one tensor", x_mean="the mean of one tensor",
    row="a row of numbers as z", places="codes with places between them",
    images="needs images", sample=r"cannot draw samples: it has no method sample\(n\)",
    data_shape="the shape of one example", none_lacking="$^",
    labels="a condition|needs to know",
    numbers="an encoder whose numbers a posterior",
    rsample=r"draws from q\(z\|x\) with a gradient",
    program="has one tensor as x|has neither encoder|the shape of an example")
LATENT = "encode decode prior sample data_shape"
A_VAE = (f"{LATENT} gaussian mean prior_mean x_mean row places images trained "
         "program")
HAS = dict.fromkeys(("vae", "conv_vae", "beta_vae", "beta_tcvae", "autoencoder", "cvae",
                     "cvae at 7", "m2", "sigma_vae", "perceptual_vae", "vae_gan"),
                    A_VAE) | dict(
    vq_vae=f"{LATENT} codes x_mean images trained program",
    speech_vq_vae=f"{LATENT} codes x_mean images trained program",
    code_prior="data_shape images trained sample",
    text_vae="encode decode prior sample gaussian mean prior_mean row places trained",
    flexible_vae=f"{LATENT} x_mean row places images trained program numbers",
    two_layer_vae=f"{LATENT} x_mean places images trained",
    classifier="features data_shape trained program")
HAS |= dict.fromkeys(CONTRACT, A_VAE) | {
    name: f"{LATENT} prior_mean x_mean row places images trained program"
    for name in ("flow", "flow and mixture", "beta, flow")}
HAS |= {"two layers": f"{LATENT} x_mean places images trained",
        "words": "encode decode prior sample gaussian mean prior_mean row places "
                 "trained"}

# an encoder whose numbers a posterior takes; and draws of z with a gradient
HAS |= {name: f"{HAS[name]} numbers" for name in (
    "vae", "conv_vae", "beta_vae", "beta_tcvae", "autoencoder", "sigma_vae",
    "perceptual_vae", "vae_gan", *(
        n for n in CONTRACT if n not in ("two layers", "words")))}
HAS |= {name: f"{has} rsample" for name, has in HAS.items()
        if "vq_vae" not in name and "encode" in has}

# 'room.function', perhaps with a word behind → what is asked of a model `m` in its
# world `w`, and what it takes. Where the answer says nothing it may be None.
def named_images(w): return use.NamedImages(
    w.few(), None if w.y is None else w.y[:4], [], None, "ours")
def few(w): return (Batches(w.examples, 10) if isinstance(w.examples, Examples)
                    else w.examples)
ASK = {
    "evaluation.elbo": (lambda m, w: evaluation.elbo(m, w.examples),
                        "encode decode prior"),
    "evaluation.nll": (lambda m, w: evaluation.nll(m, w.examples, 3),
                       "encode decode prior"),
    "evaluation.rate_distortion": (
        lambda m, w: evaluation.rate_distortion(m, w.examples), "encode decode prior"),
    "evaluation.log_weights": (
        lambda m, w: evaluation.log_weights(m, w.few(), 3, **w.each()),
        "encode decode prior"),
    "evaluation.posterior_mean_variance": (
        lambda m, w: evaluation.posterior_mean_variance(m, w.examples), "encode mean"),
    "evaluation.active_units": (lambda m, w: evaluation.active_units(m, w.examples),
                                "encode mean"),
    "evaluation.reliability": (lambda m, w: evaluation.reliability(m, w.examples),
                               "encode decode"),
    "evaluation.interval_coverage": (
        lambda m, w: evaluation.interval_coverage(m, w.examples), "encode decode"),
    "evaluation.per_example": (
        lambda m, w: evaluation.per_example(
            lambda x, c=None: tensors_of(x)[0].flatten(1).sum(1), m, w.examples), ""),
    "generation.encode_point": (
        lambda m, w: generation.encode_point(m, w.few(), **w.each()), "encode"),
    "generation.decode_mean": (
        lambda m, w: generation.decode_mean(m, w.z, **w.each()), "decode"),
    "generation.generate": (lambda m, w: generation.generate(m, 4, **w.each()),
                            "decode prior"),
    "generation.generate at a temperature": (
        lambda m, w: generation.generate(m, 4, temperature=0.5, **w.each()),
        "decode prior prior_mean"),
    "generation.aggregated_posterior": (
        lambda m, w: generation.aggregated_posterior(m, w.few(), **w.each()),
        "encode gaussian"),
    "generation.interpolate": (
        lambda m, w: generation.interpolate(m, w.few(2), w.few(2), 3, generation.lerp,
                                            **w.each(2)), "encode decode places"),
    "generation.confidence": (lambda m, w: generation.confidence(m, w.x), "features"),
    "generation.quality": (lambda m, w: generation.quality(m, w.x, w.x), "features"),
    "sharpness.average_images": (
        lambda m, w: sharpness.average_images(m, w.z, w.x, **w.each(len(w.x))),
        "encode gaussian images"),
    "classifier.classify": (lambda m, w: classifier.classify(m, w.x), "features"),
    "classifier.agreement": (lambda m, w: classifier.agreement(m, w.x, w.y),
                             "features"),
    "classifier.features": (lambda m, w: classifier.features(m, w.x), "features"),
    "classifier.variety": (lambda m, w: classifier.variety(m, w.x, w.y), "features"),
    "vq_vae.dataset_codes": (lambda m, w: vq_vae.dataset_codes(m, w.examples), "codes"),
    "vq_vae.reconstruction_mse": (
        lambda m, w: vq_vae.reconstruction_mse(m, w.examples), "encode decode x_mean"),
    "vq_vae.train_steps": (
        lambda m, w: vq_vae.train_steps(twin(m), w.examples, 2, batch_size=10),
        "trained"),
    "text.code_information": (lambda m, w: text.code_information(m, w.examples),
                              "encode gaussian"),
    "plots.plot_manifold": (lambda m, w: plots.plot_manifold(m, 3, **w.one),
                            "prior decode row"),
    "plots.plot_traversal": (
        lambda m, w: plots.plot_traversal(m, w.few(), steps=3, **w.one),
        "encode decode gaussian x_mean"),
    "widgets.latent_explorer": (
        lambda m, w: widgets.latent_explorer(m, w.examples, **w.one),
        "prior encode decode row images"),
    "widgets.traversal_explorer": (
        lambda m, w: widgets.traversal_explorer(m, w.examples, 2, **w.one),
        "encode decode gaussian images"),
    "cli.draw_samples": (
        lambda m, w: cli.draw_samples(m, 4, 0, cpu, **w.each()), "sample"),
    "protocol.pixel_distribution": (
        lambda m, w: [protocol.pixel_distribution(m, w.examples)],
        "images or features"),
    "protocol.prepare": (lambda m, w: protocol.prepare(m, data_set(w)),
                         "images or features"),
    "protocol.evaluate_test_set": (
        lambda m, w: protocol.evaluate_test_set(m, protocol.prepare(m, data_set(w)),
                                                cpu), "images or features"),
    "step.evaluate": (lambda m, w: step.evaluate(m, few(w), seed=0), ""),
    "step.train_epoch": (
        lambda m, w: (lambda t: step.train_epoch(
            t, few(w), step.make_optimizers(t, cpu)))(twin(m)), ""),
    "training.fit": (
        lambda m, w: training.fit(
            twin(m), w.examples, epochs=1, device="cpu", progress=False,
            **dict(batch_size=20) if w.images else {}), "trained"),
    "checks.check_model_takes": (
        lambda m, w: [checks.check_model_takes(m, w.examples, "train", cpu)],
        "trained"),
    "checks.check_shape": (
        lambda m, w: [checks.check_shape(m, next(iter(few(w))), "train")], "trained"),
    "checks.diagnose_nan": (
        lambda m, w: checks.diagnose_nan(m, next(iter(few(w))), [], 1e-3), "trained"),
    "gpu.random_batch": (lambda m, w: gpu.random_batch(m, 4), "data_shape"),
    "gpu.ready_step": (lambda m, w: gpu.ready_step(m)(next(iter(few(w)))), ""),
    "gpu.step_seconds": (lambda m, w: gpu.step_seconds(m, 4, repeats=1), "data_shape"),
    "gpu.throughput": (lambda m, w: gpu.throughput(m, 4, repeats=1), "data_shape"),
    "gpu.step_cost": (lambda m, w: gpu.step_cost(m, 4), "data_shape"),
    "gpu.step_profile": (lambda m, w: gpu.step_profile(m, 4, steps=1), "data_shape"),
    "gpu.batch_sweep": (
        lambda m, w: gpu.batch_sweep(model=m, batch_sizes=(4,), repeats=1),
        "data_shape"),
    "gpu.losses_along": (
        lambda m, w: gpu.losses_along(m, list(few(w))[:1], [torch.zeros(
            len(tensors_of(list(few(w))[0])[0]), 4)]), "encode decode prior gaussian"),
    "export.model_parts": (
        lambda m, w: [p.net(*p.inputs.values())
                      for p in export.model_parts(m).values()],
        "program"),
    "use.encode_images": (
        lambda m, w: use.encode_images(m, named_images(w), **w.each()),
        "encode images"),
    "use.reconstruct_images": (
        lambda m, w: use.reconstruct_images(m, named_images(w), **w.each()),
        "encode decode images"),
    "beyond_gaussian.importance_weighted_losses": (
        lambda m, w: beyond_gaussian.importance_weighted_losses(
            m, w.few(), 2, **w.each()), "encode decode prior rsample"),
    "beyond_gaussian.inference_gaps": (
        lambda m, w: beyond_gaussian.inference_gaps(m, w.few(), 2, 2, samples=3),
        "encode decode prior numbers"),
    "method.sample": (lambda m, w: m.sample(4, **w.each()), "sample"),
    "method.reconstruct": (lambda m, w: m.reconstruct(w.few(), **w.each()),
                           "encode decode"),
    "method.forward": (lambda m, w: m(w.few(), **w.each()), "encode decode")}
NEEDS = {"reconstruction_error": "encode decode x_mean",
         "reconstruction_probability": "encode decode",
         "likelihood_regret": "encode decode prior gaussian",
         "complexity_corrected": "encode decode prior images"}
ASK |= {f"anomaly_detection.{how}": (
    lambda m, w, how=how: score_methods[how](m, w.few(), **w.each()),
    NEEDS.get(how, "encode decode prior")) for how in score_methods}
ASK |= {f"anomaly_detection.anomaly_scores, {how}": (
    lambda m, w, how=how: anomaly_detection.anomaly_scores(m, w.examples, how),
    NEEDS.get(how, "encode decode prior")) for how in score_methods}
# also models that have all they take: for their likelihood, their size, or the number
# of images
REFUSES = ("evaluation.interval_coverage", "evaluation.reliability",
           "generation.quality", "plots.plot_manifold", "widgets.latent_explorer",
           "protocol.prepare", "protocol.evaluate_test_set")
WORDS = ("words", "text_vae")
# they draw as it comes: words have no mean
DRAWS = ("generation.decode_mean", "generation.interpolate")
# public functions and classes that take a model, and where they are asked
ELSEWHERE = {
    **dict.fromkeys(("checks.batch_check", "checks.check_data_shape",
                     "checks.check_own_step"), "training.fit"),
    **dict.fromkeys(("export.EncoderParameters", "export.DecoderParameters",
                     "export.ClassifierLogits", "export.LabelLogits",
                     "export.export_onnx",
                     "export.export_programs", "export.onnx_paths"), "test_export"),
    **dict.fromkeys(("own_steps.OwnStep", "own_steps.parts_to_compile"),
                    "test_own_steps"),
    **dict.fromkeys(("use.load_images", "use.conditions_of"), "test_use"),
    **dict.fromkeys(("semi_supervised.M2", "semi_supervised.m2",
                     "partly_labelled.training_parts",
                     "partly_labelled.load_partly"), "test_semi_supervised"),
    **dict.fromkeys(("speech_files.speech_settings", "speech_files.write_wavs"),
                    "test_speech"),
    **dict.fromkeys(("sharpness.PerceptualVAE", "sharpness.perceptual_vae",
                     "sharpness.adversarial_step"),
                    "test_sharpness"),
    **dict.fromkeys(("diagnosis.diagnose", "diagnosis_measures.code_counts",
                     "diagnosis_measures.fit_codes", "diagnosis_measures.look",
                     "diagnosis_measures.loss_weights", "diagnosis_measures.pairs",
                     "diagnosis_measures.trained_beta", "diagnosis_report.Report",
                     "diagnosis_run.data_of_run"), "test_diagnosis"),
    **dict.fromkeys(("live.explore", "live.facts_of", "live.usage_of",
                     "packing.packed", "packing.rounded", "packing.rounding_cost"),
                    "test_live"),
    "packing.packed_lines": "test_live_more",
    "packing_deep.packed_layers": "packing.packed",
    "imputation.impute": "test_tables", "text.FixedLanguageVAE": "test_text",
    "text.text_scores": "lesson 12: a model of lines alone",
    "acceleration.AutocastLosses": "test_models", "anomaly_detection.AnomalyDetector":
    "below", "acceleration.AcceleratedStep": "gpu.ready_step",
    "checkpoint.current_settings": "takes a name", "checkpoint.model_state":
    "test_models: saved and loaded", "checkpoint.load_model_state": "the same",
    "checks.check_trainable": "training.fit", "checks.check_schedules": "training.fit",
    "checks.check_settings": "training.fit", "cli.train": "test_models", "cli.parser":
    "takes a name", "cvae.FixedConditionVAE": "cvae at 7", "cvae.complete": "below",
    "distributed.LossesModule": "gpu.ready_step", "gpu.NoiseInBatch":
    "gpu.losses_along", "export.EncoderParameters": "export.model_parts",
    "export.DecoderParameters": "the same", "export.ClassifierLogits": "the same",
    "export.export_programs": "test_export", "export.onnx_paths": "test_export",
    "export.export_onnx": "test_export", "use.load_images": "test_use",
    "use.conditions_of": "test_use", "model.require": "everywhere",
    "model.require_condition":
    "below", "model.at_condition": "below", "model.latent_width": "plot_manifold",
    "model_settings.read_conditions": "test_cli", "run.Run": "training.fit",
    "run.training_run": "training.fit",
    "step.training_step": "step.train_epoch", "step.update": "step.train_epoch",
    "step.make_optimizers": "step.train_epoch", "step.first_non_finite":
    "step.train_epoch", "step.evaluating": "everywhere", "step.map_batches":
    "everywhere", "step.map_rows": "everywhere", "training.save_model": "test_models",
    "training.load_model": "test_models"}


def twin(model):
    "One that may be trained."
    import copy
    return copy.deepcopy(model)


def data_set(w): return DataSet("ours", w.examples, w.examples, [])


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    found = {name: build(name, **SMALL[name]) for name in SMALL}
    if "beta_tcvae" in found: found["beta_tcvae"].dataset_size = 20
    found |= {name: make() for name, make in CONTRACT.items()}
    found = {name: model.eval() for name, model in found.items()}
    found |= {"cvae at 7": found["cvae"].at(7)}
    assert not any(model.training for model in found.values())
    return found


def takes_a_model(f):
    "Whether `f` has a parameter that is a model, by its name or its annotation."
    try: parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError): return False
    return any(p.name in ("model", "classifier")
               or re.search("Trainable|LatentVariable|Classifier|VAE|nn.Module$",
                            str(p.annotation)) for p in parameters)


def public():
    "Room and name of every public function and class of the package."
    for info in pkgutil.iter_modules(vae_course.__path__):
        room = importlib.import_module(f"vae_course.{info.name}")
        for name in getattr(room, "__all__", ()):
            f = getattr(room, name)
            if callable(f) and getattr(f, "__module__", "") == room.__name__:
                yield f"{info.name}.{name}", f


def test_the_table_holds_every_public_function_that_takes_a_model():
    found = {name for name, f in public() if takes_a_model(f)}
    asked = {key.split(" ")[0].rstrip(",") for key in ASK if key[:7] != "method."}
    assert found - asked - ELSEWHERE.keys() == set(), "ask them of every model"
    assert asked - found == set() and ELSEWHERE.keys() - found == set(), "they are gone"
    assert not asked & ELSEWHERE.keys()


def test_a_new_function_that_takes_a_model_would_be_noticed(monkeypatch):
    def sharpness(net: LatentVariableModel, x): pass
    def energy(model): pass
    for f in (sharpness, energy):
        f.__module__ = "vae_course.evaluation"
        with monkeypatch.context() as patch:
            patch.setattr(evaluation, "__all__", [*evaluation.__all__, f.__name__])
            patch.setattr(evaluation, f.__name__, f, raising=False)
            with pytest.raises(AssertionError, match="ask them of every model"):
                test_the_table_holds_every_public_function_that_takes_a_model()


def test_the_table_of_models_is_complete():
    assert HAS.keys() - {"cvae at 7"} == registry.keys() | CONTRACT.keys()
    assert WORLDS.keys() == HAS.keys()


def missing_of(name, needs):
    "The capabilities that the model lacks."
    has = HAS[name].split()
    if needs == "images or features":
        return [] if {"images", "features"} & {*has} else ["images"]
    return [n for n in needs.split() if n not in has]


@pytest.mark.parametrize("name", HAS)
@pytest.mark.parametrize("key", ASK)
def test_it_works_or_says_what_the_model_lacks(name, key, models):
    (ask, needs), model, w = ASK[key], models[name], WORLDS[name]
    missing = missing_of(name, needs)
    if name in ("cvae", "m2") and key == "gpu.losses_along": missing = ["labels"]
    if key[:7] == "method." and not isinstance(model, LatentVariableModel): return
    if name in WORDS and (key.split(".")[0] == "protocol"
                            or key == "vq_vae.train_steps"): return
    if name in WORDS and key.split(".")[0] == "widgets":
        with pytest.raises(DataError, match="got a list: an explorer shows `Examples`"):
            ask(model, w)
        return
    before = [t.clone() for t in (*model.parameters(), *model.buffers())]
    random = torch.get_rng_state()
    if missing:
        with pytest.raises(Unsupported) as e:
            ask(model, w)
        assert re.search("|".join(LACKS[n] for n in missing), str(e.value)), e.value
        names = re.findall(r"\w+", key.split(".")[1]) + ["posterior_mean_variance"]
        assert any(f"`{n}" in str(e.value) for n in names) or type(
            model).__name__ in str(e.value), e.value
    else:
        try:
            assert ask(model, w) is not None
        except ValueError as e:
            assert str(e).startswith(("got ", "a Gaussian is a density")) and (
                key in REFUSES), f"{type(e).__name__}: {e}"
    after = (*model.parameters(), *model.buffers())
    assert all(map(torch.equal, before, after)) and not model.training
    if key.split(".")[0] not in ("method", "gpu", "step", "checks") and (
            "log_weights" not in key and "weighted_losses" not in key) and (
            name, key) not in [
            (word, k) for word in WORDS for k in DRAWS]:
        assert torch.equal(random, torch.get_rng_state()), "it moves the random numbers"


def with_two_latents(likelihood="bernoulli"):
    torch.manual_seed(0)
    return build("vae", hidden=[32], latent_dim=2, likelihood=likelihood).eval()


@pytest.mark.parametrize("key", REFUSES)
def test_what_refuses_some_models_measures_others(key, models):
    ask, w = ASK[key][0], WORLDS["vae"]
    if key == "generation.quality":
        x = (torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(1))
             < 0.2).float()
        assert generation.quality(models["classifier"], x[:100], x[100:]) is not None
    else:
        assert ask(with_two_latents("gaussian" if "interval" in key else "bernoulli"),
                   w) is not None


# ---------------------------------------------------------------- conditions

TAKES_C = [key for key, (ask, _) in ASK.items()
           if {"each", "one"} & {*ask.__code__.co_names}]


def test_all_that_take_no_labels_take_c():
    "By their signatures: nothing that takes c is left out above."
    named = {f"{name}" for name, f in public()
             if takes_a_model(f) and "c" in inspect.signature(f).parameters
             and not inspect.isclass(f)}
    asked = {key.split(" ")[0].rstrip(",") for key in TAKES_C if key[:7] != "method."}
    assert named - asked == {"model.require_condition", "model.at_condition"}


@pytest.mark.parametrize("key", TAKES_C)
def test_without_c_a_conditional_model_is_refused_and_with_it_every_other(key, models):
    ask, needs = ASK[key]
    blind = World(z=torch.zeros(4, 4), **digits)
    with pytest.raises(Unsupported, match="condition") as e:
        ask(models["cvae"], blind)
    assert re.search(r"c=|model\.at\(7\)", str(e.value))
    told = World(z=torch.zeros(4, 4), conditional=True, **digits)
    for other in ("vae", "cvae at 7"):
        with pytest.raises(Unsupported, match="has no condition: leave c out"):
            ask(models[other], told)


@pytest.mark.parametrize("name", [n for n in WORLDS if n not in CONTRACT
                                  and not WORLDS[n].conditional])
def test_called_directly_a_model_refuses_a_condition_that_it_has_not(name, models):
    model, world = models[name], WORLDS[name]
    if not isinstance(model, LatentVariableModel): return
    x, z = world.few(), world.z
    for asked, call in dict(encode=lambda c: model.encode(x, c), prior=model.prior,
                            decode=lambda c: model.decode(z, c),
                            forward=lambda c: model(x, c)).items():
        with pytest.raises(Unsupported, match=(
                f"`{asked}` got c=7, and a {type(model).__name__} has no condition: "
                "leave c out")):
            call(7)
        if asked not in model.lacks: call(None)


def told(*sees, latents=4, **settings):
    "A conditional model whose `sees` hear the condition loudly, and the rest not."
    torch.manual_seed(0)
    model = build("cvae", hidden=[32], latent_dim=latents, sees=list(sees), **settings)
    if "prior" in sees:
        with torch.no_grad():
            for p in model.prior_net.parameters(): p.mul_(4)
    return model.eval()


# where the answer depends on less than the function needs, or the table says it by
# another name
USES = {"plots.plot_manifold": "decode", "widgets.latent_explorer": "encode decode",
        "cli.draw_samples": "decode prior", "method.sample": "decode prior"}


@pytest.mark.parametrize("part", ["encoder", "decoder", "prior"])
@pytest.mark.parametrize("key", TAKES_C)
def test_the_condition_reaches_each_part_that_is_asked(key, part):
    """With other conditions there are other numbers where a part that is used hears
    them, and the same where it does not."""
    latents = 2 if "manifold" in key or "latent_explorer" in key else 4
    model, ask = told(part, latents=latents), ASK[key][0]
    def answer(shift):
        labels = 0 if "one" in ask.__code__.co_names else shift
        y = (digits["y"] + labels) % 10
        w = World(z=torch.zeros(4, latents), conditional=True, **digits | dict(y=y))
        World.one = property(lambda self: dict(c=7 - 4 * shift))
        torch.manual_seed(0)
        return numbers_of(ask(model, w))
    kept = World.one
    try: same, again, other = answer(0), answer(0), answer(1)
    finally: World.one = kept
    uses = USES.get(key, ASK[key][1]).split()
    used = dict(encoder="encode", decoder="decode", prior="prior")[part] in uses
    assert torch.equal(same, again) and torch.allclose(same, other) != used


def numbers_of(answer):
    "What was computed, as one row: of a figure or a widget, its pixels."
    if hasattr(answer, "png"): return pixels(answer.png())
    if hasattr(answer, "image"): return pixels(answer.image.value)
    if isinstance(answer, generation.AggregatedPosterior): answer = answer.mu
    return torch.cat([t.flatten().double() for t in tensors_of(answer)])


def pixels(png):
    import io
    import numpy as np
    from PIL import Image
    image = Image.open(io.BytesIO(png)).convert("L")
    return torch.from_numpy(np.asarray(image).copy()).double().flatten()


@pytest.mark.parametrize("key", [k for k, (ask, _) in ASK.items()
                                 if k.split(".")[0] in ("evaluation", "vq_vae")
                                 and "examples" in ask.__code__.co_names
                                 and "per_example" not in k and "codes" not in k])
def test_over_examples_the_condition_is_their_labels(key):
    model = told("encoder", "decoder", "prior",
                 likelihood="gaussian" if "interval" in key else "bernoulli")
    if "active" in key: return                        # a number; see the variances
    def answer(y):
        found = ASK[key][0](model, World(**digits | dict(y=y)))
        return str(found) if not isinstance(found, torch.Tensor) else str(
            found.tolist())
    same, other = digits["y"], (digits["y"] + 1) % 10
    assert answer(same) == answer(same) != answer(other)


@pytest.mark.parametrize("how", score_methods)
def test_scores_over_examples_are_those_with_their_labels_as_c(how):
    model, x, y = told("encoder", "decoder", "prior"), digits["x"], digits["y"]
    scores = anomaly_detection.anomaly_scores(model, Examples(x, y), how, 7)
    each = torch.cat([score_methods[how](model.at(k), x[i:i + 1])
                      for i, k in enumerate(y.tolist())])
    assert torch.allclose(scores, each.double(), rtol=1e-3, atol=1e-3)
    if "prior" in NEEDS.get(how, "prior"):            # which says something here
        apart = torch.cat([score_methods[how](model.at(9 - k), x[i:i + 1])
                           for i, k in enumerate(y.tolist())])
        assert (scores - apart).abs().max() > 1


@pytest.mark.parametrize("key", [
    f"evaluation.{name}" for name in ("elbo", "nll", "rate_distortion", "reliability",
                                      "interval_coverage")])
def test_codes_are_drawn_and_not_the_center_taken(key):
    "Another seed gives other numbers, the same seed the same."
    kind = "gaussian" if "interval" in key else "bernoulli"
    torch.manual_seed(0)
    model, f = build("vae", hidden=[32], latent_dim=4, likelihood=kind), getattr(
        evaluation, key.split(".")[1])
    with torch.no_grad():
        for p in model.parameters(): p.mul_(3)
        model.encoder[2][-1].bias[4:].fill_(-1.0)
    def answer(seed):
        found = f(model.eval(), Examples(**digits), seed=seed)
        if isinstance(found, dict): return [v.mean for v in found.values()]
        if isinstance(found, evaluation.RateDistortion): found = found.distortion
        return found.error if hasattr(found, "error") else found.mean
    assert answer(0) == answer(0) != answer(1)


def test_each_bound_is_that_of_the_example_with_its_own_condition():
    "By the same noise, one example at a time: rate, distortion and weights."
    model, x, y = told("encoder", "decoder", "prior"), digits["x"], digits["y"]
    with recorded_noise() as noise: weights = evaluation.log_weights(model, x, 5, c=y)
    with recorded_noise() as drawn:
        parts = evaluation.rate_distortion(model, Examples(x, y), batch_size=20)
    for i, k in enumerate(y.tolist()):
        own, only = Noise([d[:, i:i + 1] for d in noise.draws]), model.at(k)
        with replayed_noise(own):
            alone = evaluation.log_weights(only, x[i:i + 1], 5)
        assert torch.allclose(weights[:, i], alone[:, 0], rtol=1e-4, atol=1e-3)
        with replayed_noise(Noise([d[:, i:i + 1] for d in drawn.draws])):
            one = evaluation.rate_distortion(only, Examples(x[i:i + 1], y[i:i + 1]))
        for name in ("rate", "distortion"):
            assert getattr(one, name).mean == pytest.approx(
                getattr(parts, name).values[i].item(), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("key", [k for k in ASK if k.split(".")[0] in (
    "evaluation", "anomaly_detection") and "per_example" not in k])
def test_labels_out_of_range_are_refused(key, models):
    wrong = World(z=torch.zeros(4, 4), conditional=True,
                  **digits | dict(y=digits["y"] + 5))
    if key == "evaluation.log_weights": return        # its callers have asked
    with pytest.raises(DataError, match="labels from"):
        ask = ASK[key][0]
        wrong.few = lambda n=4: digits["x"][10:10 + n]
        wrong.each = lambda n=4: dict(c=wrong.y[6:6 + n])
        ask(models["cvae"], wrong)


def test_images_without_labels_are_encoded_with_the_condition_that_is_given(models):
    x, c = digits["x"], digits["y"]
    unknown = use.NamedImages(x, torch.full((20,), -1), [], None, "ours")
    found = use.encode_images(models["cvae"], unknown, c)
    assert torch.allclose(next(iter(found.values())),
                          models["cvae"].encode(x, c).mean, atol=1e-5)
    assert use.reconstruct_images(models["cvae"], unknown, c).shape == x.shape
    with pytest.raises(DataError, match="labels from 5 to 14"):
        use.encode_images(models["cvae"], unknown, c + 5)


def test_completing_says_that_a_model_takes_no_condition(models):
    with pytest.raises(ValueError,
                       match="conditioned on nothing: completing needs one built with"):
        cvae.complete(models["vae"], WORLDS["vae"].x)


# ---------------------------------------------------------------- messages

def test_the_message_names_the_measure_the_capability_and_the_way_out(models):
    w = WORLDS["vq_vae"]
    with pytest.raises(Unsupported, match=r"^`plot_traversal` needs a diagonal "
                                          r"Gaussian q\(z\|x\), and this one is a "
                                          "PointMass$"):
        plots.plot_traversal(models["vq_vae"], w.x)
    with pytest.raises(Unsupported, match=r"^`plot_traversal` needs to know what the "
                                          r"examples are or should be: a CVAE has a "
                                          r"condition; give c=, or a model for one "
                                          r"condition, such as `model.at\(7\)`$"):
        plots.plot_traversal(models["cvae"], w.x)
    with pytest.raises(Unsupported, match=r"^`elbo` needs a distribution q\(z\|x\), "
                                          "and a Classifier has no `encode`$"):
        evaluation.elbo(models["classifier"], w.examples)
    with pytest.raises(Unsupported, match="c=3, and a Classifier has no condition"):
        contract.at_condition(models["classifier"], "plot_manifold", 3)


class Generator(LatentVariableModel):
    "A model without q(z|x)."
    def __init__(self):
        super().__init__()
        self.vae = image_model()

    def decode(self, z, c=None): return self.vae.decode(z)
    def prior(self, c=None): return self.vae.prior()


class Encoder(LatentVariableModel):
    "A model that only encodes."
    lacks = dict(decode="an Encoder is half a model")

    def __init__(self):
        super().__init__()
        self.vae = image_model()

    def encode(self, x, c=None): return self.vae.encode(x)


@pytest.mark.parametrize("key", [k for k, (_, needs) in ASK.items()
                                 if {"encode", "decode", "prior"} & {*needs.split()}])
def test_a_model_may_leave_out_what_it_has_not(key):
    "It can do the rest, and the message names what it has not."
    ask, needs = ASK[key]
    if key in ("method.reconstruct", "method.forward"): return
    for model, has, says in (
            (Generator(), {"decode", "prior"}, "Generator has no `encode`"),
            (Encoder(), {"encode"}, "has no `prior`|half a model")):
        model.eval()
        if {"encode", "decode", "prior"} & {*needs.split()} <= has:
            try: assert ask(model, WORLDS["flow"]) is not None
            except ValueError as e: assert key in REFUSES, e
        else:
            with pytest.raises(Unsupported, match=says):
                ask(model, WORLDS["flow"])


# ---------------------------------------------------------------- detectors

@pytest.mark.parametrize("name", registry)
def test_a_detector_takes_a_registered_model_or_says_why_not(name):
    x = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    config = {k: v for k, v in SMALL[name].items() if k != "data_shape"}
    if name == "beta_tcvae": config["dataset_size"] = 80
    detector = AnomalyDetector(model=name, config=config, epochs=1, device="cpu")
    model = build(name, **SMALL[name])
    if name == "sigma_vae":                       # its σ is its likelihood
        with pytest.raises(ValueError, match="argument 'likelihood'"): detector.fit(x)
    elif isinstance(model, VAE) and not model.conditional:
        assert detector.fit(x).predict(x).shape == (100,)
    else:
        with pytest.raises(ValueError, match="needs a VAE without conditions"):
            detector.fit(x)
