"""What holds of the whole package, read from its syntax trees: names, hints, comments,
docstrings, widths, sizes and imports. Each rule is a function from sources to
complaints, and is shown to notice a small module that breaks it."""
import ast, io, json, re, subprocess, sys, tokenize
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
folder = root / "vae_course"
widest = 88             # columns
longest = 250           # lines of code in a room of the workshop
workshop = 70           # notebooks from this number on
# these import what they like
around = {"widgets", "packing", "packing_deep", "live", "live_files", "lesson_parts",
          "lesson_files", "cli", "model_settings", "use", "partly_labelled",
          "speech_files", "named_data", "samples", "diagnosis", "diagnosis_measures",
          "diagnosis_run"}
tables = {"old_names"}  # rooms that are a table, as long as what it lists
allowed = {"torch", "torchvision", "numpy", "matplotlib", "tqdm", "sklearn",
           "safetensors", "vae_course", *sys.stdlib_module_names}
allowed |= {"PIL", "scipy"}         # torchvision and scikit-learn do not work without


def read(path):
    return path.read_text(encoding="utf-8")


MODULES = {".".join(p.relative_to(folder).with_suffix("").parts): read(p)
           for p in sorted(folder.rglob("*.py")) if not p.name.startswith("_")}
NOTEBOOKS = sorted((root / "nbs").glob("*.ipynb"))
SCRIPTS = sorted([root / "setup.py", *(p for name in ("tests", "tools", "bench")
                                       for p in (root / name).rglob("*.py"))])


def code_cells(path):
    "The sources of a notebook's code cells."
    return ["".join(c["source"]) for c in json.loads(read(path))["cells"]
            if c["cell_type"] == "code"]


def exported(path):
    "The module that a notebook exports; None where it exports none."
    for cell in code_cells(path):
        if found := re.match(r"#\|\s*default_exp\s+([\w.]+)", cell):
            return found[1]


ROOMS = [module for path in NOTEBOOKS if (number := re.match(r"\d+", path.name))
         and int(number[0]) >= workshop and (module := exported(path))
         and module not in tables]


# ---------------------------------------------------------------- the rules

def assigned(tree, name):
    "The value that a module gives to a name at its top; an empty list if none."
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return []


def defined_twice(
    modules,        # name: source
):
    "Public names that two modules define."
    homes = {}
    for module, source in modules.items():
        for name in assigned(ast.parse(source), "__all__"):
            homes.setdefault(name, []).append(module)
    return [f"{name}: in {', '.join(places)}" for name, places in homes.items()
            if len(places) > 1]


FUNCTION = ast.FunctionDef, ast.AsyncFunctionDef


def public(source):
    "Public functions, classes, methods and constructors: `(name, node, is method)`."
    tree = ast.parse(source)
    names = assigned(tree, "__all__")
    for node in tree.body:
        if not isinstance(node, (*FUNCTION, ast.ClassDef)) or node.name not in names:
            continue
        yield node.name, node, False
        for part in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(part, FUNCTION) and (part.name == "__init__"
                                               or not part.name.startswith("_")):
                yield f"{node.name}.{part.name}", part, True


def parameters(node, is_method):
    "The parameters of a function, less `self` and `cls`."
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    static = "staticmethod" in map(ast.unparse, node.decorator_list)
    plain = plain[1:] if is_method and not static else plain
    return [p for p in (*plain, a.vararg, *a.kwonlyargs, a.kwarg) if p]


def without_hint(source):
    "Parameters and returns of functions, methods and constructors without a hint."
    found = []
    for name, node, is_method in public(source):
        if isinstance(node, FUNCTION):
            found += [f"{name}({p.arg})" for p in parameters(node, is_method)
                      if not p.annotation]
            found += [f"{name} -> ?"] if not node.returns else []
    return found


def comments(source):
    "Line: the words of the comment on it."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.strip("# ") for t in tokens
            if t.type == tokenize.COMMENT}


def without_docment(source):
    """Parameters that share a line with another, or about which no comment says
    anything, on the line of their name or on lines right above: that is where nbdev's
    tables look for it. Not both: nobody would know what to read first."""
    found, said, text = [], comments(source), source.splitlines()
    def above(line):
        alone = line - 1 in said and text[line - 2].startswith(" ")
        return said[line - 1] if alone and text[line - 2].lstrip()[0] == "#" else ""
    for name, node, is_method in public(source):
        if not isinstance(node, FUNCTION):
            continue
        every = parameters(node, is_method)
        lines = [p.lineno for p in every]
        found += [f"{name}({p.arg}): shares its line" for p in every
                  if lines.count(p.lineno) > 1]
        found += [f"{name}({p.arg}): no comment" for p in every
                  if not said.get(p.lineno) and not above(p.lineno)]
        found += [f"{name}({p.arg}): two comments" for p in every
                  if said.get(p.lineno) and above(p.lineno)]
    return found


