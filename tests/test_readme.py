"""What README.md says is so: its code runs as it stands, its links and pictures are there, and it lists the lessons that are there."""
import re, os, shlex, subprocess, sys
from pathlib import Path

import numpy as np
from PIL import Image

root = Path(__file__).resolve().parent.parent
readme = (root / "README.md").read_text(encoding="utf-8")


def test_the_code_for_own_pictures_runs(tmp_path):
    random = np.random.default_rng(0)
    for kind in ("cats", "dogs"):                                 # 200 pictures of mixed sizes
        (tmp_path / "my_pictures" / kind).mkdir(parents=True)
        for i in range(100):
            Image.fromarray(random.integers(0, 256, (40 + i % 20, 36, 3), dtype=np.uint8)).save(tmp_path / "my_pictures" / kind / f"{i}.png")
    code = re.findall(r"```python\n(.*?)```", readme, re.S)[0]
    code += "\nassert pictures.shape == (16, 3, 32, 32) and 0 <= pictures.min() and pictures.max() <= 1\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, encoding="utf-8", capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "my_vae.safetensors").is_file()


def test_commands_are_those_of_the_command_line():
    from vae_course.cli import parser
    commands = re.findall(r"^vae_course (.+?)(?:  +#.*)?$", readme, re.M)
    assert {c.split()[0] for c in commands} == {"notebooks", "train", "sample"}
    for command in commands:
        parser().parse_args(shlex.split(command))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        if not target.startswith("http"):
            assert (root / target).exists(), target


def test_every_lesson_is_listed():
    for lesson in (root / "nbs").glob("[0-8][0-9]_*.ipynb"):
        assert f"nbs/{lesson.name}" in readme, f"README.md does not list {lesson.name}"
