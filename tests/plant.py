"""Run notebooks from top to bottom and say which cell failed: the tool of
`test_planted_errors.py`.

    python plant.py FOLDER:NOTEBOOK …     (with `nbs/` and `vae_course/` in FOLDER)

What every notebook imports is imported once; then each job runs in a fork of this
process, two at a time, and leaves FOLDER/result.json: null when every cell ran, or the
failing cell, its error and its message."""
import json, os, re, sys, traceback
from pathlib import Path

# shared by the forks
import fastcore.test, sklearn.decomposition, sklearn.metrics    # noqa: F401
import torch, torch.distributions, torchvision                  # noqa: F401
from execnb.nbio import read_nb
from execnb.shell import CaptureShell


def first_failure(folder, notebook):
    "The first cell of a notebook that fails, as a dict, or None."
    sys.path.insert(0, str(folder))
    os.chdir(folder / "nbs")
    import vae_course
    assert Path(vae_course.__file__).is_relative_to(folder), (
        f"runs {vae_course.__file__}, and not the copy")
    shell = CaptureShell(folder / "nbs" / notebook)
    for cell in read_nb(folder / "nbs" / notebook).cells:
        if (cell.cell_type != "code"
                or re.search(r"^#\|\s*eval:\s*false", cell.source, re.M)):
            continue
        shell.run(cell.source)
        if shell.exc:
            return {"cell": cell.source, "error": type(shell.exc).__name__,
                    "message": str(shell.exc)[:300]}


def fork(folder, notebook):
    "Start a job in a fork."
    if os.fork():
        return
    status = 1
    try:
        (folder / "result.json").write_text(json.dumps(first_failure(folder, notebook)),
                                            encoding="utf-8")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def main(jobs, at_once=2):
    for i, job in enumerate(jobs):
        if i >= at_once:
            os.wait()
        folder, notebook = job.rsplit(":", 1)
        fork(Path(folder).resolve(), notebook)
    for _ in jobs[-at_once:]:
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
