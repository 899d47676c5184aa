r"""HandMotion: one track of one hand over time, the one value that flows through the library.

Data are *right-canonical*: a left hand is stored as the right hand one sees in a mirror at x = 0, and `side` says so.
`joints` and `vertices` answer in the real frame, mirrored back.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel, InputError, PosedHand

Side = Literal["right", "left"]


class MotionError(InputError):
    """A motion, or a file of one, that cannot be used."""


@dataclass(frozen=True)
class HandMotion:
    """A track of `t` frames. Nothing in it is changed in place; functions return new ones."""

    R: Float[Tensor, "t 16 3 3"]
    """Absolute rotations, parent to joint: global orientation, then 15 joints in MANO order; mean pose included."""
    betas: Float[Tensor, "*t 10"]
    """Shape, one for the track or one a frame; only meaningful with `hand`."""
    transl: Float[Tensor, "t 3"]
    """Translation in metres as MANO uses it: wrist position = rest wrist joint + transl."""
    valid: Bool[Tensor, "t"]
    """False where the estimator gave nothing; what R says there is a place holder."""
    fps: float
    side: Side = "right"
    hand: str = "mano"
    """Name of the hand model that `betas` belong to: `open` for the hand that ships, `mano` for MANO."""
    frame: Literal["camera", "world", "object"] = "camera"
    confidence: Float[Tensor, "t 16"] | None = None
    """How sure the estimator is of each joint, in [0, 1]."""
    sigma: Float[Tensor, "t 16"] | None = None
    """Standard deviation of each joint's rotation about each axis of its tangent space, radians; written by refine."""
    state_prob: Float[Tensor, "t 4"] | None = None
    """Written by refine: probability of reach, stable grasp, manipulate, release."""
    refined: Bool[Tensor, "t"] | None = None
    """Written by refine: which frames were changed."""

    def __len__(self) -> int:
        return len(self.R)

    def __getitem__(self, frames: slice | Tensor) -> "HandMotion":
        """The frames that a slice, an index or a mask selects."""
        if not isinstance(frames, slice | Tensor):
            raise TypeError("select frames with a slice, an index tensor or a mask, e.g. motion[10:20]")
        return replace(self, **{name: value[frames] for name, value in self._per_frame().items()})

    def _per_frame(self) -> dict[str, Tensor]:
        """The tensors whose first axis is time."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        if self.betas.ndim == 1:
            tensors.pop("betas")
        return tensors

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "HandMotion":
        """The same motion elsewhere or in another precision."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{k: v.to(device, dtype if v.is_floating_point() else None) for k, v in tensors.items()})

    def pose(self, hand: HandModel) -> PosedHand:
        """The right-canonical hand, posed; left tracks are not mirrored back here."""
        betas = self.betas if self.hand == hand.name else torch.zeros_like(self.betas)
        return hand.shape(betas).pose(self.R, self.transl)

    def joints(self, hand: HandModel, tips: str = "smplx") -> Float[Tensor, "t 21 3"]:
        """The 21 joints in metres, in the track's own frame (left hands mirrored back).

        With another hand than the track's, its mean shape stands in: betas do not carry over.
        """
        return self._unmirror(self.pose(hand).joints21(tips))

    def vertices(self, hand: HandModel) -> Float[Tensor, "t v 3"]:
        """All vertices in metres, in the track's own frame (left hands mirrored back)."""
        return self._unmirror(self.pose(hand).skin())

    def _unmirror(self, points: Float[Tensor, "t k 3"]) -> Float[Tensor, "t k 3"]:
        return points if self.side == "right" else rotation.mirror_points(points)

    def with_one_shape(self) -> "HandMotion":
        """The track with the median of its valid frames' betas instead of one shape a frame."""
        if self.betas.ndim == 1:
            return self
        known = self.betas[self.valid] if self.valid.any() else self.betas
        return replace(self, betas=known.median(dim=0).values)


def mirror(motion: HandMotion) -> HandMotion:
    """The same motion made by the other hand, mirrored at x = 0. Only `side` changes: storage is right-canonical."""
    return replace(motion, side="left" if motion.side == "right" else "right")


