"""The book holds together: pairs agree, pages exist, and every equation that the code cites is on the notation page."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import jupytext
import pytest

from handdiff_lib.motion import HandMotion
from handdiff_lib.storage import SCHEMA

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
NOTATION = (ROOT / "book" / "notation.md").read_text()
CITATION = re.compile(r"\b(DIP|ResShift|SMPL|MDM|SinSR) Eq\. (\d+(?:(?:, |-)\d+)*)")
pages = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def cells(path: Path) -> list[tuple[str, str, list[str]]]:
    """Kind, text and tags of each cell."""
    return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in jupytext.read(path).cells]


def cited(text: str) -> set[tuple[str, int]]:
    """Each (paper, equation number) in a text; `DIP Eq. 4, 6-8` is four of them."""
    found = set()
    for paper, numbers in CITATION.findall(text):
        for part in numbers.split(", "):
            first, _, last = part.partition("-")
            found |= {(paper, number) for number in range(int(first), int(last or first) + 1)}
    return found


@pages
def test_script_and_twin_agree(script):
    assert cells(script) == cells(script.with_suffix(".ipynb")), "run: make pair"


@pages
def test_twin_has_text_outputs_only(script):
    twin = script.with_suffix(".ipynb")
    assert twin.stat().st_size < 100_000
    for cell in jupytext.read(twin).cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] == "stream" or set(output["data"]) == {"text/plain"}


@pages
def test_cells_that_show_a_figure_are_not_compared(script):
    shown = [(source, tags) for _, source, tags in cells(script) if re.search(r"^show\(", source, re.M)]
    assert shown, "a page has a figure"
    assert all("nbval-ignore-output" in tags for _, tags in shown)


@pages
def test_a_page_begins_and_ends_with_three_bullets(script):
    texts = [source for kind, source, _ in cells(script) if kind == "markdown"]
    for text in (texts[0], texts[-1]):
        assert len(re.findall(r"^- ", text, re.M)) == 3, text


@pages
def test_first_cell_installs_from_the_repository_of_the_book(script):
    url = re.search(r"url: (\S+)", (ROOT / "_config.yml").read_text()).group(1)
    setup = next(source for kind, source, _ in cells(script) if kind == "code")
    assert f"git+{url}" in setup


def test_contents_name_pages_that_exist():
    toc = (ROOT / "_toc.yml").read_text()
    names = re.findall(r"(?:file|root): (\S+)", toc)
    assert len(names) >= 8
    for name in names:
        source = ROOT / f"{name.replace('book/nb/', 'notebooks/')}{'.py' if '/nb/' in name else '.md'}"
        assert source.is_file(), source


def test_equations_cited_in_the_code_are_on_the_notation_page():
    known = cited(NOTATION)
    assert {("DIP", number) for number in range(1, 9)} <= known
    for path in sorted((ROOT / "handdiff_lib").rglob("*.py")):
        missing = cited(path.read_text()) - known
        assert not missing, f"{path.name} cites {missing}"


def test_cited_reads_lists_and_ranges():
    assert cited("(DIP Eq. 4, 6-8; MDM Eq. 3)") == {("DIP", 4), ("DIP", 6), ("DIP", 7), ("DIP", 8), ("MDM", 3)}


def test_notation_page_has_every_field_of_the_file():
    assert f"`{SCHEMA}`" in NOTATION
    for field in fields(HandMotion):
        assert f"| `{field.name}` |" in NOTATION


def test_library_names_on_the_notation_page_exist():
    modules = {path.stem: path for path in (ROOT / "handdiff_lib").glob("*.py")}
    named = [(m, n) for m, n in re.findall(r"`(?:handdiff_lib\.)?(\w+)\.(\w+)`", NOTATION) if m in modules]
    assert len(named) >= 5
    for module, name in named:
        tree = ast.parse(modules[module].read_text())
        assert name in {node.name for node in tree.body if hasattr(node, "name")}, f"{module}.{name}"


def test_citations_are_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.M))
    texts = [path.read_text() for path in [*(ROOT / "book").glob("*.md"), *SCRIPTS]]
    used = {key for text in texts for keys in re.findall(r"\{cite:\w+\}`([\w,]+)`", text) for key in keys.split(",")}
    assert used <= known
