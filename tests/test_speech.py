"""Sound: what is written in the lesson against librosa; every bad recording named or
put right and said; the made voice; the model of codes along time; and the command line,
from a folder of wav files to wav files."""
import io, math, zipfile

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from vae_course import cli, speech
from vae_course.data import DataError, Examples
from vae_course.datasets import load
from vae_course.sounds import (
    check_spoken_digits, from_wavs, own_voice, read_wav, resample, wav_bytes)
from vae_course.speech import (
    Players, Sound, SpokenCodes, band_statistics, griffin_lim, istft,
    log_mel, mel_filters, mfcc, speech_vq_vae, spectrograms, stft)
from vae_course.training import fit, load_model, save_model
from vae_course.voice import speak, voices


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch, tmp_path):
    "No test sees the user's data, nor the network."
    monkeypatch.delenv("VAE_COURSE_DATA", raising=False)
    monkeypatch.setenv("VAE_COURSE_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(scope="module")
def voice():
    return own_voice(takes=7)


def put(folder, name, x, rate=8000):
    "Write a wav file."
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(folder / name, rate, x)


def tone(seconds=.5, rate=8000, hz=440):
    wave = np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return (wave * 16000).astype(np.int16)


# ---------------------------------------------------------------- against librosa

@pytest.fixture(scope="module")
def clip():
    return speak(7, "ada", 3)


def test_the_stft_is_librosas(clip):
    librosa = pytest.importorskip("librosa")
    ours = stft(clip)
    theirs = librosa.stft(clip, n_fft=256, hop_length=80, pad_mode="constant")
    assert ours.shape[1] == len(clip) // 80
    np.testing.assert_allclose(ours, theirs[:, :ours.shape[1]], atol=1e-4)


@pytest.mark.parametrize("rate, n_fft, n_mels", [(8000, 256, 40), (16000, 512, 80)])
def test_the_mel_filters_are_librosas(rate, n_fft, n_mels):
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, htk=True,
                                 norm=None)
    ours = mel_filters(Sound(rate=rate, n_fft=n_fft, n_mels=n_mels))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_log_mel_spectrogram_is_librosas(clip):
    librosa = pytest.importorskip("librosa")
    scaled = clip * .5 / np.abs(clip).max()
    theirs = librosa.feature.melspectrogram(
        y=scaled, sr=8000, n_fft=256, hop_length=80, n_mels=40, htk=True, norm=None,
        power=1, pad_mode="constant")
    ours = log_mel(clip[None])[0, 0].numpy()
    np.testing.assert_allclose(
        ours, np.log(np.maximum(theirs, .3))[:, :ours.shape[1]], atol=1e-3)


def test_the_mfcc_are_librosas(clip):
    librosa = pytest.importorskip("librosa")
    x = log_mel(clip[None])[0, 0]
    theirs = librosa.feature.mfcc(S=x.numpy(), n_mfcc=13, dct_type=2, norm="ortho")
    np.testing.assert_allclose(mfcc(x).numpy(), theirs, atol=1e-3)


def test_griffin_lim_comes_as_near_as_librosas(clip):
    librosa = pytest.importorskip("librosa")
    wanted = np.abs(stft(clip))

    def off(wave):
        made = np.abs(stft(wave))[:, :wanted.shape[1] - 1]
        right = wanted[:, :made.shape[1]]
        return np.linalg.norm(made - right) / np.linalg.norm(right)

    theirs = librosa.griffinlim(wanted, n_iter=32, hop_length=80, n_fft=256, momentum=0,
                                init="random", random_state=0, pad_mode="constant")
    assert off(griffin_lim(wanted)) < 1.15 * off(theirs)


@pytest.mark.parametrize("hop, n_fft", [(80, 256), (64, 256), (128, 512)])
def test_the_inverse_of_the_stft_gives_the_wave_back(hop, n_fft):
    sound = Sound(hop=hop, n_fft=n_fft)
    wave = np.random.default_rng(0).normal(size=hop * 50)
    back = istft(stft(wave, sound), sound)
    assert back.shape == wave.shape
    np.testing.assert_allclose(back[n_fft:-n_fft], wave[n_fft:-n_fft], atol=1e-6)


