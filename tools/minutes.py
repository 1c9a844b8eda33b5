"""How long a lesson takes a reader, by one method for all, written where it is said.

    python tools/minutes.py             write the minutes into the heads of the lessons
    python tools/minutes.py --check     say where they are out of step, and exit with 1

Prose is read at 200 words a minute and visible code at 20 lines a minute; each claim,
figure and question is worth a look. Minutes of the sections marked *Deeper* and of the
exercises are those that they say. What readings took corrects the sum (`pace`)."""
import argparse, re, sys
from pathlib import Path
from typing import NamedTuple

import nbformat

from layers import layer

root = Path(__file__).resolve().parent.parent
words_a_minute, lines_a_minute = 200, 20
looks = 0.15            # minutes for each figure and each question of the quiz
# four readings of the open parts, two of 01 to 05 and two of 06 to 10 and 17, took 155,
# 168, 186 and 269 minutes where the sums gave 95, 95, 115 and 115
pace = 1.85
takes = re.compile(r"\*\*It takes\*\* .*$", re.M)
exercise = re.compile(r"^#+ Exercise \d+.*?\(.*?(\d+) minutes", re.M)
depth = re.compile(r"^(#+) Deeper: .*\((\d+) minutes?\)$", re.M)


class Minutes(NamedTuple):
    "Minutes of a reader, and seconds of a machine."
    short: int
    all: int
    exercises: int
    seconds: int


def count(text: str) -> int:
    "Words of a Markdown text, without its links' addresses and its formulas."
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|<[^>]*>", " ", text, flags=re.S)
    return len(re.findall(r"[^\W\d_][\w'’-]*", text))


def round_up(minutes: float) -> int:
    return max(5, round(minutes / 5 + .25) * 5)


def minutes(nb: nbformat.NotebookNode) -> Minutes:
    "How long a notebook takes; exercises are counted apart."
    short, deep, level, practice = 0.0, 0, 0, False
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for marks, title in re.findall(r"^(#+) +(.*)$", cell.source, re.M):
                if level and len(marks) <= level:
                    level = 0
                if len(marks) <= 2:
                    practice = title.startswith("Exercise")
            if found := depth.search(cell.source):
                level = len(found[1])
                deep += int(found[2])
            if not level and not practice:
                short += count(cell.source) / words_a_minute
                short += looks * len(re.findall(r"<details|!\[", cell.source))
        elif not level and not practice and layer(cell) == "story":
            lines = [line for line in cell.source.splitlines() if line.strip()]
            short += len(lines) / lines_a_minute
            short += looks * any("image/" in str(out.get("data", {}).keys()) or "<img"
                                 in str(out.get("data", {}).get("text/html", ""))
                                 for out in cell.get("outputs", []))
    text = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    practised = sum(map(int, exercise.findall(text)))
    seconds = nb.metadata.get("vae_course", {}).get("seconds", 0)
    whole = round_up(pace * short)
    return Minutes(whole, whole + deep, practised, seconds)


def sentence(m: Minutes) -> str:
    "The line in the head of a lesson."
    more = f", {m.all} with the parts marked *Deeper*" if m.all > m.short else ""
    practice = f"; {m.exercises} for the exercises" if m.exercises else ""
    return f"**It takes** {m.short} minutes (the short way){more}{practice}."


def lessons() -> list[Path]:
    return sorted(p for p in (root / "nbs").glob("*.ipynb")
                  if re.match(r"[01]\d_", p.name))


def readme(said: dict[str, Minutes], check: bool) -> bool:
    "Write the minutes into the table of the README; whether it was out of step."
    path = root / "README.md"
    before = path.read_text(encoding="utf-8")

    def row(found: re.Match) -> str:
        m = said.get(found[2])
        return f"{found[1]} | {m.short} / {m.all} |" if m else found[0]

    lesson = r"^(\| \[[^\]]+\]\(nbs/(\w+\.ipynb)\) \| [^|]+?) \|(?: [\d /]+ \|)?$"
    after = re.sub(lesson, row, before, flags=re.M)
    if not check:
        path.write_text(after, encoding="utf-8")
    return before != after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check, wrong = parser.parse_args().check, 0
    said_of = {}
    for path in lessons():
        nb = nbformat.read(path, 4)
        said_of[path.name] = minutes(nb)
        said, changed = sentence(minutes(nb)), False
        for cell in nb.cells[:6]:
            found = takes.search(cell.source)
            if cell.cell_type == "markdown" and found:
                changed |= found[0] != said
                cell.source = takes.sub(lambda _: said, cell.source)
                break
        else:
            print(f"{path.name}: no line **It takes**")
        print(f"{path.name}: {minutes(nb)}" + " (changed)" * changed)
        wrong += changed
        if changed and not check:
            nbformat.write(nb, path)
    wrong += readme(said_of, check)
    sys.exit(bool(wrong) and check)


if __name__ == "__main__":
    main()
