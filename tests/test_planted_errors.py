"""Known errors of the field, planted one at a time in a copy of the course: for each, a
check of a lesson must fail.

An error is a replacement in the source of one room. It is made in the notebook that
defines the room and in the module exported from it, and then the notebook named beside
it runs from top to bottom: it must stop, and at a check."""
import json, os, re, shutil, subprocess, sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow

here = Path(__file__).resolve().parent
root = here.parent

# (number in the list of errors, 0 where it has none, what is done, room, old source,
# new source, the notebook whose check must fail)
PLANTED = [
    (0, "the same order of examples and the same noise in every epoch", "87_run",
     "        if self.world_size == 1: return\n",
     "        if self.world_size == 1: return seed_everything(self.config.seed)\n",
     "04_training"),
    (1, "reconstruction averaged over the pixels", "03_elbo",
     "reconstruction = -self.decode(z, c).log_prob(x).mean()",
     "reconstruction = -self.decode(z, c).log_prob(x).mean() / x[0].numel()",
     "03_elbo"),
    (1, "KL averaged over the latents", "01_latent",
     "return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)",
     "return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(-1)", "01_latent"),
    (2, "KL added with the wrong sign", "03_elbo",
     "loss=reconstruction + self.beta * kl", "loss=reconstruction - self.beta * kl",
     "03_elbo"),
    (2, "KL logged with the wrong sign", "01_latent",
     "return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)",
     "return -0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)", "01_latent"),
    (2, "nll returned as +log p", "05_evaluation", "[-importance_weighted(log_w)",
     "[importance_weighted(log_w)", "05_evaluation"),
    (3, "evaluation returns inside its batch loop", "83_step",
     "found = [f(to_device(batch, device)) for batch in batches]",
     "found = [f(to_device(batch, device)) for batch in list(batches)[:1]]", "83_step"),
    (3, "batches of unequal size averaged as equals", "83_step",
     "(rows * weights[:, None]).sum(0) / weights.sum()", "rows.mean(0)", "83_step"),
    (3, "the last partial batch dropped", "05_evaluation",
     "batches = as_batches(examples, batch_size, check)",
     "batches = list(as_batches(examples, batch_size, check))"
     "[:max(1, len(examples) // batch_size)]", "05_evaluation"),
    (4, "evaluated at z = mu and called an ELBO", "03_elbo", "z = q.rsample()",
     "z = q.mean + 0 * q.rsample()", "03_elbo"),
    (4, "training mode left on while evaluating", "83_step", "        model.eval()\n",
     "", "05_evaluation"),
    (4, "training mode left on while validating", "83_step", "        model.eval()\n",
     "", "83_step"),
    (5, "the mean outside the logarithm", "05_evaluation",
     "return torch.logsumexp(log_w, dim) - math.log(samples)", "return log_w.mean(dim)",
     "05_evaluation"),
    (5, "logsumexp without log K", "05_evaluation",
     "torch.logsumexp(log_w, dim) - math.log(samples)", "torch.logsumexp(log_w, dim)",
     "05_evaluation"),
    (5, "K clipped to the batch size", "05_evaluation",
     "for first in range(0, samples, chunk):",
     "samples = min(samples, q.batch_shape[0])\n"
     "    for first in range(0, samples, chunk):", "05_evaluation"),
    (6, "view where a transpose is meant", "06_beta_vae",
     "latents, causes = _discretize(codes, bins).T",
     "latents, causes = _discretize(codes, bins).view(codes.shape[1], -1)",
     "06_beta_vae"),
    (7, "logvar unbounded", "02_reparameterization",
     "return limit * torch.tanh(raw / limit)", "return raw", "02_reparameterization"),
    (7, "the encoder's logvar passed on unbounded", "03_elbo",
     "diagonal_gaussian(mu, bound_logvar(logvar))", "diagonal_gaussian(mu, logvar)",
     "03_elbo"),
    (8, "probabilities passed as logits", "03_elbo", "D.Bernoulli(logits=out",
     "D.Bernoulli(logits=torch.sigmoid(out)", "03_elbo"),
    (8, "images outside [0, 1] let in", "77_likelihoods",
     "if least < self.low - slip or most > self.high + slip:", "if False:",
     "77_likelihoods"),
    (9, "straight-through gradient blocked", "02_reparameterization",
     "return hard.detach() + (soft - soft.detach())", "return hard.detach() + 0 * soft",
     "08_vq_vae"),
    (9, "straight-through gradient doubled", "02_reparameterization",
     "return hard.detach() + (soft - soft.detach())",
     "return hard.detach() + 2 * (soft - soft.detach())", "08_vq_vae"),
    (9, "commitment and codebook swapped", "08_vq_vae",
     "commitment_loss=batch_squared_distance(z, e.detach())",
     "commitment_loss=batch_squared_distance(z.detach(), e)", "08_vq_vae"),
    (9, "dead codes unseen", "08_vq_vae",
     "dead = self.usage < self.dead_code_threshold", "dead = self.usage < 0",
     "08_vq_vae"),
    (10, "the threshold set by the images that were trained on", "10_anomaly_detection",
     "scores = self._scores(model, held_out)", "scores = self._scores(model, train)",
     "10_anomaly_detection"),
    (10, "the threshold chosen on the test set", "10_anomaly_detection",
     "return Detection(*scores, self.threshold_, prevalence)",
     ("return Detection(*scores, conformal_threshold(scores[0], "
      "self.false_alarm), prevalence)"), "10_anomaly_detection"),
    (10, "an anomaly score with the sign flipped", "10_anomaly_detection",
     "return -importance_weighted(log_w)", "return importance_weighted(log_w)",
     "10_anomaly_detection"),
    (10, "AUROC with its sides exchanged", "10_anomaly_detection",
     "return ((below + not_above)", "return 1 - ((below + not_above)",
     "10_anomaly_detection"),
    (10, "score_samples with the sign of a score of anomaly", "10_anomaly_detection",
     "return -self.anomaly_score(X)", "return self.anomaly_score(X)",
     "10_anomaly_detection"),
    (11, "a Gaussian log-density without its normalizer", "03_elbo",
     "return D.Normal(out, self.sigma, validate_args=False)",
     ("return type('Bare', (D.Normal,), dict(log_prob=lambda self, x: -0.5 * ((x - "
      "self.loc) / self.scale)**2))(out, self.sigma, validate_args=False)"), "03_elbo"),
    (12, "condition fed to the decoder only", "07_cvae",
     "self.encoder(x.to(self.device), e)", "self.encoder(x.to(self.device), 0 * e)",
     "07_cvae"),
    (12, "labels off by one", "07_cvae",
     "(c[:, None] == self.indices.to(c.device)).float()",
     "(c[:, None] == self.indices.to(c.device) + 1).float()", "07_cvae"),
    (12, "one-hot of the wrong width accepted", "07_cvae",
     "if c.dim() != 2 or c.shape[1] != self.width:", "if c.dim() != 2:", "07_cvae"),
    (13, "y fed as probabilities and not summed out", "11_semi_supervised",
     "reconstruction, kl = self.given_label(rows, labels)",
     "reconstruction, kl = self.given_label(rows, self.classify(rows).probs)",
     "11_semi_supervised"),
    (13, "`repeat` for `repeat_interleave`", "11_semi_supervised",
     "rows, labels = x.repeat_interleave(K, 0), y.repeat(len(x))",
     "rows, labels = x.repeat(K, 1, 1, 1), y.repeat(len(x))", "11_semi_supervised"),
    (13, "the KL of z forgotten for unlabelled examples", "11_semi_supervised",
     "return (w * reconstruction).sum(-1), (w * kl).sum(-1) + kl_y",
     "return (w * reconstruction).sum(-1), kl_y", "11_semi_supervised"),
    (13, "log p(y) dropped", "11_semi_supervised", "(log_w - log_share)", "log_w",
     "11_semi_supervised"),
    (13, "the entropy of q(y|x) with the wrong sign", "11_semi_supervised",
     "(log_w - log_share)", "(-log_w - log_share)", "11_semi_supervised"),
    (13, "labels that should be hidden used in training", "11_semi_supervised",
     "terms = self._terms(*summed_out(self.classify(u).probs, *self.every_label(u),",
     "terms = self._terms(*summed_out(self.condition(batch.unlabelled[1]), "
     "*self.every_label(u),", "11_semi_supervised"),
    (13, "labels used in evaluation", "11_semi_supervised",
     "if not self.training or y is None:", "if y is None:", "11_semi_supervised"),
    (0, "the same order of examples in every epoch", "70_data",
     "torch.randperm(n, generator=self.generator)",
     "torch.randperm(n, generator=torch.Generator().manual_seed(0))", "70_data"),
    (14, "NLL per token beside a KL per line", "12_text",
     "reconstruction = -self.decode(z, c).log_prob(x).mean()",
     "reconstruction = -(self.decode(z, c).log_prob(x) / (x[1] + 1)).mean()",
     "12_text"),
    (14, "padding counted", "12_text",
     "return each.masked_fill(place > lengths[:, None], 0)", "return each", "12_text"),
    (14, "the end not counted", "12_text",
     "return each.masked_fill(place > lengths[:, None], 0)",
     "return each.masked_fill(place >= lengths[:, None], 0)", "12_text"),
    (14, "the annealed loss logged as −ELBO", "12_text",
     "return dict(loss=loss, reconstruction=reconstruction, kl=kl,\n"
     "                    neg_elbo=reconstruction + kl)",
     "return dict(loss=loss, reconstruction=reconstruction, kl=kl,\n"
     "                    neg_elbo=loss)", "12_text"),
    (14, "word dropout while evaluating", "12_text",
     "if not (self.training and self.word_dropout): return told",
     "if not self.word_dropout: return told", "12_text"),
    (14, "word dropout on the begin", "12_text", "hidden[:, 0] = False",
     "hidden[:, 0] = hidden[:, 0]", "12_text"),
    (14, "input equal to target", "12_text",
     "told = F.pad(tokens, (1, 0), value=self.end)[:, :self.longest]",
     "told = F.pad(tokens, (0, 1), value=self.end)[:, :self.longest]", "12_text"),
    (14, "examples mixed by a view", "12_text",
     "rows = told.expand(*self.e.shape[:-1], -1).flatten(0, -2)",
     "rows = told[:, None].expand(-1, self.e[..., 0].numel() // len(told), -1)"
     ".flatten(0, 1)", "12_text"),
    (14, "q(z|x) from the state behind the padding", "12_text",
     "last = states[torch.arange(len(told), device=told.device), lengths]",
     "last = states[:, -1]", "12_text"),
    (14, "a line in the training and the test set", "71a_lines",
     "for row, line in enumerate(lines): parts[part_of.get(line, 0)].append(row)",
     "for row, line in enumerate(lines): parts[row % len(parts)].append(row)",
     "71a_lines"),
    (15, "the logarithm of silence", "13_speech",
     "np.log(np.maximum(bands, sound.floor))", "np.log(bands + 0 * sound.floor)",
     "13_speech"),
    (15, "statistics taken over the test set", "96c_speech_files",
     "train = split_parts(data)[0]", "train = split_parts(data)[2]",
     "96c_speech_files"),
    (15, "a filter bank above half the sample rate", "13_speech",
     "top = hz_to_mel(sound.rate / 2)", "top = hz_to_mel(sound.rate)", "13_speech"),
    (15, "power where magnitude is meant", "13_speech",
     "bands = filters @ np.abs(stft(scaled(part, sound), sound))",
     "bands = filters @ np.abs(stft(scaled(part, sound), sound)) ** 2", "13_speech"),
    (15, "a split that shares a speaker and is called unseen", "13_speech",
     "folds.append((~theirs, theirs))",
     "folds.append((torch.ones_like(theirs), theirs))", "13_speech"),
    # lesson 15: which β, and the clinic
    (1, "a mean over the values of an example counted as a sum", "15_balance",
     "'mean': lambda size, batch: 1 / size", "'mean': lambda size, batch: 1.0",
     "15_balance"),
    (1, "a squared error taken for nats at sigma 1", "15_balance",
     "'gaussian': lambda sigma: 2 * sigma**2", "'gaussian': lambda sigma: sigma**2",
     "15_balance"),
    (1, "measured against a KL averaged over the latents", "15_balance",
     "kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / len(x)",
     "kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean()", "15_balance"),
    (1, "a/b for b/a", "15_balance", "beta = b / a / (scale or 1)",
     "beta = a / b / (scale or 1)", "15_balance"),
    (1, "what is not a KL weighed as one", "15_balance", "if off > _misfit:",
     "if off > 10:", "15_balance"),
    (2, "a subtracted KL measured without a word", "15_balance", "if weight < 0: raise",
     "if weight is None: raise", "15_balance"),
    (11, "a σ that is computed from the error passed as fixed", "15_balance",
     "if abs(two / one - 1) > _misfit:", "if abs(two / one - 1) > 10:", "15_balance"),
    (0, "beta moved away from the target distortion", "15_balance",
     "(self.speed * (self.target - self.mean))",
     "(self.speed * (self.mean - self.target))", "15_balance"),
    (0, "a minimum rate that lowers a rate that is too low", "12_text",
     "move = self.speed * (run.terms['kl'] - self.rate)",
     "move = self.speed * (self.rate - run.terms['kl'])", "15_balance"),
    (0, "information without log N", "12_text",
     "each[rows, i + rows] - each.logsumexp(1) + math.log(len(z))",
     "each[rows, i + rows] - each.logsumexp(1)", "15_balance"),
    # what `diagnose` measures
    (0, "a β at which an encoder would be at rest, with the wrong sign",
     "96g_diagnosis_measures", "pulls = (-(centred * g_mu), centred**2",
     "pulls = (centred * g_mu, centred**2", "96g_diagnosis_measures"),
    (0, "weights of a loss in the scale of its gradients", "96g_diagnosis_measures",
     "loss[:, None]).solution[:, 0] / scale)", "loss[:, None]).solution[:, 0])",
     "96g_diagnosis_measures"),
    (0, "information of a code without log N", "96g_diagnosis_measures",
     "- each.logsumexp(1) + math.log(len(z)))", "- each.logsumexp(1))",
     "96g_diagnosis_measures"),
    (0, "codes fitted by example without the KL", "96g_diagnosis_measures",
     "loss = (distortion + beta * kl.sum(-1)).sum()",
     "loss = (distortion + 0 * kl.sum(-1)).sum()", "96g_diagnosis_measures"),
    (0, "the nearest training example is the example itself", "96i_diagnosis_data",
     "d[here.nonzero()[:, 0], own[here]] = torch.inf", "pass", "96i_diagnosis_data"),
]
names = [f"error {number}: {what}" for number, what, *_ in PLANTED]


