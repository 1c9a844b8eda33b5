"The short programs of notebook 90: there are ten, and each is as short as it says."
import re
from pathlib import Path

import nbformat, pytest

nb = nbformat.read(Path(__file__).parent.parent / "nbs" / "90_programs.ipynb", 4)
programs = {m[1]: c.source for c in nb.cells
            if (m := re.match(r"#\| program: (.+)", c.source))}


def test_there_is_one_for_each_thing_that_people_bring():
    assert programs.keys() == {
        "a text model with masks", "an adversarial pair", "a flow posterior",
        "a two-layer model", "a table with gaps", "a DataLoader",
        "labelled beside unlabelled", "a callback", "a logger", "an ONNX file"}


@pytest.mark.parametrize("name", programs)
def test_a_program_has_at_most_fifteen_lines(name):
    lines = [line for line in programs[name].splitlines()[1:] if line.strip()]
    assert 1 < len(lines) <= 15


def test_each_is_run_and_followed_by_what_must_hold():
    "A program whose claim stands further down is followed by its training first."
    sources = [c.source for c in nb.cells if c.cell_type == "code"]
    for i, source in enumerate(sources):
        if source.startswith("#| program"):
            assert any("assert " in after for after in sources[i + 1:i + 3])
    assert not any("eval: false" in source for source in sources)
