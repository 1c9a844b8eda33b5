"""The three layers of a lesson, written into its cells: what is folded in JupyterLab.

    python tools/layers.py             write the metadata of every notebook of nbs/
    python tools/layers.py --check     say what is out of step, and exit with 1

A cell of evidence begins with `with claim(`; a cell of the workbench with `#| fold`
and a name, such as `#| fold how this picture is drawn`, or it holds imports alone; a
section whose heading begins with `Deeper:` is folded as a whole. Everything else is the
story and stays open. The site folds the same cells by the same rules (`procs.py`,
`site.py`)."""
import argparse, ast, re, sys
from pathlib import Path

import nbformat

root = Path(__file__).resolve().parent.parent
evidence = re.compile(r"\A(?:#\|.*\n)*with claim\(")
workbench = re.compile(r"^#\|[ ]*fold:?[ ]+(.+?)[ ]*$", re.M)
deeper = re.compile(r"\A(#{2,4}) Deeper: ", re.M)
hidden = re.compile(r"^#\|\s*(default_exp|hide)\b", re.M)
collapsed = "jp-MarkdownHeadingCollapsed"


def only_imports(source: str) -> bool:
    "Whether a cell holds imports and nothing else."
    try:
        body = ast.parse(source).body
    except SyntaxError:                 # a magic
        return False
    return bool(body) and all(isinstance(node, (ast.Import, ast.ImportFrom))
                              for node in body)


def layer(cell: nbformat.NotebookNode) -> str:
    "`evidence`, `workbench`, `deeper` (its heading), or `story`."
    if cell.cell_type == "markdown":
        return "deeper" if deeper.search(cell.source) else "story"
    if evidence.search(cell.source):
        return "evidence"
    folded = (workbench.search(cell.source) or hidden.search(cell.source)
              or only_imports(cell.source))
    return "workbench" if folded else "story"


def fold(nb: nbformat.NotebookNode) -> bool:
    "Write the metadata of every cell as its layer asks; whether something changed."
    changed = False
    for cell in nb.cells:
        before = dict(cell.metadata), cell.source
        kind = layer(cell)
        # without a colon nbdev takes it for its own, and out of the module
        cell.source = workbench.sub(r"#| fold \1", cell.source, count=1)
        if cell.cell_type == "code":
            jupyter = dict(cell.metadata.get("jupyter", {}))
            jupyter.pop("source_hidden", None)
            if kind != "story":
                jupyter["source_hidden"] = True
            cell.metadata.pop("jupyter", None)
            if jupyter:
                cell.metadata["jupyter"] = jupyter
        else:
            cell.metadata.pop(collapsed, None)
            if kind == "deeper":
                cell.metadata[collapsed] = True
        changed |= before != (dict(cell.metadata), cell.source)
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of file names; none: all")
    parser.add_argument("--check", action="store_true", help="change nothing")
    args = parser.parse_args()
    wrong = []
    for path in sorted((root / "nbs").glob("*.ipynb")):
        if args.names and not path.name.startswith(tuple(args.names)):
            continue
        nb = nbformat.read(path, 4)
        if fold(nb):
            wrong.append(path.name)
            if not args.check:
                nbformat.write(nb, path)
    for name in wrong:
        print(f"{name}: {'not folded as its cells ask' if args.check else 'folded'}")
    sys.exit(bool(wrong) and args.check)


if __name__ == "__main__":
    main()
