r"""Moving hands on a page: plotly figures whose sliders work with no kernel and no network.

Motions are drawn in *viewing axes*: the mean wrist orientation is undone, so that the back of the hand faces the
reader and the fingers point up, whatever frame the track was recorded in. Left hands are drawn as left hands.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import second_difference_deg
from handdiff_lib.motion import HandMotion, fill_missing
from handdiff_lib.rotation import mean_rotation
from handdiff_lib.scene import (
    EYE,
    MISSING,
    SKIN,
    Grid,
    across,
    color_of,
    div,
    film,
    frames_slider,
    light,
    mesh,
    show,
)
from handdiff_lib.topology import BONES21, PARENTS

__all__ = ["curves", "div", "finger_acceleration_deg", "frames_slider", "hand_figure", "light", "player", "show"]

_SHOWN_FPS = 30


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
) -> go.Figure:
    """A hand mesh over frames, metres, drawn as given and seen from above its back (+y, fingers along -x up).

    `colors` is one name, one number a vertex (a colour scale), or red, green, blue in [0, 1] a vertex. `joints`, 16 in
    MANO order or 21 in OpenPose order, show through the skin. More than `max_frames` frames are thinned evenly; the
    slider then still tells the true time, or the frame's own entry of `labels`.
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
    fig = film(traces, moving, keep, [names[k] for k in keep])
    step = (keep[-1] - keep[0]) / max(len(keep) - 1, 1)
    return _finish(fig, grid, label, 1000 * step / fps, title)


def player(
    tracks: dict[str, HandMotion],
    hand: HandModel,
    seconds: float | None = None,
    start: float = 0.0,
    max_frames: int = 60,
    steady: bool = True,
    trails: int = 0,
    title: str | None = None,
) -> go.Figure:
    """Several motions of one hand side by side, in time with each other, under one slider and one camera.

    The window begins at `start` seconds of the first track and lasts `seconds` (default: to its end). It is played at
    up to 30 frames a second, thinned further to `max_frames`. `steady` holds the wrists still, so that turning and
    bending show; otherwise each hand also moves, about the place where its wrist is on average. Frames without a valid
    estimate are grey. `trails` draws the path of the finger tips over that many shown frames.
    Tracks of another frame rate show the frame nearest in time.
    """
    names, first = list(tracks), next(iter(tracks.values()))
    times = _window(first, seconds, start, max_frames)
    is_left = first.side == "left"
    eye = torch.tensor(EYE) * torch.tensor([1.0, 1.0, -1.0 if is_left else 1.0])
    right = across(eye)
    R_view_world = _facing(tracks[names[-1]])
    clips = [_clip(motion, hand, times, R_view_world, steady) for motion in tracks.values()]
    width = max(float((clip.vertices @ right).max() - (clip.vertices @ right).min()) for clip in clips) + 0.02
    clips = [clip.moved((k - (len(clips) - 1) / 2) * width * right) for k, clip in enumerate(clips)]
    words = torch.stack([clip.above() for clip in clips])
    words[:, 0] = words[:, 0].min()
    shown = [clip.vertices for clip in clips] + [words.expand(len(times), -1, -1)]
    grid = Grid(torch.cat(shown, dim=1), eye)
    traces, moving = [], []
    for name, clip in zip(names, clips, strict=True):
        color = color_of(name, names)
        traces.append(mesh(hand.faces.flip(-1) if is_left else hand.faces, {}))
        moving.append(
            lambda k, clip=clip, color=color: (
                grid.xyz(clip.vertices[k]) | dict(color=color if clip.is_seen[k] else MISSING)
            )
        )
        if trails:
            look = dict(mode="lines", line=dict(width=5, color=color), hoverinfo="skip", showlegend=False)
            traces.append(go.Scatter3d(**look))
            moving.append(lambda k, clip=clip: grid.xyz(clip.trail(k, trails)))
    active = min(trails, len(times) - 1)  # the first picture has whole trails already
    fig = film(traces, moving, range(len(times)), [f"{time:.2f} s" for time in times], active)
    for name, word in zip(names, words, strict=True):
        look = dict(text=f"<b>{name}</b>", font=dict(color=color_of(name, names), size=15), showarrow=False)
        fig.layout.scene.annotations += (look | {axis: int(value[0]) for axis, value in grid.xyz(word[None]).items()},)
    frame_ms = 1000 * (times[1] - times[0]) if len(times) > 1 else 100
    return _finish(fig, grid, "time", frame_ms, title, active)


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


