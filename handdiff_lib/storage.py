r"""HandMotion on disk: one `.npz` with schema `handmotion/1`, read without pickle and checked field by field.

A file holds any number of named tracks. Track `right` has the keys `right/R`, `right/betas`, and so on; the estimate a
refined track came from is kept beside it as `right.before`. The names `left`, `right` are usual, any other is fine.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from handdiff_lib.motion import HandMotion, MotionError

SCHEMA = "handmotion/1"
BEFORE, TRUTH = ".before", ".truth"
"""Endings of track names: the estimate that a refined track came from, and the truth where there is one."""
_TEXT = {"side": ("right", "left"), "hand": None, "frame": ("camera", "world", "object")}
_SHAPES = {
    "R": ("t", 16, 3, 3),
    "betas": ("t or none", 10),
    "transl": ("t", 3),
    "valid": ("t",),
    "confidence": ("t", 16),
    "sigma": ("t", 16),
    "state_prob": ("t", 4),
    "refined": ("t",),
}
_OPTIONAL = {"confidence", "sigma", "state_prob", "refined"}


def save_motion(path: str | Path, tracks: dict[str, HandMotion], force: bool = False) -> None:
    """Write tracks to an `.npz`; the file appears whole or not at all."""
    arrays: dict[str, np.ndarray] = {"schema": np.array(SCHEMA), "tracks": np.array(list(tracks))}
    for name, motion in tracks.items():
        check_motion(motion, name)
        for field in fields(HandMotion):
            value = getattr(motion, field.name)
            if isinstance(value, torch.Tensor):
                value = value.detach().cpu().numpy()
                value = value.astype(np.float32) if value.dtype == np.float64 else value
            if value is not None:
                arrays[f"{name}/{field.name}"] = np.asarray(value)
    write_whole(path, lambda file: np.savez_compressed(file, **arrays), suffix=".npz", force=force)


def check_output(path: str | Path, suffixes: Iterable[str], force: bool = False) -> Path:
    """The path as a Path, when one may write there; MotionError says why not. Call before long work."""
    path = Path(path)
    if path.suffix not in suffixes:
        raise MotionError(f"output {path}: its name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise MotionError(f"output folder {path.parent} does not exist; make it first: mkdir -p {path.parent}")
    if path.exists() and not force:
        raise MotionError(f"output {path} exists; add --force to replace it, or name another file")
    return path


def write_whole(path: str | Path, write: Callable, suffix: str, force: bool = False) -> None:
    """Let `write(binary file)` fill a temporary file beside `path`, then rename it: never a half-written output."""
    path = check_output(path, (suffix,), force)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`, without pickle; MotionError for a file that is none, is cut short or hides objects."""
    path = Path(path)
    if not path.is_file():
        raise MotionError(f"input {path} not found; check the path")
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise MotionError(f"{path} is a single array, not an .npz; rename it to .npy if it holds keypoints")
            return {key: arrays[key] for key in arrays.files}
    except MotionError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in reason:
            raise MotionError(f"{path} holds python objects, which are never loaded; save plain arrays") from None
        raise MotionError(f"{path} is not a readable .npz (cut short or damaged: {reason}); copy it again") from None


def is_motion_file(arrays: dict[str, np.ndarray]) -> bool:
    """Whether these arrays claim to be a HandMotion file."""
    return "schema" in arrays


def load_motion(path: str | Path) -> dict[str, HandMotion]:
    """The tracks of a HandMotion `.npz`, each checked; MotionError names field, expected and found."""
    return motion_from_arrays(read_npz(path), str(path))


def motion_from_arrays(arrays: dict[str, np.ndarray], where: str) -> dict[str, HandMotion]:
    """The tracks in arrays that were read from `where`."""
    schema = str(arrays.get("schema", "none"))
    if schema != SCHEMA:
        raise MotionError(f"{where}: schema expected {SCHEMA!r}, found {schema!r}; was it written by a newer handdiff?")
    names = [str(name) for name in np.atleast_1d(arrays.get("tracks", np.array([], dtype=str)))]
    if not names:
        raise MotionError(f"{where}: no tracks in the file; `tracks` must list at least one name")
    return {name: _track(arrays, name, f"{where}: {name}") for name in names}


