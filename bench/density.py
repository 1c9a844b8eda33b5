"""What do other priors, posteriors and more layers gain, in nats? The models of lesson
16 at equal budgets, three seeds.

    # the protocol of Burda et al. (2016): a GPU for days; goes on where it was stopped
    python bench/density.py --protocol full --device cuda
    # a shortened one: small digits and few epochs; writes after each model
    OMP_NUM_THREADS=1 python bench/density.py --protocol short
    # a fraction of the work: shows that it runs
    python bench/density.py --quick

A model that stands in the stored file is not trained again. MNIST is looked for in
`VAE_COURSE_DATA`."""
import argparse, math, time

import torch
import torch.nn.functional as F
from torch import nn

import common

seeds = 0, 1, 2
# what differs from the plain VAE; `layers=2` takes the model of two layers
ways = {"VAE, k = 1": {}, "IWAE, k = 5": dict(k=5), "IWAE, k = 50": dict(k=50),
        "mixture prior": dict(prior="mixture"), "VampPrior": dict(prior="vamp"),
        "flow prior": dict(prior="flow"), "flow posterior": dict(posterior="flow"),
        "full covariance": dict(posterior="full"), "two layers": dict(layers=2),
        "two layers, k = 50": dict(layers=2, k=50),
        "ladder": dict(layers=2, ladder=True),
        "ladder, β = 1 from the start": dict(layers=2, ladder=True, warm=0.0)}
# published for the full protocol: Burda et al. (2016), one and two layers
published = {"VAE, k = 1": 86.76, "IWAE, k = 5": 85.54, "IWAE, k = 50": 84.78,
             "two layers": 85.33, "two layers, k = 50": 82.90}
targets = {"VAE, k = 1": 86.8, "IWAE, k = 50": 84.8}
protocols = dict(
    full=dict(size=28, hidden=[200, 200], latent_dim=50, latent_dims=[100, 50],
              between=100, components=500, width=200, epochs=3280, batch_size=20,
              warm=0.0, test=10_000, samples=5000, skip=[]),
    short=dict(size=14, hidden=[200], latent_dim=20, latent_dims=[20, 10], between=100,
               components=50, width=64, epochs=4, batch_size=128, warm=0.5, test=1000,
               samples=500, skip=["IWAE, k = 50", "two layers, k = 50"]))
words = dict(
    full="The protocol of Burda et al. (2016): 28 × 28 MNIST, drawn black or white "
         "anew for each batch; tanh layers 200-200 and 50 latents (two layers: 100 and "
         "50); "
         "the decoder's bias begins at the mean of the training pixels; batches of 20; "
         "Adam, eps 1e-4, at 1e-3 · 10^(−i/7) for 3^i epochs, i = 0 … 7; NLL with "
         "5,000 importance samples on the 10,000 test images.",
    short="Shortened, and not comparable with what is published for the full protocol "
          "(86.8 nats for k = 1, 84.8 for IWAE, k = 50): MNIST averaged to "
          "14 × 14, drawn black or white anew for each batch; one layer of 200 and 20 "
          "latents (two layers: 20 and 10); batches of 128, 4 epochs, Adam at 3e-3 at "
          "most (warm-up and cosine), β from 0 to 1 over half of the run where a row "
          "does not say otherwise; NLL with 500 importance samples on 1,000 test "
          "images, each drawn once.")


