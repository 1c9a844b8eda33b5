"""The contenders of `bench/speed.py`. Each trains the same model (784-400-20, ReLU,
cross-entropy on grey pixels, Adam at 1e-3, batches of 128) on the same images, the
peers in fp32 and through their public interfaces as their users run them; `epoch()`
gives the seconds of one epoch with its data pipeline. A contender with a `share` below
1 ran only that share of an epoch, and says so in its `note`."""
import contextlib, importlib.util, itertools, logging, os, struct, tempfile, time
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import common      # noqa: F401  (it puts the checkout on the path)
from vae_course.devices import synchronize

hidden, latent, batch_size, lr = 400, 20, 128, 1e-3


def missing(package):
    "Why a peer cannot run here; empty when it can."
    return ("" if importlib.util.find_spec(package)
            else f'{package} is not installed: pip install -e ".[bench]"')


def images(count=None):
    """The training images that every contender gets: MNIST (or digits, where it cannot
    be had), the first `count`."""
    from vae_course.datasets import load
    data = load()
    return data.name, data.train if count is None else data.train[:count]


def torchvision_mnist(examples, folder):
    """`torchvision.datasets.MNIST` over `examples`, written to `folder` in MNIST's own
    format: the data set that the examples and Lightning load."""
    from torchvision import datasets, transforms
    raw = Path(folder) / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    n = len(examples)
    pixels = struct.pack(">4i", 2051, n, 28, 28) + examples.x.numpy().tobytes()
    labels = struct.pack(">2i", 2049, n) + examples.y.to(torch.uint8).numpy().tobytes()
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(pixels)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return datasets.MNIST(folder, train=True, transform=transforms.ToTensor())


def loader_options(device):
    """What the PyTorch examples give their DataLoader: a worker and pinned memory with
    a GPU, nothing without."""
    return dict(num_workers=1, pin_memory=True) if device.type == "cuda" else {}


class Ours:
    "This course: what `fit` runs, an epoch at a time. `close` ends the run."

    def __init__(self, device, count=None, steps=None, **step_config):
        from vae_course.elbo import VAE, Bernoulli, mlp
        from vae_course.latent import StandardNormal
        from vae_course.run import training_run
        from vae_course.run_config import RunConfig
        from vae_course.training import History
        device = torch.device(device)
        _, examples = images(count)
        whole = -(-len(examples) // batch_size)
        if steps and steps < whole:
            examples, self.share = examples[:steps * batch_size], steps / whole
            self.note = (
                f"{steps} of {whole} steps, scaled: this machine has no bfloat16 units")
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(),
                                mlp(784, hidden, 2 * latent, activation=nn.ReLU))
        decoder = nn.Sequential(mlp(latent, hidden, 784, activation=nn.ReLU),
                                nn.Unflatten(-1, (1, 28, 28)))
        model = VAE(encoder, decoder, StandardNormal(latent), Bernoulli(), (1, 28, 28),
                    latent)
        config = RunConfig(epochs=1000, batch_size=batch_size, lr=lambda t: lr,
                           **step_config)
        self.stack = contextlib.ExitStack()      # the run lasts until `close`
        self.run = self.stack.enter_context(
            training_run(model, examples, None, History(), config, device, None, False))
        self.name, self.device = f"vae_course, {self.run.step_config}", device

    def epoch(self):
        from vae_course.step import train_epoch
        synchronize(self.device)
        start, run = time.perf_counter(), self.run
        run.begin_epoch()
        terms = train_epoch(run.model, run.batches, run.optimizers, run.before_step,
                            run.after_step, step=run.take_step)
        run.end_epoch(terms)
        synchronize(self.device)
        return time.perf_counter() - start

    def close(self):
        "Leave random numbers and denormals as they were before."
        self.stack.close()


class Net(nn.Module):
    """The VAE of the PyTorch examples: two linear layers each way, ReLU between, a
    sigmoid at the end."""

    def __init__(self):
        super().__init__()
        self.inner, self.mu, self.logvar = nn.Linear(784, hidden), nn.Linear(
            hidden, latent), nn.Linear(hidden, latent)
        self.outer, self.pixels = nn.Linear(latent, hidden), nn.Linear(hidden, 784)

    def forward(self, x):
        h = F.relu(self.inner(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.pixels(F.relu(self.outer(z)))), mu, logvar


def summed_loss(output, x):
    "Cross-entropy and KL, summed over the batch, as the examples have them."
    recon, mu, logvar = output
    return (F.binary_cross_entropy(recon, x, reduction="sum")
            - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()))