def _track(arrays: dict[str, np.ndarray], name: str, where: str) -> HandMotion:
    """One track, checked."""
    values: dict[str, object] = {}
    for field in fields(HandMotion):
        array = arrays.get(f"{name}/{field.name}")
        if array is None:
            if field.name in _OPTIONAL:
                continue
            raise MotionError(f"{where}: {field.name} is missing; a HandMotion needs it (see the notation page)")
        if field.name in _TEXT:
            values[field.name] = _text(str(array), field.name, where)
        elif field.name == "fps":
            if array.shape != () or not np.issubdtype(array.dtype, np.number):
                raise MotionError(f"{where}: fps expected one number, found {array.dtype} of shape {array.shape}")
            values["fps"] = float(array)
        else:
            values[field.name] = _tensor(array, field.name, where)
    _check_shapes(values, where)
    motion = HandMotion(**values)
    check_motion(motion, where)
    return motion


def _text(value: str, name: str, where: str) -> str:
    """The value, when it is one of those allowed."""
    allowed = _TEXT[name]
    if allowed and value not in allowed:
        raise MotionError(f"{where}: {name} expected {' or '.join(allowed)}, found {value!r}")
    return value


def _tensor(array: np.ndarray, name: str, where: str) -> torch.Tensor:
    """A float32 or bool tensor."""
    if name in ("valid", "refined"):
        if array.dtype != bool:
            raise MotionError(f"{where}: {name} expected bool, found {array.dtype}")
        return torch.from_numpy(array.copy())
    if not np.issubdtype(array.dtype, np.floating):
        raise MotionError(f"{where}: {name} expected floating numbers, found {array.dtype}")
    return torch.from_numpy(array.astype(np.float32))


def _check_shapes(values: dict[str, object], where: str) -> None:
    """Every tensor has the length of R and its own trailing shape."""
    R = values["R"]
    count = len(R) if R.ndim else 0
    for name, expected in _SHAPES.items():
        value = values.get(name)
        if value is None:
            continue
        fits = [(count, *expected[1:])] + ([expected[1:]] if name == "betas" else [])
        if tuple(value.shape) not in fits:
            wanted = " or ".join(str(shape) for shape in fits)
            raise MotionError(f"{where}: {name} expected shape {wanted}, found {tuple(value.shape)}")
    if count == 0:
        raise MotionError(f"{where}: the track is empty; it needs at least one frame")


def check_motion(motion: HandMotion, where: str = "motion") -> None:
    """Raise MotionError unless the values make sense; frames that are not valid may hold anything finite or not."""
    for name in _TEXT:
        _text(getattr(motion, name), name, where)
    if not (0 < motion.fps < 10_000):
        raise MotionError(f"{where}: fps expected a number between 0 and 10000, found {motion.fps}")
    if len(motion) == 0:
        raise MotionError(f"{where}: the track is empty; it needs at least one frame")
    for name, value in motion._per_frame().items():
        seen = value[motion.valid]
        if value.is_floating_point() and not seen.isfinite().all():
            bad = int((~seen.flatten(1).isfinite().all(1)).sum())
            raise MotionError(
                f"{where}: {name} expected finite numbers, found NaN or inf in {bad} valid frames; "
                "mark those frames as not valid"
            )
    if motion.betas.ndim == 1 and not motion.betas.isfinite().all():
        raise MotionError(f"{where}: betas expected finite numbers, found NaN or inf")
    R = motion.R[motion.valid]
    if len(R):
        eye = torch.eye(3, dtype=R.dtype, device=R.device)
        off = (R.mT @ R - eye).abs().amax((-1, -2))
        off = torch.where(torch.linalg.det(R) < 0, torch.full_like(off, 2.0), off).amax(-1)
        if (off > 1e-3).any():
            worst = int(motion.valid.nonzero()[off.argmax()])
            raise MotionError(
                f"{where}: R expected rotation matrices, found {int((off > 1e-3).sum())} frames that are not "
                f"(frame {worst} is off by {float(off.max()):.2g}); normalise them first"
            )
    if motion.confidence is not None and ((motion.confidence < 0) | (motion.confidence > 1)).any():
        raise MotionError(
            f"{where}: confidence expected values in [0, 1], found {float(motion.confidence.min()):.3g} to "
            f"{float(motion.confidence.max()):.3g}"
        )
