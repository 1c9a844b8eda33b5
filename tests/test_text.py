"""Text: what a line is, that padding never counts, that a run in a terminal reads a
file of lines and prints some; and what is refused, with the place of the fault."""
import json, subprocess, sys
from itertools import product

import numpy as np
import pytest
import torch

from vae_course import lines as room
from vae_course.cli import main
from vae_course.data import Batches, DataError, Examples
from vae_course.evaluation import elbo, nll, rate_distortion
from vae_course.lines import Alphabet, from_lines, from_strings, load_names, read_lines
from vae_course.model import Unsupported
from vae_course.step import evaluate
from vae_course.text import (
    SequenceCategorical, TextDecoder, code_information, cures, edit_distances,
    text_vae, token_log_probs, train_text)
from vae_course.training import fit, load_model, save_model

WORDS = ["".join(w) for n in (2, 3, 4) for w in product("abc", repeat=n)]


def small(**settings):
    torch.manual_seed(0)
    return text_vae(**dict(alphabet="abc", longest=4, latent_dim=2, width=8,
                           embedding=4) | settings).eval()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS), encoding="utf-8")
    return path


def refused(capsys, words):
    "The one line that a command ends with."
    with pytest.raises(SystemExit) as e:
        main(words)
    return str(e.value)


# ---------------------------------------------------------------- lines

def test_names_are_those_of_every_latin_locale_and_faker_is_imported_when_asked_for():
    code = ("import sys, vae_course.text, vae_course.lines; assert 'faker' not in "
            "sys.modules; vae_course.lines.load_names(); assert 'faker' in sys.modules")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    spoken = load_names(languages=True)
    assert len(spoken.classes) > 20 and "Icelandic" in spoken.classes
    counts = torch.bincount(torch.cat([spoken.train.y, spoken.test.y]))
    assert counts.min() >= 150 and spoken.longest == 12


def test_without_faker_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faker.providers.person", None)
    with pytest.raises(DataError, match="pip install faker"): load_names()


def test_names_in_dicts_in_lists_and_in_nested_lists_are_all_read():
    assert [*room._strings({"ann": 3, "bob": .5})] == ["ann", "bob"]
    assert [*room._strings(["ann", ("bob", ["eve"])])] == ["ann", "bob", "eve"]


def test_copies_stay_on_one_side_whatever_the_seed():
    many = WORDS * 2
    for seed in range(10):
        made = from_strings(many, seed=seed, valid_share=.2)
        parts = [{*made.lines(p)} for p in (made.train, made.valid, made.test)]
        assert sum(map(len, parts)) == len({*many}) and not parts[0] & parts[1]
        assert len(made.train) + len(made.valid) + len(made.test) == len(many)


@pytest.mark.parametrize("data, said", [
    (b"ab\nno\xe9", "line 2 has the byte 0xe9"), (b"", "has no line"),
    (b"ab\n" + b"x" * 300, "line 2 of .* has 300 characters"),
    ("ab\ncd".encode("utf-16-le"), "not text: say what the encoding is")])
def test_a_file_that_is_no_list_of_lines_is_refused(data, said, tmp_path):
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(DataError, match=said): read_lines(tmp_path / "x.txt")


def test_an_unknown_encoding_and_a_folder_are_refused(written):
    with pytest.raises(DataError, match="no encoding called 'utf-7x'"):
        read_lines(written, encoding="utf-7x")
    with pytest.raises(DataError, match="is not a file"): read_lines(written.parent)


def test_empty_lines_are_announced(tmp_path, capsys):
    (tmp_path / "x.txt").write_text("\n".join([*WORDS, "", "  ", "cab"]),
                                    encoding="utf-8")
    made = from_lines(tmp_path / "x.txt")
    assert made.left_out == 2
    assert f"2 empty lines left out, the first is line {len(WORDS) + 1}" in (
        capsys.readouterr().out)


def test_characters_are_composed_so_that_one_letter_is_one_character(tmp_path):
    (tmp_path / "x.txt").write_text("e\u0301a\nbe\nab\n", encoding="utf-8")
    assert read_lines(tmp_path / "x.txt")[0][0] == "éa"


# ---------------------------------------------------------------- the model

@pytest.mark.parametrize("settings", [{}, dict(every_step=False), dict(mean_norm=.5),
                                      dict(word_dropout=.5), dict(languages=3)])
def test_a_padded_batch_is_what_its_lines_are_alone(settings):
    model = small(**settings)
    c = torch.tensor([2, 0, 1]) if settings.get("languages") else None
    x = model.alphabet.encode(["ab", "a", "cabc"])
    z = torch.randn(5, 3, 2)
    with torch.no_grad():
        q, p = model.encode(x, c), model.decode(z, c).log_prob(x)
        for i, word in enumerate(["ab", "a", "cabc"]):
            one, d = model.alphabet.encode([word]), None if c is None else c[i:i + 1]
            assert torch.allclose(model.encode(one, d).mean[0], q.mean[i], atol=1e-5)
            assert torch.allclose(model.decode(z[:, i:i + 1], d).log_prob(one)[:, 0],
                                  p[:, i], atol=1e-5)


