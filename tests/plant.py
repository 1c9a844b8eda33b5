"""Run notebooks from top to bottom and say which cell failed: the tool of
`test_planted_errors.py`.

    python plant.py FOLDER:NOTEBOOK …     (with `nbs/` and `vae_course/` in FOLDER)

Jobs that differ from the course in one cell of the notebook itself share what comes
before it: the course's own notebook runs, and at that cell a fork goes on with the
error. Where the fork notices nothing, and for every other job, the whole notebook runs
in FOLDER. Two processes at a time. Each job leaves FOLDER/result.json: null when every
cell ran, or the failing cell, its error and its message."""
import json, os, re, sys, traceback
from pathlib import Path

# shared by the forks
import fastcore.test, sklearn.decomposition, sklearn.metrics    # noqa: F401
import torch, torch.distributions, torchvision                  # noqa: F401
from execnb.nbio import read_nb
from execnb.shell import CaptureShell

root = Path(__file__).resolve().parent.parent
checks = "ClaimFailed", "AssertionError", "WrongAnswer", "NonFiniteLoss"



def code_cells(folder, notebook):
    "Sources of the cells that run."
    return [cell.source for cell in read_nb(folder / "nbs" / notebook).cells
            if cell.cell_type == "code"
            and not re.search(r"^#\|\s*eval:\s*false", cell.source, re.M)]


def enter(folder, notebook):
    "A shell in which `vae_course` is the one of a folder."
    sys.path.insert(0, str(folder))
    os.chdir(folder / "nbs")
    import vae_course
    assert Path(vae_course.__file__).is_relative_to(folder), (
        f"runs {vae_course.__file__}, and not the one of {folder}")
    return CaptureShell(folder / "nbs" / notebook)


def first_failure(shell, cells):
    "The first of some cells that fails, as a dict, or None."
    for source in cells:
        shell.run(source)
        if shell.exc:
            return {"cell": source, "error": type(shell.exc).__name__,
                    "message": str(shell.exc)[:300]}


def fork(work):
    "`work` in a fork of this process: its number."
    if child := os.fork():
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(child):
    "Until a fork has ended."
    os.waitpid(child, 0)


def keep(folder, found):
    "What a job has found, as JSON."
    (folder / "result.json").write_text(json.dumps(found), encoding="utf-8")


def whole(folder, notebook):
    "A job by itself, from the first cell on."
    keep(folder, first_failure(enter(folder, notebook), code_cells(folder, notebook)))


def from_cell(shell, folder, cells, at):
    "A job from its own cell on; only what a check notices is kept."
    exported = re.search(r"^#\|\s*exports?\b", cells[at], re.M)
    name = re.search(r"^#\|\s*default_exp\s+([\w.]+)", "\n".join(cells), re.M)
    module = sys.modules.get(f"vae_course.{name[1]}") if name and exported else None
    if module:       # other rooms look the planted names up there
        exec(compile(cells[at], module.__file__, "exec"), vars(module))
    found = first_failure(shell, cells[at:])
    if found and found["error"] in checks:
        keep(folder, found)


def shared(notebook, folders):
    "Jobs of one notebook, each of which differs from the course's in one cell."
    own = code_cells(root, notebook)
    planted = {folder: code_cells(folder, notebook) for folder in folders}
    first = {folder: next(i for i, pair in enumerate(zip(own, cells, strict=True))
                          if pair[0] != pair[1]) for folder, cells in planted.items()}
    shell, done = enter(root, notebook), 0
    for folder in sorted(folders, key=first.get):
        at = first[folder]
        if done >= 0 and first_failure(shell, own[done:at]):
            done = -1        # the course's own notebook fails: no prefix to share
        if done < 0:
            break
        done = at
        wait(fork(lambda: from_cell(shell, folder, planted[folder], at)))


def main(jobs, at_once=2):
    groups, alone = {}, []
    for job in jobs:
        folder, notebook = job.rsplit(":", 1)
        folder = Path(folder).resolve()
        same = code_cells(folder, notebook) == code_cells(root, notebook)
        if same:
            alone.append((folder, notebook))
        else:
            groups.setdefault(notebook, []).append(folder)
    def of_group(notebook, folders):
        # in a fork of its own, since it enters another `vae_course` than the rest
        wait(fork(lambda: shared(notebook, folders)))
        for folder in folders:
            if not (folder / "result.json").exists():
                wait(fork(lambda folder=folder: whole(folder, notebook)))
    work = [*(lambda g=group: of_group(*g) for group in groups.items()),
            *(lambda j=job: whole(*j) for job in alone)]
    for i, each in enumerate(work):
        if i >= at_once:
            os.wait()
        fork(each)
    for _ in work[-at_once:]:
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
