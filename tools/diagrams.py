"""The diagrams of the course, one visual language: `nbs/assets/diagrams/NN.svg`.

    python tools/diagrams.py

A trapezium is a network, a rounded box a distribution, a square a value. What a lesson
adds is green, a term of the loss red, the way of a gradient purple and dashed. They
bring their own white ground, as the course's figures do, so that they read the same on
a light and on a dark page."""
from collections.abc import Sequence
from html import escape
from pathlib import Path

folder = Path(__file__).resolve().parent.parent / "nbs" / "assets" / "diagrams"
style = """
.net{fill:#dbe7f6;stroke:#1f4e8c} .dist{fill:#fff3d6;stroke:#9a5b00}
.val{fill:#fff;stroke:#555} .new{fill:#d9f2e3;stroke:#1a7f4b}
.net,.dist,.val,.new{stroke-width:1.6} .flow{stroke:#333;stroke-width:1.7;fill:none}
.term{stroke:#b3261e;stroke-width:1.6;stroke-dasharray:5 4;fill:none}
.maybe{stroke:#333;stroke-width:1.5;stroke-dasharray:6 5;fill:none}
.grad{stroke:#7a3fb0;stroke-width:1.8;stroke-dasharray:3 4;fill:none}
text{fill:#222;font:18px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.small{font-size:16px} .red{fill:#b3261e;font-weight:600}
.violet{fill:#6a2fa0} .green{fill:#13653b;font-weight:600} .bold{font-weight:600}
"""
heads = {"flow": "#333", "maybe": "#333", "grad": "#7a3fb0", "term": "#b3261e"}
Point = tuple[float, float]


class Drawing:
    "A diagram of `width` × `height`, to which parts are added."

    def __init__(self, title: str, width: int = 600, height: int = 250) -> None:
        self.title, self.width, self.height = title, width, height
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, look: str = "",
             anchor: str = "middle") -> None:
        "Words, several lines where there is a line break; `y` is their middle."
        lines = words.split("\n")
        for i, line in enumerate(lines):
            at = y + 6 + 21 * (i - (len(lines) - 1) / 2)
            self.parts.append(f'<text class="{look}" x="{x:g}" y="{at:g}" '
                              f'text-anchor="{anchor}">{escape(line)}</text>')

    def box(self, x: float, y: float, w: float, h: float, words: str,
            look: str = "val", round: float = 3) -> None:
        "A box around its middle `(x, y)`."
        self.parts.append(f'<rect class="{look}" x="{x - w / 2:g}" y="{y - h / 2:g}" '
                          f'width="{w:g}" height="{h:g}" rx="{round:g}"/>')
        self.text(x, y, words)

    def value(self, x: float, y: float, words: str, look: str = "val", w: float = 46,
              h: float = 46) -> None:
        "A value."
        self.box(x, y, w, h, words, look)

    def dist(self, x: float, y: float, words: str, look: str = "dist", w: float = 112,
             h: float = 54) -> None:
        "A distribution."
        self.box(x, y, w, h, words, look, round=h / 2)

    def net(self, x: float, y: float, words: str, look: str = "net", w: float = 96,
            narrow: str = "right", h: float = 84) -> None:
        "A network: it narrows to the right (an encoder), to the left, or not."
        a, b = (h, h * .62) if narrow == "right" else (h * .62, h)
        a, b = (h * .8, h * .8) if not narrow else (a, b)
        corners = [(x - w / 2, y - a / 2), (x + w / 2, y - b / 2),
                   (x + w / 2, y + b / 2), (x - w / 2, y + a / 2)]
        points = " ".join(f"{px:g},{py:g}" for px, py in corners)
        self.parts.append(f'<polygon class="{look}" points="{points}"/>')
        self.text(x, y, words)

    def line(self, points: Sequence[Point], look: str = "flow",
             arrow: bool = True) -> None:
        "A line through `points`, with an arrow at its end."
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        head = f' marker-end="url(#{look})"' if arrow else ""
        self.parts.append(f'<path class="{look}" d="{path}"{head}/>')

    def svg(self) -> str:
        "The file."
        markers = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            f'markerHeight="8" orient="auto-start-reverse" '
            f'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" fill="{colour}"/>'
            "</marker>" for name, colour in heads.items())
        return (f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
                f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}"><title>{escape(self.title)}</title>'
                f"<style>{style}</style><defs>{markers}</defs>"
                f'<rect width="{self.width}" height="{self.height}" rx="10" '
                f'fill="#fff"/>{"".join(self.parts)}</svg>\n')


