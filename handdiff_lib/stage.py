"""A stage: hands that move in a page, in columns under one camera, with no kernel, no network and no other library.

The page gets rotations and skins the hands itself (static/*.js), with the arrays of the open hand, which may be given
away. Of any other hand it gets the vertices of each frame: MANO's licence keeps its arrays out of pages.
A picture drawn here stands in until the script has drawn the first frame, and where there is no WebGL2.
"""

import base64
import json
from dataclasses import dataclass
from functools import cache, cached_property
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from handdiff_lib.actors import Actor, Camera, Cast
from handdiff_lib.hand import load_hand
from handdiff_lib.packed import hand_arrays, points_text, text, turns_text
from handdiff_lib.scene import MISSING, UP
from handdiff_lib.still import LAMP, LIGHT, Easel, Picture, normals_of
from handdiff_lib.topology import FINGERS, JOINTS, TIPS

_SCRIPTS = ("hand.js", "paint.js", "actor.js", "pick.js", "stage.js")
_STATIC = Path(__file__).resolve().parent / "static"
_STOPS = ((62, 112, 190), (140, 147, 155), (255, 214, 64))
"""The colour scale, evenly spaced: blue, grey, yellow, which colour-blind readers can tell apart."""
_LEVELS = 8
"""Colours of the scale in a still."""
_STILL = 560
"""Pixels across a still; the page scales it."""
_NOTE = (
    "Drag to turn; click: name a joint; double click: reset; "
    "arrow keys: one frame; Shift and arrow keys: turn; plus and minus: zoom; space: play"
)


