"""What are few labels worth? Lesson 11's two ways, spreading labels over a graph of
codes and M2, beside what needs no network, at 100 to 3,000 labels.

    # writes bench/results/semi_supervised-DEVICE.json; trains and measures only what
    # that file lacks, and writes it after each run
    OMP_NUM_THREADS=1 python bench/semi_supervised.py
    # a fraction of the work: shows that it runs
    python bench/semi_supervised.py --quick
    # only these rows
    python bench/semi_supervised.py --only "M2" "label spreading on codes"

MNIST is looked for in `VAE_COURSE_DATA`. How α, the epochs and the graph were
chosen stands in `protocol`."""
import argparse, statistics, time

import numpy as np
import torch

import common

targets = {"label spreading on codes": 4.5, "M2": 7.0, "M2, then spread": 5.0,
           "spread labels, then M2": 5.0, "M1+M2": 5.0}
label_counts = 100, 600, 1000, 3000
draws, m2_draws = range(10), range(5)
vae = dict(latent_dim=20, hidden=[400], epochs=30, batch_size=128, lr=3e-3)
graph = dict(k=10, alpha=0.99)
m2 = dict(hidden=[200], latent_dim=20, classifier="conv", dropout=0.3, alpha=10.0,
          epochs=10, sizes=(100, 100), lr=2e-3, copies=100)
after_spreading = dict(copies=0, epochs=4)
on_codes = dict(hidden=[200], classifier="mlp", width=200, dropout=0.1, copies=0,
                likelihood="gaussian_learned", binarize=False)
confident = 1000         # spread labels that are believed, of each class

protocol = (
    "{data}: {images} training and {tests} test images, grey; error in per cent on "
    "the test images, mean and standard deviation over draws of the labels (as many "
    "of each class, seed = number of the draw). Codes: means of q(z|x) of one VAE "
    "(784-400-z20, {epochs} epochs, no label). Label spreading (Zhou et al. 2004): "
    "10 nearest neighbours, self-tuned weights, α = .99, each class scaled to the "
    "same mass; test images in the graph, or else classified by the mean of their 10"
    " nearest neighbours in the training set. PCA: 50 components. SVM: RBF, C = 10, "
    "γ = scale; linear probe: logistic regression; k-NN: k = 5, fewer labels of a "
    "class: k = 1. M2: pixels drawn as 0 or 1, {m2_epochs} epochs of {images} "
    "images, batches of 100 labelled and 100 unlabelled, 784-200-z20, a small "
    "convolutional classifier, {copies} moved copies of each labelled image (turned,"
    " sheared, shifted, scaled) beside it. Spread labels, then M2: the {confident:,}"
    " most certain spread labels of each class (graph of training images alone) "
    "stand beside the true ones, 4 epochs. M2, then spread: what M2 answers for the "
    "60,000 training images is spread over the graph of codes, the test images in "
    "it. M1+M2: M2 on the codes, standardised. The graph and the epochs of the VAE "
    "were chosen on Fashion-MNIST, α on the 1,797 digits of 8 × 8 pixels in scikit-"
    "learn, the epochs of M2 by the time there was. The convolutional classifier and"
    " the moved copies came in after one further draw of labels (seed 100), on which"
    " M2 without them stayed above 20 %: its test images were looked at for that.")


def features(data, kind, quick):
    "Rows for all images, training before test: pixels, PCA or codes."
    x = torch.cat([data.train.floats(), data.test.floats()])
    if kind == "pixels":
        return x.flatten(1).numpy()
    if kind == "PCA":
        from sklearn.decomposition import PCA
        rows = x.flatten(1).numpy()
        return PCA(50, random_state=0).fit(rows[:len(data.train)]).transform(rows)
    model = trained_vae(data, quick)
    from vae_course.step import map_rows
    return map_rows(lambda part: model.encode(part).mean, model, x).numpy()


def trained_vae(data, quick, seed=0):
    "The VAE that gives the codes."
    from vae_course.elbo import mlp_vae
    from vae_course.training import fit
    torch.manual_seed(seed)
    model = mlp_vae(data.train.data_shape, vae["latent_dim"], vae["hidden"])
    fit(model, data.train, epochs=1 if quick else vae["epochs"],
        batch_size=vae["batch_size"], lr=vae["lr"], seed=seed, device="cpu",
        progress=False)
    return model


