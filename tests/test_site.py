"""The site in a real browser: every page, as a reader would meet it, and its
configuration.

The site is built once into a folder of its own and served under a sub-path, from where
nothing outside may be asked for."""
import functools, http.server, json, re, shutil, subprocess, sys, threading
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import unquote

import pytest, yaml

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root), str(root / "tools")]
from procs import open_hosted      # noqa: E402

chromium = (shutil.which("chromium") or shutil.which("chromium-browser")
            or shutil.which("google-chrome"))
needs_browser = pytest.mark.skipif(
    chromium is None,
    reason="no Chromium on this machine: install the package `chromium`")
config = yaml.safe_load((root / "_quarto.yml").read_text(encoding="utf-8"))
parts = config["website"]["sidebar"]["contents"]
# notebooks, in the order of the sidebar
lessons = [name for part in parts for name in part["contents"]]
pages = [re.sub(r"^\d+[a-z]?_", "", name).replace(".ipynb", ".html")
         .replace(".md", ".html") for name in lessons]
made = {"errors.md", "reference.md"}    # by tools/, from the notebooks and the package


def test_configuration():
    stub = yaml.safe_load((root / "nbs" / "_quarto.yml").read_text(encoding="utf-8"))
    assert stub["metadata-files"] == ["../_quarto.yml"]
    assert stub["project"]["output-dir"] == config["project"]["output-dir"] == "_docs"
    assert config["format"]["html"]["html-math-method"]["url"] == "assets/katex/"
    assert all((root / "nbs" / config["website"][key]).exists() for key in ("favicon",))


def test_the_hosted_link_is_made_from_the_settings_and_off_until_they_say_on():
    settings = ConfigParser(delimiters=["="])
    settings.read(root / "settings.ini", encoding="utf-8")
    kept = dict(settings["DEFAULT"])
    assert open_hosted("01_latent.ipynb", kept | dict(hosted_notebooks="off")) == ""
    link = open_hosted("01_latent.ipynb", kept | dict(hosted_notebooks="on"))
    place = re.search(r'href="(.*?)"', link)[1]
    address = kept["git_url"].removeprefix("https://")
    assert place == (f"https://colab.research.google.com/{address}/blob/main/nbs/"
                     "01_latent.ipynb").replace("/github.com/", "/github/")
    assert "pip install vae_course" in link


def test_every_lesson_is_in_the_sidebar_once():
    there = sorted([*made, *(p.name for p in (root / "nbs").glob("*.ipynb"))])
    assert sorted(lessons) == there
    numbered = [name for name in lessons if re.match(r"\d", name)]
    assert lessons[0] == "index.ipynb" and lessons[1:len(numbered) + 1] == numbered
    assert numbered == sorted(numbered)


def test_lessons_open_with_a_title_and_one_sentence():
    "The title block of a page is made of them."
    for name in (name for name in lessons if name not in made):
        first = json.loads(
            (root / "nbs" / name).read_text(encoding="utf-8"))["cells"][0]
        assert re.match(r"# [^\n]+\n\n> [^\n]+(\n\n|$)", "".join(first["source"])), (
            name, first["source"])


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "The folder of the site, freshly built without a word of warning."
    folder = tmp_path_factory.mktemp("www") / "course"
    done = subprocess.run([sys.executable, "tools/site.py", "--out", str(folder)],
                          cwd=root, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0 and "warning" not in done.stdout, (
        done.stdout + done.stderr)
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope="session")
def address(site):
    "Where the site is served: under a sub-path of a local server."
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/course/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser):
    """A tab that keeps in `tab.complaints` what went wrong, and in `tab.asked` every
    address that it asked for."""
    context = browser.new_context(viewport={"width": 390, "height": 844},
                                  color_scheme="light", reduced_motion="reduce")
    tab = context.new_page()
    tab.complaints, tab.asked = [], []
    tab.on("console", lambda m: m.type == "error"
                                and tab.complaints.append(f"{tab.url}: {m.text}"))
    tab.on("pageerror", lambda e: tab.complaints.append(f"{tab.url}: {e}"))
    # a request that the test itself cut off, by going to another page, has not failed
    tab.on("requestfailed",
           lambda r: "ERR_ABORTED" not in (r.failure or "") and tab.complaints.append(
               f"{tab.url}: {r.url[:100]} failed: {r.failure}"))
    tab.on("response", lambda r: r.status >= 400 and tab.complaints.append(
        f"{tab.url}: {r.url} gave {r.status}"))
    tab.on("request", lambda r: tab.asked.append(r.url))
    yield tab
    context.close()


