r"""A real estimator in the loop: what MediaPipe says of rendered hands whose motion is known exactly.

    ManipNet take --open hand, raster--> pictures --MediaPipe--> landmarks --here: ik--> HandMotion | truth --> scores

The pictures are not kept; the landmarks are, in an `.npz` that `data/loop/make_loop.py` writes. World landmarks lie
around the hand's centre in the camera's axes, so the truth is turned by the camera's known pose and nothing else is
aligned: what the estimator gets wrong in orientation, size and depth stays in.
"""

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.baselines import SIGMAS, gaussian
from handdiff_lib.hand import DATA, HandModel
from handdiff_lib.ik import fit_joints
from handdiff_lib.metrics import accel_error_mm, mje_mm, p_mje_mm
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.pool import in_threads
from handdiff_lib.protocol import CLIP, RESAMPLES, Refiner
from handdiff_lib.raster import Camera
from handdiff_lib.readers.keypoints import DOUBT
from handdiff_lib.storage import TRUTH, read_npz, write_whole

ESTIMATES = DATA / "loop" / "mediapipe.npz"
"""What ships: the test takes, three cameras, both hands."""
SCHEMA = "handloop/1"
BINS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Edges of the shares of a hand that other things hide."""

_STEPS = {"pixels_tenths": 10, "world_mm_tenths": 10_000, "presence_percent": 100, "handedness_percent": 100}
_STEPS |= {"hidden_percent": 100, "inside_percent": 100}
_NONE = {"i": np.iinfo(np.int16).min, "u": np.iinfo(np.uint8).max}
"""What stands for nan in whole numbers."""


@dataclass(frozen=True)
class Watched:
    """What an estimator said of one hand in the pictures of one camera."""

    side: Side
    fps: float
    camera: Camera
    pixels: Float[np.ndarray, "t 21 2"]
    """Landmarks in the picture, in the 21-joint order; nan where the hand was not found."""
    world: Float[np.ndarray, "t 21 3"]
    """Landmarks in metres around the hand's centre, camera axes; nan where the hand was not found."""
    presence: Float[np.ndarray, "t"]
    """The estimator's score of the crop, in [0, 1]; nan where the hand was not found."""
    handedness: Float[np.ndarray, "t"]
    """Near 1 for what it takes for a right hand; nan where the hand was not found."""
    hidden: Float[np.ndarray, "t"]
    """Share of the hand's pixels that other things stand in front of; nan when the hand is out of the picture."""
    inside: Float[np.ndarray, "t"]
    """Share of the true joints that lie within the picture."""
    start: int = 0
    """The take's frame, at this rate, that the first picture shows."""

    @property
    def found(self) -> np.ndarray:
        """Frames with landmarks."""
        return np.isfinite(self.world).all((1, 2))