def plant(folder, room, old, new):
    """Copy the course to `folder`, and replace `old` by `new` in the notebook of `room`
    and in its module."""
    for name in ("nbs", "vae_course"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns(
            "__pycache__", ".ipynb_checkpoints", "assets"))
    path = folder / "nbs" / f"{room}.ipynb"
    nb = nbformat.read(path, 4)
    cells = [c for c in nb.cells if c.cell_type == "code" and old in c.source]
    exported = [c for c in cells if re.search(r"^#\|\s*exports?\b", c.source, re.M)]
    assert len(exported) == 1, (f"{room}: {old!r} stands in {len(exported)} "
                                "exported cells; bring the planted error in step "
                                "with the source")
    exported[0].source = exported[0].source.replace(old, new, 1)
    nbformat.write(nb, path)
    name, = re.findall(r"^#\|\s*default_exp\s+([\w.]+)",
                       "\n".join(c.source for c in nb.cells if c.cell_type == "code"),
                       re.M)
    module = folder / "vae_course" / f"{name.replace('.', '/')}.py"
    text = module.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{module.name} lacks {old!r}"
    module.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    "The failing cell for each planted error: a dict, or None when every cell ran."
    jobs, found = {}, {}
    for name, (_, _, room, old, new, notebook) in zip(names, PLANTED):
        folder = tmp_path_factory.mktemp("planted")
        try:
            plant(folder, room, old, new)
            jobs[name] = folder, notebook
        except AssertionError as e:
            found[name] = e
    done = subprocess.run(
        [sys.executable, here / "plant.py",
         *(f"{folder}:{notebook}.ipynb" for folder, notebook in jobs.values())],
        encoding="utf-8", capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})
    for name, (folder, _) in jobs.items():
        result = folder / "result.json"
        found[name] = (json.loads(result.read_text(encoding="utf-8")) if result.exists()
                       else AssertionError(done.stdout[-2000:] + done.stderr[-2000:]))
        shutil.rmtree(folder, ignore_errors=True)
    return found


@pytest.mark.parametrize("name", names)
def test_a_check_notices(outcomes, name):
    found = outcomes[name]
    if isinstance(found, AssertionError):
        raise found
    assert found is not None, f"{name}: every cell ran; the check is missing"
    checks = "ClaimFailed", "AssertionError", "WrongAnswer", "NonFiniteLoss"
    assert found["error"] in checks, (
        f"stopped by {found['error']} ({found['message']}) and not by a check, at\n"
        f"{found['cell']}")
    # the sentence of a claim; of another check, its line
    said = (found["message"].strip() or found["cell"].strip().splitlines()[-1])
    print(f"{name}\n  noticed by: {said.splitlines()[0]}")
