r"""Sphinx extension: docstrings as they are written in the library, for autodoc.

They are plain text with `code`, $mathematics$ and indented blocks that keep their layout. reStructuredText wants
double backticks, roles, and `::` before such a block.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

CLONE = Path(__file__).resolve().parents[2]
CODE = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<!\$)\$([^$]+?)\$(?!\$)", re.DOTALL)
EMPHASIS = re.compile(r"(?<![\w*])\*\w[^*\n]*\w\*(?![\w*])")
SPECIAL = re.compile(r"(?<!\\)([*|])|(?<=\w)_(?=\W|$)")


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _rewrite)
    app.connect("html-page-context", _shorten_names)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _rewrite(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Change the lines in place, as autodoc wants it."""
    lines[:] = to_rst("\n".join(lines)).split("\n")


def _shorten_names(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """`~module.Name` stays in signatures that Sphinx cannot take apart; show `Name`. Paths begin in the clone."""
    if 'class="sig-param"' in (context.get("body") or ""):
        context["body"] = re.sub(r"~(?:[a-z_]\w*\.)+(?=[A-Z])", "", context["body"]).replace(f"{CLONE}/", "")


def to_rst(text: str) -> str:
    """The docstring as reStructuredText: paragraphs translated, indented blocks literal."""
    blocks = re.split(r"\n\s*\n", DISPLAY.sub(lambda m: f"\n\n.. math:: {_one_line(m[1])}\n\n", text).strip("\n"))
    done, literal = [], False
    for block in blocks:
        if block.startswith(".. math::"):
            done.append(block)
            literal = False
            continue
        head, rest = _split_at_indent(block)
        if head:
            done.append(_paragraph(head))
            literal = False
        if rest:
            done += [rest] if literal else ["::", rest]
            literal = True
    return "\n\n".join(done) + "\n"


def _split_at_indent(block: str) -> tuple[str, str]:
    """The unindented lines a block begins with, and what follows from its first indented line on."""
    lines = block.split("\n")
    first = next((k for k, line in enumerate(lines) if line.startswith("  ")), len(lines))
    is_list = first and re.match(r"[-*] ", lines[0])
    if is_list:
        return block, ""
    after = next((k for k in range(first, len(lines)) if not lines[k].startswith("  ")), len(lines))
    tail = "\n".join(lines[after:])
    return "\n".join(lines[:first]), "\n".join(lines[first:after]) + (f"\n\n{_paragraph(tail)}" if tail else "")


def _paragraph(text: str) -> str:
    """Code and mathematics as roles, the rest with its special characters escaped."""
    kept: list[str] = []

    def keep(rst: str) -> str:
        kept.append(rst)
        return f"\0{len(kept) - 1}\0"

    text = CODE.sub(lambda m: keep(f"``{m[1]}``"), text)
    text = INLINE.sub(lambda m: keep(f":math:`{_one_line(m[1])}`"), text)
    text = EMPHASIS.sub(lambda m: keep(m[0]), text)
    text = SPECIAL.sub(lambda m: "\\" + m[0], text)
    text = re.sub(r"\0(\d+)\0(?=\w)", r"\0\1\0\\ ", text)
    text = re.sub(r"(?<=\w)\0(\d+)\0", r"\\ \0\1\0", text)
    return re.sub(r"\0(\d+)\0", lambda m: kept[int(m[1])], text)


def _one_line(tex: str) -> str:
    return " ".join(tex.split())