def concat(motions: list[HandMotion]) -> HandMotion:
    """The motions one after the other; fps, side, hand and frame must agree. Optional fields that one lacks go.

    One shape a track becomes one a frame where the tracks differ.
    """
    first = motions[0]
    for name in ("fps", "side", "hand", "frame"):
        found = {getattr(m, name) for m in motions}
        if len(found) > 1:
            raise MotionError(f"concat: {name} differs ({', '.join(map(str, sorted(found)))}); make it the same first")
    joined: dict[str, Tensor | None] = {}
    for name in ("R", "transl", "valid", "confidence", "sigma", "state_prob", "refined"):
        values = [getattr(m, name) for m in motions]
        joined[name] = None if any(v is None for v in values) else torch.cat(values)
    same_shape = all(m.betas.ndim == 1 and torch.equal(m.betas, first.betas) for m in motions)
    joined["betas"] = first.betas if same_shape else torch.cat([m.betas.expand(len(m), -1) for m in motions])
    return replace(first, **joined)


def resample(motion: HandMotion, fps: float) -> HandMotion:
    """The motion at another frame rate: rotations by slerp, the rest linearly, from the first frame's time on.

    A new frame is valid when both frames around it are. One-frame tracks only change `fps`.
    """
    if not fps > 0:
        raise MotionError(f"resample: fps must be positive, found {fps}")
    if len(motion) == 1 or fps == motion.fps:
        return replace(motion, fps=fps)
    count = int((len(motion) - 1) * fps / motion.fps + 1e-6) + 1
    place = torch.arange(count, dtype=torch.float64) * (motion.fps / fps)
    before = place.floor().long().clamp(max=len(motion) - 1)
    after = (before + 1).clamp(max=len(motion) - 1)
    share = (place - before).to(motion.R)
    changed: dict[str, Tensor] = {}
    for name, value in motion._per_frame().items():
        if name == "R":
            changed[name] = rotation.slerp(value[before], value[after], share[:, None].expand(-1, 16))
        elif value.dtype == torch.bool:
            changed[name] = value[before] & (value[after] | (share == 0))
        else:
            w = share.reshape(-1, *[1] * (value.ndim - 1))
            changed[name] = torch.lerp(value[before], value[after], w)
    return replace(motion, fps=fps, **changed)


def fill_missing(motion: HandMotion) -> HandMotion:
    """The track with its missing frames filled: slerp and lines across gaps, the nearest valid frame at the ends.

    `valid` stays as it was, so that one can still tell; the confidence there is 0. Raises MotionError when no frame is
    valid.
    """
    if not motion.valid.any():
        raise MotionError("no valid frame: the estimator found no hand in this track; drop the track")
    if motion.valid.all():
        return motion
    before, after, share = gap_ends(motion.valid)
    share = share.to(motion.R)
    filled: dict[str, Tensor] = {
        "R": rotation.slerp(motion.R[before], motion.R[after], share[:, None].expand(-1, 16)),
        "transl": torch.lerp(motion.transl[before], motion.transl[after], share[:, None]),
    }
    filled["R"][motion.valid] = motion.R[motion.valid]
    if motion.confidence is not None:
        filled["confidence"] = torch.where(motion.valid[:, None], motion.confidence, 0.0)
    if motion.betas.ndim == 2:
        filled["betas"] = torch.lerp(motion.betas[before], motion.betas[after], share[:, None])
    return replace(motion, **filled)


def gap_ends(
    valid: Bool[Tensor, "*b t"],
) -> tuple[Int[Tensor, "*b t"], Int[Tensor, "*b t"], Float[Tensor, "*b t"]]:
    """For every frame the valid frame at or before it, the one at or after it, and how far along it lies, in [0, 1].

    Outside the first and last valid frame both ends are that frame. Every row needs a valid frame.
    """
    t = torch.arange(valid.shape[-1], device=valid.device).expand(valid.shape)
    none_before, none_after = -1, valid.shape[-1]
    before = torch.where(valid, t, none_before).cummax(-1).values
    after = torch.where(valid, t, none_after).flip(-1).cummin(-1).values.flip(-1)
    before, after = torch.where(before < 0, after, before), torch.where(after == none_after, before, after)
    return before, after, (t - before).clamp(min=0) / (after - before).clamp(min=1)
