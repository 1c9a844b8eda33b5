"""Which notebooks passed just as they stand: the inner loop leaves these out.

A notebook stands as it did when nothing that its run depends on has changed: its own
code, the modules of the package that it imports (and that those import), the settings,
and the versions of all that is installed. `.cache/passed.json` keeps what is known."""
import ast, hashlib, importlib.metadata, json, os, re, sys, tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import nbformat
from lessons import code_hash, root

package = "vae_course"
file = root / ".cache" / "passed.json"


def may_leave_out() -> bool:
    "Whether a notebook may be left out at all: never in CI, nor where all is required."
    return not os.environ.get("CI") and os.environ.get("REQUIRE_ALL") != "1"


def module_path(
    name: str,      # such as vae_course.exercises.training
    root: Path = root,
) -> Path | None:
    "The file of a module of the package; None where there is none."
    path = root.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py")
                 if p.is_file()), None)


def imports(
    source: str,        # Python
    module: str = "",   # the module that it is, for its relative imports
    is_package: bool = False,
) -> set[str]:
    "Names of the package that a source imports or spells out, modules or not."
    found = set(re.findall(rf"\b{package}(?:\.\w+)+", source))
    parts = module.split(".") if module else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = parts[:len(parts) - node.level + is_package] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {name, *(f"{name}.{a.name}" for a in node.names)}
    return {n for n in found if n.split(".")[0] == package}


def closure(
    names: Iterable[str],
    root: Path = root,
) -> dict[str, Path]:
    "The modules behind `names` and all that they import, each with its file."
    found: dict[str, Path] = {}
    waiting = [*names]
    while waiting:
        name = waiting.pop()
        waiting += [name.rpartition(".")[0]] if "." in name else []
        path = module_path(name, root)
        if name not in found and path:
            found[name] = path
            source = path.read_text(encoding="utf-8")
            waiting += imports(source, name, path.name == "__init__.py")
    return found


def code(
    path: Path,     # a notebook
) -> str:
    "The code cells of a notebook as Python: what belongs to IPython is left out."
    cells = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", "\n".join(cells), flags=re.M)


@cache
def versions() -> str:
    "Python and all that is installed."
    every = {f"{d.name}=={d.version}" for d in importlib.metadata.distributions()}
    return "\n".join([sys.version, *sorted(every)])


def state(
    path: Path,             # a notebook
    root: Path = root,
) -> str:
    "A hash of all that the run of a notebook depends on."
    source = code(path)
    try:
        names: Iterable[str] = imports(source)
    except SyntaxError:     # `x = !ls`: nobody knows, so it depends on everything
        names = [".".join(p.relative_to(root).with_suffix("").parts)
                 for p in root.glob(f"{package}/**/*.py")]
    files = [root / "settings.ini", *closure(names, root).values()]
    if "bench" in source:
        files += [p for p in root.glob("bench/**/*") if p.suffix in (".py", ".json")]
    parts = [code_hash(nbformat.read(path, 4)), versions()]
    parts += [f"{k}={v}" for k, v in sorted(os.environ.items())
              if k.startswith("VAE_COURSE") or k == "OMP_NUM_THREADS"]
    for p in sorted(set(files)):
        parts += [str(p.relative_to(root)), p.read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def known(file: Path = file) -> dict[str, str]:
    "What is in the cache file; nothing when it is not there or is spoiled."
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(
    name: str,              # of the notebook
    value: str | None,      # its `state` when it passed, or None when it failed
    file: Path = file,
) -> None:
    "Keep what became of a notebook; the file is whole at every moment."
    found = {k: v for k, v in known(file).items() if k != name}
    found |= {} if value is None else {name: value}
    file.parent.mkdir(exist_ok=True)
    handle, new = tempfile.mkstemp(dir=file.parent)
    with open(handle, "w", encoding="utf-8") as f:
        json.dump(found, f, indent=1, sort_keys=True)
    os.replace(new, file)
