"""What a reader sees: headless Chromium opens the report and the built book with the network shut."""

import json
import re
import time
from pathlib import Path
from urllib.parse import unquote

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


def resize(chromium, width: int) -> None:
    """Make the page that many pixels wide; a window cannot be narrower than 500."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait(chromium, question: str, *words: object, seconds: float = 40) -> object:
    """The first true answer of a script."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := chromium.execute_script(f"return {question.strip()}", *words):
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not true within {seconds} s: {question}")


DRAWN = """
[...document.querySelectorAll(".handstage")].filter((el) => el.stage && el.stage.drawn).length
+ document.querySelectorAll(".js-plotly-plot .main-svg").length
"""


def open_page(chromium, address: str) -> None:
    """Load a page and wait until its first figure is drawn."""
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(address)
    chromium.execute_script("document.querySelector('.handstage, .plotly-graph-div').scrollIntoView()")
    wait(chromium, DRAWN)


def check_quiet(chromium, address: str) -> None:
    """No error in the console, and no request to anything but our own server."""
    errors = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, errors
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    left = [url for url in asked if not url.startswith((address, "data:", "blob:", "about:"))]
    assert not left, left


STAGE_INK = """
const canvas = arguments[0].querySelector(".hs-canvas"), p = canvas.getContext("2d").getImageData(
  0, 0, canvas.width, canvas.height).data;
let count = 0;
for (let i = 3; i < p.length; i += 4) if (p[i] > 0) count++;
return count / (canvas.width * canvas.height);
"""
"""Share of a stage's canvas that is painted."""


def check_plays(chromium) -> None:
    """The first figure is drawn, and Play moves its slider."""
    if chromium.execute_script("return !document.querySelector('.handstage')"):
        return check_plotly_plays(chromium)
    el = chromium.execute_script("return document.querySelector('.handstage')")
    chromium.execute_script("arguments[0].scrollIntoView()", el)
    wait(chromium, f"(() => {{{STAGE_INK}}})() > 0.05", el)
    if not chromium.execute_script("return !!arguments[0].querySelector('.hs-play')", el):
        return None
    chromium.execute_script("const s = arguments[0].stage; s.play(false); s.show(0)", el)
    chromium.execute_script("arguments[0].querySelector('.hs-play').click()", el)
    return wait(chromium, "+arguments[0].querySelector('.hs-slider').value > 0", el)


def check_plotly_plays(chromium) -> None:
    """The same of a plotly figure; one in a plane without a slider need only be drawn."""
    figure = chromium.execute_script("return document.querySelector('.plotly-graph-div')")
    chromium.execute_script("arguments[0].scrollIntoView()", figure)
    wait(chromium, "!!arguments[0].querySelector('.main-svg')", figure)
    assert chromium.execute_async_script(INK, figure) > 300
    if not chromium.execute_script("return (arguments[0]._fullLayout.sliders || []).length", figure):
        return
    active = "arguments[0]._fullLayout.sliders[0].active"
    before = chromium.execute_script(f"return {active} || 0", figure)
    play = "arguments[0].querySelector('.updatemenu-button')"
    chromium.execute_script(f"{play}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))", figure)
    wait(chromium, f"{active} !== {before}", figure)


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
    assert chromium.execute_script("return document.querySelectorAll('.handstage').length") == 2
    wait(chromium, "parseFloat(document.querySelector('.hs-cursor').style.left) > 0")  # it follows the player
    check_quiet(chromium, report_address)


def test_report_fits_a_phone(chromium, report_address):
    resize(chromium, 390)
    open_page(chromium, f"{report_address}/report.html")
    wait(chromium, "document.documentElement.scrollWidth <= 390")
    assert (
        chromium.execute_script(STAGE_INK, chromium.execute_script("return document.querySelector('.handstage')"))
        > 0.05
    )


FITS = """
[...document.querySelectorAll(".js-plotly-plot")].every((gd) => Math.abs(gd._fullLayout.width - gd.clientWidth) < 2)
"""
"""Every figure that is drawn is as wide as its place."""


def pages() -> list[str]:
    """The pages of the built book that have figures."""
    found = [path for path in sorted((BOOK / "book").rglob("*.html")) if path.name != "opening.html"]
    moving = [path for path in found if re.search('class="handstage"|Plotly.newPlot', path.read_text(encoding="utf-8"))]
    return [str(path.relative_to(BOOK)) for path in moving] or ["book/intro.html"]


@pytest.mark.parametrize("page", pages())
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
    for width in (390, 1100):
        resize(chromium, width)
        wait(chromium, f"document.documentElement.scrollWidth <= {width}")
        wait(chromium, FITS)


def test_links_of_the_built_book_lead_somewhere():
    """Every address inside the book that a page links to, or loads, is a file."""
    if not BOOK.is_dir():
        pytest.skip("the book is not built: make book")
    broken = []
    for page in sorted((BOOK / "book").rglob("*.html")):
        for address in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", address) and not (page.parent / unquote(address)).exists():
                broken.append(f"{page.name}: {address}")
    assert not broken, broken