def vae(d: Drawing, y: float = 120, new: Sequence[str] = (), terms: bool = True,
        q: str = "q(z|x) =\nN(μ, σ²)", p: str = "p(x|z)", draw: str = "draw",
        prior: str = "p(z)") -> None:
    "The VAE from left to right, `new` naming its green parts."
    def look(part: str, plain: str) -> str: return "new" if part in new else plain

    d.value(34, y, "x")
    d.line([(57, y), (78, y)])
    d.net(126, y, "encoder", look("encoder", "net"))
    d.line([(174, y), (194, y)])
    d.dist(252, y, q, look("q", "dist"))
    d.line([(308, y), (346, y)])
    d.text(327, y - 15, draw, "small")
    d.value(370, y, "z", look("z", "val"))
    d.line([(393, y), (412, y)])
    d.net(460, y, "decoder", look("decoder", "net"), narrow="left")
    d.line([(508, y), (558 - max(34, 5 * len(p)), y)])
    d.dist(558, y, p, look("p", "dist"), w=max(68, 10 * len(p)))
    if terms:
        d.dist(252, y - 88, prior, look("prior", "dist"), h=42)
        d.line([(252, y - 67), (252, y - 27)], "term", arrow=False)
        d.text(262, y - 46, "KL", "red", "start")
        d.line([(560, y + 27), (560, y + 78), (34, y + 78), (34, y + 23)], "term",
               arrow=False)
        d.text(297, y + 96, "reconstruction: −log p(x|z)", "red")


def index() -> Drawing:
    d = Drawing("A variational autoencoder. The encoder turns an image x into μ and "
                "log σ²; z is drawn from N(μ, σ²); the decoder turns z into p(x|z). "
                "The loss is the reconstruction term plus the KL term.", height=274)
    vae(d, 116, q="N(μ, σ²)")
    d.text(184, 168, "μ and log σ²", "small")
    d.text(300, 252, "loss = reconstruction + KL", "bold")
    return d


def lesson_01() -> Drawing:
    d = Drawing("A plain autoencoder maps an image to a point of the plane; a VAE maps "
                "it to a cloud, and the KL term pulls the clouds towards the prior.",
                height=322)
    rows = ((86, "autoencoder: a point"), (208, "VAE: a cloud"))
    for y, name in rows:
        d.text(310, y - 62, name, "bold" if y < 100 else "green")
        d.value(34, y, "x")
        d.line([(57, y), (78, y)])
        d.net(126, y, "encoder")
        d.line([(174, y), (300 if y < 100 else 268, y)])
        d.line([(322 if y < 100 else 352, y), (412, y)])
        d.net(460, y, "decoder", narrow="left")
        d.line([(508, y), (536, y)])
        d.value(562, y, "x̂")
    d.parts.append('<circle cx="310" cy="86" r="5" fill="#333"/>')
    for radius, opacity in ((38, .35), (25, .6), (12, 1)):
        d.parts.append(f'<circle class="new" cx="310" cy="208" r="{radius}" '
                       f'fill-opacity="{opacity}"/>')
    d.text(300, 290, "KL: every cloud pays for its distance from N(0, I)", "red")
    return d


