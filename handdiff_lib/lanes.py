"""Lanes under a stage: curves and states over its frames, as SVG that needs no script; the stage moves a cursor."""

from collections.abc import Mapping
from html import escape
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib.topology import FREE, STATES

_WIDE, _HIGH = 1000, 100
_PLACES = 1500
"""Points of a curve; longer ones keep the largest value of each stretch, so that no jump is lost."""
STATE_COLORS = ("#56B4E9", "#009E73", "#E69F00", "#CC79A7")
"""Of the four states, in the order of STATES; from Okabe and Ito."""


def curve_lane(title: str, curves: Mapping[str, Float[Tensor, "t"]], colors: Mapping[str, str]) -> str:
    """Curves over the same frames from zero (or their least value, where that is negative) up; NaN leaves a gap."""
    known = torch.cat([curve[curve.isfinite()] for curve in curves.values()])
    low, high = (min(float(known.min()), 0.0), max(float(known.max()), 1e-9)) if len(known) else (0.0, 1.0)
    lines = "".join(f'<path stroke="{colors[n]}" d="{_path(c, low, high)}"/>' for n, c in curves.items())
    means = ", ".join(f"{name} {float(curve.nanmean()):.2f} on average" for name, curve in curves.items())
    span = f"{low:.3g} to {high:.3g}"
    keys = "".join(f"<span>{_chip(colors[name])}{escape(name)}</span>" for name in curves)
    return _lane(f"{title}, {span}", f'<div class="hs-keys">{keys}</div>', lines, f"{title} over the frames: {means}")


def state_lane(title: str, states: Int[Tensor, "t"]) -> str:
    """A strip with the state of each frame; frames without one stay empty."""
    unit, place, blocks, told = _WIDE / max(len(states), 1), 0, [], []
    for state, run in groupby(states.tolist()):
        count = len(list(run))
        if state != FREE:
            name = STATES[state]
            told.append(name)
            blocks.append(
                f'<rect x="{place * unit:.1f}" y="0" width="{count * unit:.1f}" height="{_HIGH}" '
                f'fill="{STATE_COLORS[state]}"><title>{name}</title></rect>'
            )
        place += count
    used = [k for k in range(len(STATES)) if STATES[k] in told]
    keys = "".join(f"<span>{_chip(STATE_COLORS[k])}{STATES[k]}</span>" for k in used)
    words = f"{title} over the frames: {', then '.join(told) if told else 'none'}"
    return _lane(title, f'<div class="hs-keys">{keys}</div>', "".join(blocks), words, "hs-strip")


def _path(curve: Float[Tensor, "t"], low: float, high: float) -> str:
    """SVG's words for a curve, from the left edge to the right."""
    step = -(-len(curve) // _PLACES)
    rest = len(curve) % step
    padded = torch.cat([curve, curve[-1:].expand(step - rest)]) if rest else curve
    top = padded.unflatten(0, (-1, step)).amax(1)
    words, is_on = [], False
    for k, value in enumerate(top.tolist()):
        if value != value:
            is_on = False
            continue
        x = _WIDE * k / max(len(top) - 1, 1)
        y = 4 + (_HIGH - 8) * (1 - (value - low) / (high - low))
        words.append(f"{'L' if is_on else 'M'}{x:.1f} {y:.1f}")
        is_on = True
    return "".join(words)


def _lane(title: str, keys: str, body: str, words: str, kind: str = "") -> str:
    return (
        f'<div class="hs-lane"><div class="hs-lane-head"><div>{escape(title)}</div>{keys}</div>'
        f'<div class="hs-plot {kind}"><svg viewBox="0 0 {_WIDE} {_HIGH}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(words)}">{body}</svg><div class="hs-cursor"></div></div></div>'
    )


def _chip(color: str) -> str:
    return f'<i class="hs-chip" style="background:{color}"></i>'
