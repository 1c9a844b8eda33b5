"""Build the site: `nbs/` through nbdev's processors into `_proc/`, and from there with
smalldocs into `_docs/`.

Nothing is fetched: KaTeX 0.19.1 (MIT) lies in nbs/assets/katex, as `npm pack katex`
gives it. Exits with 1 when there is anything to say against the result: a broken link
or anchor, a key of `_quarto.yml` that is not understood, an image without alternative
text, an address outside the site that a page would load, a path of this machine."""
import argparse, os, re, shutil, sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

root = Path(__file__).resolve().parent.parent
# nbdev finds tools.procs and the package here, in its worker processes too
sys.path.insert(0, str(root))
os.chdir(root)

from smalldocs import config, layout      # noqa: E402
from smalldocs.site import Site           # noqa: E402

import errors                         # noqa: E402
import reference                      # noqa: E402
from procs import claim_mark          # noqa: E402


class Course(Site):
    """A smalldocs site of nbdev's pages: it honours `output-file`, takes KaTeX from the
    site, and can be searched from `file://`."""

    def __init__(self, project, **kwargs):
        super().__init__(project, **kwargs)
        # page as nbdev names it -> source: {"latent.html": "01_latent.ipynb"}
        self.outs = {}
        maths = project.html_options().get("html-math-method") or {}
        layout.KATEX = maths["url"].rstrip("/")
        self.warnings = [w for w in self.warnings if "html-math-method" not in w]
        # without one, smalldocs' bar follows the light and the dark mode
        project.website["navbar"].pop("background")

    def read(self, src):
        page = super().read(src)
        name = page.front.get("output-file")
        if name:
            page.out = page.out.with_name(name)
            self.outs[str(page.out)] = src
        self.warnings = [w for w in self.warnings if "output-file" not in w]
        return page

    def render_page(self, page):
        super().render_page(page)
        page.html = to_reference(layered(page.html))

    def find_page(self, target):
        return super().find_page(PurePosixPath(self.outs.get(str(target), target)))

    def copy_assets(self, nav):
        super().copy_assets(nav)
        libs = self.out / "site_libs"
        # the themes ask Google for fonts: ours are the reader's own
        for css in libs.glob("themes/*.css"):
            css.write_text(re.sub(r"@import url\([^)]*\);?", "",
                                  css.read_text(encoding="utf-8")), encoding="utf-8")
        js = libs / "smalldocs.js"
        old = ('const r = await fetch(offset + "search.json");\n      index = '
               'await r.json();')
        new = ('await new Promise((ok, no) => '
               'document.head.append(Object.assign(document.createElement("script"), { '
               'src: offset + "search.js", onload: ok, onerror: no })));\n      index '
               '= window.searchIndex;')
        text = js.read_text(encoding="utf-8")
        if old not in text:
            self.warn("smalldocs.js reads its index in another way now: search from "
                      "file:// is untested")
        js.write_text(text.replace(old, new), encoding="utf-8")

    def copy_resources(self):
        super().copy_resources()
        shutil.copytree(self.root / "notebooks", self.out / "notebooks")

    def write_search(self):
        super().write_search()
        index = (self.out / "search.json")
        (self.out / "search.js").write_text(
            f"window.searchIndex = {index.read_text(encoding='utf-8')};\n",
            encoding="utf-8")
        index.unlink()


def to_reference(text):
    "Links of nbdev to a name of the package, led to its entry in the reference."
    known = {(place.page, name.lower()): module
             for module, names in reference.places().items()
             if not module.startswith("exercises")
             for name, place in names.items() if not name.startswith("_")}

    def link(match):
        module = known.get((match[1], match[2].split(".")[0]))
        return f'href="ref_{module}.html#{match[2]}"' if module else match[0]

    return re.sub(r'href="(\w+\.html)#([\w.]+)"', link, text)