def lesson_02() -> Drawing:
    d = Drawing("Left, z is drawn from N(μ, σ²) and the gradient stops at the draw. "
                "Right, z = μ + σ ε with noise ε from outside, and the gradient passes "
                "to μ and σ.", height=262)
    d.text(146, 26, "a draw: no gradient", "bold")
    d.value(50, 110, "μ, σ", w=60)
    d.line([(80, 110), (102, 110)])
    d.dist(158, 110, "N(μ, σ²)")
    d.line([(214, 110), (240, 110)])
    d.value(262, 110, "z", w=40)
    d.line([(262, 172), (262, 200), (168, 200)], "grad")
    d.text(150, 200, "✕", "red")
    d.text(86, 200, "no way\nback", "small violet")
    d.line([(262, 138), (262, 172)], "grad", arrow=False)
    d.line([(300, 20), (300, 240)], "flow", arrow=False)
    d.text(452, 26, "reparameterized", "bold")
    d.value(352, 110, "μ, σ", w=60)
    d.value(445, 62, "ε", "new", w=40, h=40)
    d.text(520, 62, "from N(0, I)", "small")
    d.box(445, 128, 100, 42, "μ + σ ε", "new")
    d.line([(382, 120), (394, 124)])
    d.line([(445, 82), (445, 106)])
    d.line([(495, 128), (526, 128)])
    d.value(550, 128, "z", w=40)
    d.line([(550, 150), (550, 200), (352, 200), (352, 137)], "grad")
    d.text(450, 220, "∂z/∂μ = 1,  ∂z/∂σ = ε", "small violet")
    return d


def lesson_03() -> Drawing:
    d = Drawing("The VAE and where the two terms of its loss arise: the KL between "
                "q(z|x) and the prior, and the reconstruction term between p(x|z) and "
                "x. Together they bound −log p(x).", height=272)
    vae(d, 116, new=("q",))
    d.text(300, 252, "KL + reconstruction = −ELBO ≥ −log p(x)", "bold")
    return d


def lesson_04() -> Drawing:
    d = Drawing("One step of training: a batch gives the loss, the loss the gradient, "
                "the optimizer moves the weights; each epoch ends with validation and "
                "a checkpoint.", height=266)
    for x, words, look in ((70, "batch", "val"), (212, "loss", "val"),
                           (362, "gradient", "val"), (520, "optimizer", "new")):
        d.box(x, 80, 104, 50, words, look)
    for a, b in ((122, 160), (264, 310), (414, 468)):
        d.line([(a, 80), (b, 80)])
    d.text(290, 36, "a step", "bold")
    d.line([(520, 105), (520, 140), (90, 140), (90, 107)])
    d.text(295, 158, "new weights, next batch", "small")
    d.box(155, 220, 200, 50, "validation: −ELBO", "new")
    d.box(445, 220, 200, 50, "checkpoint", "new")
    d.line([(255, 220), (345, 220)])
    d.text(300, 203, "best?", "small")
    d.line([(50, 105), (50, 220), (53, 220)], arrow=False)
    d.text(64, 176, "after each epoch", "small", "start")
    return d


def lesson_05() -> Drawing:
    d = Drawing("From the bound to log p(x): one draw from q gives the ELBO; the mean "
                "of K importance weights, inside the logarithm, gives a tighter bound.",
                height=260)
    d.dist(76, 120, "q(z|x)", w=104)
    for i, y in enumerate((50, 120, 190)):
        d.line([(128, 120), (178, y)])
        d.value(202, y, ("z₁", "z₂", "z_K")[i], w=46)
        d.line([(225, y), (262, y)])
        d.box(332, y, 138, 44, ("w₁", "w₂", "w_K")[i] + " = p(x,z)/q", "val")
        d.line([(401, y), (446, 120 + (y - 120) * .2)])
    d.text(202, 156, "⋮")
    d.box(518, 120, 142, 56, "log mean w", "new")
    d.text(518, 172, "L_K ≤ log p(x)", "green")
    d.text(332, 232, "mean of log w: the ELBO, the loosest of them", "small")
    return d