look = r"""() => {
  const all = (what) => [...document.querySelectorAll(what)], problems = [];
  const scrolls = (e) => {
    for (; e && e.tagName !== 'MAIN'; e = e.parentElement)
      if (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX)) return true;
  };
  const wide = all('main *').filter((e) =>
    e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement)
    && !e.closest('.katex-mathml'));
  if (document.documentElement.scrollWidth > innerWidth)
    problems.push('the page is wider than the window');
  wide.slice(0, 3).forEach((e) =>
    problems.push('too wide: ' + e.outerHTML.slice(0, 120)));
  const text = document.body.cloneNode(true);
  text.querySelectorAll('pre, code, script, style, .katex').forEach((e) => e.remove());
  const tex = [/\$\$/, /\\(frac|begin|mathbb|log|sum|mu|sigma|tag)\b/, /\\[(\[]/,
               /\$\\?[a-zA-Z][^$\n]{0,40}\$/].map((part) => part.source).join('|');
  (text.textContent.match(new RegExp('.{0,30}(' + tex + ').{0,30}', 'g')) || [])
    .forEach((t) => problems.push('raw TeX: ' + t));
  all('.katex-error').forEach((e) => problems.push('bad TeX: ' + e.textContent));
  all('img:not(.navbar-logo)').filter((e) => !e.alt)
    .forEach(() => problems.push('an image without alt text'));
  all('img').filter((e) => !e.complete || !e.naturalWidth)
    .forEach(() => problems.push('an image that does not show'));
  const parse = (c) => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = (v) =>
    (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > .9) return c;
    }
    return [255, 255, 255];
  };
  const seen = new Set();
  const words = 'main p, main li, main td, main th, main summary, main a, main code, '
    + 'main pre span, .sidebar-link, #TOC a';
  const read = all(words).filter((e) => e.textContent.trim() && !e.closest('.katex'));
  read.forEach((e) => {
    const fore = getComputedStyle(e).color, back = ground(e);
    const [a, b] = [light(parse(fore)), light(back)].sort((x, y) => y - x);
    const key = fore + back, ratio = (a + .05) / (b + .05);
    if (ratio < 4.5 && !seen.has(key)) {
      seen.add(key);
      problems.push(`contrast ${ratio.toFixed(1)}: ${e.outerHTML.slice(0, 100)}`);
    }
  });
  return {problems, ids: all('[id], a[name]').map((e) => e.id || e.name),
          links: all('a[href]').map((e) => e.href), title: document.title,
          dark: light(parse(getComputedStyle(document.body).backgroundColor)) < .2};
}"""


@pytest.mark.browser
@needs_browser
def test_every_page(tab, address):
    """In both modes on a phone and in two widths on a desk; then every link between the
    pages."""
    found = {}
    for name in pages:
        tab.emulate_media(color_scheme="light")
        tab.goto(address + name, wait_until="load")
        tab.evaluate(
            "document.querySelectorAll('details').forEach((d) => d.open = true)")
        for width, mode in ((390, "light"), (1000, "light"), (1280, "dark"),
                            (390, "dark")):
            tab.set_viewport_size({"width": width, "height": 844})
            tab.emulate_media(color_scheme=mode)
            tab.wait_for_function(
                "document.documentElement.classList.contains('quarto-dark') === "
                f"{str(mode == 'dark').lower()}")
            seen = tab.evaluate(look)
            assert seen["dark"] == (mode == "dark"), name
            tab.complaints += [f"{name}, {mode}, {width} px: {p}"
                               for p in seen["problems"]]
        found[address + name] = seen
    for page, seen in found.items():
        for link in seen["links"]:
            place, _, anchor = link.partition("#")
            if not link.startswith(address):
                assert re.match(r"https?://(?!127\.0\.0\.1)|mailto:", link), (
                    f"{page} links to {link}")
            elif place in found:
                if anchor and unquote(anchor) not in found[place]["ids"]:
                    tab.complaints.append(f"{page}: no such place {link}")
            elif place != address and not tab.request.head(place).ok:
                tab.complaints.append(f"{page}: broken link {link}")
    outside = {url for url in tab.asked
               if not url.startswith((address, "data:", "blob:"))}
    assert not tab.complaints and not outside, "\n".join([*tab.complaints, *outside])