class Examples:
    """The training loop of the PyTorch examples' VAE: torchvision's MNIST through a
    DataLoader, the loss read every step, a line every ten."""
    name = "PyTorch examples"

    def __init__(self, device, count=None):
        self.device, self.folder = torch.device(device), tempfile.TemporaryDirectory()
        torch.manual_seed(0)
        self.net = Net().to(self.device)
        mnist = torchvision_mnist(images(count)[1], self.folder.name)
        self.loader = DataLoader(mnist, batch_size=batch_size, shuffle=True,
                                 **loader_options(self.device))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr)

    def epoch(self):
        synchronize(self.device)
        start, total = time.perf_counter(), 0.0
        self.net.train()
        with open(os.devnull, "w", encoding="utf-8") as out:
            for i, (x, _) in enumerate(self.loader):
                x = x.to(self.device).view(-1, 784)
                self.optimizer.zero_grad()
                loss = summed_loss(self.net(x), x)
                loss.backward()
                total += loss.item()
                self.optimizer.step()
                if i % 10 == 0:
                    print(f"[{i * len(x)}/{len(self.loader.dataset)}]\tLoss: "
                          f"{loss.item() / len(x):.6f}", file=out)
        synchronize(self.device)
        return time.perf_counter() - start


class Pythae:
    """pythae's BaseTrainer and VAE, an epoch at a time through its `train_step`; its
    own loader over the images as one tensor."""
    name = "pythae"

    def __init__(self, device, count=None):
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE, VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        class Encoder(BaseEncoder):
            def __init__(self):
                super().__init__()
                self.inner, self.mu, self.logvar = nn.Linear(784, hidden), nn.Linear(
                    hidden, latent), nn.Linear(hidden, latent)

            def forward(self, x):
                h = F.relu(self.inner(x.reshape(-1, 784)))
                return ModelOutput(embedding=self.mu(h), log_covariance=self.logvar(h))

        class Decoder(BaseDecoder):
            def __init__(self):
                super().__init__()
                self.outer, self.pixels = (nn.Linear(latent, hidden),
                                           nn.Linear(hidden, 784))

            def forward(self, z):
                return ModelOutput(reconstruction=torch.sigmoid(
                    self.pixels(F.relu(self.outer(z)))).reshape(-1, 1, 28, 28))

        logging.getLogger("pythae").setLevel(logging.WARNING)
        self.device, self.folder, self.done = (
            torch.device(device), tempfile.TemporaryDirectory(), 0)
        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=latent,
                           reconstruction_loss="bce")
        settings = BaseTrainerConfig(
            output_dir=self.folder.name, num_epochs=1,
            per_device_train_batch_size=batch_size, learning_rate=lr,
            optimizer_cls="Adam", no_cuda=self.device.type != "cuda")
        examples = images(count)[1]
        with (open(os.devnull, "w", encoding="utf-8") as out,
              contextlib.redirect_stdout(out), contextlib.redirect_stderr(out)):
            self.trainer = BaseTrainer(VAE(config, Encoder(), Decoder()),
                                       BaseDataset(examples.floats(), examples.y),
                                       training_config=settings)
            self.trainer.prepare_training()

    def epoch(self):
        synchronize(self.device)
        start = time.perf_counter()
        self.done += 1
        with (open(os.devnull, "w", encoding="utf-8") as out,
              contextlib.redirect_stderr(out)):
            self.trainer.train_step(self.done)
        synchronize(self.device)
        return time.perf_counter() - start


