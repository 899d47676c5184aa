"""What every figure shares: the house look, sliders, colours, and points packed small.

Points are stored as 16-bit integers, one unit = 0.01 mm where the scene is smaller than 65 cm: 60 frames of 778
vertices take 0.4 MB. The camera is orthographic, so hands side by side look alike.
"""

import os
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from torch import Tensor

SKIN = "#E3B59B"
MISSING = "#C8C8C8"
COLORS = {"before": "#D55E00", "after": "#0072B2", "truth": "#009E73"}
"""Okabe and Ito's colours, which colour-blind readers can tell apart; other names get the next of _OTHERS."""
_OTHERS = ("#56B4E9", "#E69F00", "#CC79A7", "#444444")
_INK = "#333333"

UP = (-1.0, 0.0, 0.0)
"""What is up in viewing axes: the fingers of the rest pose."""
EYE = (-0.2, 1.0, 0.75)
"""From where a right hand is seen: above its back, from the thumb's side, so that bending shows."""

_LIGHTING = dict(ambient=0.42, diffuse=0.6, specular=0.1, roughness=0.6, fresnel=0.05)
_GLASS = dict(ambient=0.85, diffuse=0.2, specular=0.0, roughness=1.0, fresnel=0.0)
_LAMP = dict(x=-9e4, y=9e4, z=-7e4)
"""Upper left, in front of the hand: plotly takes light positions in camera axes (x right, y up, -z to the eye)."""
_ROOM = 1.85
"""Share of the frame that a scene fills."""
_BARE = dict.fromkeys(("showgrid", "zeroline", "showline", "showticklabels", "showspikes", "showbackground"), False)
_BARE |= dict(title="", tickmode="array", tickvals=[])
"""An axis that is not seen. With `visible=False` plotly still draws its labels, which takes half a second."""
_HEIGHT = 470
"""Of a figure with a scene, in pixels, where the page is wide enough."""

_FIT = """
const gd = document.getElementById("{plot_id}"), size = gd.layout.meta, isScene = size && size.wide;
let width = isScene ? 0 : gd.clientWidth, timer;
function fit() {
  if (!gd.clientWidth || gd.clientWidth === width) return;
  width = gd.clientWidth;
  if (!isScene) return Plotly.Plots.resize(gd);
  const l = gd._fullLayout, w = width - l.width + l._size.w, edge = l.height - l._size.h;
  const h = Math.min(size.height - edge, 1.05 * w * size.high / size.wide);
  const k = size.room * Math.min(w / h / size.wide, 1 / size.high);
  const ratio = {x: k * size.ratio[0], y: k * size.ratio[1], z: k * size.ratio[2]};
  gd.style.height = h + edge + "px";
  gd.parentElement.style.height = "auto";
  const apart = [width - l.width, h + edge - l.height, 100 * (ratio.x / l.scene.aspectratio.x - 1)];
  if (Math.max(...apart.map(Math.abs)) < 1) return; // drawn as it should be: a second time costs a second
  return Plotly.relayout(gd, {"scene.aspectratio": ratio, width, height: h + edge});
}
fit();
new ResizeObserver(() => { clearTimeout(timer); timer = setTimeout(fit, 100); }).observe(gd);
"""


@runtime_checkable
class Page(Protocol):
    """What makes its own HTML, as a stage does."""

    def html(self, script: bool = False, name: str | None = None) -> str: ...


def show(fig: go.Figure | Page):
    """Last line of a cell: a live figure in Jupyter, static HTML where HANDDIFF_BOOK is set (the built book)."""
    if "HANDDIFF_BOOK" not in os.environ:
        return fig
    from IPython.display import HTML

    return HTML(div(fig))


def div(fig: go.Figure | Page, plotlyjs: bool = False, name: str | None = None) -> str:
    """The figure as an HTML `<div>` as wide as its page; the script that draws it comes along only when asked for."""
    if not isinstance(fig, go.Figure):
        return fig.html(plotlyjs, name)
    config = dict(responsive=False, displaylogo=False, displayModeBar=False)
    page = dict(include_plotlyjs=plotlyjs, full_html=False, auto_play=False, default_width="100%", div_id=name)
    return fig.to_html(config=config, post_script=_FIT, **page)


def light(fig: go.Figure, height: int = 380) -> go.Figure:
    """The figure in the house look: white, thin grid, small margins, legend on top, readable on a phone."""
    fig.update_annotations(font_size=13)  # titles of subplots
    fig.update_layout(
        template="plotly_white",
        height=height,
        margin=dict(l=55, r=15, t=50, b=50),
        font=dict(size=13, color=_INK),
        legend=dict(orientation="h", x=0, y=1.02, yanchor="bottom"),
    )
    return fig