def test_what_stands_behind_a_line_is_never_read():
    model, (tokens, lengths) = small(), Alphabet("abc").encode(["ab", "a", "cabc"])
    hidden = torch.arange(4) >= lengths[:, None]
    with torch.no_grad():
        for other in (1, 2):
            x = tokens.masked_fill(hidden, other), lengths
            assert torch.equal(model.encode(x).mean,
                               model.encode((tokens, lengths)).mean)
            z = torch.zeros(3, 2)
            assert torch.equal(model.decode(z).log_prob(x),
                               model.decode(z).log_prob((tokens, lengths)))


@pytest.mark.parametrize("most", [1, 2, 4])
def test_the_probabilities_of_all_lines_add_up_to_one(most):
    torch.manual_seed(0)
    decoder = TextDecoder(2, 1, most, 6, 3).eval()
    words = ["".join(w) for n in range(1, most + 1) for w in product("ab", repeat=n)]
    tokens, lengths = Alphabet("ab").encode(words, most)
    x = (torch.cat([tokens, torch.zeros(1, most, dtype=torch.int64)]),
         torch.cat([lengths, torch.zeros(1, dtype=torch.int64)]))
    with torch.no_grad():
        p = SequenceCategorical(decoder, torch.randn(1, 1).expand(len(x[1]), 1))
        assert abs(p.log_prob(x).exp().sum() - 1) < 1e-5


def test_token_log_probs_agree_with_cross_entropy():
    torch.manual_seed(0)
    logits, x = torch.randn(3, 6, 4), Alphabet("abc").encode(["ab", "cabca", "b"])
    each = token_log_probs(logits, *x)
    for i, n in enumerate(x[1].tolist()):
        target = torch.cat([x[0][i, :n], torch.tensor([3])])
        want = -torch.nn.functional.cross_entropy(logits[i, :n + 1], target,
                                                  reduction="none")
        assert torch.allclose(each[i, :n + 1], want, atol=1e-6)
        assert (each[i, n + 1:] == 0).all()


def test_a_wide_beam_finds_the_likeliest_line_of_each_code():
    model, every = small(), None
    words = [w for w in ["".join(w) for n in range(1, 5)
                         for w in product("abc", repeat=n)]]
    x = model.alphabet.encode(words, 4)
    z = torch.randn(3, 2)
    with torch.no_grad():
        every = torch.stack([model.decode(one.expand(len(words), 2)).log_prob(x)
                             for one in z])
        empty = model.decode(z).log_prob((torch.zeros(3, 4).long(),
                                          torch.zeros(3).long()))
        found = model.alphabet.decode(model.decode(z).most_likely(400))
    for i, word in enumerate(found):
        best = words[every[i].argmax()] if every[i].max() > empty[i] else ""
        assert word == best


def test_the_measures_take_lines_and_agree_with_each_other():
    model, made = small(), from_strings(WORDS, longest=4)
    bound, parts = elbo(model, made.test, 20), rate_distortion(model, made.test, 20)
    assert abs(bound.mean - -parts.neg_elbo.mean) < 5 * bound.standard_error
    assert nll(model, made.test, 50).mean < parts.neg_elbo.mean + .1
    terms = evaluate(model, Batches(made.test, 5), seed=0)
    assert abs(terms["neg_elbo"] - parts.neg_elbo.mean) < 1


def test_information_is_at_most_log_n_and_that_where_codes_are_apart():
    model, x = small(latent_dim=4), Examples(Alphabet("abc").encode(WORDS[:30], 4))
    torch.nn.init.normal_(model.to_q.weight, std=300.)
    with torch.no_grad(): model.to_q.bias[4:] = -30.
    model.to_q.weight.data[4:] = 0
    apart = code_information(model, x).mean
    assert np.log(30) - .3 < apart <= np.log(30) + 1e-6
    model.to_q.weight.data.zero_()
    assert abs(code_information(model, x).mean) < 1e-6