class Lightning:
    """Lightning's Trainer over the examples' DataLoader and model; the seconds are
    those of the epoch, the Trainer's set-up left out."""
    name = "Lightning"

    def __init__(self, device, count=None):
        import lightning
        device = torch.device(device)
        for name in ("lightning", "lightning.pytorch", "lightning.fabric",
                     "lightning.pytorch.utilities.rank_zero"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = Net()

            def training_step(self, batch, index):
                x = batch[0].view(-1, 784)
                return summed_loss(self.net(x), x) / len(x)

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), lr=lr)

        class Watch(lightning.Callback):
            def on_train_epoch_start(self, *_):
                synchronize(device)
                self.start = time.perf_counter()

            def on_train_epoch_end(self, *_):
                synchronize(device)
                self.seconds = time.perf_counter() - self.start

        torch.manual_seed(0)
        self.folder = tempfile.TemporaryDirectory()
        self.loader = DataLoader(torchvision_mnist(images(count)[1], self.folder.name),
                                 batch_size=batch_size, shuffle=True,
                                 **loader_options(device))
        self.module, self.watch = Module(), Watch()
        self.trainer = lambda: lightning.Trainer(
            max_epochs=1, accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1, callbacks=[self.watch], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False)

    def epoch(self):
        self.trainer().fit(self.module, self.loader)
        return self.watch.seconds


def products(layers):
    "The matrix products of a step: `(input, weights, gradient, inner)` of each layer."
    return [p for x, w, g, inner in layers
            for p in (F.linear(x, w), g.T @ x, *([g @ w] if inner else []))]