@pytest.mark.browser
@needs_browser
def test_the_way_through_the_pages_and_the_downloads(tab, address):
    tab.set_viewport_size({"width": 1280, "height": 900})
    for i, (name, notebook) in enumerate(zip(pages, lessons)):
        tab.goto(address + name)
        for side, j in (("previous", i - 1), ("next", i + 1)):
            link = tab.locator(f".nav-page-{side} a")
            assert link.count() == (0 <= j < len(pages)), (name, side)
            if link.count():
                assert link.evaluate("a => a.href") == address + pages[j]
        entries = tab.locator("#quarto-sidebar a[href]").evaluate_all(
            "all => all.map(a => a.href)")
        assert entries == [address + p for p in pages]
        assert (tab.locator("#quarto-sidebar a.active").evaluate("a => a.href")
                == address + name)
        if notebook in made:
            continue
        with tab.expect_download() as download:
            tab.click(".download a")
        assert download.value.suggested_filename == notebook
        assert (Path(download.value.path()).read_bytes()
                == (root / "nbs" / notebook).read_bytes())


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("where", ["server", "file"])
def test_search_and_dark_mode(tab, site, address, where):
    base = address if where == "server" else site.as_uri() + "/"
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.goto(base + "elbo.html")
    title = tab.inner_text("h1.title")
    tab.goto(base + "index.html")
    tab.fill("#quarto-search input", title.split("· ")[-1])
    tab.wait_for_selector("#quarto-search .search-result")
    tab.locator("#quarto-search .search-result", has_text=title).first.click()
    tab.wait_for_url(re.compile(r".*/elbo\.html"))
    ground = "getComputedStyle(document.body).backgroundColor"
    day = tab.evaluate(ground)
    tab.click(".quarto-color-scheme-toggle")
    tab.wait_for_function(f"{ground} !== '{day}'")
    night = tab.evaluate(ground)
    tab.reload()
    assert tab.evaluate(ground) == night        # the choice is kept
    assert not tab.complaints, tab.complaints


@pytest.mark.browser
@needs_browser
def test_a_phone_opens_the_sidebar(tab, address):
    tab.goto(address + "index.html")
    tab.click(".quarto-btn-toggle")
    tab.click(f"#quarto-sidebar a[href='{pages[1]}']")
    tab.wait_for_url(address + pages[1])
    assert not tab.complaints, tab.complaints


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing_serious(tab, address, mode):
    "With every fold open, on pages of each kind."
    from axe_playwright_python.sync_playwright import Axe
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.emulate_media(color_scheme=mode)
    found = []
    for name in ("index.html", "latent.html", "elbo.html", "map.html", "glossary.html",
                 "errors.html", "reference.html", "ref_latent.html", "results.html"):
        tab.goto(address + name)
        tab.evaluate(
            "document.querySelectorAll('details').forEach((d) => d.open = true)")
        found += [f"{name}: {v['id']}: {v['nodes'][0]['html'][:120]}"
                  for v in Axe().run(tab).response["violations"]
                  if v["impact"] in ("serious", "critical")]
    assert not found, "\n".join(found)


@pytest.mark.browser
@needs_browser
def test_the_code_box_holds_the_widest_line(tab, address):
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.goto(address + "elbo.html")
    wide = tab.evaluate("""() => [...document.querySelectorAll('main pre.sourceCode')]
      .filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1)
      .map((e) => e.textContent.split('\\n').sort((a, b) => b.length - a.length)[0])""")
    assert not wide, wide
    columns = tab.evaluate("""() => {
      const pre = document.querySelector('main pre.sourceCode'),
            code = pre.querySelector('code'), span = document.createElement('span');
      span.textContent = 'x'.repeat(100);
      code.append(span);
      const one = span.getBoundingClientRect().width / 100,
            style = getComputedStyle(pre);
      return (pre.clientWidth - parseFloat(style.paddingLeft)
              - parseFloat(style.paddingRight)) / one;
    }""")
    assert columns >= 88, columns


@pytest.mark.browser
@needs_browser
def test_folds_open_by_key_and_by_link_and_questions_are_remembered(tab, address):
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.goto(address + "elbo.html")
    closed = tab.locator("main details:not([open])")
    every = tab.locator("main details")
    assert closed.count() == every.count() > 40
    claim = tab.locator("main details.evidence").first
    assert "✓" in claim.inner_text() and not claim.locator("pre").is_visible()
    claim.locator("summary").focus()
    tab.keyboard.press("Enter")
    assert claim.locator("pre").first.is_visible()

    deeper = tab.locator("main details.deeper").first
    place = deeper.get_attribute("id")
    assert not deeper.evaluate("d => d.open")
    tab.goto(address + f"elbo.html#{place}")
    assert tab.locator(f"[id='{place}']").evaluate("d => d.open")

    question = "#check-yourself details"
    assert tab.locator(question).count() >= 3
    assert tab.locator(".visited-fold").count() == 0
    tab.locator(f"{question} summary").first.click()
    tab.wait_for_selector(".visited-fold")
    tab.reload()
    assert tab.locator(".visited-fold").count() == 1
    assert tab.locator(question).first.evaluate("d => !d.open")
    assert not tab.complaints, tab.complaints


