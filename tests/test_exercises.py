"""Every exercise of every lesson: the untouched blank passes, the folded solution is
right, planted wrong answers are named.

Blank, check and solution are read from the notebook itself: what the reader sees is
what is proved. What was collected is compared with what is there, counted another way,
so that an exercise that is written differently is missed by none of them."""
import ast, importlib, re, runpy, subprocess, sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch

from vae_course.exercises.verdicts import WrongAnswer

here = Path(__file__).parent
folder = here.parent / "nbs"
modules = folder.parent / "vae_course"
heading = re.compile(r"^ {0,3}#{1,6}\s+Exercise\s+(\d+)\b.*$", re.M)
rooms = sorted(p.stem for p in (modules / "exercises").glob("[a-z]*.py")
               if p.stem != "verdicts")
places = [(name, room) for room in rooms
          for name in importlib.import_module(f"vae_course.exercises.{room}").__all__]
checks = sorted(name for name, _ in places)


def imports(nb):
    """What a blank and its solution may use: the notebook's import cells, and what the
    lesson itself exports."""
    def only_imports(source):
        try:
            body = ast.parse(source).body
        except SyntaxError:
            return False
        return bool(body) and all(isinstance(node, (ast.Import, ast.ImportFrom))
                                  for node in body)

    code = [c.source for c in nb.cells if c.cell_type == "code"]
    room = [re.search(r"^#\|\s*default_exp\s+([\w.]+)", source, re.M)
            for source in code]
    return "\n".join([s for s in code if only_imports(s)]
                     + [f"from vae_course.{r[1]} import *" for r in room if r])


def pieces(nb):
    """Cells of a notebook as `(kind, source)`, a text cell cut before each heading of
    an exercise."""
    for c in nb.cells:
        cuts = ([m.start() for m in heading.finditer(c.source)]
                if c.cell_type == "markdown" else [])
        edges = [0, *(cut for cut in cuts if cut), len(c.source)]
        for start, end in zip(edges, edges[1:]):
            yield c.cell_type, c.source[start:end]


def called(check):
    "Name of the check that a cell calls."
    return re.search(r"\b(check_\w+)\(", check)[1]


def exercises(path):
    """`(title, blank, check, solution)` of each exercise in a notebook, and the code
    that its names come from."""
    nb = nbformat.read(path, 4)
    parts = list(pieces(nb))
    starts = [i for i, (kind, source) in enumerate(parts)
              if kind == "markdown" and heading.match(source)]
    for start, end in zip(starts, starts[1:] + [len(parts)]):
        title = parts[start][1].splitlines()[0].lstrip("# ")
        code = [source for kind, source in parts[start:end] if kind == "code"]
        text = [source for kind, source in parts[start:end] if kind == "markdown"]
        folded = [t for t in text if "<summary>Solution</summary>" in t]
        hints = [t for t in text if "<summary>Hint</summary>" in t]
        assert len(code) >= 2 and len(folded) == 1 and hints, (
            f"{path.name}, {title}: needs a blank, a check, a hint and a solution")
        solution = re.search(r"```python\n(.*?)```", folded[0], re.S)
        assert solution, f"{path.name}, {title}: the solution has no ```python block"
        yield title, code[0], code[1], solution[1], imports(nb)


lessons = sorted(p for p in folder.glob("[0-6][0-9]_*.ipynb"))
every = [(p.stem, *e) for p in lessons for e in exercises(p)]
ids = [f"{lesson}-{title[:40]}" for lesson, title, *_ in every]


def verdict(names, answer, check):
    """Run an answer and the check's last line as the notebook does; return what it
    displays."""
    space = {}
    exec(names, space)
    exec(answer, space)
    body = ast.parse(check).body
    exec(compile(ast.Module(body[:-1], []), "check", "exec"), space)
    return eval(compile(ast.Expression(body[-1].value), "check", "eval"), space)


def planted(number):
    "Every planted wrong answer of a lesson, from `wrong_answers/lesson_NN.py`."
    return runpy.run_path(str(here / "wrong_answers" / f"lesson_{number}.py"))["WRONG"]


