"""The built book as files: what pages say of themselves to searches and links, and what they weigh."""

import re
import struct
from html import unescape

import pytest
from test_pages import BOOK

pytestmark = pytest.mark.browser
HOME = "https://handdiff.github.io/handdiff/"


@pytest.fixture(scope="module", autouse=True)
def book():
    """Skip where there is nothing to read."""
    if not BOOK.is_dir():
        pytest.skip("the book is not built: make book")


def tags(page) -> dict[str, list[str]]:
    """Name -> contents of a page's meta tags."""
    found: dict[str, list[str]] = {}
    for name, content in re.findall(r'<meta (?:name|property)="([\w:]+)" content="([^"]*)"', page.read_text()):
        found.setdefault(name, []).append(unescape(content))
    return found


def every_page() -> list:
    """The pages that Sphinx made, and the one that leads to the first."""
    return [page for page in sorted(BOOK.rglob("*.html")) if "_static" not in page.parts]


def test_every_page_says_what_it_is():
    for page in every_page():
        told = tags(page)
        head = page.read_text().split("</head>")[0]
        assert len(re.findall(r"<title>[^<]+</title>", head)) == 1, page
        for name in ("description", "og:title", "og:description", "og:image", "twitter:card"):
            assert len(told.get(name, [])) == 1, f"{page.name}: {name}"
            assert told[name][0].strip(), f"{page.name}: {name}"
        assert told["description"] == told["og:description"]
        assert len(told["description"][0]) <= 203, page


def test_no_page_says_where_it_was_built():
    for page in every_page():
        assert str(BOOK.parents[1]) not in page.read_text(), page


def test_no_two_pages_of_the_book_have_the_same_description():
    told = [tags(page)["description"][0] for page in sorted((BOOK / "book").rglob("*.html"))]
    assert len(told) >= 25
    assert len(set(told)) == len(told)


def test_the_picture_for_links_is_light_and_has_the_size_that_is_promised():
    told = tags(BOOK / "book" / "intro.html")
    address = told["og:image"][0]
    assert address.startswith(HOME)
    picture = (BOOK / address.removeprefix(HOME)).read_bytes()
    assert len(picture) < 150_000
    assert struct.unpack(">II", picture[16:24]) == (1200, 630)
    assert (told["og:image:width"], told["og:image:height"]) == (["1200"], ["630"])


def test_a_page_weighs_at_most_one_and_a_half_megabytes_beyond_the_scripts_that_all_share():
    for page in every_page():
        images = {page.parent / src for src in re.findall(r'<img[^>]* src="([^":]+)"', page.read_text())}
        weight = page.stat().st_size + sum(image.stat().st_size for image in images)
        assert weight <= 1_500_000, f"{page.name}: {weight / 1e6:.2f} MB"


def test_the_first_page_with_its_player_weighs_at_most_300_kb():
    """Page, script, style and hand; the theme is not counted."""
    parts = [BOOK / "book" / "intro.html", *(BOOK / "_static" / f"handstage.{kind}" for kind in ("js", "css"))]
    assert sum(part.stat().st_size for part in parts) <= 300_000