@pytest.mark.parametrize("name", cures)
def test_every_cure_trains_and_is_saved(name, tmp_path):
    made = from_strings(WORDS)
    model = train_text(name, made, epochs=2, width=8, embedding=4)
    again = load_model(save_model(model, tmp_path / "m.safetensors"))
    assert again.config == model.config and again.alphabet.letters == "abc"
    x = made.test.x
    z = torch.zeros(len(x[1]), model.latent_dim)
    with torch.no_grad():
        assert torch.equal(again.decode(z).log_prob(x), model.decode(z).log_prob(x))


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(tmp_path):
    made = from_strings(WORDS)
    how = dict(epochs=4, batch_size=32, progress=False, device="cpu")
    whole, cut = small(), small()
    fit(whole, made.train, **how)

    class Stop(Exception): pass

    from vae_course.callbacks import Callback

    class After(Callback):
        def on_epoch(self, run):
            if len(run.history) == 2: raise Stop
    path = tmp_path / "run.safetensors"
    with pytest.raises(Stop): fit(cut, made.train, checkpoint=path,
                                  callbacks=[After()], **how)
    resumed = small()
    fit(resumed, made.train, checkpoint=path, **how)
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_without_latents_it_is_a_language_model():
    made = from_strings(WORDS)
    model = small(latent_dim=0)
    fit(model, made.train, epochs=2, progress=False, device="cpu")
    parts = rate_distortion(model, made.test)
    assert parts.rate.mean == 0
    assert abs(nll(model, made.test, 3).mean - parts.distortion.mean) < 1e-6


def test_a_language_is_held_and_a_missing_one_refused():
    model = small(languages=3)
    x = model.alphabet.encode(["ab", "cab"])
    held, c = model.at(2), torch.tensor([2, 2])
    with torch.no_grad():
        assert torch.equal(held.encode(x).mean, model.encode(x, c).mean)
        assert held.prior().event_shape == (2,) and held.sample(3)[0].shape == (3, 4)
        assert len(held.reconstruct(x)[1]) == 2
    assert elbo(held, Examples(x)).values.shape == (2,)
    with pytest.raises(Unsupported, match="condition is missing|needs to know"):
        model.encode(x)
    with pytest.raises(Unsupported, match="has no condition"): small().at(1)
    with pytest.raises(DataError, match="labels from 3 to 3"): model.sample(1, 3)


@pytest.mark.parametrize("x, said", [
    ((torch.tensor([[0, 7]]), torch.tensor([2])), "the token 7 as character 2"),
    ((torch.zeros(1, 6).long(), torch.tensor([5])), "has 5 characters, .* at most 4"),
    ((torch.zeros(1, 4), torch.tensor([2])), "float32 as lines"),
    (torch.zeros(2, 1, 8, 8), "this model takes lines")])
def test_what_is_no_line_of_the_alphabet_is_refused_before_the_first_step(x, said):
    model = small()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(DataError, match=said):
        fit(model, Examples(x), epochs=1, progress=False)
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize("settings, said", [
    (dict(alphabet="aab"), "'a' twice"), (dict(longest=0), "of at least 1"),
    (dict(width=2.5), "give a whole number"),
    (dict(word_dropout=2.), "give a share")])
def test_a_model_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ValueError, match=said): small(**settings)


def test_edit_distances_agree_with_the_plain_recursion():
    from functools import cache
    @cache
    def plain(a, b):
        if not a or not b: return len(a) + len(b)
        return min(plain(a[1:], b) + 1, plain(a, b[1:]) + 1,
                   plain(a[1:], b[1:]) + (a[0] != b[0]))
    words = [*WORDS[:20], "", "abcabc", "naïve", "maria"]
    for a in words:
        assert edit_distances(a, words).tolist() == [plain(a, b) for b in words]


# ---------------------------------------------------------------- in a terminal

def test_the_command_line_trains_on_a_file_and_prints_lines(written, tmp_path, capsys):
    command = ["train", "--model", "text_vae", "--data", f"lines:{written}", "--epochs",
               "2", "--out", str(tmp_path / "run"), "--device", "cpu"]
    main(command)
    out = capsys.readouterr().out
    assert "lines to train" in out and "test lines" in out and "images" not in out
    main(command)                                      # the same command: all is there
    assert "finished already" in capsys.readouterr().out
    main(["sample", str(tmp_path / "run"), "-n", "5"])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5 and {*"".join(said)} <= {*"abc"}
    main(["sample", str(tmp_path / "run"), "-n", "5", "--out", str(tmp_path / "x.txt")])
    assert (tmp_path / "x.txt").read_text(encoding="utf-8").splitlines() == said
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["settings"]["data"] == f"lines:{written}"


def test_the_command_line_refuses_what_does_not_go_together(written, tmp_path, capsys):
    start = ["train", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert "takes images" in refused(capsys, [*start, "--data", f"lines:{written}"])
    assert "takes lines" in refused(
        capsys, [*start, "--model", "text_vae", "--data", "digits"])
    assert "is not a file" in refused(
        capsys, [*start, "--model", "text_vae", "--data", "lines:nothing.txt"])
    (tmp_path / "l.txt").write_bytes(b"ab\nno\xe9\n")
    assert "line 2 has the byte 0xe9" in refused(
        capsys, [*start, "--model", "text_vae", "--data", f"lines:{tmp_path/'l.txt'}"])