def lesson_06() -> Drawing:
    d = Drawing("The KL term in three parts: the information that z holds about x, the "
                "total correlation between the latents, and the distance of each "
                "latent from its prior. β-VAE weighs all, β-TCVAE the middle one.",
                height=264)
    d.dist(300, 40, "KL(q(z|x) ‖ p(z)), averaged over x", w=330)
    parts = ((105, "information\nI(x; z)", "val"),
             (300, "total correlation\nKL(q(z) ‖ ∏ q(z_j))", "new"),
             (497, "each latent's KL\nΣ KL(q(z_j) ‖ p)", "val"))
    for x, words, look in parts:
        d.line([(300, 67), (x, 110)])
        d.box(x, 142, 186, 62, words, look)
    d.text(202, 142, "+", "bold")
    d.text(400, 142, "+", "bold")
    d.line([(14, 190), (588, 190)], "term", arrow=False)
    d.text(300, 208, "β-VAE: β times all three", "red")
    d.text(300, 240, "β-TCVAE: β times the total correlation alone", "green")
    return d


def lesson_07() -> Drawing:
    d = Drawing("A conditional VAE: the condition c enters the encoder, the decoder "
                "and, where wanted, the prior.", height=286)
    vae(d, 116, q="q(z|x, c)", p="p(x|z,c)", prior="p(z|c)")
    d.parts.pop()
    d.parts.append('<rect x="180" y="196" width="240" height="32" fill="#fff"/>')
    d.value(300, 256, "c", "new", w=56, h=42)
    d.line([(126, 250), (68, 250), (68, 28), (194, 28)], "maybe")
    d.text(78, 56, "where\nit pays", "small", "start")
    d.line([(272, 250), (126, 250), (126, 154)])
    d.line([(328, 250), (460, 250), (460, 154)])
    d.text(126, 268, "encoder gets c", "small green")
    d.text(470, 268, "decoder gets c", "small green")
    d.text(252, 212, "reconstruction", "red")
    return d


def lesson_08() -> Drawing:
    d = Drawing("The VQ-VAE: the encoder's vectors are replaced by the nearest entries "
                "of a codebook; the gradient skips the replacement. Two losses: the "
                "codebook follows the encoder; the encoder commits to it.",
                height=286)
    d.value(34, 130, "x")
    d.line([(57, 130), (78, 130)])
    d.net(126, 130, "encoder")
    d.line([(174, 130), (198, 130)])
    d.value(222, 130, "zₑ")
    d.line([(245, 130), (262, 130)])
    d.box(312, 130, 98, 56, "nearest", "new")
    d.line([(361, 130), (378, 130)])
    d.value(402, 130, "e_k", "new")
    d.line([(425, 130), (440, 130)])
    d.net(486, 130, "decoder", narrow="left", w=90)
    d.line([(531, 130), (546, 130)])
    d.value(570, 130, "x̂")
    d.box(312, 52, 196, 40, "codebook e₁ … e_K", "new")
    d.line([(312, 72), (312, 100)])
    d.line([(402, 108), (402, 92), (222, 92), (222, 105)], "grad")
    d.text(96, 40, "gradient: straight\nthrough", "small violet")
    d.line([(146, 62), (216, 90)], "flow", arrow=False)
    d.line([(222, 153), (222, 192), (402, 192), (402, 155)], "term", arrow=False)
    d.text(312, 214, "codebook loss ‖sg(zₑ) − e_k‖²", "red")
    d.text(312, 240, "commitment loss β ‖zₑ − sg(e_k)‖²", "red")
    d.text(312, 268, "sg: no gradient passes here", "small")
    return d


