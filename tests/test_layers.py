"""The three layers of a lesson, read from its cells: every check stands inside a claim
that is a sentence and can fail, imports and drawing code are folded, and JupyterLab is
told what the site folds. Each rule is shown to notice a cell that breaks it."""
import ast, re, sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tools"))
import diagrams    # noqa: E402
import layers      # noqa: E402
import minutes     # noqa: E402

LESSONS = sorted(p for p in (root / "nbs").glob("*.ipynb")
                 if re.match(r"(0\d|1\d)_|index", p.name))
NOTEBOOKS = sorted((root / "nbs").glob("*.ipynb"))
checks = {"expect_fail", "assert_close", "test_eq", "test_ne", "test_close", "test_is",
          "test_fail", "raises"}
longest = 160           # characters of a claim


def code_of(nb):
    "The code cells of a notebook with their trees."
    for cell in nb.cells:
        if cell.cell_type == "code" and not cell.source.startswith("%"):
            yield cell, ast.parse(cell.source)


def called(node):
    "The name of what a call calls."
    f = node.func
    return f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "")


def is_check(node):
    return isinstance(node, ast.Assert) or (isinstance(node, ast.Call)
                                            and called(node) in checks)


def is_claim(node):
    return isinstance(node, ast.With) and any(
        isinstance(item.context_expr, ast.Call)
        and called(item.context_expr) == "claim" for item in node.items)


def checks_outside(nb):
    "Checks that stand outside of a claim."
    found = []

    def look(node, cell):
        if is_claim(node):
            return
        if is_check(node):
            found.append(ast.unparse(node)[:80])
        for child in ast.iter_child_nodes(node):
            look(child, cell)

    for cell, tree in code_of(nb):
        look(tree, cell)
    return found


def sentence_of(node):
    "The sentence of a claim; what an f-string fills in reads as `…`."
    call = next(i.context_expr for i in node.items
                if isinstance(i.context_expr, ast.Call)
                and called(i.context_expr) == "claim")
    said = call.args[0] if call.args else None
    if isinstance(said, ast.Constant):
        return said.value
    if isinstance(said, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…"
                       for part in said.values)
    return ""


def bad_claims(nb):
    "Claims that cannot fail, or that do not read as a sentence."
    found = []
    for _, tree in code_of(nb):
        for node in filter(is_claim, ast.walk(tree)):
            said = sentence_of(node)
            if not any(is_check(part) for stmt in node.body for part in ast.walk(stmt)):
                found.append(f"{said!r} has nothing that can fail")
            # a capital, a symbol or a formula; or a name that has no capital
            reads = re.match(r"[^a-z]|[a-z](?![a-z])|[a-z]+[\d(]|scikit-learn", said)
            if not (reads and said.endswith(".") and len(said.split()) > 3):
                found.append(f"{said!r} does not read as a sentence")
            if len(said) > longest:
                found.append(f"{said!r} has more than {longest} characters")
    return found


def open_evidence(nb):
    "Cells with a claim whose first line is another."
    found = []
    for cell, tree in code_of(nb):
        if any(is_claim(n) for n in ast.walk(tree)) and layers.layer(cell) == "story":
            found.append(cell.source.splitlines()[0])
    return found


def open_imports(nb):
    "Cells of imports that are not folded."
    return [cell.source.splitlines()[-1] for cell, tree in code_of(nb)
            if tree.body and all(isinstance(n, (ast.Import, ast.ImportFrom))
                                 for n in tree.body)
            and not cell.metadata.get("jupyter", {}).get("source_hidden")]


def vague_depths(nb):
    "Headings that go deeper and do not say for how many minutes."
    return [line for cell in nb.cells if cell.cell_type == "markdown"
            for line in re.findall(r"^#+ Deeper\b.*$", cell.source, re.M)
            if not re.match(r"#{2,4} Deeper: .+ \(\d+ minutes?\)$", line)
            or not cell.source.startswith(line)]


