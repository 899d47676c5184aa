r"""HO3D v2 and v3 (Hampali et al. 2020, 2022): a right hand with a YCB thing, seen by one camera.

    train.txt, evaluation.txt          a line `SEQ/ID` an image
    <split>/<SEQ>/meta/<ID>.pkl        handPose (48, rotation vectors, absolute), handTrans (3), handBeta (10),
                                       handJoints3D (21, 3), objRot (rotation vector), objTrans (3), objName, camMat

Metres in OpenGL's camera axes (y up, looking along -z); here they become OpenCV's by $F = diag(1, -1, -1)$. A frame
without an annotation holds None. The evaluation split has the wrist and the thing but no hand pose: its scores come
from a server (see `submit`). The files state no frame rate. Meshes are YCB-Video's, by `objName`, in a `models` folder
beside the splits.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers.fields import frame_rate, shaped
from handdiff_lib.readers.files import need, need_all
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.readers.recording import ObjectTrack, Place, Recording, hand_track, object_track

SOURCE = "HO3D, from github.com/shreyashampali/ho3d (research only)"
MESHES = "YCB-Video, from rse-lab.cs.washington.edu/projects/posecnn; put its folder models beside train.txt"
Part = Literal["train", "evaluation"]
FLIP = torch.tensor([1.0, -1.0, -1.0])
"""OpenGL's camera axes to OpenCV's, and back."""
EVALUATION_IMAGES = {"v2": 11_524, "v3": 20_137}
"""Lines of `evaluation.txt` in each version."""


def images(root: str | Path, part: Part) -> dict[str, list[str]]:
    """The image ids of every sequence in a split's list, in the list's order.

    Raises:
        MotionError: the list is missing, or some of its annotation files are; the first few are named and all counted.
    """
    root = Path(root)
    path = need(root / f"{part}.txt", "the list of images", SOURCE)
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    odd = [line for line in lines if line.count("/") != 1]
    if odd or not lines:
        raise MotionError(f"{path}: expected lines SEQ/ID, found {odd[0] if odd else 'none'!r}")
    found: dict[str, list[str]] = {}
    for sequence, image in (line.split("/") for line in lines):
        found.setdefault(sequence, []).append(image)
    there = {f"{q}/{p.stem}" for q in found for p in (root / part / q / "meta").glob("*.pkl")}
    missing = [line for line in lines if line not in there]
    need_all(missing, len(lines), root, f"annotations of HO3D {part}", SOURCE)
    return found


def is_sequence(path: Path) -> bool:
    """Whether this is a sequence's folder."""
    return next((path / "meta").glob("*.pkl"), None) is not None


def read_sequence(folder: str | Path, hand: HandModel, fps: float | None = None) -> Recording:
    """A sequence of the training split, from its first image id to its last; ids that are not there are not valid.

    The wrist is that of `handJoints3D`, so any hand may follow; betas are kept where `hand` is MANO.

    Raises:
        MotionError: the folder has no annotated frame, or is of the evaluation split, whose hand poses are withheld.
    """
    folder = Path(folder)
    where = str(folder)
    paths = sorted((folder / "meta").glob("*.pkl"))
    if not paths or not all(path.stem.isdigit() for path in paths):
        raise MotionError(
            f"{where}: expected meta/<number>.pkl files, found {len(paths)} pickles; it is no HO3D sequence"
        )
    content = {int(path.stem): _annotation(path) for path in paths}
    if not any("handPose" in frame for frame in content.values()):
        raise MotionError(
            f"{where}: no hand pose, as in HO3D's evaluation split: estimate it from the pictures, and send the result "
            "to its server (see handdiff_lib.submit)"
        )
    first, count = min(content), max(content) - min(content) + 1

    def over_time(key: str, size: int) -> Float[Tensor, "t d"]:
        """One field of every frame, NaN where a frame lacks it."""
        values = torch.full((count, size), torch.nan, dtype=torch.float64)
        for frame, fields in content.items():
            if fields.get(key) is not None:
                values[frame - first] = shaped(np.ravel(fields[key]), (size,), key, f"{where}: {frame:04d}")
        return values

    pose, joints = over_time("handPose", 48), over_time("handJoints3D", 63).view(-1, 21, 3)
    valid = pose.isfinite().all(-1) & joints[:, 0].isfinite().all(-1)
    betas = over_time("handBeta", 10)
    same = betas[valid] if valid.any() else betas
    R = rotation.exp(pose.view(-1, 16, 3))
    track = hand_track(
        root=FLIP.double()[:, None] * R[:, 0],
        fingers=R[:, 1:],
        betas=same[0] if bool((same == same[0]).all()) else betas,
        place=Place(joints[:, 0] * FLIP, is_wrist=True),
        valid=valid,
        side="right",
        fps=frame_rate(None, fps, where),
        hand=hand,
        frame="camera",
        where=where,
    )
    names = sorted({str(fields["objName"]) for fields in content.values() if fields.get("objName") is not None})
    objects: dict[str, ObjectTrack] = {}
    if len(names) == 1:
        turn, at = over_time("objRot", 3), over_time("objTrans", 3)
        seen = turn.isfinite().all(-1) & at.isfinite().all(-1)
        mesh = folder.resolve().parents[1] / "models" / names[0] / "textured_simple.obj"
        flipped = FLIP.double()[:, None] * rotation.exp(turn)
        objects[names[0]] = object_track(flipped, at * FLIP, seen, mesh, MESHES, f"{where}: {names[0]}")
    return Recording({"right": track}, objects, names[0] if objects else None)


def _annotation(path: Path) -> dict:
    """One frame's pickle; python 2 wrote its names as text or bytes."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise MotionError(f"{path}: expected an HO3D annotation, found {type(content).__name__}")
    return content
