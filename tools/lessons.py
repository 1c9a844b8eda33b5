"""Execute the notebooks and keep what they show: `make outputs` stores.

The code cells of a notebook have a hash, kept in its metadata beside the stored
outputs, so that outputs which belong to older code are noticed."""
import argparse, datetime, hashlib, os, platform, re, sys, time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient

root = Path(__file__).resolve().parent.parent
key = "vae_course"


def notebooks(
    names: Iterable[str] = (),      # beginnings of file names; none means all
) -> list[Path]:
    "Paths of the notebooks in `nbs/`."
    starts = tuple(Path(n).name for n in names)
    every = sorted((root / "nbs").glob("*.ipynb"))
    return [p for p in every if not starts or p.name.startswith(starts)]


def code_hash(nb: nbformat.NotebookNode) -> str:
    "A hash of the code cells, in order: prose may change without it."
    text = "\0".join(c.source for c in nb.cells if c.cell_type == "code")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_run(cell: nbformat.NotebookNode) -> bool:
    "Whether a cell is to be executed: code, and not marked `#| eval: false`."
    off = re.search(r"^#\|\s*eval:\s*false", cell.source, re.M)
    return cell.cell_type == "code" and not off


class Client(NotebookClient):
    "Executes as JupyterLab does, but leaves out the cells that nbdev leaves out."

    async def async_execute_cell(self, cell, cell_index, **kwargs):
        if not is_run(cell):
            if cell.cell_type == "code":
                cell.outputs = []
            return cell
        return await super().async_execute_cell(cell, cell_index, **kwargs)


def execute(
    nb: nbformat.NotebookNode,
    folder: Path = root / "nbs",    # where its cells run
    timeout: int = 600,             # seconds that a cell may take
) -> float:
    "Run `nb` from top to bottom in a kernel of its own; the seconds of its cells."
    client = Client(nb, timeout=timeout, kernel_name="python3", store_widget_state=True,
                    resources={"metadata": {"path": str(folder)}})
    start = time.perf_counter()
    client.execute()
    return time.perf_counter() - start


def tidy(nb: nbformat.NotebookNode) -> None:
    "Leave in the outputs what a reader should see: no widget state, count or time."
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.metadata.pop("execution", None)
        for out in cell.outputs:
            if "execution_count" in out:
                out.execution_count = None
            # dead without its kernel: the still image stays
            out.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        merged: list[nbformat.NotebookNode] = []
        for out in cell.outputs:
            stream = out.name if out.output_type == "stream" else None
            if stream and merged and merged[-1].get("name") == stream:
                merged[-1].text += out.text
            else:
                merged.append(out)
        cell.outputs = merged


def claims(nb: nbformat.NotebookNode) -> int:
    "How many claims hold, by the outputs of a notebook."
    texts = (out.get("data", {}).get("text/html", "") for cell in nb.cells
             if cell.cell_type == "code" for out in cell.outputs)
    return sum("".join(text).startswith('<p class="claim">') for text in texts)


def processor() -> str:
    "The processor's name, without its maker's marks."
    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$",
                          Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    name = found[1] if found else name
    return " ".join(re.sub(r"\((R|TM|C)\)|CPU|@.*", " ", name).split())


def record(nb: nbformat.NotebookNode, seconds: float) -> dict[str, str | int]:
    "What a run leaves in the metadata: the code's hash, when, on what, what held."
    return {"code": code_hash(nb), "seconds": round(seconds), "claims": claims(nb),
            "date": datetime.date.today().isoformat(),
            "machine": f"{os.cpu_count()} cores, {processor()}",
            "torch": metadata.version("torch").split("+")[0],
            "python": platform.python_version()}


def store(path: Path) -> float:
    "Execute a notebook and keep it with its outputs and a record of the run."
    nb = nbformat.read(path, 4)
    seconds = execute(nb)
    tidy(nb)
    nb.metadata[key] = record(nb, seconds)
    nbformat.write(nb, path)
    return seconds


def stale(path: Path) -> str:
    "Why the stored outputs of a notebook are not those of its code; or nothing."
    nb = nbformat.read(path, 4)
    if not any(is_run(c) for c in nb.cells):
        return ""
    kept = nb.metadata.get(key, {}).get("code")
    if kept is None:
        return "has no stored outputs: run `make outputs`"
    if kept != code_hash(nb):
        return "was changed after its outputs were stored: run `make outputs`"
    errors = [i for i, c in enumerate(nb.cells) if c.cell_type == "code"
              and any(o.output_type == "error" for o in c.outputs)]
    if errors:
        return f"has stored errors in cells {errors}"
    size = path.stat().st_size / 1e6
    return f"is {size:.1f} MB: at most 2 MB are allowed" if size > 2 else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Execute notebooks of nbs/ and store their outputs.")
    parser.add_argument(
        "names", nargs="*", help="beginnings of file names, such as 03; none means all")
    parser.add_argument(
        "--changed", action="store_true", help="only those whose code changed since")
    args = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")     # a reader does not wait
    failed = 0
    for path in notebooks(args.names):
        if args.changed and not stale(path):
            continue
        try:
            print(f"{path.name}: {store(path):.0f} s", flush=True)
        except Exception as e:
            failed += 1
            print(f"{path.name}: FAILED\n{e}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
