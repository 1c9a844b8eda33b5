"""Every exercise of every lesson: the untouched blank passes, the folded solution is right, planted wrong answers are named.

Blank, check and solution are read from the notebook itself: what the reader sees is what is proved."""
import ast, re, runpy
from pathlib import Path

import nbformat
import pytest

from vae_course.exercises import WrongAnswer

here = Path(__file__).parent
folder = here.parent / "nbs"


def imports(nb):
    "The import cells of a notebook: the names that a blank and its solution may use."
    def only_imports(source):
        try:
            body = ast.parse(source).body
        except SyntaxError:
            return False
        return bool(body) and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body)

    return "\n".join(c.source for c in nb.cells if c.cell_type == "code" and only_imports(c.source))


def exercises(path):
    "`(title, blank, check, solution)` of each exercise in a notebook, and its imports."
    nb = nbformat.read(path, 4)
    starts = [i for i, c in enumerate(nb.cells) if c.cell_type == "markdown" and re.match(r"#+\s*Exercise\s+\d", c.source)]
    for start, end in zip(starts, starts[1:] + [len(nb.cells)]):
        cells = nb.cells[start + 1:end]
        code = [c.source for c in cells if c.cell_type == "code"]
        folded = [c.source for c in cells if c.cell_type == "markdown" and "<summary>Solution</summary>" in c.source]
        hints = [c for c in cells if c.cell_type == "markdown" and "<summary>Hint</summary>" in c.source]
        title = nb.cells[start].source.splitlines()[0].lstrip("# ")
        assert len(code) >= 2 and len(folded) == 1 and hints, f"{path.name}, {title}: needs a blank, a check, a hint and a solution"
        solution = re.search(r"```python\n(.*?)```", folded[0], re.S)
        assert solution, f"{path.name}, {title}: the solution has no ```python block"
        yield title, code[0], code[1], solution[1], imports(nb)


lessons = sorted(p for p in folder.glob("[0-8][0-9]_*.ipynb"))
every = [(p.stem, *e) for p in lessons for e in exercises(p)]
ids = [f"{lesson}-{title[:40]}" for lesson, title, *_ in every]


def verdict(names, answer, check):
    "Run an answer and the check's last line as the notebook does; return what it displays."
    space = {}
    exec(names, space)
    exec(answer, space)
    body = ast.parse(check).body
    exec(compile(ast.Module(body[:-1], []), "check", "exec"), space)
    return eval(compile(ast.Expression(body[-1].value), "check", "eval"), space)


def called(check):
    "Name of the check that a cell calls."
    return re.search(r"(check_\w+)\(", check)[1]


def wrong_answers(lesson, check):
    "Planted wrong answers to one check, from `wrong_answers/lesson_LL.py`."
    path = here / "wrong_answers" / f"lesson_{lesson[:2]}.py"
    return [(code, message) for name, code, message in runpy.run_path(str(path))["WRONG"] if name == called(check)]


@pytest.mark.parametrize("lesson", [p.stem for p in lessons])
def test_a_lesson_has_three_exercises(lesson):
    assert sum(e[0] == lesson for e in every) >= 3


@pytest.mark.parametrize("lesson,title,blank,check,solution,names", every, ids=ids)
def test_a_blank_is_not_attempted(lesson, title, blank, check, solution, names):
    assert "not attempted yet" in str(verdict(names, blank, check)).lower()


@pytest.mark.parametrize("lesson,title,blank,check,solution,names", every, ids=ids)
def test_the_solution_is_right(lesson, title, blank, check, solution, names):
    assert str(verdict(names, solution, check)).lower().startswith("correct")


@pytest.mark.parametrize("lesson,title,blank,check,solution,names", every, ids=ids)
def test_wrong_answers_are_named(lesson, title, blank, check, solution, names):
    planted = wrong_answers(lesson, check)
    assert len(planted) >= 2, f"{called(check)} needs two planted wrong answers"
    messages = []
    for answer, fragment in planted:
        with pytest.raises(WrongAnswer) as caught:
            verdict(names, answer, check)
        messages.append(str(caught.value))
        assert fragment in messages[-1], f"{called(check)} says {messages[-1]!r}, which lacks {fragment!r}"
    assert len(set(messages)) >= 2, f"{called(check)} gives every wrong answer the same message"
