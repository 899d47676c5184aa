"""What notebooks show: a hand mesh with a slider and curves over time as plotly figures, and the players."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib.charts import bars
from handdiff_lib.live import live_hand, posable
from handdiff_lib.metrics import second_difference_deg
from handdiff_lib.motion import HandMotion
from handdiff_lib.players import ghosts, player, walk
from handdiff_lib.scene import (
    EYE,
    SKIN,
    Grid,
    color_of,
    div,
    film,
    frames_slider,
    light,
    mesh,
    show,
)
from handdiff_lib.stage import Scale
from handdiff_lib.topology import BONES21, PARENTS

__all__ = [
    "Scale",
    "bars",
    "curves",
    "div",
    "finger_acceleration_deg",
    "frames_slider",
    "ghosts",
    "hand_figure",
    "light",
    "live_hand",
    "player",
    "posable",
    "show",
    "walk",
]


def hand_figure(
    vertices: Float[Tensor, "t v 3"],
    faces: Int[Tensor, "f 3"],
    fps: float = 30,
    colors: Float[Tensor, "v"] | Float[Tensor, "v 3"] | str | None = None,
    title: str | None = None,
    joints: Float[Tensor, "t j 3"] | None = None,
    labels: Sequence[str] | None = None,
    label: str = "time",
    max_frames: int = 60,
    active: int = 0,
) -> go.Figure:
    """A hand mesh over frames, metres, drawn as given and seen from above its back (+y, fingers along -x up).

    `colors` is one name, one number a vertex (a colour scale), or red, green, blue in [0, 1] a vertex. `joints`, 16 in
    MANO order or 21 in OpenPose order, show through the skin. More than `max_frames` frames are thinned evenly; the
    slider then still tells the true time, or the frame's own entry of `labels`. It starts at its place `active`.
    """
    keep = torch.linspace(0, len(vertices) - 1, min(len(vertices), max_frames)).round().long().tolist()
    names = labels or [f"{frame / fps:.2f} s" for frame in range(len(vertices))]
    points = vertices[keep] if joints is None else torch.cat([vertices[keep], joints[keep]], dim=1)
    grid = Grid(points, torch.tensor(EYE))
    traces: list = [mesh(faces, _paint(colors), opacity=1.0 if joints is None else 0.4)]
    moving = [lambda k: grid.xyz(vertices[k])]
    if joints is not None:
        path = _bone_path(joints.shape[1])
        look = dict(marker=dict(size=4, color="#222222"), line=dict(width=5, color="#222222"), hoverinfo="skip")
        traces.append(go.Scatter3d(mode="lines+markers", showlegend=False, **look))
        moving.append(lambda k: grid.xyz(joints[k][path]))
    fig = film(traces, moving, keep, [names[k] for k in keep], active)
    step = (keep[-1] - keep[0]) / max(len(keep) - 1, 1)
    return _finish(fig, grid, label, 1000 * step / fps, title, active)


def curves(tracks: dict[str, HandMotion], title: str | None = None) -> go.Figure:
    """Mean finger acceleration of each motion over time, degrees per frame squared; gaps where frames miss.

    Long tracks are shown as means over blocks, 4000 points at most.
    """
    fig, names = light(go.Figure(), height=300), list(tracks)
    for name, motion in tracks.items():
        acceleration = finger_acceleration_deg(motion)
        time = (torch.arange(len(acceleration)) + 1) / motion.fps
        block = max(1, -(-len(time) // 4000))
        x, y = (values[: len(values) // block * block].reshape(-1, block).mean(1) for values in (time, acceleration))
        fig.add_scatter(x=x.numpy(), y=y.numpy(), name=name, line=dict(color=color_of(name, names), width=1.5))
    fig.update_layout(xaxis_title="time (s)", yaxis_title="finger acceleration (°/frame²)", hovermode="x")
    if title:
        fig.update_layout(title=title, margin_t=80)
    return fig


def finger_acceleration_deg(motion: HandMotion) -> Float[Tensor, "t_minus_2"]:
    """`metrics.second_difference_deg` of the 15 finger joints; NaN where one of its three frames is not valid."""
    if len(motion) < 3:
        return motion.R.new_zeros(0)
    is_seen = motion.valid[:-2] & motion.valid[1:-1] & motion.valid[2:]
    R = torch.where(motion.valid[:, None, None, None], motion.R, torch.eye(3).to(motion.R))
    return second_difference_deg(R[:, 1:]).masked_fill(~is_seen, torch.nan)


def _paint(colors: Tensor | str | None) -> dict:
    """Plotly's words for a colour, a number a vertex, or a colour a vertex."""
    if colors is None or isinstance(colors, str):
        return dict(color=colors or SKIN)
    if colors.ndim == 1:
        return dict(intensity=colors.numpy(), colorscale="Viridis", colorbar=dict(thickness=12, len=0.7))
    return dict(vertexcolor=(colors * 255).round().to(torch.uint8).numpy())


def _bone_path(count: int) -> list[int]:
    """One line through all bones: along each finger and back to the wrist."""
    parents = dict(enumerate(PARENTS)) if count == len(PARENTS) else {child: parent for parent, child in BONES21}
    path = [0]
    for tip in (joint for joint in range(1, count) if joint not in parents.values()):
        finger = [tip]
        while parents[finger[-1]] > 0:
            finger.append(parents[finger[-1]])
        path += [*finger[::-1], *finger[1:], 0]
    return path


def _finish(fig: go.Figure, grid: Grid, label: str, frame_ms: float, title: str | None, active: int) -> go.Figure:
    """The figure with its scene, look and slider."""
    light(fig).update_layout(**grid.layout(), margin=dict(l=5, r=5, t=60 if title else 10), title=title)
    return frames_slider(fig, fig.frames, label, frame_ms, active) if len(fig.frames) > 1 else fig
