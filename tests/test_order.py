"""The library reads in one direction: a file imports only from files before it."""

import ast
from pathlib import Path

import pytest

import handdiff_lib

ORDER = (  # noqa: SIM905 - a sentence reads better than sixty strings
    "rotation smoothing topology hand layers anatomy motion storage mano_file ik readers perturb contact states "
    "shapes grasp grips paths inhand story synth metrics submit pool near surface filters baselines physics diffusion "
    "pyramid meshconv frames decoder denoiser checkpoint losses corpus data train timeline refine presets "
    "calibration framescore scorecard run protocol rivals rival_runs raster loop contestants peak bench published "
    "packed still scene actors lanes charts stage live players view report learning terminal study results trials "
    "training_trials twin_trials data_set_trials speed_trials all_trials cli"
).split()

LIBRARY = Path(handdiff_lib.__file__).parent
FILES = sorted(p for p in LIBRARY.rglob("*.py") if p != LIBRARY / "__init__.py")


def place(path: Path) -> str:
    """The name in ORDER that a file stands under; all readers are one."""
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def uses(path: Path) -> set[str]:
    """Names in ORDER that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("handdiff_lib"):
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_imports_point_backwards(path):
    here = ORDER.index(place(path))
    late = {name for name in uses(path) - {place(path)} if ORDER.index(name) >= here}
    assert not late, f"{path.name} imports {late}, which come after it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_a_file_holds_one_idea(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 320
    assert ast.get_docstring(ast.parse(path.read_text())), "the first line of a file says its idea"