# ---------------------------------------------------------------- recordings

def test_another_rate_is_converted_and_said(tmp_path, capsys):
    for i in range(3):
        put(tmp_path, f"{i}.wav", tone(rate=16000, hz=1000), 16000)
    data = from_wavs(tmp_path)
    assert "resampled from 16000 Hz: 3 (0.wav, 1.wav, 2.wav)" in capsys.readouterr().out
    loudest = np.abs(stft(data.train.x["wave"][0].numpy())).argmax(0)[5:-5] * 8000 / 256
    assert data.rate == 8000 and (loudest == 1000).all()


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    high = np.sin(2 * np.pi * 7000 * np.arange(16000) / 16000).astype(np.float32)
    assert np.abs(resample(high, 16000, 8000)[200:-200]).max() < .01


def test_stereo_is_averaged_and_said(tmp_path, capsys):
    put(tmp_path, "a.wav", np.stack([tone(), 0 * tone()], 1))
    put(tmp_path, "b.wav", tone())
    data = from_wavs(tmp_path)
    assert "stereo averaged: 1 (a.wav)" in capsys.readouterr().out
    both = torch.cat([data.train.x["wave"], data.test.x["wave"]])
    assert sorted((100 * both.abs().amax(1)).round().int().tolist()) == [24, 49]


def test_8_bit_is_centred_and_said(tmp_path, capsys):
    put(tmp_path, "a.wav", (tone() / 256 + 128).astype(np.uint8))
    put(tmp_path, "b.wav", tone())
    data = from_wavs(tmp_path)
    assert "8 bit: 1 (a.wav)" in capsys.readouterr().out
    both = torch.cat([data.train.x["wave"], data.test.x["wave"]])
    assert both.mean(1).abs().max() < .01
    assert (both.abs().amax(1) - .49).abs().max() < .02


def test_silence_is_left_out_by_name_and_all_silent_is_refused(tmp_path, capsys):
    put(tmp_path, "quiet.wav", np.zeros(4000, np.int16))
    with pytest.raises(DataError, match="all 1 files of .* are silent"):
        from_wavs(tmp_path)
    for name in "ab":
        put(tmp_path, f"{name}.wav", tone())
    data = from_wavs(tmp_path)
    assert "left out as silent: 1 (quiet.wav)" in capsys.readouterr().out
    assert len(data.train) + len(data.test) == 2


def test_a_file_cut_short_is_refused_by_name(tmp_path):
    put(tmp_path, "whole.wav", tone())
    body = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(body[:3000])
    with pytest.raises(DataError, match="cut.wav is cut short .*: copy it again"):
        from_wavs(tmp_path)


@pytest.mark.parametrize("body", [b"", b"RIFF", b"ID3 this is no wav" * 20])
def test_what_is_no_wav_is_refused_by_name(tmp_path, body):
    (tmp_path / "odd.wav").write_bytes(body)
    with pytest.raises(DataError, match="odd.wav"):
        from_wavs(tmp_path)


def test_a_clip_of_20_seconds_is_cut_and_said(tmp_path, capsys):
    put(tmp_path, "long.wav", tone(20))
    put(tmp_path, "short.wav", tone())
    data = from_wavs(tmp_path)
    said = capsys.readouterr().out
    assert "longer than 2.00 s and cut (the longest has 20.0 s): 1 (long.wav)" in said
    assert data.data_shape["wave"] == (16000,)
    assert from_wavs(tmp_path, seconds=25).data_shape["wave"] == (200000,)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.uint8])
def test_every_width_gives_the_same_samples(kind):
    x = np.linspace(-.9, .9, 500)
    scale = {np.int16: 2**15, np.int32: 2**31, np.float32: 1, np.uint8: 128}[kind]
    stored = (x * scale + (128 if kind is np.uint8 else 0)).astype(kind)
    file = io.BytesIO()
    wavfile.write(file, 8000, stored)
    file.seek(0)
    read = read_wav(file).samples
    np.testing.assert_allclose(read, x, atol=.01 if kind is np.uint8 else 1e-4)


