"""The contenders of `bench/speed.py`. Each trains the same model (784-400-20, ReLU,
cross-entropy on grey pixels, Adam at 1e-3, batches of 128) on the same images, the
peers in fp32 and through their public interfaces as their users run them; `epoch()`
gives the seconds of one epoch with its data pipeline. A contender with a `share` below
1 ran only that share of an epoch, and says so in its `note`."""
import contextlib, importlib.util, logging, os, struct, tempfile, time, warnings
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
        for x, w, g, inner in self.layers:
            F.linear(x, w)
            g.T @ x
            if inner:
                g @ w

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
