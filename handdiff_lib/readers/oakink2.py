r"""OakInk2 (Zhan et al. 2024): two hands and several things, motion capture at 120 frames a second, in the world.

    anno_preview/<sequence>.pkl        mocap_frame_id_list; raw_mano {frame: {rh, lh}__{pose_coeffs (1, 16, 4),
                                       tsl (1, 3), betas (1, 10)}}; obj_list; obj_transf {thing: {frame: (4, 4)}}
    object_repair/align_ds/<thing>/    one mesh file, .obj or .ply, metres; object_raw has the unrepaired ones

Pose coefficients are quaternions wxyz, absolute (`flat_hand_mean=True`) and the real hand's own; `tsl` is the wrist.
Frame ids count at 120 a second.
"""

from pathlib import Path

import numpy as np
import torch

from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import quaternions, shaped
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.readers.recording import ObjectTrack, Place, Recording, hand_track, object_track, real_fingers

IDS_A_SECOND = 120.0
SOURCE = "OakInk2, from oakink.net/v2"
_SIDES: dict[str, Side] = {"lh": "left", "rh": "right"}
_SIZES = {"pose_coeffs": 64, "tsl": 3, "betas": 10}


def is_annotation(content: object) -> bool:
    """Whether this is what a sequence's file holds."""
    return isinstance(content, dict) and {"raw_mano", "mocap_frame_id_list"} <= set(content)


def read_sequence(path: str | Path, hand: HandModel, content: object = None) -> Recording:
    """A sequence; a frame that lacks a hand or a thing is not valid. `content` is the file's, if it was read already.

    Raises:
        MotionError: the file is damaged or none of OakInk2's.
    """
    path, where = Path(path), str(path)
    content = read_pickle(path) if content is None else content
    if not is_annotation(content):
        raise MotionError(f"{where}: expected raw_mano and mocap_frame_id_list; it is no OakInk2 annotation")
    ids = np.unique(shaped(content["mocap_frame_id_list"], (None,), "mocap_frame_id_list", where).numpy().astype(int))
    if len(ids) == 0:
        raise MotionError(f"{where}: mocap_frame_id_list is empty")
    step = int(np.median(np.diff(ids))) if len(ids) > 1 else 1
    frames = list(range(int(ids[0]), int(ids[-1]) + 1, step))
    tracks: dict[str, HandMotion] = {}
    for prefix, side in _SIDES.items():
        motion = _track(content["raw_mano"], frames, prefix, side, IDS_A_SECOND / step, hand, f"{where}: {side}")
        if motion is not None:
            tracks[side] = motion
    if not tracks:
        raise MotionError(f"{where}: no hand in any of {len(frames)} frames")
    root = path.resolve().parents[1]
    objects: dict[str, ObjectTrack] = {}
    for name in content.get("obj_list", ()):
        moves = content.get("obj_transf", {}).get(name, {})
        pose = torch.full((len(frames), 4, 4), torch.nan, dtype=torch.float64)
        for k, frame in enumerate(frames):
            if frame in moves:
                pose[k] = shaped(moves[frame], (4, 4), "obj_transf", f"{where}: {name}")
        seen = pose.isfinite().all(-1).all(-1)
        R, at, mesh = pose[:, :3, :3], pose[:, :3, 3], _mesh(root, name)
        objects[name] = object_track(R, at, seen, mesh, SOURCE, f"{where}: {name}")
    return Recording(tracks, objects)


def _track(
    frames_of: dict, frames: list[int], prefix: str, side: Side, fps: float, hand: HandModel, where: str
) -> HandMotion | None:
    """One hand, or None if no frame has it."""
    values = {name: torch.full((len(frames), size), torch.nan, dtype=torch.float64) for name, size in _SIZES.items()}
    for k, frame in enumerate(frames):
        found = frames_of.get(frame, {})
        if all(f"{prefix}__{name}" in found for name in _SIZES):
            for name, size in _SIZES.items():
                values[name][k] = shaped(np.ravel(found[f"{prefix}__{name}"]), (size,), name, f"{where}: {frame}")
    valid = torch.cat(list(values.values()), dim=-1).isfinite().all(-1)
    if not valid.any():
        return None
    betas = values["betas"]
    first = betas[valid][0]
    R = quaternions(values["pose_coeffs"].view(-1, 16, 4).numpy(), "wxyz", "pose_coeffs", where)
    return hand_track(
        root=R[:, 0],
        fingers=real_fingers(R[:, 1:], side),
        betas=first if bool((betas[valid] == first).all()) else betas,
        place=Place(values["tsl"], is_wrist=True),
        valid=valid,
        side=side,
        fps=fps,
        hand=hand,
        frame="world",
        where=where,
    )


def _mesh(root: Path, name: str) -> Path | None:
    """The thing's mesh file, repaired if there is one."""
    folders = (root / f"object_{kind}" / "align_ds" / name for kind in ("repair", "raw", "preview"))
    found = [p for folder in folders for p in sorted(folder.glob("*")) if p.suffix in (".obj", ".ply")]
    return found[0] if found else None
