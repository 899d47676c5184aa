r"""Which data set a file or folder belongs to, by its layout.

DexYCB     folder   meta.yml, pose.npz              HOT3D     folder   mano_hand_pose_trajectory.jsonl
HO3D       folder   meta/<ID>.pkl                   HO-Cap    folder   poses_m.npy, meta.yaml
ARCTIC     file     <sequence>.mano.npy             OakInk2   file     .pkl with raw_mano
TACO       folder   {left, right}_hand.pkl          ManipNet  folder   {leftHand, rightHand}.bvh
           file     .pkl with hand_pose, obj_pose
"""

from collections.abc import Callable
from pathlib import Path

import torch

from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers import arctic, dexycb, ho3d, hocap, hot3d, manipnet, oakink2, taco
from handdiff_lib.readers.fields import frame_rate
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.readers.recording import ObjectTrack, Recording

_TIMED: tuple[tuple[Callable[[Path], bool], Callable[[Path, HandModel], Recording]], ...] = (
    (dexycb.is_sequence, dexycb.read_sequence),
    (hot3d.is_sequence, hot3d.read_sequence),
    (taco.is_sequence, taco.read_sequence),
    (lambda path: path.name.endswith(arctic.ENDING), arctic.read_sequence),
)
"""Data sets of one frame rate: what tells them, what reads them."""
_UNTIMED: tuple[tuple[Callable[[Path], bool], Callable[[Path, HandModel, float | None], Recording]], ...] = (
    (ho3d.is_sequence, ho3d.read_sequence),
    (hocap.is_sequence, hocap.read_sequence),
)
"""Data sets whose files do not state it."""


def find_recording(path: Path, hand: HandModel, fps: float | None = None) -> Recording | None:
    """The sequence of a data set that lies at `path`, or None if its name and neighbours are of no data set.

    A pickle is told by its content: see `find_recording_in`. Raises MotionError for a sequence that cannot be read.
    """
    for is_one, read in _TIMED:
        if is_one(path):
            return _at_rate(read(path, hand), fps, str(path))
    for is_one, read in _UNTIMED:
        if is_one(path):
            return read(path, hand, fps)
    if path.is_dir():
        take = manipnet.read_folder(path, hand, fps)
        seen = torch.ones(len(take.object_pose), dtype=torch.bool)
        thing = ObjectTrack(take.object_pose, seen, take.object_mesh, manipnet.SOURCE, manipnet.METRES)
        return Recording(dict(take.tracks), {"object": thing}, "object")
    return None


def find_recording_in(content: object, path: Path, hand: HandModel, fps: float | None = None) -> Recording | None:
    """The sequence of a data set that a pickle's content is, or None if it is of no data set."""
    if taco.is_single(content):
        return _at_rate(taco.read_single(path, hand, content), fps, str(path))
    if oakink2.is_annotation(content):
        return _at_rate(oakink2.read_sequence(path, hand, content), fps, str(path))
    return None


def read_recording(path: str | Path, hand: HandModel, fps: float | None = None) -> Recording:
    """The hands and things of a data set's sequence; `hand` is the hand they become, MANO where its file needs it.

    Raises:
        MotionError: nothing known is there, or it cannot be read; the message says what is missing and where from.
    """
    path = Path(path)
    found = find_recording(path, hand, fps)
    if found is None and path.suffix.lower() in (".pkl", ".pickle"):
        found = find_recording_in(read_pickle(path), path, hand, fps)
    if found is None:
        raise MotionError(f"{path}: no sequence of a data set; expected {LAYOUTS}")
    return found


LAYOUTS = (
    "a sequence folder of ManipNet, DexYCB, HO3D, TACO, HOT3D or HO-Cap, or a file of ARCTIC (.mano.npy), OakInk2 or "
    "TACO (.pkl)"
)
"""What `read_recording` understands, in a few words."""


def _at_rate(recording: Recording, fps: float | None, where: str) -> Recording:
    """The recording, if `fps` is not another rate than its own."""
    frame_rate(recording.fps, fps, where)
    return recording