RULES = [checks_outside, bad_claims, open_evidence, open_imports, vague_depths]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda f: f.__name__)
def test_a_lesson_keeps_its_layers_apart(path, rule):
    assert rule(nbformat.read(path, 4)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_jupyterlab_is_told_what_is_folded(path):
    nb = nbformat.read(path, 4)
    assert not layers.fold(nb), "run tools/layers.py"


BROKEN = [
    (checks_outside, "x = 1\nassert x"), (checks_outside, "expect_fail(ValueError)"),
    (checks_outside, "torch.testing.assert_close(a, b)"),
    (bad_claims, "with claim('The two are equal.'): print(1)"),
    (bad_claims, "with claim('the two numbers are equal.'): assert 1"),
    (bad_claims, "with claim('The two numbers are equal'): assert 1"),
    (bad_claims, "with claim('It holds.'): assert 1"),
    (bad_claims, f"with claim('It is {'very ' * 40}long.'): assert 1"),
    (open_evidence, "x = 1\nwith claim('The two are always equal.'):\n    assert x"),
    (open_imports, "import torch")]


@pytest.mark.parametrize("rule, source", BROKEN)
def test_a_rule_notices(rule, source):
    assert rule(new_notebook(cells=[new_code_cell(source)]))


def test_a_depth_without_minutes_is_noticed():
    for text in ("## Deeper: why?", "Before.\n\n## Deeper: why? (3 minutes)"):
        assert vague_depths(new_notebook(cells=[new_markdown_cell(text)]))
    right = new_markdown_cell("## Deeper: why? (3 minutes)\n\nSo.")
    assert not vague_depths(new_notebook(cells=[right]))


def test_a_good_cell_is_left_alone():
    sources = ("with claim('The two numbers are equal.'):\n    assert 1 == 1",
               "#| fold imports\nimport torch", "x = 1")
    nb = new_notebook(cells=[new_code_cell(s) for s in sources])
    assert layers.fold(nb) and not layers.fold(nb)
    assert [rule(nb) for rule in RULES] == [[]] * len(RULES)
    assert [layers.layer(c) for c in nb.cells] == ["evidence", "workbench", "story"]


def test_the_diagrams_are_those_of_their_script():
    for name, draw in diagrams.DRAWINGS.items():
        kept = (diagrams.folder / f"{name}.svg").read_text(encoding="utf-8")
        assert kept == draw().svg(), f"{name}: run tools/diagrams.py"


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_opens_with_its_diagram(path):
    name = path.stem if path.stem == "index" else path.stem[:2]
    text = "\n".join(c.source for c in nbformat.read(path, 4).cells[:4])
    found = re.search(r"!\[([^\]]{40,})\]\(assets/diagrams/(\w+)\.svg\)", text)
    assert found and found[2] == name


def test_the_minutes_are_those_of_the_method():
    "In the heads of the lessons and in the README."
    found = {p.name: minutes.minutes(nbformat.read(p, 4)) for p in minutes.lessons()}
    for name, m in found.items():
        text = "\n".join(c.source for c in nbformat.read(root / "nbs" / name, 4).cells)
        assert minutes.sentence(m) in text, f"{name}: run tools/minutes.py"
        assert 10 <= m.short < m.all, f"{name}: {m}"
    assert not minutes.readme(found, check=True), "run tools/minutes.py"
    assert len(found) >= 11


def test_the_short_way_is_short():
    "Words outside of what goes deeper, as a reader meets them."
    for path in minutes.lessons():
        level, words = 0, 0
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type != "markdown":
                continue
            for marks in re.findall(r"^(#+) ", cell.source, re.M):
                level = 0 if level and len(marks) <= level else level
            if found := minutes.depth.search(cell.source):
                level = len(found[1])
            words += 0 if level else minutes.count(cell.source)
        assert 500 < words <= 1800, f"{path.stem}: {words} words in the short way"