@dataclass(frozen=True)
class _Clip:
    """What the player shows of one track, frame by frame, in viewing axes."""

    vertices: Float[Tensor, "t v 3"]
    tips: Float[Tensor, "t 5 3"]
    is_seen: Bool[Tensor, "t"]

    def moved(self, shift: Float[Tensor, "3"]) -> "_Clip":
        """The same clip elsewhere."""
        return _Clip(self.vertices + shift, self.tips + shift, self.is_seen)

    def above(self) -> Float[Tensor, "3"]:
        """A place for the name: over the middle of all that the clip shows."""
        low, high = self.vertices.flatten(0, 1).amin(0), self.vertices.flatten(0, 1).amax(0)
        return torch.stack([low[0] - 0.015, *((low + high) / 2)[1:]])

    def trail(self, frame: int, count: int) -> Float[Tensor, "k 3"]:
        """The last `count` places of each tip, one finger after the other with a gap between."""
        past = self.tips[max(0, frame - count) : frame + 1].transpose(0, 1)  # (5, n, 3)
        return torch.cat([past, torch.full_like(past[:, :1], torch.nan)], dim=1).flatten(0, 1)


def _clip(
    motion: HandMotion, hand: HandModel, times: list[float], R_view_world: Float[Tensor, "3 3"], steady: bool
) -> _Clip:
    """The track at these times, turned to face the reader, its wrist at the origin (on average unless steady)."""
    whole = fill_missing(motion).to("cpu", torch.float32)
    frames = (torch.tensor(times) * motion.fps).round().long().clamp(max=len(motion) - 1)
    posed = whole[frames].pose(hand)
    wrist = posed.joints[:, :1]
    origin = wrist if steady else wrist.mean(0, keepdim=True)
    mirror = torch.tensor([1.0, 1.0, -1.0 if motion.side == "left" else 1.0])
    vertices, tips = (((points - origin) @ R_view_world.mT) * mirror for points in (posed.skin(), posed.tips()))
    return _Clip(vertices, tips, motion.valid[frames])


def _facing(motion: HandMotion) -> Float[Tensor, "3 3"]:
    """The turn that takes the track's mean wrist orientation to the rest pose."""
    R = motion.R[motion.valid, 0].float()
    return mean_rotation(R, R.new_ones(len(R))).mT


def _window(motion: HandMotion, seconds: float | None, start: float, max_frames: int) -> list[float]:
    """Times of the frames to show, in seconds: real frames of the track, evenly spaced."""
    first = min(round(start * motion.fps), len(motion) - 1)
    last = len(motion) - 1 if seconds is None else min(len(motion) - 1, first + round(seconds * motion.fps))
    step = max(1, round(motion.fps / _SHOWN_FPS), -(-(last - first + 1) // max_frames))
    return [frame / motion.fps for frame in range(first, last + 1, step)]


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


def _finish(fig: go.Figure, grid: Grid, label: str, frame_ms: float, title: str | None, active: int = 0) -> go.Figure:
    """The figure with its scene, look and slider."""
    light(fig).update_layout(**grid.layout(), margin=dict(l=5, r=5, t=60 if title else 10), title=title)
    return frames_slider(fig, fig.frames, label, frame_ms, active) if len(fig.frames) > 1 else fig
