"""What README.md says is so: its code runs as it stands, its links and images are
there, and it lists the lessons that are there."""
import re, os, shlex, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

root = Path(__file__).resolve().parent.parent
readme = (root / "README.md").read_text(encoding="utf-8")


def test_the_code_for_own_pictures_runs(tmp_path):
    random = np.random.default_rng(0)
    # 200 images of mixed sizes
    for kind in ("cats", "dogs"):
        (tmp_path / "my_images" / kind).mkdir(parents=True)
        for i in range(100):
            (Image.fromarray(
                 random.integers(0, 256, (40 + i % 20, 36, 3), dtype=np.uint8))
             .save(tmp_path / "my_images" / kind / f"{i}.png"))
    code = re.findall(r"```python\n(.*?)```", readme, re.S)[0]
    code += ("\nassert images.shape == (16, 3, 32, 32) and 0 <= images.min() and "
             "images.max() <= 1\n")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, encoding="utf-8",
        capture_output=True,
        env=os.environ
            | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "my_vae.safetensors").is_file()


def mixed(folder, n):
    """`n` images of mixed sizes and kinds: PNG, JPEG, GIF with a palette, 16 bits,
    transparent, turned by the camera."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        up, across = np.mgrid[0:1:(40 + i % 20) * 1j, 0:1:(36 + i % 7) * 1j]
        shown = (255 * (random.uniform(0.5, 0.7) * up
                        + random.uniform(0, 0.3) * across)).astype(np.uint8)
        image, exif = Image.fromarray(np.stack([shown] * 3, -1)), Image.Exif()
        kind = i % 6
        if kind == 2: image = image.quantize(32)
        if kind == 3: image = Image.fromarray(shown.astype(np.uint16) * 257)
        if kind == 4:
            image.putalpha(
                Image.fromarray(np.where(shown > 20, 255, 0).astype(np.uint8)))
        if kind == 5:
            exif[0x0112], image = 6, image.transpose(Image.Transpose.ROTATE_90)
        image.save(folder / f"{i}.{('png', 'jpg', 'gif', 'png', 'png', 'jpg')[kind]}",
                   exif=exif)


def recipe(word):
    code, = [c for c in re.findall(r"```python\n(.*?)```", readme, re.S) if word in c]
    return code


def run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, text=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1",
                          "TQDM_DISABLE": "1"}, encoding="utf-8")


@pytest.mark.parametrize("n", [3, 60, 150])
def test_the_code_for_own_pictures_runs_on_few_and_mixed_ones(tmp_path, n):
    mixed(tmp_path / "my_images", n)
    code = recipe("from_folder").replace("epochs=20", "epochs=3")
    done = run(code + "\nassert images.shape == (16, 3, 32, 32) and "
                      "images.isfinite().all() and (len(data.train), len(data.test)) "
                      f"== ({n - round(.2 * n)}, {round(.2 * n)})\n", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (f"my_images: {n} images" in done.stdout
            and (n < 4 or f"{n // 6} of them of 16 bits" in done.stdout))


@pytest.mark.parametrize("n", [3, 60, 150])
def test_the_detector_runs_on_mixed_pictures_or_says_how_many_it_needs(tmp_path, n):
    mixed(tmp_path / "my_normal_images", n), mixed(tmp_path / "my_new_images", 6)
    (Image.fromarray(
         np.random.default_rng(1).integers(0, 256, (36, 40), dtype=np.uint8))
     .save(tmp_path / "my_new_images" / "broken.png"))
    done = run(recipe("AnomalyDetector").replace("false_alarm=0.05",
                                                 "false_alarm=0.05, epochs=30")
               + "\nassert 'broken.png' in [f.name for f in strange], strange\n",
               tmp_path)
    if n == 150: assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert ("a false-alarm rate of 0.05 takes at least 19 held out"
                in done.stderr.strip().splitlines()[-1])


def test_commands_are_those_of_the_command_line():
    from vae_course.cli import parser
    commands = re.findall(r"^vae_course (.+?)(?:  +#.*)?$", readme, re.M)
    assert {c.split()[0] for c in commands} == {
        "notebooks", "train", "sample", "encode", "reconstruct", "export",
        "predict", "progress", "diagnose", "explore"}
    for command in commands:
        name, *_ = words = shlex.split(command)
        assert parser().parse_args(words).command == name


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", readme)
    assert len(targets) > 10
    for target in targets:
        if not target.startswith("http"):
            assert (root / target).exists(), target


def test_every_lesson_is_listed():
    lessons = [*(root / "nbs").glob("[0-6][0-9]_*.ipynb")]
    assert len(lessons) >= 11
    for lesson in lessons:
        assert f"nbs/{lesson.name}" in readme, f"README.md does not list {lesson.name}"
