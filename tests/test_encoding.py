"""Text in every locale: files name their encoding, terminals get what they can print,
and folders may be called anything."""
import ast, json, os, subprocess, sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

root = Path(__file__).resolve().parent.parent
SMALL = ("--data digits --device cpu --batch-size 500 --set latent_dim=2 --set "
         "hidden=[8] --epochs 1".split())
# whose `open` gives bytes, or no file
BINARY = {"Image", "gzip", "os", "tarfile", "wave", "webbrowser", "zipfile"}


def nameless(tree):
    """Lines of calls that open a file or a process as text and leave the encoding to
    the machine."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        words = {k.arg: k.value for k in call.keywords}
        # or handed on
        if (words.keys() & {"encoding", None}
                or any(isinstance(a, ast.Starred) for a in call.args)):
            continue
        name = (call.func.attr if isinstance(call.func, ast.Attribute)
                else getattr(call.func, "id", ""))
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        mode = words.get("mode")
        if name == "open" and getattr(owner, "id", "") not in BINARY:
            own = owner is None or getattr(owner, "id", "") == "io"
            mode = mode or next(iter(call.args[own:]), None)
            if not (isinstance(mode, ast.Constant) and "b" in str(mode.value)):
                yield call.lineno
        elif name == "fdopen" and not (
                len(call.args) > 1 and "b" in str(getattr(call.args[1], "value", ""))):
            yield call.lineno
        elif name in ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"):
            mode = mode or next(iter(call.args), None)
            if mode is not None and "b" not in str(getattr(mode, "value", "")):
                yield call.lineno
        elif ((name == "write_text" and len(call.args) < 2)
              or (name == "read_text" and not call.args)):
            yield call.lineno
        elif name in ("Popen", "run", "check_output", "check_call", "call") and any(
                getattr(words.get(k), "value", False) is True
                for k in ("text", "universal_newlines")):
            yield call.lineno


def sources():
    """`(where, code)` of every file of the project, and of every code cell of the
    lessons."""
    for folder in ("vae_course", "tools", "bench", "tests", "."):
        for path in sorted(
                (root / folder).glob("*.py" if folder == "." else "**/*.py")):
            yield path.relative_to(root), path.read_text(encoding="utf-8")
    for path in sorted((root / "nbs").glob("*.ipynb")):
        for i, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "code":
                (yield f"nbs/{path.name}, cell {i}",
                 "".join(line for line in "".join(cell["source"]).splitlines(True)
                         if line[:1] not in "%!"))


def test_every_text_file_names_its_encoding():
    found = [f"{where}, line {line}" for where, code in sources()
             for line in nameless(ast.parse(code))]
    assert not found, "no encoding named: " + "; ".join(found)


@pytest.mark.parametrize("code, bad", [
    ("open(p)", True), ("open(p, 'w')", True), ("open(p, 'rb')", False),
    ("open(p, mode='wb')", False), ("open(p, encoding='utf-8')", False),
    ("io.open(p, 'w')", True), ("p.open()", True), ("p.open('w')", True),
    ("p.open('rb')", False), ("Image.open(p)", False), ("gzip.open(p)", False),
    ("p.read_text()", True), ("p.write_text(t)", True),
    ("p.write_text(t, encoding='utf-8')", False),
    ("subprocess.run(c, text=True)", True), ("Popen(c, universal_newlines=True)", True),
    ("subprocess.run(c, encoding='utf-8')", False), ("subprocess.run(c)", False),
    ("tempfile.NamedTemporaryFile()", False),
    ("tempfile.NamedTemporaryFile('w')", True), ("open(*a)", False),
    ("os.fdopen(f, 'w')", True), ("os.fdopen(f, 'wb')", False)])
def test_the_reader_of_code_finds_what_it_shall(code, bad):
    assert bool([*nameless(ast.parse(code))]) is bad


def python(*words, **environment):
    "A Python of its own, in bytes, as a terminal gets them."
    usual = {k: v for k, v in os.environ.items()
             if k not in ("PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL", "LANG")}
    return subprocess.run([sys.executable, *words], capture_output=True, timeout=300,
                          env=usual | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1",
                                       "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"}
                              | environment)


EVERYTHING = """
import importlib, importlib.util, multiprocessing, os, pkgutil, sys, warnings
from pathlib import Path

multiprocessing.set_start_method("spawn")
warnings.simplefilter("ignore")
# ours; what others do is theirs
ours = r"(vae_course|tools|bench|tests)(\\\\.|$)|__main__"
warnings.filterwarnings("error", category=EncodingWarning, module=ours)
root, home = Path(sys.argv[1]), os.getcwd()
import vae_course
names = [m.name for m in pkgutil.iter_modules(vae_course.__path__)]
for name in names: importlib.import_module(f"vae_course.{name}")
sys.path[:0] = [str(root/folder) for folder in ("tools", "bench", "tests")]
sys.argv[1:] = []
for path in sorted([*(root/"tools").glob("*.py"), *(root/"bench").glob("*.py")]):
    name = f"{path.parent.name}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
