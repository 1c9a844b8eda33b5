"""What tests/test_acceleration.py and tests/test_batches.py run in two processes, and
in one: three epochs with the noise handed in, and every epoch's terms."""
import json, sys

import torch
from torch import nn

from vae_course.data import Batches, Examples
from vae_course.elbo import VAE, mlp_vae
from vae_course.acceleration import AcceleratedStep
from vae_course.distributed import leave_processes, rank_and_world_size
from vae_course.noise import Noise, replayed_noise
from vae_course.step import make_optimizers, StepConfig, train_epoch
from vae_course.loaders import GivenBatches, MixedBatches
from vae_course.training import build

N, BATCH, D = 71, 16, 3     # the last batch holds 7: parts of 4 and 3


class NoiseInTheData(VAE):
    "x is (image, noise): what is compiled draws none of its own."
    def losses(self, batch):
        (x, noise), _ = batch
        q = self.encode(x)
        reconstruction = -self.decode(q.mean + q.stddev * noise).log_prob(x).mean()
        kl = (q.log_prob(q.mean) - self.prior().log_prob(q.mean)).mean()
        return dict(loss=reconstruction + kl, reconstruction=reconstruction, kl=kl)


class SemiSupervised(VAE):
    "A VAE of all, and a classifier on the latents of the labelled."
    def losses(self, batch):
        (x, y), (u, _) = batch
        few, many = super().losses(x)["loss"], super().losses(u)["loss"]
        error = nn.functional.cross_entropy(self.head(self.encode(x).mean), y)
        return dict(loss=few + many + error, few=few, many=many, error=error)


def made(cls):
    plain = mlp_vae((1, 6, 6), latent_dim=D, hidden=(24,))
    model = cls(plain.encoder, plain.decoder, plain.prior_net, plain.likelihood)
    model.head = nn.Linear(D, 2)
    return model


class Dealt(torch.utils.data.Sampler):
    "Every second row for each of two processes, in a new order for every epoch."
    def __init__(self, number, processes):
        self.number, self.processes, self.epoch = number, processes, 0

    def set_epoch(self, epoch): self.epoch = epoch

    def __len__(self): return len(range(self.number, N, self.processes))

    def __iter__(self):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(self.epoch))
        # batch by batch, as one process has them
        for batch in order.split(BATCH):
            yield from batch.tensor_split(self.processes)[self.number].tolist()


OF_LESSONS = "m2", "text_vae", "speech_vq_vae", "flexible_vae", "two_layer_vae"


def registered(kind, x, y, order, shard):
    """A model of lessons 11 to 13 and 16, its batches, and what each draws in one
    process."""
    if kind in ("flexible_vae", "two_layer_vae"):
        more = (dict(prior="vamp", components=4, latent_dim=D)
                if kind == "flexible_vae" else dict(latent_dims=[D, D], between=12))
        model = build(kind, data_shape=[1, 6, 6], hidden=[24], **more)
        batches = Batches(Examples(x, y), BATCH, shuffle=True, binarize=True,
                          generator=order, shard=shard)
        draws = 1 if kind == "flexible_vae" else 2
        return model, batches, [[n] * draws for n in [16] * 4 + [7]]
    if kind == "m2":          # y is summed out: a code for each image and label
        model = build("m2", data_shape=[1, 6, 6], classes=2, latent_dim=D, hidden=[24],
                      width=8, dropout=0.0)
        examples = Examples(x, torch.where(torch.arange(N) < 12, y, -1))
        labelled, rest = examples[:12], examples[12:]
        batches = MixedBatches(labelled, rest, (4, 12), binarize=True, generator=order,
                               shard=shard)
        return model, batches, [[24, 4]] * len(batches)
    if kind == "text_vae":
        model = build("text_vae", alphabet="abcde", longest=4, latent_dim=D, width=12,
                      embedding=6)
        lines = (x.flatten(1)[:, :4] * 5).long(), 1 + torch.arange(N) % 4
        batches = Batches(Examples(lines, y), BATCH, shuffle=True, generator=order,
                          shard=shard)
        return model, batches, [[n] for n in [16] * 4 + [7]]
    model = build("speech_vq_vae", data_shape=[1, 6, 8], n_codes=4, dim=4, width=8,
                  digits=2, speakers=2, dropout=0.0, dead_code_threshold=0.0,
                  sound=dict(n_mels=6))
    x = torch.cat([x, x[..., :2]], -1)
    batches = Batches(Examples(x, torch.stack([y, 1 - y], 1)), BATCH, shuffle=True,
                      generator=order, shard=shard)
    return model, batches, [[]] * 5