class Lab:
    "The data, and what several rows share: features and graphs, made when asked for."
    def __init__(self, data, quick):
        self.data, self.quick, self.made = data, quick, {}
        self.n, self.classes = len(data.train), len(data.classes)
        self.y = torch.cat([data.train.y, data.test.y]).numpy()

    def rows(self, kind):
        if kind not in self.made:
            cpu = time.process_time()
            self.made[kind] = features(self.data, kind, self.quick)
            print(f"{kind}: {time.process_time() - cpu:.0f} s of CPU", flush=True)
        return self.made[kind]

    def graph(self, kind, with_test):
        from vae_course.semi_supervised import neighbour_graph
        key = kind, with_test
        if key not in self.made:
            cpu, rows = time.process_time(), self.rows(kind)
            self.made[key] = neighbour_graph(rows if with_test else rows[:self.n],
                                             graph["k"])
            print(f"graph of {kind}: {time.process_time() - cpu:.0f} s of CPU",
                  flush=True)
        return self.made[key]

    def draw(self, labels, seed):
        from vae_course.semi_supervised import draw_labels
        return draw_labels(self.data.train.y, labels, self.classes, seed).numpy()

    def spread(self, kind, known, with_test):
        from vae_course.semi_supervised import spread_labels
        return spread_labels(self.graph(kind, with_test), known, self.y[known],
                             self.classes, graph["alpha"])

    def error(self, predicted):
        "Per cent of the test images."
        return float(100 * (np.asarray(predicted) != self.y[self.n:]).mean())


def spreading(kind, with_test):
    def run(lab, known, seed):
        p = lab.spread(kind, known, with_test)
        if with_test:
            return lab.error(p[lab.n:].argmax(1))
        from sklearn.neighbors import KNeighborsRegressor
        rows = lab.rows(kind)
        near = KNeighborsRegressor(graph["k"]).fit(rows[:lab.n], p)
        return lab.error(near.predict(rows[lab.n:]).argmax(1))
    return run


