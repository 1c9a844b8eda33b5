"""A real JupyterLab in a real browser: run the widgets' notebook, move every slider
with the keyboard, see the image change; and open lessons, signed and not, whose parts
move before a cell is run."""
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                                "google-chrome"))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(
    not chromium, reason="no Chromium found: install it (`apt-get install chromium`) "
                         "to test JupyterLab in a browser")]

name = "92_widgets.ipynb"
signed, unsigned = ("01_latent.ipynb", "06_beta_vae.ipynb"), "08_vq_vae.ipynb"
widget = "application/vnd.jupyter.widget-view+json"
# off-screen widgets exist, too
settings = {"notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
            "apputils-extension/notification.jupyterlab-settings": {
                "fetchNews": "false", "checkForUpdates": False}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """From a notebook's name to its address in a JupyterLab that serves a copy of the
    notebooks, of which `signed` are signed."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(root / "nbs", home / "nbs",
                    ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for path, value in settings.items():
        file = home / "settings" / "@jupyterlab" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value), encoding="utf-8")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "OMP_NUM_THREADS": "1",
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "IPYTHONDIR": str(home / "ipython"), "PYTHONPATH": os.pathsep.join(
            filter(None, (str(root), os.environ.get("PYTHONPATH"))))}
    subprocess.run([sys.executable, "-m", "jupyter", "trust", *signed], check=True,
                   cwd=home / "nbs", env=environment)
    log = open(home / "log", "w+", encoding="utf-8")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
         "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
         "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
         f"--ServerApp.root_dir={home / 'nbs'}"], cwd=home, env=environment, stdout=log,
        stderr=subprocess.STDOUT, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/api/status?token={token}", timeout=5)
                break
            except OSError:
                log.flush()
                assert server.poll() is None, (home / "log").read_text(
                    encoding="utf-8")[-3000:]
                time.sleep(0.25)
        else:
            raise AssertionError("JupyterLab did not start within a minute: "
                                 + (home / "log").read_text(encoding="utf-8")[-3000:])
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset".format
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(2)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
        log.close()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api",
        reason="playwright is not installed: `pip install playwright`")
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, lab, name):
    "A notebook, open in the browser; no cell was run."
    page = browser.new_page(viewport=dict(width=1280, height=1000))
    page.set_default_timeout(60_000)
    page.goto(lab(name))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    return page


@pytest.fixture(scope="module")
def page(browser, lab):
    "The notebook of the widgets, its kernel ready; no cell was run."
    page = opened(browser, lab, name)
    page.wait_for_selector("text=/\\| Idle/")
    yield page
    page.close()


def code_cells():
    return [c for c in json.loads((root / "nbs" / name).read_text(
        encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


def test_an_opened_notebook_shows_the_stored_images(page):
    stored = sum(o.get("data", {}).get("text/html") is not None
                 and "<figure>" in "".join(o["data"]["text/html"])
                 for c in code_cells() for o in c["outputs"])
    assert stored >= 3, "run `make outputs`: the notebook stores no still images"
    assert not any(widget in o.get("data", {}) for c in code_cells()
                   for o in c["outputs"]), (
        "a stored widget shows `model not found` when the notebook is opened")
    page.wait_for_function("n => document.querySelectorAll('.jp-OutputArea-output "
                           "figure img[alt]').length == n", arg=stored)
    assert page.evaluate("[...document.querySelectorAll('.jp-OutputArea-output "
                         "figure img[alt]')].every(i => i.naturalWidth > 300 && "
                         "i.alt.length > 40)")
    assert "Error displaying widget" not in page.inner_text(".jp-Notebook")


def run_all(page):
    "Run All Cells from the menu, and wait until every code cell has its number."
    page.click("role=menubar >> text=Run")
    page.click("role=menuitem >> text=/^Run All Cells/")
    # a folded cell shows no number
    open_cells = sum(not c["metadata"].get("jupyter", {}).get("source_hidden")
                     for c in code_cells())
    page.wait_for_function("""n => {
        const cells = '.jp-Notebook .jp-CodeCell .jp-InputPrompt';
        const prompts = [...document.querySelectorAll(cells)]
            .map(p => p.textContent.trim()).filter(Boolean);
        return prompts.length == n && prompts.every(p => /\\[\\d+\\]:/.test(p));
    }""", arg=open_cells, timeout=120_000)
    page.wait_for_selector("text=/\\| Idle/")


def test_every_slider_moves_its_image(page):
    run_all(page)
    assert page.locator(
        ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], "
        ".jp-RenderedText[data-mime-type*='error']").count() == 0
    explorers = page.locator(".jp-OutputArea-output .widget-vbox:has(img.widget-image)")
    page.wait_for_function("document.querySelectorAll('img.widget-image').length == 3",
                           timeout=20_000)
    assert explorers.count() == 3 and page.locator("text=javascript error").count() == 0
    for i in range(3):
        explorer = explorers.nth(i)
        image, text = explorer.locator("img.widget-image"), explorer.locator("output")
        handles, boxes = (explorer.locator(".noUi-handle"),
                          explorer.locator("input[type=number]"))
        assert handles.count() == boxes.count() == 2
        assert image.get_attribute("title"), "a screen reader has no name for the image"
        for k in range(2):
            move(page, image, text,
                 lambda: (handles.nth(k).focus(), page.keyboard.press("ArrowRight"),
                          page.keyboard.press("ArrowRight")))
            move(page, image, text,
                 lambda: (boxes.nth(k).focus(), page.keyboard.press("ArrowDown")))
            assert boxes.nth(k).get_attribute("id") == explorer.locator(
                ".widget-text label").nth(k).get_attribute("for")
            assert explorer.locator(".widget-text label").nth(k).inner_text()


def look(image, text):
    "The bytes of the image (its address is new for each of them) and the line of text."
    return (image.evaluate("async i => [...new Uint8Array(await (await "
                           "fetch(i.src)).arrayBuffer())].reduce((a, b) => (a * 31 + "
                           "b) % 4294967291, 7)"), text.inner_text())


def at_rest(page, image, text):
    """What is shown, once the kernel is idle and nothing has changed for half a second:
    a key that meets an update still on its way to the browser is lost."""
    boxes = (image.locator("xpath=ancestor::*[contains(@class, 'widget-vbox')]").last
             .locator("input[type=number]"))
    seen, since = None, time.monotonic()
    for _ in range(300):
        try:
            now = (*look(image, text),
                   *(boxes.nth(i).input_value() for i in range(boxes.count())))
        except Exception:           # the address was just replaced
            now = None
        if now is None or now != seen or not page.locator("text=/\\| Idle/").count():
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > 0.5:
            return now[:2]
        page.wait_for_timeout(100)
    raise AssertionError(f"the image did not come to rest within 30 s: {seen}")


def move(page, image, text, act):
    "Do `act`, and wait until both the image and the text are others than before."
    pixels, words = at_rest(page, image, text)
    act()
    for _ in range(100):
        page.wait_for_timeout(100)
        try:
            now = look(image, text)
        except Exception:           # the address was just replaced
            continue
        if now[0] != pixels and now[1] != words:
            assert image.evaluate("i => i.complete && i.naturalWidth > 300")
            return
    raise AssertionError("the control moved, and within 10 s did not change both the "
                         f"image and the text: {words!r}")


def test_the_kl_is_that_of_the_keyboard(page):
    "μ and σ typed into their boxes: the shown KL is the one of the closed form."
    explorer = page.locator(".widget-vbox:has(img.widget-image)").first
    boxes = explorer.locator("input[type=number]")
    for k, value in enumerate(("2", "0.5")):
        boxes.nth(k).fill(value)
        boxes.nth(k).press("Enter")
    # 2²/2 + (0.5² − 1)/2 + ln 2
    page.wait_for_function("text => document.querySelector('.widget-vbox "
                           "output').textContent.includes(text)",
                           arg="KL(q ‖ p) = 2.318 nats")


hosts = ".jp-OutputArea-output div.live[data-part]"


def no_cell_was_run(page):
    return not page.evaluate(
        "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')]"
        ".some(p => /\\[[\\d*]+\\]:/.test(p.textContent))")


def test_parts_of_a_signed_lesson_move_before_a_cell_is_run(browser, lab):
    "Two planes beside one another, each moved by the keyboard, each by itself."
    page = opened(browser, lab, signed[0])
    page.wait_for_selector(hosts, state="attached")
    planes = page.locator(f"{hosts}[data-part=plane]")
    assert planes.count() == 2
    for i in range(2):
        part = planes.nth(i)
        part.scroll_into_view_if_needed()
        page.wait_for_function("i => document.querySelectorAll("
                               "'div.live[data-part=plane]')[i].dataset.ready == 'yes'",
                               arg=i)
        part.locator("canvas").first.focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowDown"): page.keyboard.press(key)
        # right and down of the middle: JupyterLab has not taken the keys for its own
        page.wait_for_function("""i => {
            const said = document.querySelectorAll('div.live[data-part=plane]')[i]
                .querySelector('[aria-live]').innerText.replaceAll('−', '-');
            const [x, y] = (said.match(/-?\\d+\\.\\d+/g) || [0, 0]).map(Number);
            return x > 0 && y < 0;
        }""", arg=i, timeout=10_000)
    boxes = [planes.nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    assert no_cell_was_run(page)
    page.close()


def test_a_part_of_a_signed_lesson_reads_all_of_its_models(browser, lab):
    page = opened(browser, lab, signed[1])
    page.wait_for_selector(hosts, state="attached")
    page.locator(hosts).scroll_into_view_if_needed()
    page.wait_for_selector(f"{hosts}[data-ready=yes]")
    assert page.evaluate("document.querySelector('.live').live.programs.length") == 4
    assert no_cell_was_run(page)
    page.close()


def test_a_lesson_that_is_not_signed_shows_the_picture(browser, lab):
    page = opened(browser, lab, unsigned)
    picture = page.locator(".jp-OutputArea-output img[src*='assets/live/codes.png']")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector(\"img[src*='assets/live/codes.png']"
                           "\").naturalWidth > 300")
    assert len(picture.get_attribute("alt")) > 40
    assert page.evaluate("window.vaeLive === undefined && "
                         "!document.querySelector('.live-app')")
    page.close()