os.chdir(home)
from vae_course.cli import main
for words in ("train SMALL --out run", "train SMALL --out run",
              "sample run -n 2 --device cpu", "notebooks lessons"):
    main(words.replace("SMALL", "OPTIONS").split())
print(f"all of {len(names)} modules")
""".replace("OPTIONS", " ".join(SMALL))


def test_no_file_is_opened_in_the_encoding_of_the_machine(tmp_path, monkeypatch):
    """Every module, tool and bench is imported, and the commands run, with the warning
    of that as an error; reading processes would be spawned."""
    monkeypatch.chdir(tmp_path)
    done = python("-X", "warn_default_encoding", "-c", EVERYTHING, str(root))
    assert done.returncode == 0 and b"modules" in done.stdout, (
        (done.stdout + done.stderr).decode(errors="replace")[-3000:])


PLAIN = dict(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
IN_ONE = """
import sys
from vae_course.cli import main
for line in sys.argv[1:]:
    status = 0
    try: main(line.split("|"))
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else bool(e.code)
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)               # as Python does at its end
    print(f"STATUS {status:d}", flush=True)
    print("STATUS", file=sys.stderr, flush=True)
"""


def commands(*lines, **terminal):
    """`(exit status, output, errors)` of each command, its words parted by `|`; all in
    one process, and no traceback in any locale."""
    done = python("-c", IN_ONE, *lines, **terminal)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode(
        errors="replace")[-3000:]
    out, err = done.stdout.split(b"STATUS "), done.stderr.split(b"STATUS\n")
    return [(int(out[i + 1][:1]), out[i][2:] if i else out[i], err[i])
            for i in range(len(lines))]


@pytest.mark.parametrize("terminal", [dict(PYTHONIOENCODING="cp1252"), PLAIN,
                                      dict(PYTHONIOENCODING="utf-8")],
                         ids=["cp1252", "C", "utf-8"])
def test_every_terminal(tmp_path, monkeypatch, terminal):
    """Signs that it lacks are replaced, a minus can be searched for, and the bar is
    drawn with what there is; files have names of their own."""
    monkeypatch.chdir(tmp_path)
    train = "|".join(
        ["train", *SMALL, "--likelihood", "gaussian_learned", "--out", "Übung λ"])
    runs = [train, train, "sample|Übung λ|-n|2|--out|Bilder ż.png|--device|cpu",
            "notebooks|Übungen ☕"]
    helps = ["--help", "train|--help", "sample|--help"]
    errors = {"train|--data|digits": 2, "train|--precision|−1|--out|x": 2,
              "train|--model|λ|--out|x": 1, "train|--data|folder:Fälle ☕|--out|x": 1,
              "sample|nirgendwo ☕": 1, f"notebooks|{__file__}": 1}
    found = commands(*runs, *helps, *errors, **terminal, TQDM_DISABLE="0")
    assert ([status for status, *_ in found]
            == [0] * len(runs + helps) + [*errors.values()]), found
    assert not any("−".encode() in out for _, out, _ in found)
    (_, trained, bar), (_, again, _), (_, sampled, _), _ = found[:len(runs)]
    assert (b"test -ELBO " in trained and b"sigma " in trained
            and b"finished already" in again and b"2 samples" in sampled)
    assert (b"loss=" in bar
            and ("█".encode() in bar) == (terminal.get("PYTHONIOENCODING") == "utf-8"))
    assert {p.name for p in Path("Übung λ").iterdir()} >= {
        "model.safetensors", "run.json", "run.safetensors"}
    assert (
        json.loads(Path("Übung λ/run.json").read_text(encoding="utf-8"))["test"]["name"]
        == "−ELBO")
    assert Path("Bilder ż.png").exists() and Path("Übungen ☕/index.ipynb").exists()
    assert (all(b"usage:" in out for _, out, _ in found[len(runs):][:len(helps)])
            and all(err and not out for _, out, err in found[-len(errors):]))


def test_an_error_ends_the_process_in_a_plain_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = python("-m", "vae_course.cli", "sample", "nirgendwo ☕", **PLAIN)
    assert (done.returncode == 1
            and done.stderr.startswith(b"vae_course: no model in nirgendwo ???: ")
            and done.stderr.count(b"\n") == 1 and not done.stdout)


def test_a_folder_of_any_name_is_the_same_run_in_every_locale(tmp_path, monkeypatch):
    """What `run.json` says of the data is the name in UTF-8, whatever the locale that
    it was written under."""
    from test_cli import folder_of_images
    monkeypatch.chdir(tmp_path)
    folder_of_images(Path("Ziffern λ"))
    train = (
        "train|--data|folder:Ziffern λ|--epochs|1|--batch-size|8|--set|hidden=[8]"
        "|--set|latent_dim=2|--device|cpu|--out|run")
    (status, *_), (again, out, err) = commands(train, train, **PLAIN)
    assert (status, again) == (0, 0) and b"finished already" in out, err
    assert (
        json.loads(Path("run/run.json").read_text(encoding="utf-8"))["settings"]["data"]
        == "folder:Ziffern λ")
    (status, out, err), = commands(train, LC_ALL="C.UTF-8")
    assert status == 0 and b"finished already" in out, err
