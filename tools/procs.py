"""What nbdev does to a notebook on its way to the site, beside its own steps: `procs`
and `renderer` in settings.ini.

The site is then the same whether smalldocs (`make docs`) or Quarto (`nbdev_docs`)
renders it."""
import ast, functools, html, json, re, shutil, sys
from pathlib import Path
from urllib.parse import unquote

from execnb.nbio import mk_cell, read_nb
from nbdev.config import get_config
from nbdev.frontmatter import _dict2fm
from nbdev.process import Processor

sys.path.insert(0, str(Path(__file__).resolve().parent))
import reference                          # noqa: E402
from layers import evidence, only_imports    # noqa: E402
from vae_course.lesson_parts import host_element    # noqa: E402

callout = re.compile(r"^> \*\*(Note|Tip|Warning|Important|Caution|Think)[.!:]\*\*[ "
                     r"]*(.*(?:\n>.*)*)", re.M)
claim_mark = "✓ "
images = "image/svg+xml", "image/png", "image/jpeg"
widget = "application/vnd.jupyter.widget-view+json"
still = ('<p class="needs-kernel">A still image: its controls work where a '
         'kernel runs. '
         "Download this notebook (above) and open it in JupyterLab.</p>")
download = ('<p class="download"><a href="notebooks/{0}" download="{0}"><i class="bi '
            'bi-download" aria-hidden="true"></i> '
            "Download this notebook</a>{1}</p>")
hosted = ('https://colab.research.google.com/github/{user}/{repo}/blob/{branch}/'
          '{nbs_path}/{name}')


def open_hosted(name, settings):
    """A link that opens a notebook in Google Colab, made from settings.ini; nothing
    while `hosted_notebooks` is off there, because the address is not public yet."""
    if settings.get("hosted_notebooks", "off") != "on":
        return ""
    place = hosted.format(name=name, **{key: settings[key] for key in
                                        ("user", "repo", "branch", "nbs_path")})
    return (f' · <a href="{place}">Open it in Colab</a> (run '
            f'<code>!pip install {settings["lib_name"]}</code> there first)')


def text_of(value):
    "A value of a notebook as one string: notebooks store strings or lists of lines."
    return value if isinstance(value, str) else "".join(value)


def shown(cell):
    """Leaves out what nbdev's `rm_export` leaves out, but keeps exported imports: the
    code below them would not run without."""
    marks = set(getattr(cell, "directives_", None) or ())
    imports = "export" in marks and all(isinstance(line, (ast.Import, ast.ImportFrom))
                                        for line in ast.parse(cell.source).body)
    if (marks & {"exporti", "hide", "default_exp"}
            or ("export" in marks and not imports)):
        del cell["source"]


def callouts(cell):
    "`> **Note.** …`, which JupyterLab shows as a quotation, becomes a callout."
    def box(match):
        word, body = match[1], re.sub(r"^> ?", "", match[2], flags=re.M).strip()
        kind = "tip" if word == "Think" else word.lower()
        return f':::: {{.callout-{kind} title="{word}"}}\n{body}\n::::\n'
    if cell.cell_type == "markdown":
        cell.source = callout.sub(box, cell.source)


def place(match):
    """A link to a heading as JupyterLab names it, `#What-is-KL?`, becomes one as the
    site names it, `#what-is-kl`."""
    name = re.sub(r"[^\w.\s-]", "", unquote(match[2])).lower()
    return f"]({match[1]}#{re.sub(r'^[^a-z]+', '', name)})"


def site_links(cell):
    """Links of nbdev to pages of this site become relative, so that the site works
    under any address; its cards show no warnings."""
    cfg = get_config()
    here = f"]({cfg.doc_host}{cfg.doc_baseurl}/"
    if cell.cell_type == "markdown":
        cell.source = re.sub(r"\]\(([\w./-]*)#([^)\s]+)\)", place,
                             cell.source.replace(here, "]("))
    if cell.cell_type == "code" and re.search(r"^show_doc\(", cell.source, re.M):
        cell.outputs = [out for out in cell.outputs if out.output_type != "stream"]
    for out in cell.get("outputs", []):
        if "text/markdown" in out.get("data", {}):
            out.data["text/markdown"] = (
                text_of(out.data["text/markdown"]).replace(here, "]("))