def without_docstring(source):
    "Public functions and classes without a docstring."
    return [name for name, node, is_method in public(source)
            if not is_method and not ast.get_docstring(node)]


def too_wide(source, generated=False):
    """Lines of more than 88 columns. In a module, what nbdev writes by itself is left
    out: the docstring, `__all__` and where the module comes from. The end of an address
    may stand outside."""
    left_out = set()
    if generated:
        tree = ast.parse(source)
        for node in tree.body:
            is_all = isinstance(node, ast.Assign) and "__all__" in map(ast.unparse,
                                                                       node.targets)
            if is_all or (node is tree.body[0] and ast.get_docstring(tree)):
                left_out |= {*range(node.lineno, node.end_lineno + 1)}
        left_out |= {i for i, line in enumerate(source.splitlines(), 1)
                     if line.startswith("# AUTOGENERATED! DO NOT EDIT!")}
    return [f"line {i}: {len(line)} columns" for i, line in
            enumerate(source.splitlines(), 1) if len(line) > widest
            and i not in left_out and not re.search(r"https?://\S+$", line)]


def lines_of_code(source):
    "Lines that are not blank, comment, docstring, signature, import or `__all__`."
    tree, left_out = ast.parse(source), set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and body[0].lineno > node.lineno:
            left_out |= {*range(node.lineno, body[0].lineno)}
        if isinstance(node, (*FUNCTION, ast.ClassDef, ast.Module)) and body:
            first = getattr(body[0], "value", None)
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                left_out |= {*range(body[0].lineno, body[0].end_lineno + 1)}
        names = map(ast.unparse, getattr(node, "targets", []))
        if isinstance(node, (ast.Import, ast.ImportFrom)) or "__all__" in names:
            left_out |= {*range(node.lineno, node.end_lineno + 1)}
    return sum(bool(line.strip()) and not line.strip().startswith("#")
               and i not in left_out for i, line in enumerate(source.splitlines(), 1))


def at_import(node):
    "The import statements that run when a module is imported."
    for part in ast.iter_child_nodes(node):
        if isinstance(part, (ast.Import, ast.ImportFrom)):
            yield part
        elif not isinstance(part, (*FUNCTION, ast.Lambda)):
            yield from at_import(part)


def imports_too_much(source):
    "What a core room imports beside the core's libraries, or of the rooms around it."
    found = []
    for node in at_import(ast.parse(source)):
        names = ([a.name for a in node.names] if isinstance(node, ast.Import) else
                 ["vae_course." + (node.module or a.name) for a in node.names]
                 if node.level else [node.module])
        for name in names:
            top, _, rest = name.partition(".")
            inside = top == "vae_course" and rest.split(".")[0] in around
            if top not in allowed or inside:
                found.append(f"line {node.lineno}: {name}")
    return found


# ---------------------------------------------------------------- the package

def test_there_is_something_to_look_at():
    assert {"data", "elbo", "training", "old_names"} <= set(MODULES) and len(ROOMS) >= 7
    assert len(NOTEBOOKS) >= 20 and len(SCRIPTS) >= 40
    assert all(assigned(ast.parse(source), "__all__") for source in MODULES.values())
    assert set(ROOMS) <= set(MODULES) and around & set(MODULES)


def test_no_public_name_is_defined_in_two_modules():
    assert defined_twice(MODULES) == []


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_type_hints(module):
    assert without_hint(MODULES[module]) == []


@pytest.mark.parametrize("module", MODULES)
def test_every_parameter_has_a_line_and_a_comment_of_its_own(module):
    assert without_docment(MODULES[module]) == []


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_and_class_has_a_docstring(module):
    assert without_docstring(MODULES[module]) == []


@pytest.mark.parametrize("module", MODULES)
def test_no_line_of_a_module_is_wider_than_88_columns(module):
    assert too_wide(MODULES[module], generated=True) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_line_of_a_code_cell_is_wider_than_88_columns(path):
    cells = enumerate(code_cells(path))
    assert {i: wide for i, cell in cells if (wide := too_wide(cell))} == {}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_no_line_of_a_script_is_wider_than_88_columns(path):
    assert too_wide(read(path)) == []


@pytest.mark.parametrize("module", ROOMS)
def test_a_room_of_the_workshop_has_at_most_250_lines_of_code(module):
    assert lines_of_code(MODULES[module]) <= longest


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.split(".")[0] not in around])
def test_a_core_room_imports_the_core_s_libraries_alone(module):
    assert imports_too_much(MODULES[module]) == []


@pytest.mark.processes
def test_training_does_not_import_the_acceleration():
    "Who trains plainly reads, imports and pays for plain training alone."
    assert "acceleration" in MODULES
    code = ("import sys, vae_course.training\n"
            "print([m for m in sys.modules if m.endswith('acceleration')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True,
                          encoding="utf-8", cwd=root)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