@pytest.mark.browser
@needs_browser
def test_the_first_use_of_a_term_leads_to_the_glossary(tab, address):
    tab.goto(address + "elbo.html")
    links = tab.locator("main a[href^='glossary.html#term-']")
    places = links.evaluate_all("all => all.map(a => a.href)")
    assert len(places) == len(set(places)) > 5
    tab.goto(places[0])
    assert tab.locator(f"[id='{unquote(places[0].partition('#')[2])}']").count() == 1


# pages with parts that move, at least
LIVE = ("index", "latent", "elbo", "beta_vae", "cvae", "vq_vae", "generation",
        "anomaly_detection", "semi_supervised", "text")
mounts = """() => [...document.querySelectorAll('div.live[data-part]')].map(host => (
    {ready: host.dataset.ready, asked: host.dataset.program, still:
     !!host.querySelector('img')}))"""


def test_every_page_that_should_has_a_part_and_its_picture_has_words(site):
    for name in LIVE:
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        hosts = re.findall(r'<div class="live" data-part="\w+" data-program="[^"]*">'
                           r'<img src="([^"]+)" width="760" alt="([^"]+)">', text)
        assert hosts, f"{name} has no part that moves"
        for source, words in hosts:
            assert (site / source).exists() and len(words) > 30
        assert "<strong>Play.</strong>" in text


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("name", LIVE)
def test_parts_of_a_page_load_when_they_come_into_view(tab, address, site, name):
    "At most 500 kB for a page, fetched then; and the picture is replaced."
    tab.goto(f"{address}{name}.html")
    tab.wait_for_timeout(500)
    before = tab.evaluate(mounts)
    assert before
    hosts = tab.locator("div.live[data-part]")
    for i in range(hosts.count()):
        hosts.nth(i).scroll_into_view_if_needed()
        tab.wait_for_function(
            "i => document.querySelectorAll('div.live[data-part]')[i].dataset.ready",
            arg=i, timeout=20_000)
    assert all(m["ready"] == "yes" and not m["still"] for m in tab.evaluate(mounts))
    files = {site / url.removeprefix(address) for url in tab.asked
             if "assets/live/" in url and url.endswith(".json")}
    assert 0 < sum(f.stat().st_size for f in files) <= 500_000
    for width in (1280, 390):           # nothing is wider than the column
        tab.set_viewport_size(dict(width=width, height=900))
        tab.wait_for_timeout(200)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert not tab.evaluate("""() => [...document.querySelectorAll('.live-app')]
            .flatMap(app => [...app.querySelectorAll('*')].filter(e =>
                e.getBoundingClientRect().right > app.getBoundingClientRect().right + 1)
            ).map(e => e.outerHTML.slice(0, 80))""")


@pytest.mark.browser
@needs_browser
def test_the_menu_of_a_narrow_page_lies_below_the_header_and_scrolls(tab, address):
    tab.set_viewport_size(dict(width=390, height=844))
    tab.goto(f"{address}beta_vae.html")
    tab.evaluate("scrollTo(0, 1500)")
    tab.click(".quarto-btn-toggle")
    tab.wait_for_selector("#quarto-sidebar.show")
    tab.wait_for_timeout(600)                   # it slides in
    found = tab.evaluate("""() => {
        const menu = document.querySelector('#quarto-sidebar');
        menu.scrollTo(0, 500);
        return [menu.getBoundingClientRect().top, menu.getBoundingClientRect().bottom,
                document.querySelector('#quarto-header').getBoundingClientRect().bottom,
                menu.scrollTop];
    }""")
    top, bottom, header, scrolled = found
    assert abs(top - header) < 2 and bottom <= 845 and scrolled == 500


@pytest.mark.browser
@needs_browser
def test_the_first_tab_leads_past_the_navigation(tab, address):
    tab.goto(f"{address}beta_vae.html")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip-link"
    assert tab.locator(".skip-link").bounding_box()["x"] >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.tagName") == "MAIN"
    tab.keyboard.press("Tab")
    assert tab.evaluate("!!document.activeElement.closest('main')")


@pytest.mark.browser
@needs_browser
def test_without_scripts_the_still_picture_stands(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}index.html")
    assert page.locator("div.live img").count() == 1
    context.close()
