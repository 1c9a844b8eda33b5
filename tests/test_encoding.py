"""Text in every locale: files name their encoding, terminals get what they can print, and folders may be called anything."""
import ast, json, os, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
SMALL = "--data digits --device cpu --batch-size 500 --set latent_dim=2 --set hidden=[8] --epochs 1".split()
BINARY = {"Image", "gzip", "os", "tarfile", "wave", "webbrowser", "zipfile"}     # whose `open` gives bytes, or no file


def nameless(tree):
    "Lines of calls that open a file or a process as text and leave the encoding to the machine."
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        words = {k.arg: k.value for k in call.keywords}
        if words.keys() & {"encoding", None} or any(isinstance(a, ast.Starred) for a in call.args): continue       # or handed on
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        mode = words.get("mode")
        if name == "open" and getattr(owner, "id", "") not in BINARY:
            own = owner is None or getattr(owner, "id", "") == "io"
            mode = mode or next(iter(call.args[own:]), None)
            if not (isinstance(mode, ast.Constant) and "b" in str(mode.value)): yield call.lineno
        elif name == "fdopen" and not (len(call.args) > 1 and "b" in str(getattr(call.args[1], "value", ""))): yield call.lineno
        elif name in ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"):
            mode = mode or next(iter(call.args), None)
            if mode is not None and "b" not in str(getattr(mode, "value", "")): yield call.lineno
        elif (name == "write_text" and len(call.args) < 2) or (name == "read_text" and not call.args): yield call.lineno
        elif name in ("Popen", "run", "check_output", "check_call", "call") and any(getattr(words.get(k), "value", False) is True for k in ("text", "universal_newlines")): yield call.lineno


def sources():
    "`(where, code)` of every file of the project, and of every code cell of the lessons."
    for folder in ("vae_course", "tools", "bench", "tests", "."):
        for path in sorted((root / folder).glob("*.py" if folder == "." else "**/*.py")): yield path.relative_to(root), path.read_text(encoding="utf-8")
    for path in sorted((root / "nbs").glob("*.ipynb")):
        for i, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "code": yield f"nbs/{path.name}, cell {i}", "".join(line for line in "".join(cell["source"]).splitlines(True) if line[:1] not in "%!")


def test_every_text_file_names_its_encoding():
    found = [f"{where}, line {line}" for where, code in sources() for line in nameless(ast.parse(code))]
    assert not found, "no encoding named: " + "; ".join(found)


@pytest.mark.parametrize("code, bad", [
    ("open(p)", True), ("open(p, 'w')", True), ("open(p, 'rb')", False), ("open(p, mode='wb')", False), ("open(p, encoding='utf-8')", False), ("io.open(p, 'w')", True),
    ("p.open()", True), ("p.open('w')", True), ("p.open('rb')", False), ("Image.open(p)", False), ("gzip.open(p)", False), ("p.read_text()", True),
    ("p.write_text(t)", True), ("p.write_text(t, encoding='utf-8')", False), ("subprocess.run(c, text=True)", True), ("Popen(c, universal_newlines=True)", True),
    ("subprocess.run(c, encoding='utf-8')", False), ("subprocess.run(c)", False), ("tempfile.NamedTemporaryFile()", False), ("tempfile.NamedTemporaryFile('w')", True),
    ("open(*a)", False), ("os.fdopen(f, 'w')", True), ("os.fdopen(f, 'wb')", False)])
def test_the_reader_of_code_finds_what_it_shall(code, bad): assert bool([*nameless(ast.parse(code))]) is bad


