"""The reference: a page for each module, written from its source. For each name: the
call, the docstring, a row for every parameter with its type, default and words, what is
returned, and a link to the section of the course that teaches it.

    python tools/reference.py FOLDER    write reference.md and ref_MODULE.md there

`make docs` does it on the way; before `nbdev_docs`, give it the folder `_proc`."""
import ast, dataclasses, functools, importlib, inspect, io, json, re, sys, textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

root = Path(__file__).resolve().parent.parent
package = "vae_course"
heading = re.compile(r"^(#{2,4}) +(.+?)\s*$", re.M)


class Place(NamedTuple):
    "Where a name is defined: the page, its title, the section, whether source shows."
    page: str
    title: str
    section: str
    anchor: str
    shown: bool


def slug(title: str) -> str:
    "The id that the site gives to a heading."
    words = re.sub(r"<[^>]+>|[^\w.\s-]", "", title).strip().lower()
    return re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", words))


def defined(source: str) -> list[str]:
    "Names of the functions, classes and constants that a cell defines."
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [name.id for target in node.targets for name in ast.walk(target)
                      if isinstance(name, ast.Name)]
    return found


@functools.cache
def places() -> dict[str, dict[str, Place]]:
    "`{module: {name: Place}}` of everything that the notebooks export."
    found: dict[str, dict[str, Place]] = {}
    for path in sorted((root / "nbs").glob("*.ipynb")):
        cells = nbformat.read(path, 4).cells
        code = "\n".join(c.source for c in cells if c.cell_type == "code")
        module = re.search(r"^#\|\s*default_exp\s+([\w.]+)", code, re.M)
        if not module:
            continue
        first = re.search(r"^# +(.+)$", cells[0].source, re.M)
        title, section = first[1] if first else path.stem, ""
        page = f"{re.sub(r'^[0-9]+[a-z]?_', '', path.stem)}.html"
        number = re.match(r"(\d+[a-z]?)_", path.name)
        name = f"{number[1]} · {title}" if number else title
        for cell in cells:
            if cell.cell_type == "markdown":
                heads = heading.findall(cell.source)
                section = heads[-1][1] if heads else section
                continue
            marks = re.findall(r"^#\|\s*(exports?)\s*$", cell.source, re.M)
            if not marks:
                continue
            for symbol in defined(cell.source):
                found.setdefault(module[1], {})[symbol] = Place(
                    page, name, section, slug(section), "exports" in marks)
    return found


def words_of(kind: Any) -> str:
    "A type as a reader writes it."
    if kind is inspect.Parameter.empty:
        return ""
    text = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", text)
    return text.replace("NoneType", "None")


def default_of(value: Any) -> str:
    "A default value as it reads in a call."
    if value is inspect.Parameter.empty:
        return "required"
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def in_cell(text: str) -> str:
    "Text that fits into a cell of a Markdown table."
    return " ".join(text.split()).replace("|", r"\|")


def code(text: str) -> str:
    "Text as code in a cell of a table."
    return f"<code>{in_cell(text).replace('<', '&lt;')}</code>" if text else ""


def signature(f: Any) -> inspect.Signature | None:
    """The signature of `f`; None where there is none to read, for a protocol, or where
    a class takes over the constructor of another package."""
    if getattr(f, "_is_protocol", False):
        return None
    if inspect.isclass(f) and not hasattr(f, "_fields"):
        init = next((k for k in f.__mro__ if "__init__" in vars(k)), object)
        if not init.__module__.startswith((package, "__main__")):
            return None
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):
        return None


def words_by_parameter(f: Any) -> dict[str, str]:
    """The comment of each parameter of a function, of a constructor or of a class of
    fields: at the end of its line, or alone on the lines above."""
    try:
        source = textwrap.dedent(inspect.getsource(f))
    except (OSError, TypeError):
        return {}
    tree, lines = ast.parse(source).body[0], source.split("\n")
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row = token.start[0]
            comments[row] = token.string.lstrip("# ").strip()
            if lines[row - 1].lstrip().startswith("#"):
                alone.add(row)

    def words(node: ast.AST) -> str:
        row = getattr(node, "end_lineno", 0)
        if row in comments:
            return comments[row]
        found: list[str] = []
        row = getattr(node, "lineno", 0) - 1
        while row in alone:
            found.insert(0, comments[row])
            row -= 1
        return " ".join(found)

    if isinstance(tree, ast.ClassDef):
        fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        return {ast.unparse(node.target): words(node) for node in fields}
    if not isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return {}
    a = tree.args
    every = [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]
    found = {node.arg: words(node) for node in every if node}
    # a default may end on a later line than its parameter
    for node, default in zip(reversed([*a.posonlyargs, *a.args]), reversed(a.defaults)):
        found[node.arg] = found[node.arg] or words(default)
    if tree.returns:
        found["return"] = words(tree.returns)
    return found


def words_of_call(f: Any) -> dict[str, str]:
    "`words_by_parameter` of a function; of a class, those of what constructs it."
    if not inspect.isclass(f):
        return words_by_parameter(inspect.unwrap(f))
    found: dict[str, str] = {}
    for kind in reversed(f.__mro__):
        if kind.__module__.startswith((package, "__main__")):
            found |= words_by_parameter(kind)
            if "__init__" in vars(kind) and not dataclasses.is_dataclass(kind):
                found |= words_by_parameter(vars(kind)["__init__"])
    return found