def test_folders_are_classes_and_other_files_are_counted(tmp_path, capsys):
    for word in ("no", "yes"):
        for i in range(6):
            put(tmp_path, f"{word}/{i}.wav", tone(hz=300 if word == "no" else 900))
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    data = from_wavs(tmp_path, share=.5)
    assert data.classes == ["no", "yes"] and "not .wav: 1" in capsys.readouterr().out
    for row, label in zip(data.train.x["wave"], data.train.y):
        hz = np.abs(stft(row.numpy())).argmax(0)[20] * 8000 / 256
        assert (hz > 500) == (label == 1)


def test_the_names_say_digit_speaker_and_take_in_a_folder_and_in_a_zip(tmp_path):
    for digit in range(2):
        for who in ("ada", "ben"):
            for take in (0, 4, 5, 10):
                put(tmp_path / "w", f"{digit}_{who}_{take}.wav", tone())
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for path in (tmp_path / "w").iterdir():
            archive.write(path, f"recordings/{path.name}")
    for where in ("w", "w.zip"):
        data = from_wavs(tmp_path / where)
        assert data.speakers == ["ada", "ben"] and len(data.test) == 8
        assert data.test.x["take"].max() == 4 and data.train.x["take"].min() == 5
    with pytest.raises(DataError, match="holds 16 spoken digits and should hold 3,000"):
        check_spoken_digits(tmp_path / "w.zip")


@pytest.mark.parametrize("make, message", [
    (lambda p: p / "none", "is not there"),
    (lambda p: p, "holds no .wav file"),
    (lambda p: (p / "x.txt").write_text("x", encoding="utf-8") and p / "x.txt",
     "neither a folder nor a zip file")])
def test_what_holds_no_recordings_is_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        from_wavs(make(tmp_path))


def test_without_the_recordings_a_made_voice_speaks_and_one_line_says_so(capsys):
    data = load("spoken_digits")
    assert data.name == "voice" and data.source == "spoken_digits"
    assert capsys.readouterr().out.count("\n") == 1
    assert len(data.train) == 900 and len(data.speakers) == 6


def test_a_damaged_download_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "fsdd"
    put(folder / "recordings", "0_ada_0.wav", tone())
    with pytest.raises(DataError, match="should hold 3,000"):
        load("spoken_digits", root=tmp_path)


# ---------------------------------------------------------------- the made voice

def test_the_digits_of_the_made_voice_can_be_told_apart(voice):
    from sklearn.svm import SVC
    train, test = (speech.mfcc_features(p.x) for p in (voice.train, voice.test))
    low, high = train.mean(0), train.std(0)
    # 120 clips to learn from: two of each digit and speaker
    svm = SVC(C=10).fit((train - low) / high, voice.train.y)
    assert svm.score((test - low) / high, voice.test.y) > .9


def test_the_made_voices_differ_and_no_take_is_another():
    heard = [speak(3, v) for v in voices]
    assert len({len(w) for w in heard}) > 1 and len(voices) >= 4
    a, b = speak(3, take=0), speak(3, take=1)
    n = min(len(a), len(b))
    assert not np.allclose(a[:n], b[:n], atol=.01)


# ---------------------------------------------------------------- the model

def small(**more):
    torch.manual_seed(0)
    return speech_vq_vae((1, 40, 80), n_codes=16, dim=4, width=8, **more)


def test_the_model_that_is_loaded_speaks_as_the_one_that_was_saved(voice, tmp_path):
    pairs = spectrograms(voice, Sound(floor=.2), pairs=True)
    model = small(digits=10, speakers=6, sound=Sound(floor=.2),
                  **band_statistics(pairs.train.x))
    fit(model, pairs.train, epochs=1, batch_size=32, progress=False, device="cpu")
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert again.config == model.config and again.sound == Sound(floor=.2)
    x, c = pairs.test.x[:8], pairs.test.y[:8]
    torch.testing.assert_close(again.reconstruct(x, c), model.reconstruct(x, c))
    torch.testing.assert_close(again.prior(c).log_prob(again.codes(x)),
                               model.prior(c).log_prob(model.codes(x)))