def images_of(data, chosen, quick):
    "Training and test images of a protocol."
    from vae_course.data import Examples, binarized
    def sized(examples):
        x = examples.floats()
        return Examples(F.avg_pool2d(x, 28 // chosen["size"]), examples.y)
    train = sized(data.train[:512] if quick else data.train)
    test = binarized(sized(data.test), seed=0)[:50 if quick else chosen["test"]]
    return train, test


def model_of(way, chosen, train):
    "The model of a row, as it begins."
    from vae_course.beyond_gaussian import TwoLayerVAE, flexible_vae
    spec = {k: v for k, v in ways[way].items() if k != "warm"}
    shape, hidden = train.data_shape, chosen["hidden"]
    if spec.pop("layers", 1) == 2:
        return TwoLayerVAE(shape, chosen["latent_dims"], hidden, chosen["between"],
                           **spec)
    model = flexible_vae(shape, chosen["latent_dim"], hidden, width=chosen["width"],
                         components=min(chosen["components"], len(train)), **spec)
    if spec.get("prior") == "vamp": model.prior_net.start_from(train.x)
    return model


def as_published(model, train):
    "Tanh in place of SiLU, the bias of the output, and Adam with eps 1e-4."
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.SiLU): setattr(part, name, nn.Tanh())
    mean = train.x.mean(0).clamp(1e-3, 0.999).flatten()
    last = [m for m in model.decoder.modules() if isinstance(m, nn.Linear)][-1]
    last.bias.data = torch.logit(mean)
    def optimizers(self): return torch.optim.Adam(self.parameters(), 1e-3, eps=1e-4)
    model.__class__ = type(type(model).__name__, (type(model),),
                           dict(optimizers=optimizers))
    return model


def stages(share):
    "1e-3 · 10^(−i/7), for 3^i of 3,280 epochs."
    i = min(7, int(math.log(1 + 2 * share * 3280, 3)))
    return 1e-3 * 10**(-i / 7)


def one_run(way, seed, protocol, train, test, device, quick, folder):
    "Train one model, and measure it on the test images."
    from vae_course.evaluation import elbo, nll
    from vae_course.training import fit, linear
    chosen = protocols[protocol]
    torch.manual_seed(seed)
    model = model_of(way, chosen, train)
    if protocol == "full": model = as_published(model, train)
    warm = ways[way].get("warm", chosen["warm"])
    start, cpu = time.perf_counter(), time.process_time()
    checkpoint = folder / f"{way}-{seed}.ckpt" if protocol == "full" else None
    fit(model, train, epochs=1 if quick else chosen["epochs"],
        batch_size=chosen["batch_size"], lr=stages if protocol == "full" else 3e-3,
        binarize=True, seed=seed, device=device, progress=False, watch_nan=False,
        checkpoint=checkpoint,
        schedules={"beta": linear(0, 1, until=warm)} if warm else None)
    spent = dict(training_seconds=time.perf_counter() - start,
                 cpu_seconds=time.process_time() - cpu)
    found = nll(model, test, 20 if quick else chosen["samples"])
    return dict(way=way, seed=seed, nll=found.mean, nll_error=found.standard_error,
                neg_elbo=-elbo(model, test, 2 if quick else 20).mean,
                parameters=sum(p.numel() for p in model.parameters()), **spent)


def measure(protocol="short", device="cpu", quick=False, old=None, limit=None,
            folder=common.results, wrote=lambda result: None):
    """The result of the bench, as written to the file. Runs in `old`, of the same
    protocol, are taken over; at most `limit` models are trained; `wrote` gets the
    result after each. Raises `SystemExit`."""
    from vae_course.datasets import load
    data, device, chosen = load(), torch.device(device), protocols[protocol]
    mine = [w for w in ways if w not in chosen["skip"]]
    if old and (old["settings"], old["data"]) != (chosen, data.name):
        raise SystemExit("the stored file has other settings: name another --out")
    said = f"{data.name}. {words[protocol]}"
    result = common.facts(device, said, seeds=seeds) | dict(
        bench="density", quick=quick, data=data.name, settings=chosen,
        protocol_name=protocol, ways={w: ways[w] for w in mine}, published=published)
    place = {name: result[name] for name in ("commit", "device")}
    if old:                         # its machine and its day; a new run names its own
        result |= {k: v for k, v in old.items() if k not in ("protocol", "ways")}
    train, test = images_of(data, chosen, quick)
    runs = [r for row in old["rows"] for r in row["runs"]] if old else []

    def so_far():
        rows = [dict(way=way, **{name: common.summary([r[name] for r in these])
                                 for name in ("nll", "neg_elbo", "cpu_seconds",
                                              "training_seconds", "parameters")},
                     runs=these)
                for way in mine if (these := [r for r in runs if r["way"] == way])]
        judged = protocol == "full" and not quick and data.name == "mnist"
        verdicts = [dict(what=row["way"], **common.compare(
            row["nll"]["max"], targets[row["way"]], at_least=False, judged=judged))
            for row in rows if protocol == "full" and row["way"] in targets]
        return result | dict(rows=rows, verdicts=verdicts,
                             load_average_after=common.load_average())

    done = {(r["way"], r["seed"]) for r in runs}
    lacking = [(way, seed) for seed in seeds[:1 if quick else None] for way in mine
               if (way, seed) not in done]
    for way, seed in lacking[:limit]:
        run = one_run(way, seed, protocol, train, test, device, quick, folder)
        runs.append(place | run)
        print(f"{way:30} seed {seed}   "
              f"NLL {run['nll']:.2f} ± {run['nll_error']:.2f}   "
              f"-ELBO {run['neg_elbo']:.2f}   {run['cpu_seconds']:.0f} s of CPU",
              flush=True)
        wrote(so_far())
    return so_far()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=list(protocols), default="short",
                        help="as published (a GPU, days), or shortened")
    parser.add_argument("--limit", type=int, help="at most so many models")
    args = common.options(parser).parse_args()
    folder = common.output_folder(args, args.quick)
    kept = "" if args.protocol == "short" else f"_{args.protocol}"
    name = f"density{kept}-{common.slug(torch.device(args.device))}"
    path = folder / f"{name}.json"
    old = common.read_result(path) if path.exists() and not args.quick else None
    common.write(folder, name, measure(
        args.protocol, args.device, args.quick, old, args.limit, folder,
        lambda result: common.write(folder, name, result)))


if __name__ == "__main__":
    main()