def parameter_rows(f: Any) -> list[str]:
    "A row for every parameter of a function or of a constructor, and what it returns."
    found, sign = words_of_call(f), signature(f)
    rows = []
    for name, p in (sign.parameters.items() if sign else ()):
        if name in ("self", "cls"):
            continue
        star = "*" * ((p.kind == p.VAR_POSITIONAL) + 2 * (p.kind == p.VAR_KEYWORD))
        given = "" if star else default_of(p.default)
        given = given if given == "required" else code(given)
        rows.append(f"| {code(star + name)} | {code(words_of(p.annotation))} | {given} "
                    f"| {in_cell(found.get(name, ''))} |")
    kind = words_of(sign.return_annotation) if sign else ""
    returned = found.get("return", "")
    if not inspect.isclass(f) and ((kind and kind != "None") or returned):
        rows.append(f"| *returns* | {code(kind)} | | {in_cell(returned)} |")
    return rows


def table(rows: list[str]) -> str:
    "The table of the parameters; nothing when there are none."
    head = ["| parameter | type | default | what it is |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else ""


def call(f: Any, name: str) -> str:
    "How `f` is called, without types."
    sign = signature(f)
    if sign is None:
        return name
    kept = [p.replace(annotation=inspect.Parameter.empty,
                      default=p.default if p.default is p.empty
                      else Shown(default_of(p.default)))
            for n, p in sign.parameters.items() if n not in ("self", "cls")]
    return name + str(inspect.Signature(kept))


class Shown(str):
    "A default that is written as it stands."
    def __repr__(self) -> str:
        return str(self)


def doc_of(f: Any) -> str:
    "The docstring of `f` itself, not that of a parent."
    own = vars(f).get("__doc__") if inspect.isclass(f) else f.__doc__
    return inspect.cleandoc(own or "")


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    "The public methods and properties that a class defines itself."
    for name, f in vars(kind).items():
        f = getattr(f, "__func__", f)
        plain = f.fget if isinstance(f, property) else f
        ours = inspect.isfunction(plain) and plain.__module__.startswith(
            (package, "__main__"))
        if not name.startswith("_") and ours:
            yield name, f


def entry(name: str, f: Any, place: Place | None) -> str:
    "What the page says of a name."
    parts = [f"## `{name}` {{#{name.lower()}}}"]
    if inspect.isclass(f) or inspect.isfunction(f):
        parts.append(f"```python\n{call(f, name)}\n```")
        own = doc_of(f)
        plain = dataclasses.is_dataclass(f) and own.startswith(f"{name}(")
        parts += ["" if plain else own, table(parameter_rows(f))]
    elif isinstance(f, dict):
        parts.append("A table of: " + ", ".join(f"`{key}`" for key in f) + ".")
    else:
        parts.append(f"A constant, `{in_cell(repr(f))}`.")
    if place:
        there = f"{place.page}#{place.anchor}" if place.anchor else place.page
        what = f"{place.title}, *{place.section}*" if place.section else place.title
        parts.append(f"Explained in [{what}]({there}).")
    for part, method in methods(f) if inspect.isclass(f) else ():
        title = f"### `{name}.{part}` {{#{name.lower()}.{part.lower()}}}"
        parts.append(title)
        if isinstance(method, property):
            parts += ["A property.", doc_of(method)]
        else:
            parts += [f"```python\n{call(method, part)}\n```", doc_of(method),
                      table(parameter_rows(method))]
    return "\n\n".join(p for p in parts if p)


def names_of(module: str) -> dict[str, Any]:
    "The public names of a module that are defined there, in order."
    there = importlib.import_module(f"{package}.{module}")
    return {name: getattr(there, name) for name in getattr(there, "__all__", ())}


def page(module: str) -> str:
    "The reference page of a module."
    there = importlib.import_module(f"{package}.{module}")
    about = " ".join((there.__doc__ or "").split())
    known = places().get(module, {})
    entries = [entry(name, f, known.get(name)) for name, f in names_of(module).items()]
    head = f'---\ntitle: "{package}.{module}"\ndescription: {json.dumps(about)}\n---'
    return "\n\n".join([head, *entries])


def modules() -> list[str]:
    "The modules that notebooks export, in their order."
    return [m for m in places() if names_of(m) and not m.startswith("exercises")]


def write(folder: Path) -> list[str]:
    "Write `reference.md` and a page for each module; the names of the files."
    files = {f"ref_{m.replace('.', '_')}.md": page(m) for m in modules()}
    lines = []
    for module in modules():
        there = importlib.import_module(f"{package}.{module}")
        about = " ".join((there.__doc__ or "").split())
        names = ", ".join(f"[`{n}`](ref_{module}.html#{n.lower()})"
                          for n in names_of(module))
        lines.append(f"## [`{module}`](ref_{module}.html) {{#{module}}}\n\n{about}\n\n"
                     f"{names}")
    start = ("---\ntitle: Reference\ndescription: Every public name of the package, "
             "with every parameter, by module.\n---\n\n")
    files["reference.md"] = start + "\n\n".join(lines)
    for name, text in files.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return list(files)


if __name__ == "__main__":
    print(*write(Path(sys.argv[1])), sep="\n")