def test_a_run_goes_on_where_it_was(voice, tmp_path):
    pairs = spectrograms(voice, pairs=True)
    how = dict(batch_size=32, progress=False, device="cpu", seed=3)

    class Stop(Exception): pass

    from vae_course.callbacks import Callback

    class After(Callback):
        def on_epoch(self, run):
            if len(run.history) == 2: raise Stop

    whole, parts = (small(digits=10, speakers=6) for _ in range(2))
    fit(whole, pairs.train, epochs=3, **how)
    path = tmp_path / "run.safetensors"
    try: fit(parts, pairs.train, epochs=3, checkpoint=path, callbacks=[After()], **how)
    except Stop: pass
    parts = small(digits=10, speakers=6)
    fit(parts, pairs.train, epochs=3, checkpoint=path, **how)
    for a, b in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(a, b)


def test_the_target_speaker_reaches_the_decoder_and_the_codes_do_not_change(voice):
    pairs = spectrograms(voice, pairs=True)
    model = small(digits=10, speakers=6).eval()
    x, c = pairs.test.x[:4], pairs.test.y[:4]
    new = torch.stack([c[:, 0], (c[:, 1] + 1) % 6], 1)
    assert not torch.allclose(model.reconstruct(x, c), model.reconstruct(x, c, new))
    assert torch.equal(model.encode(x).mode, model.encode(x).mode)


def test_the_digit_is_no_input_of_the_decoder(voice):
    model = small(digits=10, speakers=6).eval()
    z = torch.randint(16, (3, 1, 20))
    a, b = (model.decode(z, torch.tensor([[d, 2]] * 3)).mean for d in (1, 7))
    assert torch.equal(a, b)


def test_a_batch_of_one_gives_the_same_loss(voice):
    pairs = spectrograms(voice, pairs=True)
    model = small(digits=10, speakers=6).eval()
    with torch.no_grad():
        whole = model.losses((pairs.test.x[:6], pairs.test.y[:6]))["neg_elbo"]
        each = [model.losses((pairs.test.x[i:i + 1], pairs.test.y[i:i + 1]))["neg_elbo"]
                for i in range(6)]
    assert math.isclose(whole.item(), torch.stack(each).mean().item(), rel_tol=1e-4)


@pytest.mark.parametrize("frames", [80, 77, 41])
def test_any_number_of_frames(frames):
    model = speech_vq_vae((1, 12, frames), n_codes=8, dim=4, width=8)
    x = torch.randn(2, 1, 12, frames)
    assert model.reconstruct(x).shape == x.shape == model.sample(2).shape
    assert model.codes(x).shape == (2, 1, math.ceil(math.ceil(frames / 2) / 2))


def test_labels_of_another_kind_are_refused(voice):
    plain = spectrograms(voice)
    with pytest.raises(DataError, match=r"needs \(N, 2\), what is said and who speaks"):
        fit(small(digits=10, speakers=6), plain.train, epochs=1, progress=False)
    pairs = spectrograms(voice, pairs=True)
    with pytest.raises(DataError, match="the speaker"):
        fit(small(digits=10, speakers=4), pairs.train, epochs=1, progress=False)


def test_the_prior_wants_its_condition():
    net = SpokenCodes(8, (1, 4), 10, 6)
    with pytest.raises(ValueError, match="told digit and speaker"):
        net.log_prob(torch.zeros(1, 1, 4, dtype=torch.long))


def test_jitter_is_off_while_evaluating(voice):
    pairs = spectrograms(voice)
    model = small(jitter=1.0)
    fit(model, pairs.train, epochs=2, batch_size=16, progress=False, device="cpu")
    model.train()
    with torch.no_grad():
        trained = [model.losses((pairs.test.x, None))["reconstruction"].item()
                   for _ in range(2)]
        model.eval()
        tested = [model.losses((pairs.test.x, None))["reconstruction"].item()
                  for _ in range(2)]
    assert trained[0] != trained[1] and tested[0] == tested[1]


