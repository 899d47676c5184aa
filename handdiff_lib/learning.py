"""The learning curves of a run: its log as a page with one panel for each term of the loss and one for the judge."""

import json
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from handdiff_lib.hand import InputError
from handdiff_lib.scene import div, light
from handdiff_lib.storage import write_whole

POINTS = 120
"""Points of a curve; each is the mean of the steps around it."""
JUDGED = ("val_mje_mm", "val_p_mje_mm", "val_accl_mm", "clean_mje_mm")


def learning_curves(log: Path) -> go.Figure:
    """Every loss term over the steps (log scale where all of it is positive) and, below, what the judge said.

    Lines that a stopped run wrote twice count once, the last time. InputError for a log without a step.
    """
    lines = {line["step"]: line for line in map(json.loads, log.read_text().splitlines())}
    if not lines:
        raise InputError(f"{log} has no step yet; train first")
    rows = [lines[step] for step in sorted(lines)]
    terms = [name for name in rows[-1] if name not in ("step", "seconds") and not name.startswith(("val_", "clean_"))]
    terms = [name for name in terms if any(row[name] for row in rows)]
    judged = [name for name in JUDGED if any(name in row for row in rows)]
    names, across = [*terms, *judged], 3
    titles = [name.replace("val_", "validation ").replace("clean_", "clean input ").replace("_", " ") for name in names]
    fig = make_subplots(-(-len(names) // across), across, subplot_titles=titles, vertical_spacing=0.08)
    for k, name in enumerate(names):
        told = [(row["step"], row[name]) for row in rows if name in row]
        if name in terms:
            width = -(-len(told) // POINTS)
            parts = [told[i : i + width] for i in range(0, len(told), width)]
            told = [tuple(sum(values) / len(part) for values in zip(*part, strict=True)) for part in parts]
        steps, values = zip(*told, strict=True)
        place = {"row": k // across + 1, "col": k % across + 1}
        fig.add_scatter(x=steps, y=values, mode="lines", showlegend=False, line={"width": 1.5}, **place)
        fig.update_yaxes(type="log" if min(values) > 0 and name in terms else "linear", **place)
    return light(fig, height=230 * -(-len(names) // across))


def write_curves(log: Path, page: Path) -> None:
    """Write `learning_curves` as a page that needs no network; an older one is replaced."""
    body = div(learning_curves(log), plotlyjs=True)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        f"<title>Learning curves</title></head><body><h1>Learning curves</h1>{body}</body></html>"
    )
    write_whole(page, lambda file: file.write(text.encode()), suffix=".html", force=True)
