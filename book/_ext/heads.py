"""Sphinx extension: what a page says of itself to searches and to those who link to it.

The description is the page's first paragraph; the picture, one for the whole book, is made by book/card.py.
"""

import re
import shutil
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

CARD = "nb/card.png"
LONGEST = 200
"""Letters of a description."""
MADE = {"genindex": "Index", "search": "Search"}
"""Titles that Sphinx's templates keep to themselves."""


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("html-page-context", _add_tags)
    app.connect("build-finished", _copy_card)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _add_tags(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Description and card; pages that Sphinx makes itself have no text to quote."""
    book, base = app.config.html_title or app.config.project, app.config.html_baseurl
    title = re.sub("<[^>]+>", "", context.get("title") or "") or MADE.get(page, escape(book))
    told = escape(first_words(doctree) if doctree else "") or f"{title}, a page of {escape(book)}"
    tags = {
        "description": told,
        "og:type": "article",
        "og:site_name": escape(book),
        "og:title": title,
        "og:description": told,
        "og:url": f"{base}{page}.html",
        "og:image": f"{base}_static/{Path(CARD).name}",
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "The same hand before refining, after it, and as it truly moved",
        "twitter:card": "summary_large_image",
    }
    kinds = {name: "property" if name.startswith("og:") else "name" for name in tags}
    context["metatags"] = (context.get("metatags") or "") + "".join(
        f'\n<meta {kinds[name]}="{name}" content="{words}">' for name, words in tags.items()
    )


def first_words(doctree: nodes.document) -> str:
    """The first paragraph of the page as plain text, cut after a sentence or a word where it is long."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(_plain(paragraph).split())
        if len(text) > 20 and not isinstance(paragraph.parent, (nodes.entry, nodes.citation)):
            return text if len(text) <= LONGEST else _cut(text)
    return ""


def _plain(node: nodes.Node) -> str:
    """Text without the signs of TeX, and references by what they show."""
    if isinstance(node, nodes.math):
        return re.sub(r"\\[a-z]+|[{}$\\^]", "", node.astext())
    return node.astext() if isinstance(node, nodes.Text) else "".join(map(_plain, node.children))


def _cut(text: str) -> str:
    sentence = text.rfind(". ", 0, LONGEST)
    return text[: sentence + 1] if sentence > LONGEST / 3 else f"{text[: text.rfind(' ', 0, LONGEST)]} …"


def _copy_card(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.srcdir) / "book" / CARD, Path(app.outdir) / "_static")