def layered(text):
    """The HTML of a page with its layers: a cell's claims behind the first of them, and
    a section whose heading begins with `Deeper:` behind its heading."""
    def sentences(match):
        first, *more = match[2].split(claim_mark)[1:]
        count = f' <span class="more">and {len(more)} more</span>' if more else ""
        rest = "".join(f'<p class="claim">✓ {line.strip()}</p>' for line in more)
        return (f'<details{match[1]} class="code-fold evidence">\n<summary><span class='
                f'"claim">✓ {first.strip()}{count}</span></summary>{rest}')

    text = re.sub(rf'<details([^>]*) class="code-fold">\n<summary>({claim_mark}'
                  r"[^<]*)</summary>", sentences, text)
    while match := re.search(r"<section ([^>]*)>\s*(<h([2-4])[^>]*>\s*Deeper: .*?"
                             r"</h\3>)", text, re.S):
        depth, end = 1, match.end()
        while depth:
            edge = re.compile(r"<section\b|</section>").search(text, end)
            depth, end = depth + (1 if edge[0] != "</section>" else -1), edge.end()
        body = text[match.end():end - len("</section>")]
        # a heading would get a link of its own, and a link cannot stand in a summary
        head = re.sub(r"<h(\d)[^>]*>\s*Deeper: (.*?)</h\d>",
                      r'<span class="deeper-mark">Deeper</span> <span role="heading" '
                      r'aria-level="\1" class="deeper-title">\2</span>', match[2],
                      flags=re.S)
        text = (f"{text[:match.start()]}<details {match[1]}>\n<summary>{head}"
                f"</summary>{body}</details>{text[end:]}")
    text = re.sub(r'<details ([^>]*)class="(level\d)', r'<details \1class="deeper \2',
                  text)
    # what may scroll must be within reach of the keyboard
    return re.sub(r"<pre(?![^>]*tabindex)", '<pre tabindex="0"', text)


class Names(HTMLParser):
    """What a page names: its ids, its links, what it loads, its images without
    alternative text."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.blind = set(), [], [], 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        self.loads += [a[k] for k in ("src", "href") if a.get(k) and tag != "a"]
        missing = (tag == "img" and not a.get("alt")
                   and "navbar-logo" not in (a.get("class") or ""))
        self.blind += missing or (a.get("role") == "img" and tag == "div"
                                  and not a.get("aria-label"))


def problems(site):
    "What is wrong with the pages in the folder `site`, one line each."
    pages = {p: Names(p) for p in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        shown = re.sub(r"<(script|style|pre)\b.*?</\1>|<[^>]*>", " ",
                       path.read_text(encoding="utf-8"), flags=re.S)
        if found_raw := re.search(r"::: ?\{|```|\{\.(python|cell)", shown):
            found.append(f"{path.name}: shows Markdown as it is: {found_raw[0]!r}")
        if str(root) in path.read_text(encoding="utf-8"):
            found.append(f"{path.name}: shows the path of a folder on this machine")
        if page.blind:
            found.append(f"{path.name}: {page.blind} image(s) without alternative text")
        for address in page.loads:
            if re.match(r"(\w+:)?//", address):
                found.append(f"{path.name}: loads {address}, which is outside the site")
        for address in page.links + page.loads:
            if re.match(r"\w+:|//", address):
                continue
            name, _, anchor = address.partition("#")
            target = path if not name else path.parent / unquote(name.split("?")[0])
            target = target / "index.html" if target.is_dir() else target
            if name.startswith("/") or not target.exists():
                found.append(f"{path.name}: broken link {address}")
            elif (anchor and target in pages
                  and unquote(anchor) not in pages[target].ids):
                found.append(f"{path.name}: no such place {address}")
    return list(dict.fromkeys(found))


def build(out):
    """Build the site into the folder `out`; return the number of its pages and what is
    wrong with them."""
    from nbdev.serve import proc_nbs
    proc = proc_nbs(force=True)
    reference.write(Path(proc))
    errors.write(Path(proc))
    site = Course(config.load(proc), quiet=True)
    pages = site.build()
    if out.exists() and any(out.iterdir()) and not (out / "site_libs").is_dir():
        sys.exit(f"{out} holds something else than a site: give another folder")
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(site.out, out)
    return pages, site.warnings + problems(out)


def main():
    parser = argparse.ArgumentParser(description="Build the site of nbs/.")
    parser.add_argument("--out", type=Path, default=root / "_docs",
                        help="the folder to write, _docs by default")
    out = parser.parse_args().out
    pages, wrong = build(out)
    for line in wrong:
        print(f"warning: {line}")
    print(f"{pages} pages in {out}" + f", {len(wrong)} warnings" * bool(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