def defined_twice(source):
    """Names of the functions and classes that Python code defines more than once at its
    top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    count = Counter(node.name for node in ast.parse(source).body
                    if isinstance(node, kinds))
    return sorted(name for name, n in count.items() if n > 1)


@pytest.mark.parametrize("lesson", [p.stem for p in lessons])
def test_a_lesson_has_three_exercises(lesson):
    assert sum(e[0] == lesson for e in every) >= 3


@pytest.mark.parametrize("path", lessons, ids=lambda p: p.stem)
def test_every_exercise_that_is_there_was_collected(path):
    cells = nbformat.read(path, 4).cells
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    code = "\n".join(c.source for c in cells if c.cell_type == "code")
    mine = [e for e in every if e[0] == path.stem]
    # however it is set: any level, bold, or neither
    headings = re.findall(r"^\W*exercise\W*(\d+)\b", text, re.M | re.I)
    assert headings == [str(n + 1) for n in range(len(mine))], (
        f"{path.name} has the exercises {headings}; {len(mine)} were collected")
    assert text.count("<summary>Solution</summary>") == len(mine)
    calls = [name for name in re.findall(r"\b(check_\w+)\(", code) if name in checks]
    assert calls == [called(check) for _, _, _, check, _, _ in mine], (
        "a check is called outside of an exercise, or an exercise calls none")


def lesson_room(path):
    "The module that a lesson exports to."
    code = "\n".join(c.source for c in nbformat.read(path, 4).cells
                     if c.cell_type == "code")
    return re.search(r"^#\|\s*default_exp\s+([\w.]+)", code, re.M)[1]


def test_a_check_is_defined_once():
    assert (len(checks) == len(set(checks)) >= 45
            and all(name.startswith("check_") for name in checks))


def test_each_lesson_has_a_module_of_checks():
    assert sorted(map(lesson_room, lessons)) == rooms


@pytest.mark.parametrize("path", lessons, ids=lambda p: p.stem)
def test_a_lesson_finds_its_own_checks(path):
    """Its exercises, in their order, are those of its module; it imports them from
    there, and no others."""
    mine = [called(check) for lesson, _, _, check, _, _ in every if lesson == path.stem]
    room = f"vae_course.exercises.{lesson_room(path)}"
    module = importlib.import_module(room)
    assert mine == module.__all__
    for number, check in enumerate(mine, 1):
        assert getattr(module, check).__doc__.startswith(
            f"Lesson {path.stem[:2]}, exercise {number}: ")
    imported = [
        (node.module, name.name)
        for node in ast.parse(imports(nbformat.read(path, 4))).body
        if isinstance(node, ast.ImportFrom) and "vae_course.exercises" in node.module
        for name in node.names]
    assert sorted(imported) == sorted((room, check) for check in mine)


@pytest.mark.parametrize("room", rooms)
def test_a_module_of_checks_imports_no_other(room):
    code = (f"import sys, vae_course.exercises.{room}; print(*sorted(m for m in "
            "sys.modules if m.startswith('vae_course')))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True,
                          encoding="utf-8")
    assert done.stdout.split() == sorted(
        ["vae_course", "vae_course.exercises", f"vae_course.exercises.{room}",
         "vae_course.exercises.verdicts", "vae_course.old_names",
         "vae_course.progress"]), done.stderr


@pytest.mark.parametrize("path", sorted(folder.glob("99*_exercises*.ipynb")),
                         ids=lambda p: p.stem)
def test_checks_can_be_read(path):
    "No line of a check is wider than 88 columns, and a module of them has at most 250."
    lines = [line for c in nbformat.read(path, 4).cells if re.match(
        r"#\|\s*exports?\b", c.source) for line in c.source.splitlines()]
    assert [line for line in lines if len(line) > 88] == [] and 50 < len(lines) <= 250


def test_every_check_belongs_to_one_exercise():
    used = Counter(called(check) for _, _, _, check, _, _ in every)
    assert used == Counter(checks)


def test_every_planted_answer_belongs_to_an_exercise():
    files = {p.stem.removeprefix("lesson_")
             for p in (here / "wrong_answers").glob("*.py")}
    assert files == {p.stem[:2] for p in lessons}
    for number in sorted(files):
        mine = {called(check) for lesson, _, _, check, _, _ in every
                if lesson.startswith(number)}
        assert {name for name, _, _ in planted(number)} == mine, (
            f"lesson_{number}.py and the exercises of lesson {number} differ")


@pytest.mark.parametrize(
    "cell", ["### Exercise 1. A\n\nDo.",
             "Before.\n\n## Exercises\n\n### Exercise 1. A\n\nDo.", "#### Exercise 1"])
def test_a_heading_is_found_wherever_it_stands(cell, tmp_path):
    new = nbformat.v4
    folded = ("<summary>Hint</summary>\n\n<summary>Solution</summary>\n\n```python\n"
              "def f(): return {}\n```")
    text, code = new.new_markdown_cell, new.new_code_cell
    cells = [text(cell), code("def f(): ..."), code("check_f(f)"),
             text(folded.format(1)), text("Between.\n\n### Exercise 2. B"),
             code("def g(): ..."), code("check_g(g)"), text(folded.format(2))]
    path = tmp_path / "99_x.ipynb"
    nbformat.write(new.new_notebook(cells=cells), path)
    found = [(check, solution) for _, _, check, solution, _ in exercises(path)]
    assert found == [("check_f(f)", "def f(): return 1\n"),
                     ("check_g(g)", "def f(): return 2\n")]


@pytest.mark.parametrize("path", sorted(modules.rglob("*.py")),
                         ids=lambda p: p.relative_to(modules).as_posix())
def test_no_module_defines_a_name_twice(path):
    assert not defined_twice(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(folder.glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_notebook_exports_a_name_twice(path):
    cells = nbformat.read(path, 4).cells
    assert not defined_twice("\n".join(
        c.source for c in cells
        if c.cell_type == "code" and re.search(r"^#\|\s*exports?\b", c.source, re.M)))


def test_a_name_defined_twice_is_noticed():
    assert defined_twice(
        "def a(): 1\nclass b: 2\ndef a(): 3\nclass c:\n    def a(self): 4") == ["a"]


@pytest.mark.parametrize("lesson,title,blank,check,solution,names", every, ids=ids)
def test_a_blank_is_not_attempted(lesson, title, blank, check, solution, names):
    assert "not attempted yet" in str(verdict(names, blank, check)).lower()


@pytest.mark.parametrize("lesson,title,blank,check,solution,names", every, ids=ids)
def test_the_solution_is_right(lesson, title, blank, check, solution, names):
    assert str(verdict(names, solution, check)).lower().startswith("correct")


@pytest.mark.parametrize("lesson,title,blank,check,solution,names", every, ids=ids)
def test_wrong_answers_are_named(lesson, title, blank, check, solution, names):
    wrong = [(code, message) for name, code, message in planted(lesson[:2])
             if name == called(check)]
    assert len(wrong) >= 2, f"{called(check)} needs two planted wrong answers"
    messages = []
    for answer, fragment in wrong:
        with pytest.raises(WrongAnswer) as caught:
            verdict(names, answer, check)
        messages.append(str(caught.value))
        assert fragment in messages[-1], (
            f"{called(check)} says {messages[-1]!r}, which lacks {fragment!r}")
    assert len(set(messages)) >= 2, (
        f"{called(check)} gives every wrong answer the same message")


# what `spoiled` has given since it was cleared: proof that the check saw a spoiled
# answer
answers = []


def of_an_exception(wrong):
    """Whether a `WrongAnswer` tells of an exception in the learner's function, and not
    of what it returned."""
    return wrong.__cause__ is not None


def spoiled(answer, spoil):
    "An answer with every number in it spoiled, whatever it is made of."
    answers.append(answer)
    if isinstance(answer, (tuple, list)):
        return type(answer)(spoiled(v, spoil) for v in answer)
    if hasattr(answer, "log_prob"):
        return SimpleNamespace(sample=answer.sample,
                               log_prob=lambda z: spoil(answer.log_prob(z)))
    if callable(answer):
        return lambda *args: spoiled(answer(*args), spoil)
    return not answer if isinstance(answer, bool) else spoil(answer)


@pytest.mark.parametrize("spoil", ["lambda v: v * float('nan')", "lambda v: 2 * v + 1"],
                         ids=["NaN", "another number"])
@pytest.mark.parametrize("lesson,title,blank,check,solution,names", every, ids=ids)
def test_spoiled_numbers_are_wrong(lesson, title, blank, check, solution, names, spoil):
    function = re.search(called(check) + r"\((\w+)\)", check)[1]
    answer = (f"{solution}\nright = {function}\n\ndef {function}(*args, **kwargs): "
              f"return spoiled(right(*args, **kwargs), {spoil})\n")
    answers.clear()
    with pytest.raises(WrongAnswer) as caught:
        verdict(names + "\nfrom test_exercises import spoiled", answer, check)
    assert answers and not of_an_exception(caught.value)


@pytest.mark.parametrize("answer", [None, print, "x", 0.123, torch.full((3, 2), 0.7)],
                         ids=["None", "function", "text", "number", "table"])
@pytest.mark.parametrize("name, room", places, ids=lambda v: v)
def test_an_answer_of_another_kind_is_a_wrong_answer(name, room, answer):
    calls = []

    def learner(*args, **kwargs):
        calls.append(args)
        return answer

    with pytest.raises(WrongAnswer) as caught:
        getattr(importlib.import_module(f"vae_course.exercises.{room}"), name)(learner)
    assert calls and not of_an_exception(caught.value)
