r"""Files of others, read into HandMotion. The file's suffix and content say which reader it needs.

HandMotion        .npz           written by handdiff, any number of named tracks
MANO parameters   .npz .pkl      HaMeR, WiLoR: a dict of arrays over time (`parameters`)
detections        .pkl           HaMeR, WiLoR-mini: a list with an entry an image (`detections`)
Dyn-HaMR          .npz           *_world_results.npz (`dynhamr`)
keypoints         .npz .npy .pkl 21 joints a frame (`keypoints`)
data sets         folder, file   a sequence, told by its layout (`datasets`)
"""

from pathlib import Path

import numpy as np

from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers import detections, dynhamr, keypoints, parameters
from handdiff_lib.readers.datasets import LAYOUTS as DATA_SETS
from handdiff_lib.readers.datasets import find_recording, find_recording_in, read_recording
from handdiff_lib.readers.fields import DEFAULT_FPS, frame_rate
from handdiff_lib.readers.files import read_npy
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.storage import check_motion, is_motion_file, motion_from_arrays, read_npz

__all__ = ["DEFAULT_FPS", "LAYOUTS", "read_recording", "read_tracks"]

LAYOUTS = (
    "a HandMotion .npz; MANO parameters in .npz or .pkl (global_orient, hand_pose, betas over frames, or a list of "
    "per-frame HaMeR or WiLoR-mini outputs); a Dyn-HaMR .npz (trans, root_orient, pose_body, betas, is_right); "
    f"keypoints in .npz, .npy or .pkl (T, 21, 3); {DATA_SETS}"
)
"""What `read_tracks` understands, in one sentence."""


def read_tracks(
    path: str | Path, fps: float | None = None, side: Side | None = None, hand: HandModel | None = None
) -> dict[str, HandMotion]:
    """The tracks in a file or sequence folder: `left` and `right`, or a HandMotion file's own names.

    `fps` is for files that state none (DEFAULT_FPS without it); one that states another is refused. A ManipNet take
    comes at 30 frames a second, or at an `fps` that divides 120. `side` says which hand is shown where the file does
    not; where it does, only the tracks of that side come back. `hand` is the hand that keypoints and data sets become,
    the open hand if not given; DexYCB, ARCTIC, HOT3D and HO-Cap need MANO (see `recording`).

    Raises:
        MotionError: one line with the file, what was found and what is understood.
    """
    path = Path(path)
    where = str(path)
    tracks = _read(path, where, fps, side, hand)
    if side is not None:
        found = {name: motion for name, motion in tracks.items() if motion.side == side}
        if not found:
            raise MotionError(f"{where}: no {side} hand; the file has {', '.join(tracks)}")
        tracks = found
    for name, motion in tracks.items():
        check_motion(motion, f"{where}: {name}")
    return tracks


def _read(
    path: Path, where: str, fps: float | None, side: Side | None, hand: HandModel | None
) -> dict[str, HandMotion]:
    """All tracks, by suffix and then by content."""
    recording = find_recording(path, hand or load_hand(), fps)
    if recording is not None:
        return recording.tracks
    content = _content(path)
    if path.suffix.lower() == ".npz" and is_motion_file(content):
        tracks = motion_from_arrays(content, where)
        for motion in tracks.values():
            frame_rate(motion.fps, fps, where)
        return tracks
    recording = find_recording_in(content, path, hand or load_hand(), fps)
    if recording is not None:
        return recording.tracks
    if dynhamr.is_dynhamr(content):
        return dynhamr.read_dynhamr(content, where, fps)
    if parameters.is_parameters(content):
        return parameters.read_parameters(content, where, fps, side)
    if detections.is_detections(content):
        return detections.read_detections(content, where, fps, side)
    found = keypoints.find_keypoints(content)
    if found is not None:
        rate = frame_rate(content.get("fps") if isinstance(content, dict) else None, fps, where)
        return keypoints.read_keypoints(found, where, rate, side, hand or load_hand())
    raise MotionError(f"{where}: layout not known; found {_describe(content)}; understood are {LAYOUTS}")


def _content(path: Path) -> object:
    """What the file holds, as arrays in plain containers."""
    match path.suffix.lower():
        case ".npz":
            return read_npz(path)
        case ".npy":
            return read_npy(path)
        case ".pkl" | ".pickle":
            return read_pickle(path)
    if not path.is_file():
        raise MotionError(f"input {path} not found; check the path")
    raise MotionError(f"{path}: files ending in {path.suffix or 'no suffix'} are not read; understood are {LAYOUTS}")


def _describe(content: object) -> str:
    """A file's content in a few words: keys, shapes, types."""
    match content:
        case np.ndarray():
            return f"an array {content.shape} of {content.dtype}"
        case dict() if not content:
            return "an empty dict"
        case dict():
            parts = [f"{key} {_brief(value)}" for key, value in list(content.items())[:12]]
            return "keys " + ", ".join(parts) + (", ..." if len(content) > 12 else "")
        case list() | tuple():
            kinds = list(dict.fromkeys(_brief(value) for value in content))[:4]
            return f"a {type(content).__name__} of {len(content)}" + (f": {', '.join(kinds)}" if kinds else "")
    return type(content).__name__


def _brief(value: object) -> str:
    """Shape or type of one value."""
    if isinstance(value, np.ndarray):
        return str(value.shape)
    if isinstance(value, dict):
        return f"dict({', '.join(map(str, list(value)[:6]))})"
    return type(value).__name__