def test_temperature_makes_samples_more_alike():
    torch.manual_seed(0)
    net = SpokenCodes(8, (1, 6), 10, 6).eval()
    torch.nn.init.normal_(net.head[-1].weight, std=.5)
    c = torch.tensor([[3, 1]]).expand(400, 2)
    cold, warm = (net.sample(400, c=c, temperature=t) for t in (.3, 1.0))
    assert len(cold.flatten(1).unique(dim=0)) < .9 * len(warm.flatten(1).unique(dim=0))


def test_the_players_escape_what_they_are_told():
    page = Players({"<b>": np.zeros(10)}, 8000, "A & B")._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;" in page and "A &amp; B" in page


# ---------------------------------------------------------------- in a terminal

@pytest.fixture
def folder(tmp_path):
    for digit in range(3):
        for who in voices[:2]:
            for take in range(10):
                path = tmp_path / "wavs" / f"{digit}_{who}_{take}.wav"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(wav_bytes(speak(digit, who, take)))
    return tmp_path


TRAIN = ("train --model speech_vq_vae --epochs 1 --batch-size 16 --device cpu "
         "--set n_codes=16 --set width=16")


def test_it_trains_on_wavs_and_writes_wavs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    cli.main([*TRAIN.split(), "--data", "wavs:wavs", "--out", "run"])
    assert "test -ELBO" in capsys.readouterr().out
    cli.main("sample run -n 3 --out made --device cpu".split())
    files = sorted((folder / "made").iterdir())
    assert [f.name for f in files] == ["000.wav", "001.wav", "002.wav"]
    wave = read_wav(files[0])
    assert wave.rate == 8000 and .4 < np.abs(wave.samples).max() <= .51
    model = load_model(folder / "run" / "model.safetensors")
    assert model.sound.rate == 8000 and len(model.config["mean"]) == 40


def test_asked_for_it_says_a_digit_as_a_speaker(folder, monkeypatch):
    monkeypatch.chdir(folder)
    cli.main([*TRAIN.split(), "--set", "digits=10", "--set", "speakers=2", "--data",
              "wavs:wavs", "--out", "run"])
    cli.main("sample run -n 2 --condition 2,1 --device cpu".split())
    assert len(list((folder / "run" / "samples").iterdir())) == 2


@pytest.mark.parametrize("words, message", [
    ("--data digits", "needs recordings"), ("--data wavs:none", "is not there"),
    ("--data wavs:wavs --size 32", "--size, --channels and --resize are for folder")])
def test_what_cannot_be_is_one_line(folder, monkeypatch, words, message):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as end:
        cli.main([*TRAIN.split(), "--out", "run", *words.split()])
    assert message in str(end.value.code) and "\n" not in str(end.value.code)


def test_a_file_where_a_folder_belongs_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    cli.main([*TRAIN.split(), "--data", "wavs:wavs", "--out", "run"])
    with pytest.raises(SystemExit) as end:
        cli.main("sample run --out x.wav".split())
    assert "name a folder, without an extension" in str(end.value.code)


def test_the_statistics_are_those_of_the_training_part_alone(folder):
    from vae_course.data import DataSet
    from vae_course.protocol import split_parts
    from vae_course.speech_files import SpectrogramSet, load_wavs, speech_settings
    data = load_wavs(folder / "wavs", {})
    harmed = SpectrogramSet(
        data.name, data.train, Examples(data.test.x + 100, data.test.y), data.classes,
        sound=data.sound)
    settings = [speech_settings("speech_vq_vae", {}, d) for d in (data, harmed)]
    assert settings[0] == settings[1] and isinstance(data, DataSet)
    train, valid, _ = split_parts(data)
    assert settings[0]["mean"] == band_statistics(train.x)["mean"]
    assert settings[0]["mean"] != band_statistics(torch.cat([train.x, valid.x]))["mean"]
