r"""Predictions in the form that the benchmarks of others take, and DexYCB's own scores.

HO3D     `pred.json`, alone or in a zip, for the server: [joints (n, 21, 3), vertices (n, 778, 3)], metres, OpenGL's
         camera axes, one entry a line of `evaluation.txt`, joints as MANO numbers them, then the tips
DexYCB   a text file for the official evaluator: a line an image, its id and 63 numbers: 21 joints in mm, camera axes
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib.hand import HandModel
from handdiff_lib.metrics import align
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.readers.ho3d import EVALUATION_IMAGES, FLIP
from handdiff_lib.storage import write_whole
from handdiff_lib.topology import OPENPOSE

TIPS_OF_BOTH = "manopth"
"""Finger tips (`topology.TIPS`) of DexYCB's joints; taken for HO3D too, whose own set is not documented."""
_DECIMALS = 6
"""A micrometre: the file of HO3D v3 has fifty million numbers."""


def write_ho3d(
    path: str | Path,
    joints: Float[Tensor, "n 21 3"],
    vertices: Float[Tensor, "m 778 3"],
    version: Literal["v2", "v3"],
    force: bool = False,
) -> None:
    """Write `pred.json`, or a zip with it, from joints (21-joint order) and vertices in OpenCV camera axes, metres.

    Raises:
        MotionError: not one entry an image of the version, NaN, a hand behind the camera, or another file ending.
    """
    path, wanted = Path(path), EVALUATION_IMAGES[version]
    if not len(joints) == len(vertices) == wanted:
        raise MotionError(
            f"HO3D {version} has {wanted} evaluation images, found {len(joints)} joints and {len(vertices)} vertices; "
            "give one entry a line of evaluation.txt"
        )
    for name, points in (("joints", joints), ("vertices", vertices)):
        _require_finite(points, f"HO3D {name}")
        behind = int((points[..., 2] <= 0).all(-1).sum())
        if behind:
            raise MotionError(f"HO3D {name}: {behind} hands lie behind the camera; give OpenCV axes, z forward")
    mano = torch.empty_like(joints)
    mano[:, list(OPENPOSE)] = joints

    def write(file: io.BufferedIOBase) -> None:
        """The text, into the file or into a zip in it."""
        if path.suffix != ".zip":
            file.writelines(_text(mano, vertices))
            return
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as folder, folder.open("pred.json", "w") as inner:
            inner.writelines(_text(mano, vertices))

    if path.suffix not in (".json", ".zip"):
        raise MotionError(f"output {path}: its name must end in .json or .zip")
    write_whole(path, write, suffix=path.suffix, force=force)


def _text(*arrays: Float[Tensor, "n _ 3"]) -> Iterator[bytes]:
    """A list of lists as JSON, entry by entry, so that all of it is never in memory."""
    for k, points in enumerate(arrays):
        yield b"[[" if k == 0 else b"], ["
        for row, entry in enumerate(points * FLIP.to(points)):
            text = json.dumps(entry.double().cpu().numpy().round(_DECIMALS).tolist())
            yield (", " if row else "").encode() + text.encode()
    yield b"]]"


@dataclass(frozen=True)
class Predictions:
    """A hand an image, OpenCV camera axes, metres."""

    joints: Float[Tensor, "n 21 3"]
    vertices: Float[Tensor, "n 778 3"]


def in_list_order(tracks: dict[str, HandMotion], images: dict[str, list[str]], hand: HandModel) -> Predictions:
    """The hands of HO3D's list (`readers.ho3d.images`): track SEQ has one frame for each of its lines, in their order.

    Raises:
        MotionError: a sequence has no track, a track has another length, or a frame is not valid: fill it first.
    """
    joints, vertices = [], []
    for sequence, ids in images.items():
        if sequence not in tracks:
            raise MotionError(f"HO3D: no track for sequence {sequence}; the list has {', '.join(images)}")
        motion = tracks[sequence]
        if len(motion) != len(ids) or not motion.valid.all():
            raise MotionError(
                f"HO3D: {sequence} has {len(ids)} images, its track {len(motion)} frames, {int(motion.valid.sum())} "
                "valid; every image needs an answer, so fill missing frames with motion.fill_missing"
            )
        joints.append(motion.joints(hand, TIPS_OF_BOTH))
        vertices.append(motion.vertices(hand))
    return Predictions(torch.cat(joints), torch.cat(vertices))


def write_dexycb(path: str | Path, ids: Int[Tensor, "n"], joints: Float[Tensor, "m 21 3"], force: bool = False) -> None:
    """Write result lines for DexYCB's `evaluate_hpe.py`: joints in metres (21-joint order, OpenCV camera axes).

    `ids` are places in `readers.dexycb.images`. The evaluator wants a line for every image that has a truth.

    Raises:
        MotionError: an id twice, one id a hand is not given, or NaN.
    """
    if len(ids) != len(joints) or len(ids.unique()) != len(ids):
        raise MotionError(f"DexYCB: {len(ids.unique())} different ids for {len(joints)} hands; give each image once")
    _require_finite(joints, "DexYCB joints")
    rows = (1000 * joints.double()).flatten(1).tolist()
    lines = [",".join([str(k), *(f"{value:.4f}" for value in row)]) for k, row in zip(ids.tolist(), rows, strict=True)]
    write_whole(path, lambda file: file.write(("\n".join(lines) + "\n").encode()), Path(path).suffix, force)


def _require_finite(points: Float[Tensor, "n k 3"], name: str) -> None:
    """MotionError counts entries with NaN."""
    bad = int((~points.flatten(1).isfinite().all(1)).sum())
    if bad:
        raise MotionError(f"{name}: NaN or inf in {bad} of {len(points)} hands; fill missing frames first")


@dataclass(frozen=True)
class DexYcbScore:
    """One line of the official result."""

    mpjpe_mm: float
    auc: float
    """Area under the share of joints nearer than a threshold, 0 to 50 mm."""


def dexycb_scores(pred: Float[Tensor, "n 21 3"], truth: Float[Tensor, "m 21 3"]) -> dict[str, DexYcbScore]:
    """The three lines that `evaluate_hpe.py` prints: absolute, root-relative, Procrustes (reflections allowed).

    Metres. Images whose truth is NaN do not count. A missing prediction has to be filled first: every image counts.

    Raises:
        MotionError: unequal length, NaN in a prediction that counts, or no truth at all.
    """
    if len(pred) != len(truth):
        raise MotionError(f"DexYCB: {len(pred)} predictions for {len(truth)} images; give one an image")
    seen = truth.flatten(1).isfinite().all(1)
    if not seen.any():
        raise MotionError("DexYCB: no image has a truth; there is nothing to compare with")
    pred, truth = pred[seen].double(), truth[seen].double()
    _require_finite(pred, "DexYCB joints")
    pairs = {
        "absolute": (pred, truth),
        "root-relative": (pred - pred[:, :1], truth - truth[:, :1]),
        "procrustes": (align(pred, truth, may_reflect=True), truth),
    }
    scores = {}
    for name, (p, g) in pairs.items():
        off = 1000 * (p - g).norm(dim=-1)  # (n, 21)
        threshold = torch.linspace(0, 50, 100, dtype=off.dtype)
        near = torch.stack([(off <= t).double().mean() for t in threshold])
        scores[name] = DexYcbScore(off.mean().item(), (torch.trapezoid(near, threshold) / 50).item())
    return scores
