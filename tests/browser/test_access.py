"""Every page of the book, wide and on a phone: axe finds nothing serious or critical, and no page is too wide.

Some pages, one of each kind, are looked at in the dark theme as well.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
from test_pages import BOOK, resize, wait

pytestmark = pytest.mark.browser

DARK = ("book/intro.html", "book/notation.html", "book/nb/12_states.html", "book/nb/14_ablation.html")
LET_PASS: dict[str, str] = {}
"""Rule -> why the book may break it."""

THIN = """
const few = (what, n) => [...document.querySelectorAll(what)].slice(n).forEach((el) => el.remove());
few("dl.py", 20);
few(".toc-entry", 40);
few("mjx-container", 20);
for (const code of document.querySelectorAll(".highlight pre")) {
  [...code.querySelectorAll("span")].slice(150).forEach((el) => el.remove());
}
"""
"""Code and mathematics hold the same few kinds of element thousands of times: some of each are enough."""

RUN = """
const done = arguments[0];
axe.run({ resultTypes: ["violations"] }).then(({ violations }) => done(violations.filter(
  ({ impact }) => impact === "serious" || impact === "critical"
).map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => `${node.target}: ${node.failureSummary}`)])));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, from a package that carries it (`make .venv/.axe`)."""
    found = find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe-core is not installed: make .venv/.axe")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def pages() -> list[str]:
    """Every page that Sphinx made; of the sources, which are all made alike, the first."""
    found = [str(page.relative_to(BOOK)) for page in sorted(BOOK.rglob("*.html")) if "_static" not in page.parts]
    sources = [page for page in found if page.startswith("_modules")]
    return [page for page in found if page not in ("index.html", *sources[1:])] or ["book/intro.html"]


@pytest.mark.parametrize(("page", "theme"), [(page, "light") for page in pages()] + [(page, "dark") for page in DARK])
def test_axe_finds_nothing_serious_and_the_page_fits_a_phone(chromium, serve, axe, page, theme):
    if not (BOOK / page).is_file():
        pytest.skip("the book is not built: make book")
    wishes = {"prefers-reduced-motion": "reduce", "prefers-color-scheme": theme}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    found, address = {}, f"{serve(BOOK)}/{page}"
    for width in (1280, 390):
        resize(chromium, width)
        chromium.get(address)
        assert chromium.execute_script("return document.documentElement.dataset.theme") == theme
        wait(chromium, f"document.documentElement.scrollWidth <= {width}")  # all of it, and once more thinned
        chromium.execute_script(THIN)
        chromium.execute_script(axe)
        found |= {f"{rule} at {width}": where for rule, where in chromium.execute_async_script(RUN)}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    wait(chromium, "document.documentElement.scrollWidth <= 390")
    bad = {rule: where for rule, where in found.items() if rule.split()[0] not in LET_PASS}
    assert not bad, bad