def lesson_09() -> Drawing:
    d = Drawing("Where new images come from: draw z from a prior, the one of training "
                "or one fitted afterwards, and decode; walk between two codes; or move "
                "along a direction.", height=262)
    rows = ((50, "p(z), or a density\nfitted to the codes", "new"),
            (130, "between z₁ and z₂", "new"), (210, "z + α · direction", "new"))
    for y, words, look in rows:
        d.dist(120, y, words, look, w=200, h=60)
        d.line([(220, y), (296, 130 + (y - 130) * .25)])
    d.value(322, 130, "z", w=50)
    d.line([(347, 130), (382, 130)])
    d.net(434, 130, "decoder", narrow="left", w=100)
    d.line([(484, 130), (512, 130)])
    d.value(550, 130, "new\nx", w=72, h=64)
    return d


def lesson_10() -> Drawing:
    d = Drawing("An anomaly detector: a VAE trained on normal examples gives each new "
                "one a score; a threshold from held-out normal scores decides.",
                height=250)
    d.value(44, 110, "x", w=52)
    d.line([(70, 110), (94, 110)])
    d.net(150, 110, "VAE of\nnormals", "net", w=104, narrow="", h=86)
    d.line([(202, 110), (231, 110)])
    d.box(292, 110, 118, 52, "score s(x)", "new")
    d.line([(351, 110), (384, 110)])
    d.box(446, 110, 122, 52, "s(x) > t ?", "new")
    d.line([(507, 98), (536, 70)])
    d.line([(507, 122), (536, 150)])
    d.text(562, 56, "alarm", "red")
    d.text(556, 172, "normal", "green")
    d.box(300, 206, 288, 44, "scores of held-out normals", "val")
    d.line([(410, 184), (410, 138)])
    d.text(420, 162, "threshold t", "small", "start")
    return d


def lesson_11() -> Drawing:
    d = Drawing("M2: without a label, a classifier q(y|x) weighs the bounds of the VAE "
                "with each of ten labels; with a label, its own bound counts, and the "
                "classifier learns from the label.", height=298)
    d.box(62, 104, 96, 58, "image x,\nno label", "val")
    d.line([(110, 88), (140, 58)])
    d.line([(110, 120), (140, 150)])
    d.net(198, 54, "classifier", "new", w=112, narrow="", h=72)
    d.box(198, 156, 112, 60, "VAE, with\ny = 0 … 9", "net")
    d.line([(254, 54), (286, 54)])
    d.line([(254, 156), (286, 156)])
    d.dist(342, 54, "q(y|x)", "new")
    d.box(342, 156, 112, 60, "ten bounds\nL(x, y)", "val")
    d.line([(398, 64), (430, 90)])
    d.line([(398, 146), (430, 120)])
    d.box(512, 105, 162, 66, "U(x): weighed,\nless the entropy", "new")
    d.box(62, 250, 96, 58, "image x,\nlabel y", "val")
    d.line([(110, 250), (286, 250)])
    d.box(342, 250, 112, 52, "L(x, y)", "val")
    d.text(414, 250, "+", "bold")
    d.box(512, 250, 162, 52, "α · (−log q(y|x))", "new")
    return d


def lesson_12() -> Drawing:
    d = Drawing("A VAE of text: a GRU reads the name and gives q(z|x); a second GRU "
                "gets z at every step and the true character before, and gives the "
                "probabilities of the next.", height=306)
    d.value(64, 96, "< i d a", w=96, h=42)
    d.line([(112, 96), (132, 96)])
    d.net(178, 96, "GRU\nencoder", w=88)
    d.line([(222, 96), (238, 96)])
    d.dist(294, 96, "q(z|x)")
    d.line([(350, 96), (366, 96)])
    d.value(390, 96, "z", w=44)
    d.dist(294, 22, "p(z)", w=90, h=36)
    d.line([(294, 40), (294, 69)], "term", arrow=False)
    d.text(304, 54, "KL", "red", "start")
    told, asked = ("<", "i", "d", "a"), ("i", "d", "a", ">")
    for i, (before, after) in enumerate(zip(told, asked)):
        x = 170 + 110 * i
        d.value(x, 278, before, w=46, h=36)
        d.line([(x, 260), (x, 246)])
        d.box(x, 222, 78, 46, "GRU", "new")
        d.line([(390, 118), (390, 148), (x - 24, 148), (x - 24, 199)])
        d.line([(x + 12, 199), (x + 12, 186)])
        d.text(x + 26, 172, after, "green")
        if i: d.line([(x - 71, 222), (x - 39, 222)])
    d.text(62, 222, "decoder", "green")
    d.text(62, 278, "true\ncharacters", "small")
    d.text(62, 168, "what comes\nnext", "small")
    d.text(508, 60, "reconstruction:\nsum over i d a >", "red")
    return d


