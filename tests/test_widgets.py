"""The explorers without a browser: a control moves the figure and the numbers, and the
numbers are right."""
import io
import math
import re

import pytest
import torch
from matplotlib.image import AxesImage
from PIL import Image

from vae_course.data import Examples
from vae_course.elbo import mlp_vae
from vae_course.latent import kl_to_standard_normal
from vae_course.reparameterization import reparameterize
from vae_course.widgets import (
    gaussian_explorer, latent_explorer, reparameterization_explorer)


def numbers(text):
    "The numbers in `text`, in order."
    return [float(n) for n in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def pixels(explorer):
    "The image that is shown, decoded: proof that it is a whole PNG of one size."
    image = Image.open(io.BytesIO(explorer.image.value))
    image.load()
    return image.size, image.tobytes()


def explorers():
    torch.manual_seed(0)
    model = mlp_vae(latent_dim=2, hidden=(16,))
    examples = Examples(torch.rand(20, 1, 28, 28), torch.arange(20) % 10)
    return [gaussian_explorer(), reparameterization_explorer(), latent_explorer(model),
            latent_explorer(model, examples)]


@pytest.mark.parametrize("explorer", explorers(), ids=lambda e: e.name)
def test_every_control_moves_the_figure_and_the_text(explorer):
    start = (explorer.sliders[next(iter(explorer.sliders))].value, pixels(explorer),
             explorer.text.value)
    for name, slider in explorer.sliders.items():
        size, before = pixels(explorer)
        text, value = explorer.text.value, slider.value
        slider.value = slider.max
        assert pixels(explorer) != (size, before), (
            f"{name} moved and the figure stood still")
        assert pixels(explorer)[0] == size
        assert explorer.text.value != text
        slider.value = value
        assert pixels(explorer) == (size, before), (
            f"{name} came back and left a trace in the figure")
    assert (explorer.sliders[next(iter(explorer.sliders))].value, pixels(explorer),
            explorer.text.value) == start


@pytest.mark.parametrize("explorer", explorers(), ids=lambda e: e.name)
def test_every_control_has_a_label_and_a_number_box(explorer):
    # below them the text and the image
    rows = explorer.children[:-2]
    assert explorer.children[-2:] == (explorer.text, explorer.image) and rows
    for slider, row in zip(explorer.sliders.values(), rows, strict=True):
        box, shown = row.children
        assert shown is slider and slider.continuous_update and box.description
        box.value = slider.min
        assert slider.value == slider.min
        slider.value = slider.max
        assert box.value == slider.max


@pytest.mark.parametrize("mu", [-3.0, -0.55, 0.0, 1.7])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.45])
def test_the_gaussian_explorer_shows_the_kl(mu, sigma):
    explorer = gaussian_explorer()
    explorer.sliders["mu"].value, explorer.sliders["sigma"].value = mu, sigma
    kl = kl_to_standard_normal(torch.tensor([mu]),
                               torch.tensor([2 * math.log(sigma)])).item()
    shown_mu, shown_sigma, shown, for_mean, for_width = numbers(explorer.text.value)
    assert (shown_mu, shown_sigma) == (mu, sigma)
    assert abs(shown - kl) <= 0.00051 and abs(for_mean + for_width - kl) <= 0.0011
    assert abs(for_mean - mu**2 / 2) <= 0.00051


def test_the_reparameterization_explorer_shows_the_gradient_of_its_draws():
    explorer = reparameterization_explorer(draws=6, seed=3)
    explorer.sliders["mu"].value, explorer.sliders["logvar"].value = -1.5, 0.75
    mu, logvar = (torch.tensor(-1.5, requires_grad=True),
                  torch.tensor(0.75, requires_grad=True))
    z = reparameterize(mu, logvar,
                       torch.randn(6, generator=torch.Generator().manual_seed(3)))
    slopes = torch.autograd.grad((z**2).mean(), (mu, logvar))
    (for_mu, mu_expected, for_logvar,
     logvar_expected) = numbers(explorer.description.split("draws:")[1])
    assert (abs(for_mu - slopes[0].item()) < 0.0051
            and abs(for_logvar - slopes[1].item()) < 0.0051)
    assert (abs(mu_expected + 3) < 0.0051
            and abs(logvar_expected - math.exp(0.75)) < 0.0051)


def test_the_latent_explorer_shows_what_is_decoded_and_leaves_the_model_as_it_was():
    model = mlp_vae(latent_dim=2, hidden=(16,)).train()
    explorer = latent_explorer(model)
    explorer.sliders["a"].value, explorer.sliders["b"].value = 1.0, -2.0
    image, = (a for a in explorer.blitter.animated if isinstance(a, AxesImage))
    with torch.no_grad():
        expected = model.decode(torch.tensor([[1.0, -2.0]])).mean[0, 0]
    assert torch.allclose(torch.as_tensor(image.get_array().data), expected, rtol=1e-4,
                          atol=1e-5)
    assert model.training and all(p.grad is None for p in model.parameters())


def test_the_latent_explorer_names_the_nearest_example():
    torch.manual_seed(0)
    model = mlp_vae(latent_dim=2, hidden=(16,))
    examples = Examples((torch.rand(30, 1, 28, 28) * 255).to(torch.uint8),
                        torch.arange(30) % 3)
    with torch.no_grad():
        codes = model.encode(examples.floats()).mean
    explorer = latent_explorer(model, examples, classes=["ape", "bee", "cat"])
    explorer.sliders["a"].value, explorer.sliders["b"].value = 0.3, 0.2
    distances = (codes - torch.tensor([0.3, 0.2])).norm(dim=-1)
    assert (f"has the label {['ape', 'bee', 'cat'][distances.argmin() % 3]} and lies"
            in explorer.description)
    assert f"{distances.min():.2f} away" in explorer.description


def test_unlabelled_examples_make_a_map_too():
    explorer = latent_explorer(mlp_vae(latent_dim=2, hidden=(16,)),
                               Examples(torch.rand(5, 1, 28, 28), torch.full((5,), -1)))
    assert "label" not in explorer.description and "away" in explorer.description


def test_a_model_with_other_than_two_latents_is_refused():
    with pytest.raises(ValueError,
                       match="got a model with 3 latents: this explorer needs 2"):
        latent_explorer(mlp_vae(latent_dim=3, hidden=(16,)))


@pytest.mark.parametrize("explorer", explorers(), ids=lambda e: e.name)
def test_a_still_image_with_words_stands_beside_the_widget(explorer):
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert re.search(
        r'<img alt="[^"]{40,}" src="data:image/png;base64,[A-Za-z0-9+/=]{1000,}"',
        bundle["text/html"])
    assert explorer.description in bundle["text/plain"]
    assert len(bundle["text/html"]) < 100_000