@dataclass(frozen=True)
class Scale:
    """What colours mean where they are numbers."""

    name: str
    low: float
    high: float

    def share(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """How far along the scale the numbers lie, in [0, 1]; what is not known is at its start."""
        return ((values.nan_to_num() - self.low) / max(self.high - self.low, 1e-9)).clamp(0, 1)


@dataclass(frozen=True)
class Dial:
    """A slider under a hand that turns joints or changes its shape."""

    name: str
    low: float
    high: float
    turns: Float[Tensor, "16 3"]
    """Rotation vector added to each joint's for one unit of the dial, radians."""
    betas: Float[Tensor, "10"]
    """What one unit adds to the shape."""
    unit: str = "°"
    step: float = 1.0


@dataclass(frozen=True, repr=False)
class Stage:
    """A cast and what the page shows of it. `show` and `div` take it as they take a figure."""

    cast: Cast
    columns: tuple[str, ...]
    """Names over the columns."""
    fps: float
    """At which Play shows the frames."""
    label: str = "time"
    """What the slider moves along."""
    names: tuple[str, ...] | None = None
    """Of the frames; without them the slider tells seconds, from `start`."""
    start: float = 0.0
    trails: int = 0
    """Frames of the paths behind the finger tips; none without."""
    active: int = 0
    """The frame that the page shows first."""
    title: str | None = None
    truth: int | None = None
    """Actor from which the distance of the others' vertices, in mm, is their colour."""
    scale: Scale | None = None
    lanes: str = ""
    """Curves and states over the frames, from lanes.py."""
    dials: tuple[Dial, ...] = ()
    autoplay: bool = False
    """Play when first seen, unless the reader's system asks for little motion."""

    def __len__(self) -> int:
        return len(self.cast)

    def __repr__(self) -> str:
        return f"Stage({', '.join(self.columns)}: {len(self)} frames)"

    def _repr_html_(self) -> str:
        return self.html(script=True)

    def html(self, script: bool = False, name: str | None = None) -> str:
        """The stage as a `<div>`; style, script and hand, which a page needs once, come along when asked for."""
        camera, about = self._camera, self.title or ", ".join(filter(None, self.columns)) or "hand"
        frames = f"{len(self)} frames" if len(self) > 1 else "one frame"
        words = escape(f"{about}: in 3D, {frames}. {_NOTE}.")
        ratio = f"{len(self.columns) * camera.wide:.4f} / {camera.high:.4f}"
        picture = base64.b64encode(self.still().png()).decode()
        data = json.dumps(self._data(), separators=(",", ":")).replace("<", "\\u003c")
        parts = [
            page_parts() if script else "",
            f'<div class="handstage"{_attribute("id", name)} role="group" aria-label="{escape(about)}">',
            f'<p class="hs-title">{escape(self.title)}</p>' if self.title else "",
            self._heads() if any(self.columns) else "",
            f'<div class="hs-view" style="aspect-ratio:{ratio}">',
            f'<img class="hs-still" alt="" src="data:image/png;base64,{picture}">',
            f'<canvas class="hs-canvas" tabindex="0" role="img" aria-label="{words}" title="{_NOTE}"></canvas>',
            '<p class="hs-pick" role="status"></p></div>',
            '<p class="hs-nogl">This browser has no WebGL2, so the hand stands still.</p>',
            self._bar() if len(self) > 1 else "",
            _legend(self.scale) if self.scale else "",
            f'<div class="hs-dials">{"".join(_dial(dial) for dial in self.dials)}</div>' if self.dials else "",
            self.lanes,
            f'<script type="application/json">{data}</script></div>',
            "<script>handstage.start()</script>" if script else "",
        ]
        return "".join(parts)

    def still(self, width: int = _STILL, frame: int | None = None) -> Picture:
        """The picture of a frame (by default the first shown), that many pixels wide, as the page shows it."""
        camera, at = self._camera, self.active if frame is None else frame
        part = width // len(self.columns)
        height = round(part * camera.high / camera.wide)
        ramp = [_on_scale(k / (_LEVELS - 1)) for k in range(_LEVELS)] if self.scale else []
        flat = list(dict.fromkeys([_rgb(MISSING), *(_rgb(actor.color) for actor in self.cast.actors)]))
        easel, faces = Easel(part * len(self.columns), height, [*ramp, *flat]), self.cast.faces
        for actor in self.cast.actors:
            points, left = self.cast.points(actor, [at])[0], part * actor.column
            color = np.full(len(points), len(ramp) + flat.index(_rgb(actor.color if actor.is_seen[at] else MISSING)))
            share = self._share(actor, at, points)
            if share is not None and actor.is_seen[at]:
                color = (share * (_LEVELS - 1)).round().long().numpy()
            seen = ((points - camera.middles[actor.column]) @ camera.axes.mT).double().numpy()
            pixels = seen * [part / camera.wide, -part / camera.wide, 1] + [left + part / 2, height / 2, 0]
            easel.mesh(pixels, normals_of(seen, faces), faces, color, left, left + part)
        return easel.picture()

    @cached_property
    def _camera(self) -> Camera:
        return self.cast.camera()

    def _share(self, actor: Actor, frame: int, points: Float[Tensor, "v 3"]) -> Float[Tensor, "v"] | None:
        """How far along the colour scale each vertex is; None where the actor has one colour."""
        if self.truth is not None and actor is not self.cast.actors[self.truth]:
            true = self.cast.points(self.cast.actors[self.truth], [frame])[0]
            return self.scale.share(1000 * (points - true).norm(dim=-1))
        if actor.heat is None:
            return None
        return self.scale.share(self.cast.hand.weights @ actor.heat[frame].nan_to_num())

    def _data(self) -> dict:
        """What static/stage.js reads."""
        camera, scale = self._camera, self.scale or Scale("", 0.0, 1.0)
        dials = [{"turns": _sparse(d.turns), "betas": _sparse(d.betas), "unit": d.unit} for d in self.dials]
        words = ("fps", "active", "label", "names", "start", "trails", "autoplay", "columns")
        return {name: getattr(self, name) for name in words} | {
            "frames": len(self),
            "camera": camera.axes.flatten().tolist(),
            "up": UP,
            "span": [camera.wide, camera.high],
            "middles": [camera.middles[k].tolist() for k in range(len(self.columns))],
            "light": {"lamp": LAMP, "parts": LIGHT},
            "heat": {
                "truth": self.truth,
                "low": scale.low,
                "high": scale.high,
                "stops": _STOPS,
                "missing": _rgb(MISSING),
            },
            "dials": [dial | {"digits": 0 if d.step >= 1 else 1} for dial, d in zip(dials, self.dials, strict=True)],
            "actors": [self._actor(actor) for actor in self.cast.actors],
        }

    def _actor(self, actor: Actor) -> dict:
        """One actor for the page: rotations and shape of the open hand, or vertices of any other."""
        hand = self.cast.hand
        missing = (~actor.is_seen).nonzero()[:, 0].tolist()
        data = {"color": actor.color, "column": actor.column, "opacity": actor.opacity, "missing": missing}
        if hand.name == "open":
            data |= {"hand": hand.name, "turns": turns_text(actor.R), "betas": text(actor.betas, "f4")}
            data |= {"places": text(actor.place, "f4")} if actor.place.any() else {}
            heat = actor.heat
        else:
            points, unit = points_text(self.cast.points(actor, range(len(self))))
            data |= {"points": points, "unit": unit, "faces": text(self.cast.faces, "u2"), "tips": TIPS["smplx"]}
            heat = None if actor.heat is None else actor.heat.nan_to_num() @ hand.weights.mT
        if heat is not None:
            data["heat"] = text(255 * self.scale.share(heat), "u1")
        return data | {"mirrored": self.cast.is_left}

    def _heads(self) -> str:
        """The names over the columns, each with its colour unless colours are numbers there."""
        first: dict[int, tuple[int, Actor]] = {}
        for k, actor in enumerate(self.cast.actors):
            first.setdefault(actor.column, (k, actor))
        heads = []
        for column, name in enumerate(self.columns):
            k, actor = first[column]
            is_plain = actor.heat is None and self.truth in (None, k)
            chip = f'<i class="hs-chip" style="background:{actor.color}"></i>' if is_plain and name else ""
            heads.append(f"<span>{chip}{escape(name)}</span>")
        return f'<div class="hs-names">{"".join(heads)}</div>'

    def _bar(self) -> str:
        now = self.names[self.active] if self.names else f"{self.start + self.active / self.fps:.2f} s"
        label = escape(self.label)
        longest = max(map(len, self.names)) if self.names else 7
        return (
            '<div class="hs-bar"><button type="button" class="hs-play">Play</button><input type="range" '
            f'class="hs-slider" min="0" max="{len(self) - 1}" value="{self.active}" aria-label="{label}" '
            f'aria-valuetext="{label} {escape(now)}"><span>{label if self.names else ""}</span>'
            f'<span class="hs-now" style="min-width:{min(longest, 16) * 0.6:.1f}em">{escape(now)}</span></div>'
        )


@cache
def page_script() -> str:
    """The script that every page with a stage needs once; a second copy does nothing."""
    body = "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return f'if (!window.handstage) (() => {{\n"use strict";\n{body}}})();\n'


@cache
def page_hand() -> str:
    """The script that gives a page the open hand (about 125 kB)."""
    names = {"names": [*JOINTS, *(f"{finger} tip" for finger in FINGERS)]}
    arrays = json.dumps(hand_arrays(load_hand()) | names, separators=(",", ":"))
    return f'handstage.addHand("open", {arrays});\n'


@cache
def page_style() -> str:
    """The style of a stage."""
    return (_STATIC / "stage.css").read_text(encoding="utf-8")


def page_parts() -> str:
    """Style, script and the open hand as HTML."""
    return f"<style>{page_style()}</style><script>{page_script()}{page_hand()}</script>"


def _legend(scale: Scale) -> str:
    stops = ",".join(f"rgb{stop}".replace(" ", "") for stop in _STOPS)
    return (
        f'<div class="hs-scale"><span>{escape(scale.name)}</span><span>{scale.low:g}</span>'
        f'<i style="background:linear-gradient(90deg,{stops})"></i><span>{scale.high:g}</span></div>'
    )


def _dial(dial: Dial) -> str:
    return (
        f'<label><span>{escape(dial.name)}</span><input type="range" class="hs-dial" min="{dial.low:g}" '
        f'max="{dial.high:g}" step="{dial.step:g}" value="0"><span>0{dial.unit}</span></label>'
    )


def _sparse(values: Float[Tensor, "..."]) -> list[tuple[int, float]]:
    """Place and value of what is not zero."""
    flat = values.flatten()
    return [(int(k), float(flat[k])) for k in flat.nonzero()[:, 0]]


def _rgb(color: str) -> tuple[int, int, int]:
    return tuple(int(color[k : k + 2], 16) for k in (1, 3, 5))


def _on_scale(share: float) -> tuple[int, int, int]:
    """The colour at this share of the scale."""
    at = min(int(share * (len(_STOPS) - 1)), len(_STOPS) - 2)
    way = share * (len(_STOPS) - 1) - at
    return tuple(round(low + way * (high - low)) for low, high in zip(_STOPS[at], _STOPS[at + 1], strict=True))


def _attribute(name: str, value: str | None) -> str:
    return f' {name}="{escape(value)}"' if value else ""
