r"""HOT3D (Banerjee et al. 2024): two hands and several things, optical motion capture, headset time stamps.

    <sequence>/mano_hand_pose_trajectory.jsonl    a line an instant: timestamp_ns, hand_poses {"0" left, "1" right:
                                                  {pose (15), wrist_xform {t_xyz, q_wxyz}, betas (10)}}
    <sequence>/dynamic_objects.csv                object_uid, timestamp[ns], t_wo_{x,y,z}[m], q_wo_{w,x,y,z}
    instance.json, assets/<uid>.glb               beside the sequences: names and meshes (metres)

`pose` are 15 principal components around MANO's mean pose; `t_xyz` is MANO's translation. The left hand is the true
mirror of the right one (`shapedirs` fixed). Aria writes two stamps a frame, 0.1 ms apart: one is kept.
"""

import csv
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import quaternions, shaped
from handdiff_lib.readers.files import need, read_json
from handdiff_lib.readers.recording import ObjectTrack, Place, Recording, hand_track, object_track, pca_fingers

HANDS = "mano_hand_pose_trajectory.jsonl"
OBJECTS = "dynamic_objects.csv"
SAME_NS = 5_000_000
"""Stamps closer than this are of one frame."""
SOURCE = "HOT3D, from projectaria.com/datasets/hot3D"
_SIDES: dict[str, Side] = {"0": "left", "1": "right"}
_COLUMNS = ("t_wo_x[m]", "t_wo_y[m]", "t_wo_z[m]", "q_wo_w", "q_wo_x", "q_wo_y", "q_wo_z")


def is_sequence(path: Path) -> bool:
    """Whether this is a sequence's folder, or its file of hands."""
    return path.name == HANDS or (path / HANDS).is_file()


def read_sequence(path: str | Path, hand: HandModel) -> Recording:
    """A sequence at the rate its stamps show; a frame that lacks a hand or a thing is not valid. `hand` must be MANO.

    Raises:
        MotionError: a file is missing or damaged, or `hand` is another hand than MANO.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    where = str(folder / HANDS)
    lines = _lines(need(folder / HANDS, "the hands of a HOT3D sequence", SOURCE))
    clock = _Clock(torch.tensor(sorted({line["timestamp_ns"] for line in lines})), where)
    tracks: dict[str, HandMotion] = {}
    for key, side in _SIDES.items():
        seen = [(line["timestamp_ns"], line["hand_poses"][key]) for line in lines if key in line["hand_poses"]]
        if seen:
            tracks[side] = _track(seen, clock, side, hand, f"{where}: {side}")
    if not tracks:
        raise MotionError(f"{where}: no hand in any of {len(lines)} lines")
    return Recording(tracks, _objects(folder, clock))


class _Clock:
    """Frames from time stamps: their rate is one over the median step."""

    def __init__(self, stamps: Int[Tensor, "n"], where: str) -> None:
        kept = [int(stamps[0])]
        for stamp in stamps.tolist():
            if stamp - kept[-1] > SAME_NS:
                kept.append(stamp)
        if len(kept) < 2:
            raise MotionError(f"{where}: all lines are of one instant; a sequence needs at least two")
        self.first = kept[0]
        self.step = float(np.median(np.diff(kept)))
        self.fps = round(1e9 / self.step, 2)
        self.count = self.frame(kept[-1]) + 1

    def frame(self, stamp: int) -> int:
        """Which frame a stamp is of."""
        return round((stamp - self.first) / self.step)

    def spread(self, stamps: list[int], rows: Float[Tensor, "n d"]) -> Float[Tensor, "t d"]:
        """Rows at their frames, the first where there are several, NaN where there is none."""
        values = torch.full((self.count, rows.shape[1]), torch.nan, dtype=torch.float64)
        for stamp, row in sorted(zip(stamps, rows, strict=True), key=lambda pair: -pair[0]):
            if 0 <= self.frame(stamp) < self.count:
                values[self.frame(stamp)] = row
        return values


def _track(seen: list[tuple[int, dict]], clock: _Clock, side: Side, hand: HandModel, where: str) -> HandMotion:
    """One hand."""
    try:
        rows = [[*h["pose"], *h["wrist_xform"]["q_wxyz"], *h["wrist_xform"]["t_xyz"], *h["betas"]] for _, h in seen]
    except (KeyError, TypeError):
        raise MotionError(f"{where}: a hand needs pose, wrist_xform {{q_wxyz, t_xyz}} and betas") from None
    values = clock.spread([stamp for stamp, _ in seen], shaped(rows, (None, 32), "pose, wrist_xform and betas", where))
    valid, betas = values.isfinite().all(-1), values[:, 22:]
    if not valid.any():
        raise MotionError(f"{where}: no finite pose in any of {len(seen)} lines")
    first = betas[valid][0]
    return hand_track(
        root=quaternions(values[:, 15:19].numpy(), "wxyz", "q_wxyz", where),
        fingers=pca_fingers(values[:, :15], hand, flat_hand_mean=False, where=where),
        betas=first if bool((betas[valid] == first).all()) else betas,
        place=Place(values[:, 19:22], is_wrist=False),
        valid=valid,
        side=side,
        fps=clock.fps,
        hand=hand,
        frame="world",
        where=where,
    )


def _objects(folder: Path, clock: _Clock) -> dict[str, ObjectTrack]:
    """The things, where the sequence has its file of them."""
    path = folder / OBJECTS
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and not {"object_uid", "timestamp[ns]", *_COLUMNS} <= set(rows[0]):
        raise MotionError(f"{path}: columns {', '.join(_COLUMNS)} expected, found {', '.join(rows[0])}")
    names = _names(folder)
    objects: dict[str, ObjectTrack] = {}
    for uid in dict.fromkeys(row["object_uid"] for row in rows):
        own = [row for row in rows if row["object_uid"] == uid]
        try:
            numbers = torch.tensor([[float(row[key]) for key in _COLUMNS] for row in own], dtype=torch.float64)
            values = clock.spread([int(row["timestamp[ns]"]) for row in own], numbers)
        except (TypeError, ValueError):
            raise MotionError(f"{path}: object {uid} has a row that is no numbers; copy the file again") from None
        valid = values.isfinite().all(-1)
        where = f"{path}: {uid}"
        R = quaternions(values[:, 3:].numpy(), "wxyz", "q_wo", where)
        mesh = folder.resolve().parent / "assets" / f"{uid}.glb"
        objects[names.get(uid, uid)] = object_track(R, values[:, :3], valid, mesh, SOURCE, where)
    return objects


def _names(folder: Path) -> dict[str, str]:
    """The things' names by uid, where the clone has them; uids stand for themselves otherwise."""
    root = folder.resolve().parent
    for path in (root / "assets" / "instance.json", root / "instance.json", root / "object_instance.json"):
        if path.is_file():
            return {uid: str(entry.get("instance_name", uid)) for uid, entry in read_json(path).items()}
    return {}


def _lines(path: Path) -> list[dict]:
    """The file's lines, each with a stamp and hands."""
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = json.loads(text)
            lines.append({"timestamp_ns": int(line["timestamp_ns"]), "hand_poses": dict(line["hand_poses"])})
        except (ValueError, KeyError, TypeError):
            raise MotionError(
                f"{path}: line {number} is not a time stamp with hand poses; copy the file again"
            ) from None
    if not lines:
        raise MotionError(f"{path}: no line in the file")
    return lines