def python(*words, **environment):
    "A Python of its own, in bytes, as a terminal gets them."
    usual = {k: v for k, v in os.environ.items() if k not in ("PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL", "LANG")}
    return subprocess.run([sys.executable, *words], capture_output=True, timeout=300,
                          env=usual | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"} | environment)


EVERYTHING = """
import importlib, importlib.util, multiprocessing, os, pkgutil, sys, warnings
from pathlib import Path

multiprocessing.set_start_method("spawn")
warnings.simplefilter("ignore")
warnings.filterwarnings("error", category=EncodingWarning, module=r"(vae_course|tools|bench|tests)(\\\\.|$)|__main__")       # ours; what others do is theirs
root, home = Path(sys.argv[1]), os.getcwd()
import vae_course
names = [m.name for m in pkgutil.iter_modules(vae_course.__path__)]
for name in names: importlib.import_module(f"vae_course.{name}")
sys.path[:0] = [str(root/folder) for folder in ("tools", "bench", "tests")]
sys.argv[1:] = []
for path in sorted([*(root/"tools").glob("*.py"), *(root/"bench").glob("*.py")]):
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}.{path.stem}", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
os.chdir(home)
from vae_course.cli import main
for words in ("train SMALL --out run", "train SMALL --out run", "sample run -n 2 --device cpu", "notebooks lessons"): main(words.replace("SMALL", "OPTIONS").split())
print(f"all of {len(names)} modules")
""".replace("OPTIONS", " ".join(SMALL))


def test_no_file_is_opened_in_the_encoding_of_the_machine(tmp_path, monkeypatch):
    "Every module, tool and bench is imported, and the commands run, with the warning of that as an error; reading processes would be spawned."
    monkeypatch.chdir(tmp_path)
    done = python("-X", "warn_default_encoding", "-c", EVERYTHING, str(root))
    assert done.returncode == 0 and b"modules" in done.stdout, (done.stdout + done.stderr).decode(errors="replace")[-3000:]


PLAIN = dict(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
every_terminal = pytest.mark.parametrize("terminal", [dict(PYTHONIOENCODING="cp1252"), PLAIN, dict(PYTHONIOENCODING="utf-8")], ids=["cp1252", "C", "utf-8"])


def command(*words, terminal):
    "What the command prints, as `(exit status, output, errors)`; no traceback in any locale."
    done = python("-m", "vae_course.cli", *words, **terminal)
    assert b"Traceback" not in done.stderr and b"Error:" not in done.stderr, done.stderr.decode(errors="replace")[-3000:]
    return done.returncode, done.stdout, done.stderr


@every_terminal
def test_a_run_in_every_terminal(tmp_path, monkeypatch, terminal):
    "Signs that it lacks are replaced, a minus can be searched for, and the bar is drawn with what there is; the folder has a name of its own."
    monkeypatch.chdir(tmp_path)
    status, out, err = command("train", *SMALL, "--likelihood", "gaussian_learned", "--out", "Übung λ", terminal=terminal | dict(TQDM_DISABLE="0"))
    assert status == 0 and b"test -ELBO " in out and b"sigma " in out and "−".encode() not in out
    assert b"loss=" in err and (terminal.get("PYTHONIOENCODING") == "utf-8") == ("█".encode() in err)
    assert {p.name for p in Path("Übung λ").iterdir()} >= {"model.safetensors", "run.json", "run.safetensors"}
    assert json.loads(Path("Übung λ/run.json").read_text(encoding="utf-8"))["test"]["name"] == "−ELBO"
    status, out, _ = command("train", *SMALL, "--likelihood", "gaussian_learned", "--out", "Übung λ", terminal=terminal)
    assert status == 0 and b"finished already" in out
    status, out, _ = command("sample", "Übung λ", "-n", "2", "--out", "Bilder ż.png", "--device", "cpu", terminal=terminal)
    assert status == 0 and b"2 samples" in out and Path("Bilder ż.png").exists()
    assert command("notebooks", "Übungen ☕", terminal=terminal)[0] == 0 and Path("Übungen ☕/index.ipynb").exists()


@every_terminal
def test_help_and_errors_in_every_terminal(tmp_path, monkeypatch, terminal):
    monkeypatch.chdir(tmp_path)
    for words in (["--help"], ["train", "--help"], ["sample", "--help"]):
        status, out, err = command(*words, terminal=terminal)
        assert status == 0 and b"usage:" in out and not err and "−".encode() not in out
    for words, end in ((["train", "--data", "digits"], 2), (["train", "--model", "λ", "--out", "x"], 1), (["sample", "nirgendwo ☕"], 1), (["notebooks", str(Path(__file__))], 1),
                       (["train", "--precision", "−1", "--out", "x"], 2), (["train", "--data", "folder:Fälle ☕", "--out", "x"], 1)):
        status, out, err = command(*words, terminal=terminal)
        assert status == end and err and not out, (words, err)


def test_a_folder_of_any_name_is_the_same_run_in_every_locale(tmp_path, monkeypatch):
    "What `run.json` says of the data is the name in UTF-8, whatever the locale that it was written under."
    from test_cli import folder_of_pictures
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("Ziffern λ"))
    words = "train --data FOLDER --epochs 1 --batch-size 8 --set hidden=[8] --set latent_dim=2 --device cpu --out run".split()
    words[2] = "folder:Ziffern λ"
    assert command(*words, terminal=PLAIN)[0] == 0
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["settings"]["data"] == "folder:Ziffern λ"
    for terminal in (PLAIN, dict(LC_ALL="C.UTF-8")):
        status, out, err = command(*words, terminal=terminal)
        assert status == 0 and b"finished already" in out, err