def live_parts(cell):
    """A cell of `lesson_part('NAME', …)` alone becomes these parts, each with its still
    picture, which `live.js` replaces when it comes into view."""
    found = re.search(r"^lesson_part\((.+)\)$", cell.source, re.M)
    if cell.cell_type != "code" or not found:
        return
    names = ast.literal_eval(f"({found[1]},)")
    cell.cell_type = "markdown"
    assets = Path(get_config().nbs_path) / "assets"
    cell.source = host_element(*names, assets=assets)
    for name in ("outputs", "execution_count"):
        cell.pop(name, None)


def alt_text(out, cell):
    """The alternative text of an image: from its metadata, or from `#| fig-alt:` of its
    cell; else nothing."""
    meta = out.get("metadata") or {}
    found = [meta[kind].get("alt") for kind in images
             if isinstance(meta.get(kind), dict)] + [meta.get("alt")]
    words = (getattr(cell, "directives_", None) or {}).get("fig-alt:", [])
    return next((alt for alt in found if alt), " ".join(words).strip("\"'"))


def outputs(cell):
    """Images carry their alternative text, and a widget without a kernel is a still
    image with a note."""
    for out in cell.get("outputs", []):
        data = out.get("data", {})
        live = data.pop(widget, None) is not None
        kind = next((k for k in images if k in data), None)
        # our widgets bring their still image and a note as HTML
        if "text/html" in data or not (live or kind):
            continue
        alt, content = html.escape(alt_text(out, cell), quote=True), ""
        if kind == "image/svg+xml":
            content = f'<div role="img" aria-label="{alt}">{text_of(data[kind])}</div>'
        elif kind:
            size = ((out.get("metadata") or {}).get(kind) or {}).get("width")
            width = f' width="{size}"' if size else ""
            content = (f'<img class="img-fluid" alt="{alt}"{width} '
                       f'src="data:{kind};base64,{text_of(data[kind]).strip()}">')
        out.data = {"text/html": f'<div class="image">{content}</div>' * bool(content)
                                 + still * live}


def ticks(outs):
    "The sentences of the claims that these outputs show."
    found = [re.search(r'^<p class="claim">✓ (.*)</p>$',
                       text_of(out.get("data", {}).get("text/html", "")), re.S)
             for out in outs]
    return [html.unescape(match[1]) for match in found if match]


def layers(cell):
    """What the cell's layer folds (`layers.py`): a claim's sentence is the summary of
    its code, and the workbench has the name that its cell gives it."""
    if cell.cell_type != "code" or not cell.get("source"):
        return
    named = " ".join((getattr(cell, "directives_", None) or {}).get("fold", []))
    source = cell.source
    if evidence.match(source) and (said := ticks(cell.get("outputs", []))):
        cell.outputs = [out for out in cell.outputs if not ticks([out])]
        summary = re.sub(r"[`\"]", "'", claim_mark + claim_mark.join(said))
    elif named or only_imports(source):
        # a backtick or a quote would end the attribute that carries it
        summary = re.sub(r"[`\"]", "", named) or "imports"
    else:
        return
    cell.source = (f"#| code-fold: true\n#| code-summary: {json.dumps(summary)}\n"
                   + source)


