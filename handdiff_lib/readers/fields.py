r"""One field of someone else's file, as a checked tensor.

Files differ in shapes and in how they write rotations; every reader asks here, so that a fault is always named the
same way: file, field, what was expected, what was found.
"""

from typing import Literal

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.motion import MotionError

DEFAULT_FPS = 30.0
"""Frame rate of a file that states none, when the caller does not either."""
DRIFT = 1e-3
"""How far `R^T R` may be from the identity; a smaller drift is rounding and is projected away."""


def frame_rate(stated: object, asked: float | None, where: str) -> float:
    """What the file states, else what was asked for, else DEFAULT_FPS; the first two may not differ."""
    if asked is not None and not 0 < asked < 10_000:
        raise MotionError(f"fps expected a number between 0 and 10000, found {asked}")
    if stated is None:
        return DEFAULT_FPS if asked is None else float(asked)
    value = numbers(stated, "fps", where)
    if value.size != 1 or not 0 < value.item() < 10_000:
        raise MotionError(f"{where}: fps expected one number between 0 and 10000, found {value.tolist()}")
    if asked is not None and abs(asked - value.item()) > 1e-3:
        raise MotionError(f"{where}: the file states {value.item():g} fps, not {asked:g}; leave fps out")
    return float(value.item())


def numbers(value: object, name: str, where: str) -> np.ndarray:
    """The value as a float64 array; lists of equal rows are fine."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise MotionError(f"{where}: {name} expected an array, found rows of different shapes") from None
    if array.dtype != bool and not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise MotionError(f"{where}: {name} expected numbers, found {array.dtype} of shape {array.shape}")
    return array.astype(np.float64)


def per_frame(value: object, count: int, width: int, name: str, where: str) -> Float[Tensor, "t d"]:
    """An array of `count` rows of `width` numbers; axes of length one in between do not matter."""
    array = numbers(value, name, where)
    if array.shape[:1] != (count,) or array.size != count * width:
        raise MotionError(f"{where}: {name} expected shape ({count}, {width}), found {array.shape}")
    return torch.from_numpy(array.reshape(count, width))


def rotations(value: object, joints: int, name: str, where: str) -> Float[Tensor, "t j a b"]:
    """Rotations of `joints` joints a frame as 3x3 matrices, from matrices or rotation vectors; not yet checked."""
    array = numbers(value, name, where)
    count, rest = array.shape[:1], array.shape[1:]
    if rest == (joints, 3, 3) or (joints == 1 and rest == (3, 3)):
        return torch.from_numpy(array.reshape(*count, joints, 3, 3))
    if rest in ((joints, 3), (joints * 3,)):
        return rotation.exp(torch.from_numpy(array.reshape(*count, joints, 3)))
    raise MotionError(
        f"{where}: {name} expected matrices (T, {joints}, 3, 3) or rotation vectors (T, {joints}, 3) or "
        f"(T, {joints * 3}), found {array.shape}"
    )


def require_finite(value: Float[Tensor, "t ..."], valid: Bool[Tensor, "t"], name: str, where: str) -> None:
    """MotionError when a valid frame holds NaN or inf."""
    bad = int((~value.flatten(1).isfinite().all(1) & valid).sum())
    if bad:
        raise MotionError(
            f"{where}: {name} expected finite numbers, found NaN or inf in {bad} of {int(valid.sum())} valid frames; "
            "mark those frames as not valid"
        )


def clean_rotations(
    R: Float[Tensor, "t j 3 3"], valid: Bool[Tensor, "t"], name: str, where: str
) -> Float[Tensor, "t j 3 3"]:
    """Exact rotations: rounding is projected away, real faults raise; frames that are not valid get the identity."""
    require_finite(R, valid, name, where)
    eye = torch.eye(3, dtype=R.dtype)
    R = torch.where(valid[:, None, None, None], R, eye)
    off = (R.mT @ R - eye).abs().amax((-1, -2))
    off = torch.where(torch.linalg.det(R) < 0, 2.0, off).amax(-1)
    if (off > DRIFT).any():
        frame = int(off.argmax())
        raise MotionError(
            f"{where}: {name} expected rotation matrices, found {int((off > DRIFT).sum())} frames that are not "
            f"(frame {frame} is off by {float(off[frame]):.2g}); normalise them or mark the frames as not valid"
        )
    return rotation.polar(R)


def quaternions(value: object, order: Literal["xyzw", "wxyz"], name: str, where: str) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices from quaternions of any length; zero ones give NaN, so `valid` must leave them out."""
    q = torch.from_numpy(numbers(value, name, where))
    if q.shape[-1] != 4:
        raise MotionError(f"{where}: {name} expected quaternions (..., 4), found {tuple(q.shape)}")
    q = q if order == "xyzw" else q.roll(-1, dims=-1)
    return roma.unitquat_to_rotmat(q / q.norm(dim=-1, keepdim=True))


def shaped(value: object, shape: tuple[int | None, ...], name: str, where: str) -> Float[Tensor, "..."]:
    """Numbers of this shape, None for any length."""
    found = numbers(value, name, where)
    if len(found.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise MotionError(f"{where}: {name} expected shape ({wanted}), found {found.shape}")
    return torch.from_numpy(found)
