"""The before/after page: one HTML file that works with no network, on a phone too.

It holds a player for each track, its acceleration curve with a cursor that follows the player, and a table.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import torch

from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.scene import div
from handdiff_lib.storage import write_whole
from handdiff_lib.view import curves, finger_acceleration_deg, player

_MESHES = 300
"""Meshes on one page, over all players: 2 MB beside the 4.7 MB of plotly.js."""
_PLAYERS = 4
_FRAMES = (30, 90)
"""Fewest and most frames of one player."""

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#fff;margin:0 auto;padding:1rem;max-width:1000px}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .3rem}p{margin:.3rem 0}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0}caption{text-align:left}
th,td{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
"""

_LINK = """
for (const pair of document.querySelectorAll(".pair")) {
  const [film, lines] = pair.querySelectorAll(".js-plotly-plot");
  if (!film || !lines) continue;
  const move = (name) => {
    const at = parseFloat(name);
    Plotly.relayout(lines, {shapes: [{type: "line", x0: at, x1: at, y0: 0, y1: 1, yref: "paper", line: {width: 1}}]});
  };
  film.on("plotly_animatingframe", (event) => move(event.name));
}
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
    where the estimate jitters most. The curves always show the whole track.
    """
    names = [name for name in tracks_before if name in tracks_after]
    if not names:
        raise MotionError(
            f"report: no track in both motions (before: {', '.join(tracks_before)}; after: {', '.join(tracks_after)})"
        )
    played = sorted(names, key=lambda name: len(tracks_after[name]), reverse=True)[:_PLAYERS]
    meshes = sum(3 if name in (truth or {}) else 2 for name in played)
    frames = min(max(_MESHES // meshes, _FRAMES[0]), _FRAMES[1])
    parts = []
    for place, name in enumerate(played):
        tracks = {"before": tracks_before[name], "after": tracks_after[name]}
        if truth and name in truth:
            tracks["truth"] = truth[name]
        parts.append(_section(name, tracks, hand, frames, place))
    rows = table or [_row(name, tracks_before[name], tracks_after[name]) for name in names]
    left_out = f"<p>The table has all {len(names)} tracks; the players show the longest {_PLAYERS}.</p>"
    body = _table(rows) + (left_out if len(names) > _PLAYERS else "") + "".join(parts)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Hand motion, before and after</title><style>{_STYLE}</style></head><body>"
        "<h1>Hand motion, before and after</h1><p>Drag a hand to turn it; the cursor in the curve follows the "
        f"slider. Grey: no estimate in that frame.</p>{body}<script>{_LINK}</script></body></html>"
    )
    write_whole(path, lambda file: file.write(page.encode()), suffix=".html", force=force)


def _section(name: str, tracks: dict[str, HandMotion], hand: HandModel, frames: int, place: int) -> str:
    """The player and the curves of one track; the first one brings plotly.js."""
    motion = tracks["after"]
    start, seconds = _stretch(tracks["before"], frames)
    length = len(motion) / motion.fps
    which = f"{start:.1f} to {start + seconds:.1f} s of {length:.1f} s" if seconds < length else f"all {length:.1f} s"
    film = player(tracks, hand, seconds=seconds, start=start, max_frames=frames)
    film_div, lines_div = div(film, plotlyjs=place == 0, name=f"film{place}"), div(curves(tracks), name=f"lines{place}")
    return f'<section class="pair"><h2>{escape(name)}: {which}</h2>{film_div}{lines_div}</section>'


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
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
