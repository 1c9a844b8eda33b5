"""The page of common errors, read from the sections *What can go wrong* of the lessons:
every message that they show on purpose, with its cause and cure, and the mistakes that
raise nothing.

    python tools/errors.py FOLDER    write errors.md there; `make docs` does it"""
import re, sys
from pathlib import Path
from typing import NamedTuple

import nbformat

from layers import layer

root = Path(__file__).resolve().parent.parent
lead = re.compile(r"^\*\*(.+?)\*\*\s*(.*)", re.S)


class Mistake(NamedTuple):
    "A mistake: what it is called, cause and cure, its code, what it shows."
    name: str
    words: str
    code: str
    shown: str
    raises: bool


def printed(cell: nbformat.NotebookNode) -> str:
    "What a cell printed."
    return "".join(out.get("text", "") for out in cell.get("outputs", [])
                   if out.output_type == "stream").strip()


def mistakes(nb: nbformat.NotebookNode) -> list[Mistake]:
    "The mistakes that a lesson shows."
    found, on, name, words = [], False, "", ""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"\n\n+", cell.source):
                if re.match(r"## ", part):
                    on = part.startswith("## What can go wrong")
                elif on and (match := lead.match(part.strip())):
                    name, words = match[1].rstrip("."), " ".join(match[2].split())
                    found.append(Mistake(name, words, "", "", False))
        elif on and name and layer(cell) == "story" and (shown := printed(cell)):
            raises = bool(re.search(r"^\s*except\b", cell.source, re.M))
            found[-1] = Mistake(name, words, cell.source, shown, raises)
    return found


def lessons() -> list[Path]:
    return sorted(p for p in (root / "nbs").glob("*.ipynb")
                  if re.match(r"[01]\d_", p.name))


def block(kind: str, text: str) -> str:
    return f"```{kind}\n{text}\n```"


def page() -> str:
    "The page."
    loud: list[str] = []
    silent: list[str] = []
    for path in lessons():
        nb = nbformat.read(path, 4)
        title = re.search(r"^# (.+)$", nb.cells[0].source, re.M)
        name = re.sub(r"^\d+\w?_", "", path.stem)
        link = (f"[{path.name[:2]} · {title[1] if title else path.stem}]"
                f"({name}.html#what-can-go-wrong)")
        for m in mistakes(nb):
            parts = [f"### {m.name}", m.words, m.code and block("python", m.code),
                     m.shown and block("text", m.shown), f"From {link}."]
            (loud if m.raises else silent).append("\n\n".join(p for p in parts if p))
    head = ("---\ntitle: Common errors\ndescription: Every message that the lessons "
            "show on purpose, with its cause and its cure, and the mistakes that raise "
            "nothing.\n---\n\nSearch this page for a part of the message that you got "
            "(Ctrl+F).\n\n")
    return (head + "## Errors with a message\n\n" + "\n\n".join(loud)
            + "\n\n## Mistakes that raise nothing\n\n" + "\n\n".join(silent) + "\n")


def write(folder: Path) -> None:
    (folder / "errors.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
