"""Plain charts of results: bars with intervals, as plotly figures."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from scipy import stats

from handdiff_lib.hand import InputError
from handdiff_lib.scene import light

_BAR, _FIRST, _INTERVAL = "#56B4E9", "#B0B0B0", "#333333"


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    r"""Mean of repeated runs and the ends of its interval, $\bar x \pm t_{n-1}\, s / \sqrt n$ (Student 1908).

    One run has no interval: both ends are the run.
    """
    if not values:
        raise InputError("mean_interval: no run at all")
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return mean, mean, mean
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread / math.sqrt(n)
    return mean, mean - reach, mean + reach


def bars(
    rows: Mapping[str, Sequence[float] | tuple[float, float, float]],
    unit: str,
    runs: bool = True,
    title: str | None = None,
) -> go.Figure:
    """One bar a row, downwards in the order given, with its interval and its number; the first row is grey.

    With `runs` a row holds repeated measurements (seeds): the bar is their mean, the interval is `mean_interval`'s and
    the runs are dots. Without, it holds (value, low, high).
    """
    names = list(rows)
    told = [mean_interval(rows[name]) if runs else tuple(rows[name]) for name in names]
    if any(len(numbers) != 3 for numbers in told):
        raise InputError("bars: without runs a row is (value, low, high)")
    values = [value for value, _, _ in told]
    reach = dict(
        type="data",
        symmetric=False,
        array=[high - value for value, _, high in told],
        arrayminus=[value - low for value, low, _ in told],
        color=_INTERVAL,
        thickness=1.5,
    )
    words = [f"{value:.2f}" if low == high else f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in told]
    fig = light(go.Figure(), height=110 + 44 * len(names))
    look = dict(color=[_FIRST, *[_BAR] * (len(names) - 1)])
    fig.add_bar(y=names, x=values, orientation="h", marker=look, error_x=reach, hovertext=words, hoverinfo="y+text")
    if runs:
        dots = [(value, name) for name in names for value in rows[name]]
        x, y = zip(*dots, strict=True)
        mark = dict(color=_INTERVAL, size=5, opacity=0.6)
        fig.add_scatter(x=x, y=y, mode="markers", marker=mark, hoverinfo="x")
    most = max(high for _, _, high in told)
    for name, text in zip(names, [f"{value:.2f}" for value in values], strict=True):
        fig.add_annotation(x=1, xref="paper", xanchor="left", y=name, text=text, showarrow=False)
    fig.update_yaxes(autorange="reversed", automargin=True)
    fig.update_xaxes(title=unit, range=[min(0.0, *(low for _, low, _ in told)), 1.05 * most])
    return fig.update_layout(showlegend=False, title=title, margin_t=50 if title else 15, margin_r=60, bargap=0.35)
