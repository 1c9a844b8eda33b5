"""Plots on planted input: what is drawn, the words that come with it, how it reads for
the colour-blind and on a dark page, and what a notebook stores."""
import base64, io, itertools, re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vae_course import plots
from vae_course.plots import (AltFigure, _grid, plot_history, plot_latent_map,
                              plot_manifold, plot_traversal, show_images,
                              show_reconstructions, subplots)


class Plain(torch.nn.Module):
    """A model with images of one grey: the decoder paints how large its first latent
    is, from −3 (black) to 3 (white)."""
    def __init__(self, latents, channels=1):
        super().__init__()
        self.seat, self.latents, self.channels = torch.nn.Dropout(), latents, channels
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def prior(self):
        return torch.distributions.Independent(
            torch.distributions.Normal(torch.zeros(self.latents), 1), 1)

    def encode(self, x):
        assert not self.training and not torch.is_grad_enabled()
        scale = torch.linspace(1, .1, self.latents).expand(len(x), -1)
        return torch.distributions.Independent(
            torch.distributions.Normal(torch.zeros(len(x), self.latents), scale), 1)

    def decode(self, z):
        assert not self.training and not torch.is_grad_enabled()
        return SimpleNamespace(
            mean=(z[:, 0] / 6 + .5).view(-1, 1, 1, 1).expand(-1, self.channels, 4, 4))


HISTORY = [dict(epoch=i, seconds=1., lr=.1, loss=9., neg_elbo=90. + i,
                reconstruction=70., kl=20. + i, valid_neg_elbo=95.)
           for i in range(1, 4)]
CODES, LABELS = (torch.randn(60, 2, generator=torch.Generator().manual_seed(0)),
                 torch.arange(60) % 3)
DRAWN = dict(
    images=lambda **k: show_images(torch.rand(5, 1, 4, 4), titles=list("abcde"), **k),
    reconstructions=lambda **k: show_reconstructions(
        torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4), **k),
    map=lambda **k: plot_latent_map(CODES, LABELS, **k),
    manifold=lambda **k: plot_manifold(Plain(2), n=5, **k),
    traversal=lambda **k: plot_traversal(Plain(3), torch.zeros(1, 1, 4, 4), **k),
    history=lambda **k: plot_history(HISTORY, **k))
every = pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)


# What every plot does