# ---------------------------------------------------------------- the rules notice

RIGHT = f'''"""A room. {"What nbdev writes may be wide. " * 3}"""
__all__ = ['ways_to_say_it', 'Room', {", ".join(repr("x" * n) for n in range(1, 30))}]
''' + '''
def ways_to_say_it(
    x: int,             # how many
    *more: int,         # of each
    of: str = '',       # which
) -> list[str]:
    "What is said."
    from pandas import DataFrame
    return [DataFrame()]

class Room:
    "A room."
    def __init__(
        self,
        x: int,         # square metres
    ) -> None:
        self.x = x

    @staticmethod
    def of(
        y: int,         # square feet
    ) -> 'Room':
        return Room(y)

    def _clean(self, x, y): return x

    def double(self) -> int: return 2 * self.x

def _helper(a, b): return a
'''


def notices(rule, old, new, words):
    "Whether a rule has nothing against `RIGHT`, and says `words` once it is changed."
    assert RIGHT.count(old) >= 1 and rule(RIGHT) == []
    return words in rule(RIGHT.replace(old, new, 1))


@pytest.mark.parametrize("rule, old, new, words", [
    (without_hint, "x: int,             # how", "x,  # how", "ways_to_say_it(x)"),
    (without_hint, "*more: int", "*more", "ways_to_say_it(more)"),
    (without_hint, "of: str = ''", "of=''", "ways_to_say_it(of)"),
    (without_hint, ") -> list[str]:", "):", "ways_to_say_it -> ?"),
    (without_hint, ") -> None:", "):", "Room.__init__ -> ?"),
    (without_hint, "x: int,         # sq", "x,  # sq", "Room.__init__(x)"),
    (without_hint, "y: int", "y", "Room.of(y)"),
    (without_hint, "def double(self) -> int", "def double(self)", "Room.double -> ?"),
    (without_docment, "# how many", "", "ways_to_say_it(x): no comment"),
    (without_docment, ",         # of each\n    of", ", of",
     "ways_to_say_it(of): shares its line"),
    (without_docment, "# of each", "", "ways_to_say_it(more): no comment"),
    (without_docment, "    x: int,             # how", "    # a\n    x: int,   # how",
     "ways_to_say_it(x): two comments"),
    (without_docment, "# square metres", "", "Room.__init__(x): no comment"),
    (without_docment, "# square feet", "", "Room.of(y): no comment"),
    (without_docstring, '    "What is said."\n', "", "ways_to_say_it"),
    (without_docstring, '    "A room."\n', "", "Room"),
    (imports_too_much, "\ndef way", "\nimport pandas\ndef way", "line 4: pandas"),
    (imports_too_much, "\ndef way", "\nfrom .widgets import x\ndef way",
     "line 4: vae_course.widgets"),
    (imports_too_much, "\ndef way", "\nfrom . import live\ndef way",
     "line 4: vae_course.live"),
    (imports_too_much, "\ndef way", "\ntry: import mlxtend\nfinally: pass\ndef way",
     "line 4: mlxtend"),
    (lambda source: too_wide(source, True), "self.x = x", f"self.x = {'x' * 80}",
     "line 19: 97 columns"),
], ids=lambda v: getattr(v, "__name__", None) or str(v)[:30].strip())
def test_a_rule_notices(rule, old, new, words):
    assert notices(rule, old, new, words)


def test_a_name_in_two_modules_is_noticed():
    assert defined_twice(dict(a="__all__ = ['x', 'y']", b="__all__ = ['z']")) == []
    assert defined_twice(dict(a="__all__ = ['x', 'y']", b="__all__ = ['x']")) == [
        "x: in a, b"]


def test_what_nbdev_writes_is_wide_in_a_module_alone():
    assert too_wide(RIGHT, generated=True) == []
    assert len(too_wide(RIGHT)) == 2
    origin = f"# AUTOGENERATED! DO NOT EDIT! File to edit: {'x' * 80}"
    assert too_wide(origin, generated=True) == [] != too_wide(origin)
    assert too_wide(f"# {origin}", generated=True) != []
    assert too_wide(f"# {'x' * 80} https://example.org/{'x' * 80}") == []


def test_lines_of_code_are_counted_as_they_are_read():
    assert lines_of_code(RIGHT) == 7
    assert lines_of_code(RIGHT + "x = 1\n\n# a remark\nimport os\n") == 8
    assert lines_of_code("def f():\n    '''Long\n    words.'''\n    return 1\n") == 1


@pytest.mark.parametrize("path", sorted((root / "nbs").glob("*.ipynb")),
                         ids=lambda p: p.stem)
def test_a_stored_output_names_no_folder_of_a_machine(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = json.dumps([c.get("outputs", []) for c in cells])
    assert not re.search(r"/(root|home|Users|tmp)/", shown)
