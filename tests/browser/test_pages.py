"""What a reader sees: headless Chromium opens the report and the built book with the network shut."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion
from handdiff_lib.report import report

pytestmark = pytest.mark.browser
BOOK = Path(__file__).resolve().parents[2] / "_build" / "html"

INK = """
const done = arguments[arguments.length - 1], gd = arguments[0];
Plotly.toImage(gd, {format: "png", width: 300, height: 300}).then((url) => {
  const image = new Image();
  image.onload = () => {
    const page = document.createElement("canvas");
    page.width = page.height = 300;
    const pen = page.getContext("2d", {willReadFrequently: true});
    pen.drawImage(image, 0, 0);
    const p = pen.getImageData(0, 0, 300, 300).data;
    let count = 0;
    for (let i = 0; i < p.length; i += 4) if (p[i + 3] > 0 && Math.min(p[i], p[i + 1], p[i + 2]) < 200) count++;
    done(count);
  };
  image.src = url;
});
"""
"""Of the figure drawn 300 by 300, how many pixels are dark or coloured."""


class _Server(SimpleHTTPRequestHandler):
    """Files, no log, and an empty icon."""

    def log_message(self, *words: object) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture(scope="module")
def serve() -> Iterator:
    """`serve(folder)` is the address at which the folder can be read."""
    servers = []

    def start(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(_Server, directory=str(folder))))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """Headless Chromium that knows no name but 127.0.0.1; skipped where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (see requirements.txt)")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--enable-unsafe-swiftshader",
        "--use-angle=swiftshader",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1100,900",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


def resize(chromium, width: int) -> None:
    """Make the page that many pixels wide; a window cannot be narrower than 500."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait(chromium, question: str, *words: object, seconds: float = 40) -> object:
    """The first true answer of a script."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := chromium.execute_script(f"return {question}", *words):
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not true within {seconds} s: {question}")


def open_page(chromium, address: str) -> None:
    """Load a page and wait until its first three-dimensional figure is drawn."""
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(address)
    wait(chromium, "document.querySelector('.js-plotly-plot .gl-container canvas') !== null")


def check_quiet(chromium, address: str) -> None:
    """No error in the console, and no request to anything but our own server."""
    errors = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, errors
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    left = [url for url in asked if not url.startswith((address, "data:", "blob:", "about:"))]
    assert not left, left


def check_plays(chromium) -> None:
    """The first figure is drawn, and Play moves its slider."""
    figure = chromium.execute_script("return document.querySelector('.js-plotly-plot')")
    chromium.execute_script("arguments[0].scrollIntoView()", figure)
    assert chromium.execute_async_script(INK, figure) > 1500
    active = "arguments[0]._fullLayout.sliders[0].active"
    before = chromium.execute_script(f"return {active} || 0", figure)
    play = "arguments[0].querySelector('.updatemenu-button')"
    chromium.execute_script(f"{play}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))", figure)
    wait(chromium, f"{active} > {before}", figure)


@pytest.fixture(scope="module")
def report_address(hand: HandModel, serve, tmp_path_factory) -> str:
    """A report of two hands, one of them with gaps and a truth."""
    folder = tmp_path_factory.mktemp("report")
    generator = torch.Generator().manual_seed(0)
    bend = torch.zeros(60, 16, 3)
    bend[:, 1:13, 2] = torch.linspace(0, 1.2, 60)[:, None]
    noisy = bend + 0.08 * torch.randn(bend.shape, generator=generator)
    flat = (torch.zeros(10), torch.zeros(60, 3))
    seen = torch.arange(60) % 20 > 2

    def track(angles: torch.Tensor, valid: torch.Tensor, side: str) -> HandMotion:
        return HandMotion(rotation.exp(angles), *flat, valid, 30.0, side, "open")

    everything = torch.ones(60, dtype=torch.bool)
    before = {"right": track(noisy, seen, "right"), "left": track(noisy, everything, "left")}
    after = {"right": track(bend, everything, "right"), "left": track(bend, everything, "left")}
    report(folder / "report.html", before, after, hand, truth={"right": after["right"]})
    return serve(folder)


def test_report_draws_and_plays_without_network(chromium, report_address):
    resize(chromium, 1100)
    open_page(chromium, f"{report_address}/report.html")
    check_plays(chromium)
    assert wait(chromium, "document.querySelectorAll('.js-plotly-plot').length") == 4
    assert wait(chromium, "document.getElementById('lines0').layout.shapes.length") == 1  # the cursor follows
    check_quiet(chromium, report_address)


def test_report_fits_a_phone(chromium, report_address):
    resize(chromium, 390)
    open_page(chromium, f"{report_address}/report.html")
    wait(chromium, "document.documentElement.scrollWidth <= 390")
    figure = chromium.execute_script("return document.querySelector('.js-plotly-plot')")
    assert chromium.execute_async_script(INK, figure) > 1500


@pytest.mark.parametrize("page", ["book/intro.html", "book/nb/01_hand.html"])
def test_book_page_draws_and_plays_without_network(chromium, serve, page):
    if not (BOOK / page).is_file():
        pytest.skip("the book is not built: make book")
    resize(chromium, 1100)
    address = serve(BOOK)
    open_page(chromium, f"{address}/{page}")
    check_plays(chromium)
    if chromium.execute_script("return !!document.querySelector('.math')"):
        wait(chromium, "document.querySelectorAll('mjx-container').length")
    check_quiet(chromium, address)