def lesson_13() -> Drawing:
    d = Drawing("A VQ-VAE of speech: the waveform becomes a log-mel spectrogram, an "
                "encoder along time gives codes, a decoder told the speaker gives a "
                "spectrogram, and Griffin-Lim makes sound of it.", height=316)
    d.value(38, 60, "wave", w=60)
    d.line([(34, 83), (34, 147)])
    d.text(46, 102, "STFT, mel, log", "small", "start")
    d.value(34, 170, "x")
    d.line([(57, 170), (74, 170)])
    d.net(120, 170, "encoder\nin time", w=92)
    d.line([(166, 170), (184, 170)])
    d.box(228, 170, 88, 50, "nearest", "new")
    d.line([(272, 170), (290, 170)])
    d.value(328, 170, "codes", "new", w=76)
    d.line([(366, 170), (384, 170)])
    d.net(430, 170, "decoder", narrow="left", w=92)
    d.line([(476, 170), (500, 170)])
    d.dist(546, 170, "p(x|z, s)", w=92)
    d.line([(546, 143), (546, 84)])
    d.text(538, 102, "Griffin–Lim", "small", "end")
    d.value(546, 60, "wave", w=60)
    d.dist(328, 70, "prior p(z|d, s)", "new", w=150, h=42)
    d.line([(328, 91), (328, 147)], "term", arrow=False)
    d.text(318, 118, "bits", "red", "end")
    d.value(328, 24, "digit d", w=84, h=34)
    d.line([(328, 41), (328, 49)])
    d.value(430, 256, "speaker s", "new", w=100, h=40)
    d.line([(430, 236), (430, 202)])
    d.line([(580, 197), (580, 300), (34, 300), (34, 193)], "term", arrow=False)
    d.text(212, 280, "reconstruction: −log p(x|z, s)", "red")
    return d


def lesson_14() -> Drawing:
    d = Drawing("The VAE with three places where blur is treated: the σ of p(x|z), a "
                "classifier that compares x with the decoder's mean, and a "
                "discriminator that tells means from data and whose gradient reaches "
                "the decoder alone.", height=312)
    d.value(34, 120, "x")
    d.line([(57, 120), (74, 120)])
    d.net(118, 120, "encoder", w=88)
    d.line([(162, 120), (180, 120)])
    d.dist(222, 120, "q(z|x)", w=84)
    d.line([(264, 120), (284, 120)])
    d.value(306, 120, "z", w=44)
    d.line([(328, 120), (346, 120)])
    d.net(390, 120, "decoder", narrow="left", w=88)
    d.line([(434, 120), (452, 120)])
    d.value(486, 120, "mean\nf(z)", w=68, h=58)
    d.line([(520, 120), (538, 120)])
    d.value(566, 120, "σ", "new", w=48)
    d.line([(566, 97), (566, 30), (34, 30), (34, 97)], "term", arrow=False)
    d.text(300, 50, "−log p(x|z): squared error / 2σ² + log σ", "red")
    d.net(258, 200, "classifier", "new", w=120, narrow="", h=56)
    d.line([(34, 143), (34, 200), (198, 200)])
    d.line([(470, 149), (470, 200), (318, 200)])
    d.text(116, 184, "perceptual", "small red")
    d.net(258, 274, "discriminator", "new", w=136, narrow="", h=56)
    d.line([(24, 143), (24, 274), (190, 274)])
    d.line([(502, 149), (502, 284), (326, 284)])
    d.line([(326, 264), (390, 264), (390, 158)], "grad")
    d.text(402, 236, "gradient", "small violet", "start")
    d.text(116, 258, "adversarial", "small red")
    return d


