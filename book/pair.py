"""Make each notebook and its percent script say the same, then run it and keep its text outputs.

    python book/pair.py             all notebooks
    python book/pair.py 01 03       only these

Of a script and its twin the one edited last wins. Figures are left out of the twin, so that it stays small; their
cells carry the tag `nbval-ignore-output`. What remains is what `pytest --nbval` compares with.
"""

import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
RICH = {"application/vnd.plotly.v1+json", "text/html", "image/png", "image/svg+xml"}


def main(only: list[str]) -> None:
    """Pair and run the notebooks whose number is given, or all."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.pop("HANDDIFF_BOOK", None)
    for script in sorted(NOTEBOOKS.glob("[0-9]*.py")):
        if not only or script.stem.split("_")[0] in only:
            start = time.monotonic()
            pair(script)
            size = script.with_suffix(".ipynb").stat().st_size / 1000
            print(f"pair: {script.stem} ran in {time.monotonic() - start:.0f} s, twin has {size:.0f} kB", flush=True)


def pair(script: Path) -> None:
    """Bring script and twin together and write the twin with fresh outputs."""
    twin = script.with_suffix(".ipynb")
    newer_twin = twin.exists() and twin.stat().st_mtime > script.stat().st_mtime
    if newer_twin and cells(twin) != cells(script):
        jupytext.write(jupytext.read(twin), script, fmt="py:percent")
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", record_timing=False, resources={"metadata": {"path": "."}}
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not RICH & set(output.get("data", {}))]
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    }
    nbformat.write(notebook, twin)


def cells(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Kind, text and tags of each cell: what a script and its twin must agree on."""
    return [(c.cell_type, c.source, tuple(c.metadata.get("tags", []))) for c in jupytext.read(path).cells]


if __name__ == "__main__":
    main(sys.argv[1:])