def frames_slider(
    fig: go.Figure, frames: Sequence[go.Frame], label: str, frame_ms: float = 100, active: int = 0
) -> go.Figure:
    """The figure with these named frames, a slider that reads `label name`, and Play and Pause under it.

    `active` is the frame that the figure already shows.
    """
    names = [frame.name for frame in frames]
    still = dict(frame=dict(duration=0, redraw=True), transition=dict(duration=0), mode="immediate")
    moving = still | dict(frame=dict(duration=frame_ms, redraw=True), fromcurrent=True)
    low = dict(x=0, y=0, xanchor="left", yanchor="top")
    buttons = [
        dict(method="animate", label="Play", args=[None, moving]),
        dict(method="animate", label="Pause", args=[[None], still]),
    ]
    steps = [dict(method="animate", label=name, args=[[name], still]) for name in names]
    has_axis = bool(fig.layout.xaxis.to_plotly_json()) or not any(trace.type.endswith("3d") for trace in fig.data)
    drop = 45 if has_axis else 5  # leave room for the tick labels of a plane figure
    fig.frames = list(frames)
    fig.update_layout(
        margin_b=drop + 100,
        updatemenus=[low | dict(type="buttons", direction="left", buttons=buttons, showactive=False, pad_t=drop + 58)],
        sliders=[
            low
            | dict(
                steps=steps,
                active=active,
                currentvalue=dict(prefix=label + " ", xanchor="right", font=dict(color=_INK, size=14)),
                ticklen=0,
                minorticklen=0,
                font_color="rgba(0,0,0,0)",  # no tick labels: they collide on a phone
                pad=dict(t=drop, l=10, r=10),
            )
        ],
    )
    return fig


def color_of(name: str, names: Sequence[str]) -> str:
    """The colour of a track: before, after and truth have their own, the others follow in order."""
    others = [other for other in names if other not in COLORS]
    return COLORS[name] if name in COLORS else _OTHERS[others.index(name) % len(_OTHERS)]


class Grid:
    """A box around points, centred as seen from `eye`, and points as integers in it."""

    def __init__(self, points: Float[Tensor, "t k 3"], eye: Float[Tensor, "3"]):
        self.eye, self.right = eye, across(eye)
        over = torch.linalg.cross(self.right, -eye / eye.norm())
        flat = points.flatten(0, 1)
        middle = (flat.amin(0) + flat.amax(0)) / 2
        for axis in (self.right, over):
            seen = (flat - middle) @ axis
            middle = middle + (seen.max() + seen.min()) / 2 * axis
        self.centre, self.half = middle, (flat - middle).abs().amax(0) + 0.005
        self.unit = max(1e-5, float(self.half.max()) / 32767)
        self.wide, self.high = (float(((flat - middle) @ axis).max() / self.half.max()) for axis in (self.right, over))

    def xyz(self, points: Float[Tensor, "k 3"]) -> dict[str, np.ndarray]:
        """Plotly's x, y, z: 16-bit integers, or 32-bit floats where a gap (NaN) separates two lines."""
        units = ((points - self.centre) / self.unit).numpy()
        whole = units.astype(np.float32) if np.isnan(units).any() else units.round().astype(np.int16)
        return {axis: np.ascontiguousarray(whole[:, k]) for k, axis in enumerate("xyz")}

    def layout(self) -> dict:
        """What plotly's layout needs: no axes, true proportions, and how large the box looks from the eye (in `meta`).

        Plotly scales a scene by the height of its frame; the script in `div` makes it fit the width too.
        """
        ratio = self.half / self.half.max()
        reach = (self.half / self.unit).tolist()
        scene = {f"{axis}axis": _BARE | dict(range=[-end, end]) for axis, end in zip("xyz", reach, strict=True)}
        scene["aspectmode"] = "manual"
        scene["aspectratio"] = _named(_ROOM * min(1.6 / self.wide, 1 / self.high) * ratio)
        scene["camera"] = dict(eye=_named(self.eye), up=_named(torch.tensor(UP)), projection_type="orthographic")
        return dict(
            scene=scene | dict(dragmode="orbit"),
            meta=dict(wide=self.wide, high=self.high, ratio=ratio.tolist(), room=_ROOM, height=_HEIGHT),
            height=_HEIGHT,
        )


def across(eye: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """What points to the right of the picture, seen from `eye`."""
    return torch.nn.functional.normalize(torch.linalg.cross(-eye, torch.tensor(UP)), dim=0)


def _named(vector: Float[Tensor, "3"]) -> dict[str, float]:
    return dict(zip("xyz", vector.tolist(), strict=True))


def mesh(faces: Int[Tensor, "f 3"], paint: dict, opacity: float = 1.0) -> go.Mesh3d:
    """A surface without its points; `paint` is what plotly calls color, intensity or vertexcolor."""
    corners = faces.numpy().astype(np.uint16)
    ijk = {name: np.ascontiguousarray(corners[:, k]) for k, name in enumerate("ijk")}
    look = dict(lighting=_LIGHTING if opacity == 1 else _GLASS, lightposition=_LAMP, opacity=opacity)
    return go.Mesh3d(**ijk, **paint, **look, hoverinfo="skip", flatshading=False)


def film(
    traces: list, moving: list[Callable[[int], dict]], frames: Sequence[int], names: Sequence[str], active: int = 0
) -> go.Figure:
    """A figure whose trace `i` takes the properties `moving[i](frame)`; it shows the frame in place `active`."""
    fig = go.Figure([trace.update(**change(frames[active])) for trace, change in zip(traces, moving, strict=True)])
    kinds, which = [type(trace) for trace in traces], list(range(len(traces)))
    fig.frames = [
        go.Frame(name=name, traces=which, data=[kind(**move(k)) for kind, move in zip(kinds, moving, strict=True)])
        for k, name in zip(frames, names, strict=True)
    ]
    return fig