def lesson_16() -> Drawing:
    d = Drawing("A VAE whose Gaussian parts are green: the prior may be a mixture, a "
                "VampPrior or a flow; the posterior may have a covariance or be a "
                "flow; and a second layer of latents stands on top.", height=330)
    vae(d, 196, new=("q", "prior"), q="q(z|x)", terms=False)
    d.dist(252, 76, "p(z)", "new", h=42)
    d.line([(252, 97), (252, 169)], "term", arrow=False)
    d.text(244, 134, "KL", "red", "end")
    d.text(188, 64, "prior: mixture,\nVampPrior, flow", "green", "end")
    d.value(370, 76, "top", "new", w=56)
    d.line([(370, 99), (370, 171)])
    d.text(384, 134, "p(z|top)", "small", "start")
    d.text(410, 64, "depth: a second\nlayer on top", "green", "start")
    d.text(252, 250, "posterior: covariance, flow, k draws", "green")
    d.line([(560, 223), (560, 290), (34, 290), (34, 219)], "term", arrow=False)
    d.text(297, 310, "reconstruction: −log p(x|z)", "red")
    return d


def lesson_15() -> Drawing:
    d = Drawing("Any loss of a VAE is a times the reconstruction plus b times the KL, "
                "both in nats per example: beta is b over a. Below, a KL near 0 and "
                "what tells its four causes apart.", height=330)
    d.box(92, 50, 150, 52, "loss, as written")
    d.line([(167, 50), (196, 50)])
    d.text(212, 50, "a ·", "bold")
    d.box(300, 50, 140, 52, "reconstruction\nin nats", "val")
    d.text(394, 50, "+  b ·", "bold")
    d.box(462, 50, 76, 52, "KL\nin nats", "val")
    d.box(556, 50, 72, 46, "β = b/a", "new")
    d.line([(300, 118), (300, 77)], "grad")
    d.line([(462, 118), (462, 77)], "grad")
    d.text(300, 132, "gradient at x̂ shows a", "violet")
    d.text(490, 132, "at μ: b", "violet")
    d.box(84, 236, 130, 50, "KL near 0:\nwhy?", "val")
    causes = (("β above 1", "the price"), ("σ above the error", "the noise"),
              ("gap large", "a lagging encoder"), ("none of these", "collapse"))
    for i, (sign, cause) in enumerate(causes):
        y = 180 + 40 * i
        d.line([(149, 236), (196, y)])
        d.text(204, y, sign, "", "start")
        d.line([(366, y), (396, y)])
        d.text(404, y, cause, "green", "start")
    return d


def lesson_17() -> Drawing:
    d = Drawing("A ring of four processes averages the gradients: each passes a "
                "quarter of its gradient to its neighbour, until all hold the sum of "
                "each quarter.", height=306)
    spots = ((170, 62), (430, 62), (430, 232), (170, 232))
    for i, (x, y) in enumerate(spots):
        d.box(x, y, 150, 62, f"process {i}\nits shard", "val")
    d.line([(245, 62), (353, 62)], "grad")
    d.line([(430, 93), (430, 199)], "grad")
    d.line([(355, 232), (247, 232)], "grad")
    d.line([(170, 201), (170, 95)], "grad")
    d.text(300, 40, "¼ of g", "small violet")
    d.text(300, 147, "all-reduce: 2 (W − 1)\nsteps of 1/W each", "green")
    d.text(300, 288, "every process ends with the mean gradient", "bold")
    return d


DRAWINGS = {"index": index, **{name[-2:]: f for name, f in list(globals().items())
                               if name.startswith("lesson_")}}


def main() -> None:
    folder.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
        print(f"{name}.svg: {draw().title}")


if __name__ == "__main__":
    main()