class MatrixProducts:
    """This machine's limit: the epoch's matrix products and nothing else, forward, and
    backward for all weights and for all inputs but the images."""

    def __init__(self, device, count=None, steps=None, dtype="float32"):
        self.name, self.device = (
            f"matrix products alone, {'bf16' if dtype == 'bfloat16' else 'fp32'}",
            torch.device(device))
        whole = -(-len(images(count)[1]) // batch_size)
        self.steps = min(steps or whole, whole)
        if self.steps < whole:
            self.share, self.note = (self.steps / whole,
                                     (f"{self.steps} of {whole} steps, scaled: this "
                                      "machine has no bfloat16 units"))
        make = lambda *shape: (
            torch.randn(*shape, device=self.device).to(getattr(torch, dtype)))
        widths = [(784, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, 784)]
        self.layers = [(make(batch_size, a), make(b, a), make(batch_size, b), i > 0)
                       for i, (a, b) in enumerate(widths)]

    @torch.no_grad()
    def step(self):
        return products(self.layers)

    def captured(self):
        """On a GPU the step as one recording, so that the limit is that of the products
        and not of Python asking for them."""
        self.step()
        synchronize(self.device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()
        return self.graph.replay

    def epoch(self):
        step = (self.step if self.device.type != "cuda"
                else self.graph.replay if hasattr(self, "graph") else self.captured())
        synchronize(self.device)
        start = time.perf_counter()
        for _ in range(self.steps):
            step()
        synchronize(self.device)
        return time.perf_counter() - start


def adam(state, t, betas=(0.9, 0.999), eps=1e-8):
    "Adam as a compiler can join it: `(weights, gradient, m, v)` of each layer."
    t += 1
    for p, g, m, v in state:
        m.lerp_(g, 1 - betas[0])
        v.lerp_(g * g, 1 - betas[1])
        p -= lr / (1 - betas[0]**t) * m / ((v / (1 - betas[1]**t)).sqrt() + eps)


def cross_entropy(logits, x):
    "The mean over the batch, and its gradient."
    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    return loss, *torch.autograd.grad(loss, logits)


def cross_entropy_at_once(logits, x):
    "The same in one pass, as a compiler has it."
    y = logits.float()
    loss = (y.clamp_min(0) - y * x + torch.log1p(torch.exp(-y.abs()))).sum() / len(x)
    return loss, ((torch.sigmoid(y) - x) / len(x)).to(logits.dtype)


def activations(layers):
    "ReLU and its gradient: `(input, gradient)` of each layer."
    backward = torch.ops.aten.threshold_backward
    return [(h.relu(), backward(g, h, 0)) for h, g in layers]


def draw(mu, logvar, g):
    "z from ε, and the gradients of both parameters."
    sigma, noise = torch.exp(0.5 * logvar), torch.randn_like(mu)
    return mu + sigma * noise, g, 0.5 * g * sigma * noise


def look_up(x, rows):
    "The rows of a batch as floats in [0, 1]."
    return x.index_select(0, rows).float() / 255


class StepParts:
    """The full limit of this machine: each part of a step alone, by the fastest of
    eager and compiled, by best of repeats. No training that does one part after the
    other is faster."""

    def __init__(self, device, count=None, dtype="float32", compile=True, blocks=10,
                 calls=20):
        from vae_course.acceleration import flush_denormals
        flush_denormals()                        # as while training
        short = "bf16" if dtype == "bfloat16" else "fp32"
        self.name, self.device = f"full limit, {short}", torch.device(device)
        self.blocks, self.calls, self.compile = blocks, calls, compile
        self.images = images(count)[1].to(self.device).x.flatten(1)
        self.steps = -(-len(self.images) // batch_size)
        self.rows = torch.randperm(len(self.images)).to(self.device).split(batch_size)
        self.ways = {part: {way: f for way, f in ways.items()
                            if compile or way == "eager"}
                     for part, ways in self.parts_of(getattr(torch, dtype)).items()}
        self.best = {}

    def parts_of(self, dtype):
        "`{part: {way: function without arguments}}`."
        make = lambda *shape: torch.randn(*shape, device=self.device)
        both = lambda f, *args, eager=None: dict(
            eager=partial(eager or f, *args),
            compiled=partial(torch.compile(f, dynamic=False), *args))
        layers = MatrixProducts(self.device, batch_size, dtype=str(dtype)[6:]).layers
        weights = [make(*s) for _, w, *_ in layers for s in (w.shape, w.shape[:1])]
        trained = [nn.Parameter(w.clone()) for w in weights]
        for p in trained:
            p.grad = torch.randn_like(p)
        optimizer = torch.optim.Adam(trained, lr=torch.tensor(lr, device=self.device),
                                     fused=True)
        state = [(w, torch.randn_like(w), torch.zeros_like(w), torch.zeros_like(w))
                 for w in weights]
        logits = make(batch_size, 784).to(dtype).requires_grad_()
        hidden_layers = [(make(batch_size, hidden).to(dtype),
                          make(batch_size, hidden).to(dtype)) for _ in range(2)]
        found = look_up, torch.compile(look_up, dynamic=False)
        taken = itertools.cycle(r for r in self.rows if len(r) == len(self.rows[0]))
        return {
            "matrix products": both(products, layers),
            "Adam": both(adam, state, torch.zeros((), device=self.device),
                         eager=lambda *_: optimizer.step()),
            "cross-entropy": both(cross_entropy_at_once, logits.detach(),
                                  make(batch_size, 784).sigmoid(),
                                  eager=lambda _, x: cross_entropy(logits, x)),
            "look-up": {way: lambda f=f: f(self.images, next(taken))
                        for way, f in zip(("eager", "compiled"), found)},
            "activations": both(activations, hidden_layers),
            "draw": both(draw, *(make(batch_size, latent) for _ in range(3)))}

    def seconds(self, f):
        "Seconds of a call: the best block of calls."
        found = []
        for _ in range(self.blocks):
            start = time.perf_counter()
            for _ in range(self.calls):
                f()
            found.append((time.perf_counter() - start) / self.calls)
        return min(found)

    def epoch(self):
        "The sum of the parts, as often as there are steps."
        now = {}
        for part, ways in self.ways.items():
            for way, f in ways.items():
                with torch.set_grad_enabled((part, way) == ("cross-entropy", "eager")):
                    f()                                      # compiled, warm
                    now[part, way] = self.seconds(f)
        self.best = {key: min(s, self.best.get(key, s)) for key, s in now.items()}
        return self.steps * self.sum_of(now)

    def sum_of(self, seconds):
        "Seconds of a step: each part by its fastest way."
        return sum(min(s for (p, _), s in seconds.items() if p == part)
                   for part in self.ways)

    def details(self):
        "Seconds of each part of one step, in each way; the limit of an epoch."
        return dict(parts={part: {way: self.best[part, way] for way in ways}
                           for part, ways in self.ways.items()},
                    limit=self.steps * self.sum_of(self.best))


def bfloat16_is_slow(device, size=512, times=5):
    """Whether this device multiplies matrices in bfloat16 more slowly than in float32:
    it has no units for it."""
    def seconds(dtype):
        a = torch.randn(size, size, device=device).to(dtype)
        a @ a
        found = []
        for _ in range(times):
            synchronize(device)
            start = time.perf_counter()
            a @ a
            synchronize(device)
            found.append(time.perf_counter() - start)
        return min(found)
    return (
        device.type == "cpu" and seconds(torch.bfloat16) > 1.2 * seconds(torch.float32))
