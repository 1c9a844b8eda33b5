"""The reference pages, made from the package: every public name, and a row of its own
with its own words for every parameter."""
import inspect, re, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tools"))
import reference      # noqa: E402

MODULES = reference.modules()


def rows(text):
    "`{parameter: words}` of the table of one entry."
    found = re.findall(r"^\| <code>\**(\w+)</code> \|.*\| ([^|]*(?:\\\|[^|]*)*) \|$",
                       text, re.M)
    return {name: words.strip() for name, words in found}


def entries(text):
    "`{name: what the page says of it}`, methods as `Class.method`."
    parts = re.split(r"^#{2,3} `([\w.]+)` \{#[\w.]+\}$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def missing_rows(found, name, f):
    "Parameters of `f` that have no row of their own, or one without words."
    sign = reference.signature(f)
    wanted = [n for n in (sign.parameters if sign else ()) if n not in ("self", "cls")]
    there = rows(found.get(name, ""))
    return [f"{name}({n})" for n in wanted if not there.get(n)]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_and_parameter_has_its_row(module):
    found, wrong = entries(reference.page(module)), []
    for name, f in reference.names_of(module).items():
        if name not in found:
            wrong.append(name)
            continue
        if inspect.isfunction(f) or inspect.isclass(f):
            wrong += missing_rows(found, name, f)
        for part, method in reference.methods(f) if inspect.isclass(f) else ():
            if not isinstance(method, property):
                wrong += missing_rows(found, f"{name}.{part}", method)
    assert wrong == []


def test_a_page_for_every_module_that_a_notebook_exports(tmp_path):
    names = reference.write(tmp_path)
    assert {f"ref_{m}.md" for m in MODULES} < set(names) and "reference.md" in names
    assert len(MODULES) > 40
    start = (tmp_path / "reference.md").read_text(encoding="utf-8")
    assert all(f"ref_{m}.html" in start for m in MODULES)


def test_what_has_no_words_is_noticed():
    def f(
        a: int, # a number
        b: int,
    ) -> None: ...
    found = {"f": reference.entry("f", f, None)}
    assert missing_rows(found, "f", f) == ["f(b)"]


def test_a_name_leads_to_the_section_that_teaches_it():
    text = reference.page("latent")
    assert re.search(r"Explained in \[01 · .+, \*.+\*\]\(latent\.html#[\w.-]+\)", text)