def train(config, kind):
    number, processes = rank_and_world_size()
    # weights and noise of its own for each process: the first one's weights must win
    torch.manual_seed(number)
    numbers = torch.Generator().manual_seed(5)
    x, y = torch.rand(N, 1, 6, 6, generator=numbers), torch.arange(N) % 2
    noise_of_each = torch.randn(N, D, generator=numbers)
    order, shard = torch.Generator().manual_seed(7), (number, processes)
    sizes = [16] * 4 + [7]
    draws = [[n] for n in sizes]
    if kind in OF_LESSONS:
        model, batches, draws = registered(kind, x, y, order, shard)
        if kind == "m2": sizes = [16] * len(draws)
    elif kind == "mixed":
        model = made(SemiSupervised)
        batches = MixedBatches(Examples(x[:9], y[:9]), Examples(x[9:]), (4, 12),
                               binarize=True, generator=order, shard=shard)
        sizes, draws = [16] * 6, [[4, 12]] * 6
    elif config.compile or kind == "loader":
        model = made(NoiseInTheData)
        examples = Examples((x.round(), noise_of_each), y)
        batches, draws = Batches(examples, BATCH, shuffle=True, generator=order,
                                 shard=shard), [[]] * 5
    else:
        model = mlp_vae((1, 6, 6), latent_dim=D, hidden=(24,))
        batches = Batches(Examples(x), BATCH, shuffle=True, binarize=True,
                          generator=order, shard=shard)
    if kind == "loader":
        sampler = Dealt(number, processes)
        per_process = [len(part) for part in torch.arange(16).tensor_split(processes)]
        loader = torch.utils.data.DataLoader(examples, per_process[number],
                                             sampler=sampler)
        batches = GivenBatches(loader, shared=True)
    optimizers = make_optimizers(model, torch.device("cpu"))
    optimizers[0].param_groups[0]["lr"].fill_(1e-2)
    step = AcceleratedStep(model, optimizers, BATCH, clip=5.0, config=config)
    def with_noise(batch, weight):
        noise = Noise([torch.randn(n, D, generator=numbers) for n in next(left)])
        # no code of the speech model is drawn; which dead entry moves would be
        if config.compile or kind == "speech_vq_vae": return step(batch, weight=weight)
        share = noise.part(number, processes)
        if kind == "two_layer_vae":                       # draws lead: (1, B, D)
            share = Noise([draw[None] for draw in share.draws])
        with replayed_noise(share):
            return step(batch, weight=weight)
    history = []
    for epoch in range(3):
        left = iter(draws)
        if kind == "loader": batches.set_epoch(epoch)
        history.append(train_epoch(model, batches, optimizers, step=with_noise))
    return dict(processes=processes, history=history,
                weights=[p.detach().flatten().tolist() for p in model.parameters()])


if __name__ == "__main__":
    out, config, number, processes, kind = sys.argv[1:]
    # torchrun would choose a port; a file cannot be taken by somebody else
    if processes != "1":
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{out}.meeting", rank=int(number),
            world_size=int(processes))
    result = train(StepConfig(**json.loads(config)), kind)
    if number == "0":
        with open(out, "w", encoding="utf-8") as f:
            json.dump(result, f)
    if processes != "1":
        leave_processes()