class page(Processor):
    """A page's title begins with the number of its notebook, and a link downloads the
    notebook as it is.

    nbdev makes the title block of the first cell and drops it: what else stands in that
    cell is put back here."""
    def begin(self):
        nb, path = self.nb, Path(self.nb.path_)
        # the state of widgets is for a kernel, and breaks nbdev's writer
        nb.metadata.pop("widgets", None)
        number = re.match(r"(\d+[a-z]?)_", path.name)
        if number:
            nb.frontmatter_["title"] = f"{number[1]} · {nb.frontmatter_['title']}"
        nb.cells[0].source = _dict2fm(nb.frontmatter_)
        folder = get_config().config_path / "_proc" / "notebooks"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)
        held = self.claims(nb.metadata.get("vae_course", {}))
        rest = re.sub(r"^# .*$\n*|^> .*$", "", read_nb(path).cells[0].source,
                      flags=re.M).strip()
        link = download.format(path.name, open_hosted(path.name, get_config().d))
        nb.cells.insert(1, mk_cell(f"{link}\n\n{held}{rest}", "markdown"))

    def claims(self, record):
        "A line that says how many claims held, and when and on what they last ran."
        if not record.get("claims"):
            return ""
        plural = "s" * (record["claims"] > 1)
        return (f'<p class="held">✓ {record["claims"]} claim{plural} held on '
                f'{record["date"]}: Python {record["python"]}, PyTorch '
                f'{record["torch"]}, {html.escape(record["machine"])}</p>\n\n')


class glossary(Processor):
    "In a lesson, the first use of each term of the glossary leads to it."
    protected = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]]*\]"
                           r"\([^)]*\)|<details.*?</details>|<[^>]*>|^#+ .*$|"
                           r"\*\*[^*]*\*\*|^> .*$", re.S | re.M)

    def begin(self):
        name = Path(self.nb.path_).name
        self.left = dict(terms()) if re.match(r"[01]\d_|index", name) else {}

    def cell(self, cell):
        if cell.cell_type != "markdown" or not self.left:
            return
        text, at, parts = cell.source, 0, []
        for kept in self.protected.finditer(text):
            parts += [self.linked(text[at:kept.start()]), kept[0]]
            at = kept.end()
        cell.source = "".join([*parts, self.linked(text[at:])])

    def linked(self, text):
        "Plain prose with links at the first use of the terms that are left."
        for term in sorted(self.left, key=len, reverse=True):
            found = re.search(rf"(?<![\w\[-]){re.escape(term)}(?![\w\]-])", text, re.I)
            if found:
                link = f"[{found[0]}](glossary.html#{self.left.pop(term)})"
                before = self.linked(text[:found.start()])
                return before + link + self.linked(text[found.end():])
        return text


@functools.cache
def terms():
    "`{term: its place on the page}` of the glossary."
    cells = read_nb(get_config().nbs_path / "glossary.ipynb").cells
    return {name: place for cell in cells for place, name in re.findall(
        r'<span id="(term-[^"]+)"></span>\*\*(.+?)\*\*', cell.source)}


class ApiCard:
    """What `show_doc` shows on the site: below source that is shown, a line that leads
    to the reference; for what is exported without its source, the call and the first
    sentence of its docstring, too."""

    def __init__(self, sym, name=None, title_level=3):
        self.sym, self.name = sym, name or sym.__qualname__

    def _repr_markdown_(self):
        # nbdev runs the cell: the symbol's own module is `__main__`
        module, there = next(((m, found[self.name]) for m, found
                              in reference.places().items() if self.name in found),
                             ("", None))
        key, page = self.name.lower(), f"ref_{module.replace('.', '_')}.html"
        # asking the package would import it, and its cells are run here
        known = module and not module.startswith("exercises")
        link = f'<a href="{page}#{key}">{self.name} in the reference</a>' * bool(known)
        if there and not there.shown and re.match(r"[01]\d ", there.title):
            link = ""                   # a lesson's plumbing: a place, and no words
        first = "" if there and (there.shown or not link) else (
            f"<code>{html.escape(reference.call(self.sym, self.name))}</code> "
            f"{sentence(reference.doc_of(self.sym))} ")
        methods = reference.methods(self.sym) if isinstance(self.sym, type) else ()
        spots = "".join(f'<span id="{key}.{name.lower()}"></span>'
                        for name, _ in methods)
        return f"::: {{.api-link #{key}}}\n{first}{link}{spots}\n:::"

    def __repr__(self):
        return self.name


def sentence(text):
    "The first sentence of a docstring, on one line."
    return re.split(r"(?<=[.])\s", " ".join(text.split()), maxsplit=1)[0]
