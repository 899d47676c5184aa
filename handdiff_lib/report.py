"""The before/after page: one HTML file that works with no network, on a phone too.

It holds a player for each track, its acceleration curve with a cursor that follows the player, and a table.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import torch

from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.players import player
from handdiff_lib.scene import div
from handdiff_lib.stage import page_parts
from handdiff_lib.storage import write_whole
from handdiff_lib.view import finger_acceleration_deg

_PLAYERS = 4
_FRAMES = 1800
"""Of one player of the open hand, 30 a second: a minute, 0.5 MB for two hands."""
_MESHES = 300
"""Of any other hand, over all players: their vertices are 2 MB."""
_FRAMES_OF_VERTICES = (30, 90)
"""Fewest and most frames of one such player."""
_CURVE = "finger acceleration (°/frame²)"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#fff;margin:0 auto;padding:1rem;max-width:1000px}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .3rem}p{margin:.3rem 0}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0}caption{text-align:left}
th,td{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
html[data-theme="dark"] body{color:#e6e8eb;background:#14181e}html[data-theme="dark"]{background:#14181e}
"""

_THEME = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => { document.documentElement.dataset.theme = dark.matches ? "dark" : "light"; };
dark.addEventListener("change", follow);
follow();
"""


def report(
    path: str | Path,
    tracks_before: dict[str, HandMotion],
    tracks_after: dict[str, HandMotion],
    hand: HandModel,
    truth: dict[str, HandMotion] | None = None,
    table: Sequence[Mapping[str, object]] | None = None,
    force: bool = False,
) -> None:
    """Write the page to `path` (.html). Tracks are matched by name.

    `table` is a list of rows, each with the same columns; without it the page counts frames and tells each track's
    mean finger acceleration. The four longest tracks are played: whole when they are short, otherwise the stretch
    where the estimate jitters most.
    """
    names = [name for name in tracks_before if name in tracks_after]
    if not names:
        raise MotionError(
            f"report: no track in both motions (before: {', '.join(tracks_before)}; after: {', '.join(tracks_after)})"
        )
    played = sorted(names, key=lambda name: len(tracks_after[name]), reverse=True)[:_PLAYERS]
    meshes = sum(3 if name in (truth or {}) else 2 for name in played)
    low, high = _FRAMES_OF_VERTICES
    frames = _FRAMES if hand.name == "open" else min(max(_MESHES // meshes, low), high)
    parts = []
    for name in played:
        tracks = {"before": tracks_before[name], "after": tracks_after[name]}
        if truth and name in truth:
            tracks["truth"] = truth[name]
        parts.append(_section(name, tracks, hand, frames))
    rows = table or [_row(name, tracks_before[name], tracks_after[name]) for name in names]
    left_out = f"<p>The table has all {len(names)} tracks; the players show the longest {_PLAYERS}.</p>"
    body = _table(rows) + (left_out if len(names) > _PLAYERS else "") + "".join(parts)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Hand motion, before and after</title><style>{_STYLE}</style><script>{_THEME}</script></head>"
        f"<body><main>{page_parts()}<h1>Hand motion, before and after</h1><p>Drag a hand to turn it; the cursor in the "
        f"curve follows the slider. Grey: no estimate in that frame.</p>{body}</main>"
        "<script>handstage.start()</script></body></html>"
    )
    write_whole(path, lambda file: file.write(page.encode()), suffix=".html", force=force)


def _section(name: str, tracks: dict[str, HandMotion], hand: HandModel, frames: int) -> str:
    """The player of one track, with its curve under it."""
    motion = tracks["after"]
    start, seconds = _stretch(tracks["before"], frames)
    length = len(motion) / motion.fps
    which = f"{start:.1f} to {start + seconds:.1f} s of {length:.1f} s" if seconds < length else f"all {length:.1f} s"
    lines = {_CURVE: {kind: finger_acceleration_deg(track) for kind, track in tracks.items()}}
    film = player(tracks, hand, seconds=seconds, start=start, max_frames=frames, lines=lines)
    return f"<section><h2>{escape(name)}: {which}</h2>{div(film)}</section>"


def _stretch(motion: HandMotion, frames: int) -> tuple[float, float]:
    """Start and length, in seconds, of what to play: `frames` frames at 30 a second where acceleration is largest."""
    step = max(1, round(motion.fps / 30))
    count = frames * step
    if len(motion) <= count:
        return 0.0, len(motion) / motion.fps
    size = finger_acceleration_deg(motion).nan_to_num()
    total = torch.cat([size.new_zeros(1), size.double().cumsum(0)])
    window = total[count - 2 :] - total[: len(total) - count + 2]
    return int(window.argmax()) / motion.fps, (count - 1) / motion.fps


def _row(name: str, before: HandMotion, after: HandMotion) -> dict[str, str]:
    """What one can say of a track without ground truth."""
    means = [finger_acceleration_deg(motion).nanmean() for motion in (before, after)]
    return {
        "track": name,
        "frames": str(len(after)),
        "missing before": str(int((~before.valid).sum())),
        "missing after": str(int((~after.valid).sum())),
        "°/frame² before": f"{means[0]:.2f}",
        "°/frame² after": f"{means[1]:.2f}",
    }


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows as an HTML table; the first row names the columns."""
    head = "".join(f"<th>{escape(str(column))}</th>" for column in rows[0])
    lines = ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row.values()) + "</tr>" for row in rows]
    frame = '<div class="wide" tabindex="0" role="region" aria-label="scores">'
    return f"{frame}<table><tr>{head}</tr>{''.join(lines)}</table></div>"
