"""Names of version 0.1.0: each is where it was, or the error says where it is now."""
import importlib, json, subprocess, sys, types
from pathlib import Path

import pytest

import vae_course
from vae_course import old_names

here = Path(__file__).resolve().parent
file = here / "files" / "names-0.1.0.json"
OLD = json.loads(file.read_text(encoding="utf-8"))      # module: its public names
PUBLIC = [f"{module}.{name}" for module, names in OLD.items() for name in names]


def asked_for(old):
    "What `from vae_course.module import name` gives: nothing, or the error's text."
    module, _, name = old.rpartition(".")
    try:
        exec(f"from vae_course.{module} import {name}", {})
    except ImportError as e:
        return str(e)


def is_there(new):
    "Whether a new name can be imported."
    module, _, name = new.rpartition(".")
    return hasattr(importlib.import_module(f"vae_course.{module}"), name)


def problem(old):
    "What is wrong with how a name of version 0.1.0 is met today; or nothing."
    text = asked_for(old)
    if text is None:
        return
    new, name = old_names.NAMES.get(old), old.rpartition(".")[2]
    if new is None:
        return f"{old} is gone and not in the table: {text}"
    if new.startswith("none:"):
        said = new.removeprefix("none:").strip()
        return None if said and said in text else f"{old}: {text} lacks {said!r}"
    place, _, now = new.rpartition(".")
    if not is_there(new):
        return f"{old}: {new} cannot be imported"
    whole, listed = f"vae_course.{new}", f"  from vae_course.{place} import "
    lines = [line for line in text.splitlines() if line.startswith(listed)]
    shown = name if name == now else f"{now} (was {name})"
    entries = [e for line in lines for e in line.removeprefix(listed).split(", ")]
    return None if whole in text or shown in entries else f"{old}: {text} lacks {new}"


def test_the_frozen_list_is_that_of_version_0_1_0():
    assert len(PUBLIC) == len(set(PUBLIC)) == 498 and len(OLD) == 18
    assert "engine.fit" not in PUBLIC and "training.fit" in PUBLIC
    assert {"engine.save_checkpoint", "evaluation.nll", "cli.main"} <= set(PUBLIC)


@pytest.mark.parametrize("module", OLD)
def test_every_public_name_of_0_1_0_is_there_or_its_error_names_the_new_one(module):
    wrong = [p for name in OLD[module] if (p := problem(f"{module}.{name}"))]
    assert not wrong, "\n".join(wrong)


def test_the_table_is_about_names_that_were_public_and_leads_to_names_that_are_there():
    assert set(old_names.NAMES) <= set(PUBLIC)
    news = [n for n in old_names.NAMES.values() if not n.startswith("none:")]
    assert [n for n in news if not is_there(n)] == []
    assert all(n.removeprefix("none:").strip() for n in old_names.NAMES.values())


# ---------------------------------------------------------------- the mechanism itself

@pytest.fixture
def rooms(monkeypatch):
    "A made-up module that lost names, a made-up one that is gone, and their table."
    made = types.ModuleType("vae_course.rooms")
    made.here = 1
    monkeypatch.setitem(sys.modules, made.__name__, made)
    table = {"rooms.old": "elbo.mlp_vae", "rooms.out": "none: use `len`",
             "rooms.helper": "elbo._helper", "barn.door": "elbo.mlp_vae",
             "barn.conv_vae": "elbo.conv_vae", "barn.hay": "none: buy some"}
    monkeypatch.setattr(old_names, "NAMES", table)
    old_names.redirect_old_names(made.__name__)
    return made


MESSAGES = {
    "rooms.old": "vae_course.rooms.old moved in 0.2.0: use vae_course.elbo.mlp_vae",
    "rooms.out": "vae_course.rooms.out was removed in 0.2.0: use `len`",
    "rooms.helper": "vae_course.rooms.helper is internal since 0.2.0: "
                    "vae_course.elbo._helper",
    "barn.door": "vae_course.barn is gone since 0.2.0. In its place:\n"
                 "  from vae_course.elbo import conv_vae, mlp_vae (was door)\n"
                 "  hay was removed: buy some"}


@pytest.mark.parametrize("old", MESSAGES)
def test_a_name_that_moved_is_an_import_error_with_the_new_name(rooms, old):
    assert asked_for(old) == MESSAGES[old]


def test_a_module_that_is_gone_is_an_import_error_with_its_names_in_their_places(rooms):
    for line in ("import vae_course.barn", "from vae_course import barn"):
        with pytest.raises(ImportError) as e:
            exec(line, {})
        assert str(e.value) == MESSAGES["barn.door"] and e.value.name.endswith(".barn")


def test_what_never_was_is_python_s_own_error(rooms):
    assert rooms.here == 1 and not hasattr(rooms, "never")
    with pytest.raises(AttributeError, match="'vae_course.rooms' has no attribute"):
        rooms.never     # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'never'"):
        exec("from vae_course.rooms import never", {})
    with pytest.raises(ModuleNotFoundError, match="No module named 'vae_course.never'"):
        exec("import vae_course.never", {})
    with pytest.raises(ModuleNotFoundError, match="No module named 'barn'"):
        exec("import barn", {})         # of no package: not ours to explain


def test_a_name_that_left_a_package_is_explained(monkeypatch):
    "`from package import name` looks for a module `package.name`, and meets the table."
    made = types.ModuleType("vae_course.house")
    made.__path__ = []
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr(old_names, "NAMES", {"house.door": "elbo.mlp_vae"})
    assert asked_for("house.door") == ("vae_course.house.door moved in 0.2.0: "
                                       "use vae_course.elbo.mlp_vae")


@pytest.mark.parametrize("table, words", [
    ({}, "is gone and not in the table"),
    ({"rooms.lost": "elbo.nowhere"}, "elbo.nowhere cannot be imported"),
    ({"rooms.lost": "none: "}, "lacks ''"),
], ids=["no entry", "no such name", "no word"])
def test_the_check_above_notices(rooms, monkeypatch, table, words):
    monkeypatch.setattr(old_names, "NAMES", table)
    assert words in problem("rooms.lost")


def test_the_check_above_notices_a_module_that_is_silent(rooms, monkeypatch):
    monkeypatch.setattr(old_names, "NAMES", {"rooms.lost": "elbo.mlp_vae"})
    assert problem("rooms.lost") is None
    del rooms.__getattr__
    assert "lacks elbo.mlp_vae" in problem("rooms.lost")


@pytest.mark.processes
def test_a_fresh_python_says_it_too():
    "Before anything else of the package was imported; `import vae_course` is enough."
    code = ("import vae_course, sys\n"
            "sys.modules['vae_course.old_names'].NAMES['barn.door'] = 'elbo.mlp_vae'\n"
            "import vae_course.barn")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True,
                          encoding="utf-8", cwd=here.parent)
    assert done.returncode == 1 and done.stderr.endswith(
        "ImportError: vae_course.barn is gone since 0.2.0. In its place:\n"
        "  from vae_course.elbo import mlp_vae (was door)\n")


def test_the_package_has_the_version_that_its_messages_name():
    assert vae_course.__version__.split(".")[:2] == old_names.VERSION.split(".")[:2]