def save_watched(path: Path, watched: dict[str, Watched], force: bool = False) -> None:
    """Write them under their names, `take.camera.side`: tenths of a pixel and of a millimetre, shares in percent."""
    arrays: dict[str, np.ndarray] = {"schema": np.array(SCHEMA), "names": np.array(list(watched))}
    for name, one in watched.items():
        for key, steps in _STEPS.items():
            value = getattr(one, key.split("_")[0])
            kind = np.dtype(np.int16 if value.ndim > 1 else np.uint8)
            whole = np.nan_to_num(value * steps, nan=_NONE[kind.kind]).round()
            arrays[f"{name}/{key}"] = whole.clip(np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
        seen = one.camera
        arrays[f"{name}/R_camera_world"], arrays[f"{name}/t_camera_world"] = seen.R_camera_world, seen.t_camera_world
        arrays[f"{name}/focal_width_height"] = np.array([seen.focal, seen.width, seen.height])
        arrays[f"{name}/fps"] = np.array(one.fps)
        if one.start:
            arrays[f"{name}/start"] = np.array(one.start)
    write_whole(path, lambda file: np.savez_compressed(file, **arrays), suffix=".npz", force=force)


def load_watched(path: Path = ESTIMATES) -> dict[str, Watched]:
    """What `save_watched` wrote. MotionError for another file."""
    arrays = read_npz(path)
    if str(arrays.get("schema")) != SCHEMA:
        raise MotionError(f"{path}: no {SCHEMA} file; make one with data/loop/make_loop.py")
    found = {}
    for name in map(str, arrays["names"]):
        side = name.rsplit(".", 1)[-1]
        missing = [key for key in _STEPS if f"{name}/{key}" not in arrays]
        if missing or side not in get_args(Side):
            raise MotionError(f"{path}: {name} lacks {', '.join(missing) or 'a side'}; make the file again")
        values = {}
        for key, steps in _STEPS.items():
            whole = arrays[f"{name}/{key}"]
            value = np.where(whole == _NONE[whole.dtype.kind], np.nan, whole / steps)
            values[key.split("_")[0]] = value
        focal, width, height = arrays[f"{name}/focal_width_height"].tolist()
        turn, shift = arrays[f"{name}/R_camera_world"], arrays[f"{name}/t_camera_world"]
        camera = Camera(turn, shift, focal, int(width), int(height))
        fps, start = float(arrays[f"{name}/fps"]), int(arrays.get(f"{name}/start", 0))
        found[name] = Watched(side=side, fps=fps, camera=camera, start=start, **values)
    return found


def lift(watched: Watched, hand: HandModel) -> HandMotion:
    """The estimate as a motion of `hand` in camera axes, one shape a track; frames without landmarks are not valid.

    A frame's confidence is the estimator's presence times how well its landmarks make a hand, as in reading keypoints.
    The wrist's place is that of the landmarks, around the hand's centre: only what is seen from the wrist counts.
    Raises MotionError when the hand was never found.
    """
    joints = torch.from_numpy(watched.world).float()
    valid = torch.from_numpy(watched.found)
    found = fit_joints(joints if watched.side == "right" else rotation.mirror_points(joints), hand, valid)
    sure = torch.exp(-found.residual / DOUBT) * torch.from_numpy(np.nan_to_num(watched.presence)).float()
    return HandMotion(
        R=found.R, betas=found.betas, transl=found.transl, valid=valid, fps=watched.fps, side=watched.side,
        hand=hand.name, confidence=sure[:, None].expand(-1, 16).clone(),
    )  # fmt: skip


def in_camera(motion: HandMotion, camera: Camera, hand: HandModel) -> HandMotion:
    r"""A motion of the world in a camera's axes: every joint p becomes $R p + t$.

    Data of a left hand are mirrored, and so is the camera's turn: $M R M$ with $M = diag(-1, 1, 1)$.
    """
    R, t = (torch.from_numpy(x).to(motion.R) for x in (camera.R_camera_world, camera.t_camera_world))
    if motion.side == "left":
        R, t = rotation.mirror(R), rotation.mirror_points(t)
    wrist = motion.pose(hand).shaped.rest_joints[..., 0, :]
    turned = torch.cat([R @ motion.R[:, :1], motion.R[:, 1:]], dim=1)
    return replace(motion, R=turned, transl=(motion.transl + wrist) @ R.mT + t - wrist, frame="camera")


@dataclass(frozen=True)
class Trial:
    """One hand before one camera: what the estimator said and the truth, both in camera axes."""

    name: str
    watched: Watched
    estimate: HandMotion
    truth: HandMotion

    @property
    def counts(self) -> Bool[Tensor, "t"]:
        """Frames with a truth where the whole hand is in the picture, hidden or not."""
        return self.truth.valid & torch.from_numpy(self.watched.inside == 1)


def trials(watched: dict[str, Watched], tracks: dict[str, HandMotion], hand: HandModel) -> list[Trial]:
    """Estimates, named `take.camera.side`, beside the world tracks `take.side` that they were made from.

    Tracks may be longer or have a multiple of the estimates' frame rate. MotionError names a track that is missing.
    """
    made = []
    for name, one in watched.items():
        take, _, side = name.split(".")
        if f"{take}.{side}" not in tracks:
            raise MotionError(f"{name}: no truth {take}.{side}; there are: {', '.join(tracks) or 'none'}")
        track = tracks[f"{take}.{side}"]
        stride = round(track.fps / one.fps)
        slow = replace(track[stride * one.start :][: stride * len(one.found) : stride], fps=one.fps)
        if stride * one.fps != track.fps or len(slow) != len(one.found):
            raise MotionError(f"{name}: the truth has {len(track)} frames at {track.fps:g} a second; make it again")
        made.append(Trial(name, one, lift(one, hand), in_camera(slow, one.camera, hand)))
    return made


def pairs(given: list[Trial]) -> dict[str, HandMotion]:
    """Estimates and truths as `corpus.recorded_pairs` reads them from a file; the truth is valid where a frame counts.

    For training on an estimator's own output: make estimates of training takes for it.
    """
    truths = {trial.name + TRUTH: replace(trial.truth, valid=trial.counts) for trial in given}
    return {trial.name: trial.estimate for trial in given} | truths


@dataclass(frozen=True)
class Errors:
    """Errors of one method in all frames that count, trial after trial."""

    name: str
    mje_mm: Float[Tensor, "n"]
    p_mje_mm: Float[Tensor, "n"]
    hidden: Float[Tensor, "n"]
    clip: Int[Tensor, "n"]
    """Number of the clip of CLIP frames that each frame lies in."""
    accl_mm: Float[Tensor, "m"]
    """Where a frame and both its neighbours count."""
    accl_clip: Int[Tensor, "m"]

    def mean(self, key: str) -> float:
        """Mean over frames of a score."""
        return getattr(self, key).mean().item()

    def interval(self, key: str) -> tuple[float, float]:
        """95 % bootstrap interval of the mean over frames, clips drawn with replacement."""
        _, clip = (self.accl_clip if key == "accl_mm" else self.clip).unique(return_inverse=True)
        value = getattr(self, key).double()
        total = value.new_zeros(int(clip.max()) + 1).index_add(0, clip, value)
        count = torch.bincount(clip).double()
        pick = torch.randint(len(count), (RESAMPLES, len(count)), generator=torch.Generator().manual_seed(0))
        means = total[pick].sum(1) / count[pick].sum(1)
        low, high = means.quantile(means.new_tensor([0.025, 0.975])).tolist()
        return low, high

    def by_hidden(self, key: str) -> list[float]:
        """Mean of `mje_mm` or `p_mje_mm` in each of BINS; nan where a bin has no frame."""
        return [getattr(self, key)[chosen].mean().item() for chosen in in_bins(self.hidden)]


def in_bins(hidden: Float[Tensor, "n"]) -> list[Bool[Tensor, "n"]]:
    """Which values lie in each of BINS: lower edge in, upper edge out, but for the last."""
    edges = [*BINS[:-1], float("inf")]
    return [(hidden >= low) & (hidden < high) for low, high in pairwise(edges)]


def errors(name: str, answers: list[Float[Tensor, "_ 21 3"]], given: list[Trial], hand: HandModel) -> Errors:
    """Errors of joints in camera axes, one answer a trial; frames that are nan are left out."""
    parts: dict[str, list[Tensor]] = {field.name: [] for field in fields(Errors)[1:]}
    for number, (joints, trial) in enumerate(zip(answers, given, strict=True)):
        truth = trial.truth.joints(hand)
        seen = trial.counts & joints.isfinite().all(-1).all(-1)
        three = seen[:-2] & seen[1:-1] & seen[2:]
        clip = number * 10_000 + torch.arange(len(seen)) // CLIP
        found = {
            "mje_mm": mje_mm(joints[seen], truth[seen]),
            "p_mje_mm": p_mje_mm(joints[seen], truth[seen]),
            "hidden": torch.from_numpy(trial.watched.hidden).float()[seen],
            "clip": clip[seen],
            "accl_mm": accel_error_mm(joints, truth)[three],
            "accl_clip": clip[1:-1][three],
        }
        for key, value in found.items():
            parts[key].append(value)
    return Errors(name, **{key: torch.cat(values) for key, values in parts.items()})


@dataclass(frozen=True)
class LoopScores:
    """All methods on the same estimates."""

    detected: tuple[int, int]
    """Frames where the hand was found, of those that count."""
    detected_by_hidden: list[tuple[int, int]]
    """The same for each of BINS."""
    rows: dict[str, Errors]
    """`landmarks`: as they are, where there are any; `lifted`, `gaussian` (best MJE), `gaussian_p` (best P-MJE) and all
    methods: every frame that counts, those without landmarks filled."""

    def json(self) -> dict:
        """Everything, as plain numbers; nan becomes None."""
        rows = {}
        for name, row in self.rows.items():
            keys = ("mje_mm", "p_mje_mm", "accl_mm")
            rows[name] = {"name": row.name, "frames": len(row.mje_mm)} | {key: round(row.mean(key), 4) for key in keys}
            rows[name] |= {f"{key}_95": [round(x, 4) for x in row.interval(key)] for key in keys}
            for key in keys[:2]:
                found = row.by_hidden(key)
                rows[name][f"{key}_by_hidden"] = [None if x != x else round(x, 4) for x in found]
        return {
            "bins": list(BINS), "detected": list(self.detected), "rows": rows,
            "detected_by_hidden": [list(pair) for pair in self.detected_by_hidden],
        }  # fmt: skip


def measure(given: list[Trial], methods: dict[str, Refiner], hand: HandModel) -> LoopScores:
    """Scores of the landmarks, of the motion lifted from them, of Gaussian filters and of every method.

    The filters get the sigma that is best on these very trials, once for MJE and once for P-MJE.
    """

    def row(name: str, method: Refiner) -> Errors:
        return errors(name, in_threads(lambda trial: method(trial.estimate).joints(hand), given), given, hand)

    smooth = [row(f"Gaussian {sigma:g}", lambda m, sigma=sigma: gaussian(m, sigma)) for sigma in SIGMAS]
    best, best_p = (min(smooth, key=lambda e, k=key: e.mean(k)) for key in ("mje_mm", "p_mje_mm"))
    raw = [torch.from_numpy(trial.watched.world).float() for trial in given]
    rows = {
        "landmarks": errors("MediaPipe, where it finds a hand", raw, given, hand),
        "lifted": row("lifted", lambda m: gaussian(m, 0.0)),
        "gaussian": replace(best, name=f"{best.name} (best MJE)"),
        "gaussian_p": replace(best_p, name=f"{best_p.name} (best P-MJE)"),
    }
    rows |= {name: row(name, method) for name, method in methods.items()}
    counts = torch.cat([trial.counts for trial in given])
    found = torch.cat([torch.from_numpy(trial.watched.found) for trial in given])[counts]
    hidden = torch.cat([torch.from_numpy(trial.watched.hidden) for trial in given])[counts]
    by_hidden = [(int(found[chosen].sum()), int(chosen.sum())) for chosen in in_bins(hidden)]
    return LoopScores((int(found.sum()), len(found)), by_hidden, rows)