def supervised(kind, make):
    def run(lab, known, seed):
        rows = lab.rows(kind)
        fitted = make(len(known) // lab.classes).fit(rows[known], lab.y[known])
        return lab.error(fitted.predict(rows[lab.n:]))
    return run


def svm(each):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    return make_pipeline(StandardScaler(), SVC(C=10))


def probe(each):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def knn(each):
    from sklearn.neighbors import KNeighborsClassifier
    return KNeighborsClassifier(5 if each >= 50 else 1)


def train_m2(lab, examples, test_x, known, seed, **changes):
    "An M2 trained on `examples`, of which the rows `known` have labels; its error."
    from vae_course.data import Examples
    from vae_course.semi_supervised import mixed_batches
    from vae_course.step import map_rows
    from vae_course.training import build, fit
    chosen = m2 | changes
    y = torch.full((len(examples),), -1)
    y[torch.as_tensor(known[0])] = torch.as_tensor(known[1])
    own = {k: v for k, v in chosen.items() if k not in (
        "epochs", "sizes", "lr", "binarize", "copies")}
    torch.manual_seed(seed)
    model = build("m2", data_shape=list(examples.data_shape), classes=lab.classes,
                  gamma=len(known[0]) / len(examples), **own)
    batches = mixed_batches(Examples(examples.x, y), lab.classes, chosen["sizes"],
                            chosen.get("binarize", True), chosen["copies"])
    fit(model, batches, epochs=1 if lab.quick else chosen["epochs"], lr=chosen["lr"],
        seed=seed, device="cpu", progress=False)
    p = map_rows(lambda x: model.classify(x).probs, model, test_x).numpy()
    return lab.error(p[-len(lab.data.test):].argmax(1)), p


def calibration(lab, p):
    "The expected calibration error of the likeliest class, in per cent."
    from vae_course.evaluation import Reliability
    right = torch.as_tensor(p.argmax(1) == lab.y[lab.n:]).float()
    return 100 * Reliability(10).add(torch.as_tensor(p.max(1)), right).error


def plain_m2(**changes):
    def run(lab, known, seed):
        error, p = train_m2(lab, lab.data.train, lab.data.test.floats(),
                            (known, lab.y[known]), seed, **changes)
        return dict(error=error, calibration=calibration(lab, p))
    return run


def spread_then_m2(lab, known, seed):
    "The most certain spread labels of each class beside the true ones."
    p = lab.spread("codes", known, with_test=False)
    p[known] = np.eye(lab.classes)[lab.y[known]]
    guess, sure = p.argmax(1), p.max(1)
    many = min(confident, lab.n // (2 * lab.classes))
    rows = np.concatenate([r[np.argsort(-sure[r], kind="stable")[:many]]
                           for k in range(lab.classes)
                           for r in [np.flatnonzero(guess == k)]])
    wrong = float(100 * (guess[rows] != lab.y[rows]).mean())
    error, p = train_m2(lab, lab.data.train, lab.data.test.floats(),
                        (rows, guess[rows]), seed, **after_spreading)
    return dict(error=error, calibration=calibration(lab, p), wrong_among_spread=wrong)


def m2_then_spread(lab, known, seed):
    "What M2 answers for the training images is spread over the graph of codes."
    from vae_course.semi_supervised import spread_labels
    x = torch.cat([lab.data.train.floats(), lab.data.test.floats()])
    error, p = train_m2(lab, lab.data.train, x, (known, lab.y[known]), seed)
    answers = p[:lab.n].argmax(1)
    answers[known] = lab.y[known]
    spread = spread_labels(lab.graph("codes", with_test=True), np.arange(lab.n),
                           answers, lab.classes, graph["alpha"])[lab.n:]
    return dict(error=lab.error(spread.argmax(1)), calibration=calibration(lab, spread),
                of_m2_itself=lab.error(p[lab.n:].argmax(1)))


def m1_and_m2(lab, known, seed):
    "M2 on standardised codes."
    from vae_course.data import Examples
    rows = torch.as_tensor(lab.rows("codes"))
    rows = (rows - rows[:lab.n].mean(0)) / rows[:lab.n].std(0)
    error, p = train_m2(lab, Examples(rows[:lab.n]), rows[lab.n:],
                        (known, lab.y[known]), seed, **on_codes)
    return dict(error=error, calibration=calibration(lab, p))


def classifier_alone(lab, known, seed):
    "The classifier of M2, trained on the labelled images and their copies alone."
    from vae_course.classifier import Classifier
    from vae_course.data import Examples
    from vae_course.semi_supervised import moved_copies
    from vae_course.step import map_rows
    from vae_course.training import fit
    few = lab.data.train[torch.as_tensor(known)]
    copies = moved_copies(few.x, m2["copies"])
    torch.manual_seed(seed)
    judge = Classifier(lab.data.train.data_shape, lab.classes, dropout=m2["dropout"])
    fit(judge, Examples(torch.cat([few.x, copies]), torch.cat(
        [few.y, few.y.repeat_interleave(m2["copies"])])), binarize=True, device="cpu",
        epochs=1 if lab.quick else 12, lr=m2["lr"], seed=seed, progress=False)
    p = map_rows(lambda x: judge(x).softmax(1), judge, lab.data.test.floats()).numpy()
    return dict(error=lab.error(p.argmax(1)), calibration=calibration(lab, p))


# row: what is done with known labels, numbers of labels, draws
ROWS = {
    "label spreading on codes": (spreading("codes", True), label_counts, draws),
    "M2": (plain_m2(), (100,), m2_draws),
    "M2, then spread": (m2_then_spread, (100,), m2_draws),
    "spread labels, then M2": (spread_then_m2, (100,), m2_draws),
    "M1+M2": (m1_and_m2, (100,), m2_draws),
    "label spreading on codes, test images not in the graph": (
        spreading("codes", False), label_counts, draws),
    "SVM on codes": (supervised("codes", svm), label_counts, draws),
    "k-NN on codes": (supervised("codes", knn), label_counts, draws),
    "linear probe on codes": (supervised("codes", probe), label_counts, draws),
    "label spreading on PCA": (spreading("PCA", True), label_counts, draws),
    "label spreading on PCA, test images not in the graph": (
        spreading("PCA", False), label_counts, draws),
    "SVM on PCA": (supervised("PCA", svm), label_counts, draws),
    "k-NN on PCA": (supervised("PCA", knn), label_counts, draws),
    "label spreading on pixels": (spreading("pixels", True), (100,), draws),
    "linear probe on PCA": (supervised("PCA", probe), label_counts, draws),
    "SVM on pixels": (supervised("pixels", svm), label_counts, draws),
    "k-NN on pixels": (supervised("pixels", knn), label_counts, draws),
    "linear probe on pixels": (supervised("pixels", probe), label_counts, draws),
    "classifier of M2 alone": (classifier_alone, (100,), m2_draws),
    "M2, α = 0": (plain_m2(alpha=0.0), (100,), m2_draws[:1]),
    "M2 at more labels": (plain_m2(), (600, 1000, 3000), m2_draws[:1])}


def row_of(name, runs):
    "One row: the errors of its draws at each number of labels."
    by_labels = {}
    for labels in sorted({r["labels"] for r in runs}):
        errors = [r["error"] for r in runs if r["labels"] == labels]
        by_labels[str(labels)] = common.summary(errors) | dict(
            mean=statistics.mean(errors), n=len(errors),
            sd=statistics.stdev(errors) if len(errors) > 1 else None)
    return dict(name=name, labels=by_labels, runs=runs)


def measure(quick=False, old=None, only=(), wrote=lambda result: None):
    """The result of the bench, as written to the file; runs in `old` are taken over;
    `wrote` gets the result after each."""
    from vae_course.datasets import load
    data, device = load(), torch.device("cpu")
    settings = dict(vae=vae, graph=graph, m2=m2, on_codes=on_codes,
                    after_spreading=after_spreading, confident=confident)
    settings = common.json.loads(common.json.dumps(settings))
    if old and (old["settings"], old["data"]) != (settings, data.name):
        raise SystemExit("the stored file has other settings: move it away first")
    if quick:
        data = type(data)(data.name, data.train[:1200], data.test[:300], data.classes)
    words = protocol.format(data=data.name, images=f"{len(data.train):,}",
                            tests=f"{len(data.test):,}", epochs=vae["epochs"],
                            m2_epochs=m2["epochs"], copies=m2["copies"],
                            confident=confident)
    result = common.facts(device, words, seeds=draws,
                          packages=("scikit-learn", "scipy")) | dict(
        bench="semi_supervised", quick=quick, data=data.name, settings=settings)
    place = {k: result[k] for k in ("commit", "device")}
    if old:
        result |= {k: v for k, v in old.items() if k not in ("protocol", "rows")}
    runs = {row["name"]: row["runs"] for row in old["rows"]} if old else {}
    lab = Lab(data, quick)

    def so_far():
        rows = [row_of(name, runs[name]) for name in ROWS if runs.get(name)]
        judged = not quick and data.name == "mnist"
        verdicts = [dict(what=row["name"], **common.compare(
            row["labels"]["100"]["mean"], targets[row["name"]], at_least=False,
            judged=judged)) for row in rows if row["name"] in targets]
        return result | dict(rows=rows, verdicts=verdicts,
                             load_average_after=common.load_average())

    for name, (run, counts, seeds) in ROWS.items():
        if only and name not in only:
            continue
        done = {(r["labels"], r["seed"]) for r in runs.get(name, [])}
        for labels in counts[:1 if quick else None]:
            for seed in list(seeds)[:1 if quick else None]:
                if (labels, seed) in done:
                    continue
                cpu = time.process_time()
                found = run(lab, lab.draw(labels, seed), seed)
                found = found if isinstance(found, dict) else dict(error=found)
                cpu = time.process_time() - cpu
                runs.setdefault(name, []).append(
                    place | dict(labels=labels, seed=seed, cpu_seconds=cpu, **found))
                print(f"{name:55} {labels:5} labels, draw {seed}: "
                      f"{found['error']:.2f} %   {cpu:.0f} s of CPU", flush=True)
                wrote(so_far())
    return so_far()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ROW", default=(),
                        help="measure these rows alone")
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    folder = common.output_folder(args, args.quick)
    name = f"semi_supervised-{common.slug(torch.device('cpu'))}"
    path = folder / f"{name}.json"
    old = common.read_result(path) if path.exists() else None
    result = measure(args.quick, old, args.only,
                     lambda result: args.quick or common.write(folder, name, result))
    common.write(folder, name, result)


if __name__ == "__main__":
    main()
