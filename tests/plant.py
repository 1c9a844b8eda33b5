"""Run one notebook from top to bottom and say, as JSON, which cell failed: the tool of `test_planted_errors.py`.

    python plant.py FOLDER NOTEBOOK     (FOLDER holds a copy of `nbs/` and `vae_course/`)"""
import json, os, re, sys
from pathlib import Path


def main(folder, notebook):
    sys.path.insert(0, str(folder))
    os.chdir(folder / "nbs")
    from execnb.nbio import read_nb
    from execnb.shell import CaptureShell

    shell = CaptureShell(folder / "nbs" / notebook)
    failed = None
    for cell in read_nb(folder / "nbs" / notebook).cells:
        if cell.cell_type != "code" or re.search(r"^#\|\s*eval:\s*false", cell.source, re.M):
            continue
        shell.run(cell.source)
        if shell.exc:
            failed = {"cell": cell.source, "error": type(shell.exc).__name__, "message": str(shell.exc)[:300]}
            break
    import vae_course
    assert Path(vae_course.__file__).is_relative_to(folder), f"ran {vae_course.__file__}, and not the copy"
    print("\nRESULT " + json.dumps(failed))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