@every
def test_gives_a_figure_with_words(draw):
    figure = draw()
    assert (isinstance(figure, AltFigure) and len(figure.axes) == 1
            and len(figure.alt) > 20)
    assert draw(alt="my own words").alt == "my own words"
    shown = figure._repr_html_()
    alt = re.fullmatch(
        r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)" style="[^"]+">', shown)
    assert alt and len(figure.png()) < 100_000


@every
def test_draws_on_given_axes(draw):
    figure, (left, right) = subplots(1, 2, alt="Two.")
    assert draw(ax=left, alt="Left.") is left and draw(ax=right, alt="Right.") is right
    assert (figure.alt == "Two. Left. Right."
            and all(ax.has_data() for ax in (left, right)))
    from matplotlib.figure import Figure
    ax = Figure().subplots()
    # also those of a plain figure
    assert draw(ax=ax) is ax


@every
def test_same_on_a_white_and_on_a_dark_page(draw):
    figure = Image.open(io.BytesIO(draw().png())).convert("RGBA")
    pages = [Image.alpha_composite(Image.new("RGBA", figure.size, page), figure)
             for page in ("#ffffff", "#222222")]
    assert np.array_equal(*map(np.asarray, pages))
    assert np.asarray(figure)[0, 0].tolist() == [255, 255, 255, 255]


@every
def test_words_lie_inside_the_figure(draw):
    figure = draw()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    FigureCanvasAgg(figure).draw()
    ax, = figure.axes
    words = ([t for t in ax.texts if t.get_text()]
             + ([ax.xaxis.label, ax.yaxis.label] if ax.axison else []))
    assert words
    for t in words:
        box = t.get_window_extent()
        assert (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
                and box.y1 <= figure.bbox.y1), (t.get_text(), box)


# What each plot draws

def test_a_grid_is_laid_out_row_by_row():
    x = torch.arange(1, 6).view(5, 1, 1, 1) / 10 * torch.ones(1, 1, 2, 3)
    grid, = _grid(x, columns=3, gap=1)
    assert (grid.shape == (5, 11) and np.allclose(
                grid[[0, 0, 0, 3, 3, 3], [0, 4, 8, 0, 4, 8]], [.1, .2, .3, .4, .5, 1])
            and np.allclose(grid[2], 1))


@pytest.mark.parametrize(
    "x", [torch.full((3, 1, 4, 4), 51, dtype=torch.uint8), torch.full((3, 4, 4), .2),
          np.full((3, 1, 4, 4), .2), torch.full((3, 1, 4, 4), .2, requires_grad=True)])
def test_images_of_any_kind(x):
    ax, = show_images(x).axes
    assert (ax.images[0].get_array().shape == (4, 16)
            and np.allclose(ax.images[0].get_array()[:4,  :4], .2)
            and ax.images[0].norm.vmin == 0 and ax.images[0].norm.vmax == 1)


@pytest.mark.parametrize("pixels, shown",
                         [(torch.tensor([0, 1, 1, 1], dtype=torch.uint8), [0, 1 / 255]),
                          (torch.tensor([0, 255, 0, 0], dtype=torch.uint8), [0, 1]),
                          (torch.tensor([False, True, True, True]), [0, 1]),
                          (np.array([False, True, True, True]), [0, 1]),
                          (torch.tensor([0., 1 / 255, 0, 0]), [0, 1 / 255]),
                          (torch.tensor([-.2, 1.4, 0, 0]), [0, 1]),
                          (torch.tensor([0, .5, 0, 0], dtype=torch.float16), [0, .5])])
def test_the_type_says_the_scale_and_never_the_content(pixels, shown):
    grid = show_images(pixels.reshape(1, 2, 2)).axes[0].images[0].get_array()
    assert np.allclose(grid[0], shown, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("top", [1, 100])
def test_whole_numbers_of_another_type_are_refused_with_the_cure(kind, top):
    x = np.full((1, 4, 4), top, dtype=kind)
    for draw in (show_images, lambda x: show_reconstructions(torch.zeros(1, 4, 4), x)):
        with pytest.raises(ValueError,
                           match=rf"got pixels as torch.{np.dtype(kind)}, .*: give "
                                 r"uint8 for 0…255, bool for 0 and 1, or floats in "
                                 r"\[0, 1\], such as x / 255"):
            draw(x)
    with pytest.raises(ValueError, match="from -40 to -40"):
        show_images(torch.full((1, 4, 4), -40.))


def test_colour_images_and_columns():
    ax, = show_images(torch.rand(7, 3, 4, 5), columns=3).axes
    assert ax.images[0].get_array().shape == (3 * 4 + 2 * 2, 3 * 5 + 2 * 2, 3)


@pytest.mark.parametrize("n, columns, shape",
                         [(1, 1, (4, 5)), (1, 9, (4, 5)), (3, 9, (4, 3 * 5 + 2 * 2)),
                          (5, 4, (2 * 4 + 2, 4 * 5 + 3 * 2))])
def test_a_grid_has_no_empty_columns(n, columns, shape):
    x = torch.rand(n, 4, 5, generator=torch.Generator().manual_seed(0))
    grid = show_images(x, columns=columns).axes[0].images[0].get_array()
    assert grid.shape == shape and np.allclose(grid[:4, :5], x[0])


def test_pixels_of_a_grid_stay_sharp():
    x = (torch.arange(28 * 28).view(1, 1, 28, 28) % 2).float()
    png = np.asarray(
        Image.open(io.BytesIO(show_images(x.expand(4, -1, -1, -1)).png())).convert("L"))
    assert set(np.unique(png)) == {0, 255}                           # no pixel between


def test_reconstructions():
    x = torch.rand(6, 1, 4, 4)
    ax, = show_reconstructions(x, [1 - x, x], row_titles=("a", "b", "c")).axes
    grid = ax.images[0].get_array()
    assert grid.shape == (3 * 4 + 4, 6 * 4 + 10) and np.allclose(
        grid[:4,  :4] + grid[6:10,  :4], 1) and np.allclose(grid[:4], grid[12:])
    assert [t.get_text() for t in ax.texts if t.get_text()] == ["a", "b", "c"]


def test_latent_map():
    ax, = plot_latent_map(CODES, LABELS, classes=["shoe", "shirt", "bag"]).axes
    assert [len(c.get_offsets()) for c in ax.collections if len(c.get_offsets())] == [
        20, 20, 20]
    assert (
        [t.get_text() for t in ax.get_legend().get_texts()] == ["shoe", "shirt", "bag"]
        and ax.get_aspect() == 1)
    # three signs
    assert len({c.get_paths()[0].vertices.tobytes() for c in ax.collections
                if len(c.get_offsets())}) == 3
    alone = plot_latent_map(CODES.numpy())                           # no labels
    assert alone.axes[0].get_legend() is None and "60 examples" in alone.alt
    mixed = plot_latent_map(CODES, torch.where(LABELS == 2, -1, LABELS),
                            classes=["0", "1"]).axes[0]
    assert [len(c.get_offsets()) for c in mixed.collections] == [20, 20, 20]
    radii = [np.hypot(*line.get_data()) for line in ax.get_lines()]
    assert [r.round(6).max() for r in radii] == [1, 2]


def test_manifold_is_laid_out_by_probability():
    ax, = plot_manifold(Plain(2), n=5).axes
    middles = ax.images[0].get_array()[2::4, 2::4]
    z = torch.distributions.Normal(0, 1).icdf(torch.tensor([.1, .3, .5, .7, .9]))
    assert (np.allclose(middles, (z / 6 + .5).expand(5, 5), atol=1e-6)
            and (ax.get_xlabel(), ax.get_ylabel()) == ("z[0]", "z[1]"))
    assert (plot_manifold(Plain(2, channels=3), n=3).axes[0].images[0].get_array().shape
            == (12, 12, 3))


def test_traversal_moves_one_latent():
    model = Plain(3).train()
    ax, = plot_traversal(model, torch.zeros(2, 1, 4, 4), dims=[0, 2], steps=5,
                         span=2).axes
    grid = ax.images[0].get_array()
    assert (np.allclose(grid[0,  ::6], np.linspace(-2, 2, 5) / 6 + .5, atol=1e-6)
            and np.allclose(grid[6,  ::6], .5))
    assert [t.get_text() for t in ax.texts] == [
        "z[0]", "z[2]", "−2.0", "−1.0", "0.0", "1.0", "2.0", "value of the latent"]
    assert model.training
    ax, = plot_traversal(model, torch.zeros(2, 1, 4, 4)).axes
    # the largest KL first
    assert [t.get_text() for t in ax.texts][:3] == ["z[2]", "z[1]", "z[0]"]


def test_history():
    from vae_course.training import History
    for history in (HISTORY, History(HISTORY)):
        ax, = plot_history(history).axes
        assert [line.get_label() for line in ax.get_lines()] == [
            "−ELBO", "−ELBO, validation", "reconstruction", "KL"]
        assert (
            [line.get_linestyle() for line in ax.get_lines()] == ["-", "--", "-", "-"])
        assert ax.get_ylabel() == "nats per example" and ax.get_xlabel() == "epoch"
    assert ([line.get_label()
             for line in plot_history(HISTORY, terms=["loss"]).axes[0].get_lines()]
            == ["loss"])
    assert len(plot_history([dict(epoch=1, distance=1.)]).axes[0].get_lines()) == 1


@pytest.mark.parametrize("draw, message", [
    (lambda: show_images(torch.rand(4)), r"images of shape \(4,\)"),
    (lambda: show_images(torch.rand(3, 784)), r"\(3, 784\)"),
    (lambda: show_images(torch.rand(0, 1, 4, 4)), "N, H and W at least 1"),
    (lambda: show_images(torch.rand(2, 1, 0, 4)), "N, H and W at least 1"),
    (lambda: show_images(torch.rand(2, 4, 4, 3)), r"\(2, 4, 4, 3\)"),
    (lambda: show_images(torch.rand(401, 4, 4)), "show 400 at most"),
    (lambda: show_images(torch.full((1, 4, 4), 200.)), "from 200 to 200"),
    (lambda: show_images(torch.full((1, 4, 4), np.nan)), "NaN"),
    (lambda: show_images(torch.rand(2, 4, 4), titles="a"), "2 images and 1 titles"),
    (lambda: show_reconstructions(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 5)),
     "must be alike"),
    (lambda: show_reconstructions(torch.rand(41, 4, 4), torch.rand(41, 4, 4)),
     "40 at most"),
    (lambda: show_reconstructions(torch.rand(2, 4, 4), torch.rand(2, 4, 4),
                                  row_titles=("a",)), "2 rows and 1 titles"),
    (lambda: plot_latent_map(torch.rand(5, 3)), "a map needs"),
    (lambda: plot_latent_map(CODES, LABELS[:3]), "one label for each"),
    (lambda: plot_latent_map(CODES * np.inf), "infinite"),
    (lambda: plot_latent_map(CODES, LABELS, classes=["a"]), "label 2 and 1 classes"),
    (lambda: plot_manifold(Plain(3)), "3 latents: a manifold needs 2"),
    (lambda: plot_traversal(Plain(3), torch.zeros(1, 1, 4, 4), dims=[3]),
     "some of 0…2"),
    (lambda: plot_traversal(Plain(3), torch.zeros(1, 1, 4, 4), dims=[]), "some of"),
    (lambda: plot_history([]), "without epochs"),
    (lambda: plot_history(HISTORY, terms=["bpd"]),
     "no term 'bpd' in this history: there are loss, neg_elbo")])
def test_refusals(draw, message):
    with pytest.raises(ValueError, match=message): draw()


# For the colour-blind

VISION = dict(
    # Machado et al. 2009, severity 1, on linear RGB
    normal=np.eye(3),
    protanopia=[[.152286, 1.052583, -.204868], [.114503, .786281, .099216],
                [-.003882, -.048116, 1.051998]],
    deuteranopia=[[.367322, .860646, -.227968], [.280085, .672501, .047413],
                  [-.011820, .042940, .968881]],
    tritanopia=[[1.255528, -.076749, -.178779], [-.078411, .930809, .147602],
                [.004733, .691367, .303900]])


def linear(colour):
    c = np.array([int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= .04045, c / 12.92, ((c + .055) / 1.055) ** 2.4)


def lab(rgb):
    "CIE L*a*b* of linear sRGB."
    xyz = np.clip(rgb, 0, 1) @ np.array([[.4124, .3576, .1805], [.2126, .7152, .0722],
                                         [.0193, .1192, .9505]]).T / [.9505, 1, 1.089]
    f = np.where(xyz > .008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_class_colours_stay_apart(vision):
    seen = [lab(linear(c) @ np.array(VISION[vision]).T) for c in plots.palette]
    # 2 is just noticeable
    assert (
        len(seen) == 10
        and min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20)


def test_ten_signs_differ():
    assert len(set(plots.markers)) == len(plots.markers) == 10


# What a notebook stores

@pytest.mark.slow
def test_notebook_stores_one_image_with_words():
    import nbformat
    from nbclient import NotebookClient
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (
        ("import matplotlib.pyplot as plt\nimport torch\nfrom vae_course.plots import "
         "show_images"),  # pyplot's own display is on, and must not draw it twice
        "show_images(torch.zeros(2, 1, 4, 4), alt='two <black> images')")])
    NotebookClient(nb, timeout=240, kernel_name="python3").execute()
    out, = nb.cells[1].outputs
    assert (set(out.data) == {"text/html", "text/plain"}
            and out.data["text/plain"] == "<AltFigure: two <black> images>")
    alt, code = re.search(r'alt="(.*?)" src="data:image/png;base64,(.*?)"',
                          out.data["text/html"]).groups()
    assert (alt == "two &lt;black&gt; images"
            and Image.open(io.BytesIO(base64.b64decode(code))).size[0] > 50)
