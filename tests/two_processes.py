"""What tests/test_acceleration.py runs in two processes, and in one: three epochs with
the noise handed over, and every epoch's terms. Compiled, a model that draws nothing."""
import json, sys

import torch

from vae_course.data import Batches, Examples
from vae_course.elbo import mlp_vae
from vae_course.acceleration import AcceleratedStep
from vae_course.distributed import leave_processes, rank_and_world_size
from vae_course.generation import mlp_autoencoder
from vae_course.noise import Noise, replayed_noise
from vae_course.step import make_optimizers, StepConfig, train_epoch

N, BATCH, D = 71, 16, 3     # the last batch holds 7: parts of 4 and 3


def train(config):
    number, processes = rank_and_world_size()
    # weights and noise of its own for each process: the first one's weights must win
    torch.manual_seed(number)
    numbers = torch.Generator().manual_seed(5)
    examples = Examples(torch.rand(N, 1, 6, 6, generator=numbers),
                        torch.zeros(N).long())
    make = mlp_autoencoder if config.compile else mlp_vae
    model = make((1, 6, 6), latent_dim=D, hidden=(24,))
    optimizers = make_optimizers(model, torch.device("cpu"))
    optimizers[0].param_groups[0]["lr"].fill_(1e-2)
    batches = Batches(examples, BATCH, shuffle=True, binarize=True,
                      generator=torch.Generator().manual_seed(7),
                      shard=(number, processes))
    step = AcceleratedStep(model, optimizers, BATCH, clip=5.0, config=config)
    history = []
    for epoch in range(3):
        noise = iter([Noise([torch.randn(batches.size(i), D, generator=numbers)])
                      .part(number, processes) for i in range(len(batches))])
        def handed(batch, weight):
            if config.compile: return step(batch, weight)
            with replayed_noise(next(noise)): return step(batch, weight)
        history.append(train_epoch(model, batches, optimizers, step=handed))
    return dict(processes=processes, history=history,
                weights=[p.detach().flatten().tolist() for p in model.parameters()])


if __name__ == "__main__":
    out, config, number, processes = sys.argv[1:]
    # torchrun would choose a port; a file cannot be taken by somebody else
    if processes != "1":
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{out}.meeting", rank=int(number),
            world_size=int(processes))
    result = train(StepConfig(**json.loads(config)))
    if number == "0":
        with open(out, "w", encoding="utf-8") as f:
            json.dump(result, f)
    if processes != "1":
        leave_processes()
