r"""What the denoiser is told of an estimate, frame by frame, from a frame that follows the wrist.

    R           rotations, the wrist's seen from the steady frame        betas       one shape a clip
    turns       from y to its Gaussian means, near and far               confidence  what the estimator says
    rates       how fast these means turn                                valid       whether there was an answer
    shake       how much each joint shakes                               sight       where the camera looks

The means reach further than most windows: they tell a window what the clip looks like. How fast they turn tells how
much motion there is to lose by leaning on them. How much a joint shakes tells how little to trust it, and to leave
clean motion alone. One camera sees depth poorly, so estimators err along its axis.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from handdiff_lib import rotation
from handdiff_lib.motion import HandMotion
from handdiff_lib.smoothing import smooth, smooth_rotations

STEADY = 8.0
"""Sigma of the steady frame, in frames."""
SIGMAS = (1.0, 2.5, 6.0, 15.0, 40.0)
"""Sigmas, in frames, of the Gaussian means of y that the network may lean on; the last is nearly that of a clip."""
CAMERA_AXIS = (0.0, 0.0, 1.0)
"""Where a camera looks, in its own axes: x right, y down. Mirroring a left hand leaves it as it is."""
AROUND = (6.0, 30.0)
"""Sigmas, in frames, over which the shake of each joint is averaged, to tell the network how noisy y is."""


@dataclass(frozen=True)
class Frames:
    """What the denoiser is told about the estimate y, frame by frame, in the steady frame."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    """One shape a clip."""
    valid: Bool[Tensor, "b t"]
    confidence: Float[Tensor, "b t 16"]
    """In [0, 1]; negative where the estimator does not say."""
    turns: Float[Tensor, "b t 16 k 3"]
    """From y to its Gaussian means (`leanings`)."""
    rates: Float[Tensor, "b t 16 k 3"]
    """From these means to those of the next frame, radians."""
    shake: Float[Tensor, "b t 16 2"]
    """How much y shakes (`shake_level`)."""
    sight: Float[Tensor, "b t 3"]
    """Direction in which the camera looks; zeros where it is not known."""

    def __getitem__(self, index: tuple[slice, slice]) -> "Frames":
        """A part along batch and time."""
        return self.per_frame(lambda x: x[index], self.betas[index[0]])

    def windows(self, index: Int[Tensor, "w t"]) -> "Frames":
        """Windows of a batch of one clip, given the frames in each."""
        return self.per_frame(lambda x: x[0][index], self.betas.expand(len(index), -1))

    def per_frame(self, change: Callable[[Tensor], Tensor], betas: Float[Tensor, "b 10"]) -> "Frames":
        """The same change to everything that has a time axis, and other betas to go with it."""
        told = (self.valid, self.confidence, self.turns, self.rates, self.shake, self.sight)
        return Frames(change(self.R), betas, *map(change, told))


def steady_frame(R_root: Float[Tensor, "*b t 3 3"], valid: Bool[Tensor, "*b t"]) -> Float[Tensor, "*b t 3 3"]:
    """A slowly turning frame that follows the wrist: its Gaussian chordal mean over time.

    Turning the whole motion turns this frame with it, so what is seen from it stays.
    """
    return smooth_rotations(R_root[..., None, :, :], valid, STEADY)[..., 0, :, :]


def leanings(
    R: Float[Tensor, "*b t 16 3 3"], valid: Bool[Tensor, "*b t"]
) -> tuple[Float[Tensor, "*b t 16 k 3"], Float[Tensor, "*b t 16 k 3"]]:
    r"""From each rotation to its Gaussian means, and from these to the next frame's, for the sigmas in SIGMAS.

    $c_k = \log(R_t^\top \bar R_{k,t})$ and $\omega_k = \log(\bar R_{k,t}^\top \bar R_{k,t+1})$; the last frame has the
    $\omega_k$ of the one before.
    """
    means = torch.stack([smooth_rotations(R, valid, sigma) for sigma in SIGMAS], dim=-3)
    after = means.roll(-1, -5)
    after[..., -1:, :, :, :, :] = means[..., -1:, :, :, :, :]
    rates = rotation.log(means.mT @ after)
    if R.shape[-4] > 1:
        rates[..., -1:, :, :, :] = rates[..., -2:-1, :, :, :]
    return rotation.log(R[..., None, :, :].mT @ means), rates


def to_steady(R: Float[Tensor, "*b t 16 3 3"], frame: Float[Tensor, "*b t 3 3"]) -> Float[Tensor, "*b t 16 3 3"]:
    """The motion with its global orientation seen from `frame`."""
    return torch.cat([(frame.mT @ R[..., 0, :, :])[..., None, :, :], R[..., 1:, :, :]], dim=-3)


def from_steady(R: Float[Tensor, "*b t 16 3 3"], frame: Float[Tensor, "*b t 3 3"]) -> Float[Tensor, "*b t 16 3 3"]:
    """The way back from `to_steady`."""
    return to_steady(R, frame.mT)


def shake_level(R: Float[Tensor, "*b t 16 3 3"], valid: Bool[Tensor, "*b t"]) -> Float[Tensor, "*b t 16 k"]:
    r"""How much each joint shakes: $\log_{16}$ of the mean of $\lVert\omega_{t+1} - \omega_t\rVert^2$ around a frame.

    $\omega_t = \log(R_t^\top R_{t+1})$; means over the sigmas in AROUND; 0 stands for about a degree.
    """
    omega = rotation.log(R[..., :-1, :, :, :].mT @ R[..., 1:, :, :, :])
    bend = omega.diff(dim=-3).square().sum(-1)
    short = R.shape[-4] - bend.shape[-2]  # two frames, fewer in a clip of one
    bend = F.pad(bend, (0, 0, short // 2, short - short // 2))
    around = torch.stack([smooth(bend, valid, sigma) for sigma in AROUND], -1)
    return (around + 1e-8).log() / math.log(16) + 3


def estimate_frames_batch(
    R: Float[Tensor, "b t 16 3 3"],
    betas: Float[Tensor, "b 10"],
    valid: Bool[Tensor, "b t"],
    confidence: Float[Tensor, "b t 16"],
    axis: Float[Tensor, "b 3"],
) -> tuple[Frames, Float[Tensor, "b t 3 3"]]:
    """What the denoiser is told about filled estimates, and their steady frames; confidence as in `Frames`.

    `axis` is the direction in which the camera looks, in the axes of R; zeros where it is not known.
    """
    frame = steady_frame(R[:, :, 0], valid)
    sight = (frame.mT @ axis[:, None, :, None])[..., 0]
    told = (valid, confidence, *leanings(R, valid), shake_level(R, valid), sight)
    return Frames(to_steady(R, frame), betas, *told), frame


def estimate_frames(motion: HandMotion) -> tuple[Frames, Float[Tensor, "1 t 3 3"]]:
    """The same for a filled track with one shape: a batch of one. Camera axes say where the camera looks."""
    unknown = torch.full_like(motion.R[..., 0, 0], -1.0)
    said = unknown if motion.confidence is None else motion.confidence
    confidence = torch.where(motion.valid[:, None], said, unknown)  # as in training: a missing frame says nothing
    axis = motion.R.new_tensor(CAMERA_AXIS) * (motion.frame == "camera")
    told = (motion.R, motion.betas, motion.valid, confidence, axis)
    return estimate_frames_batch(*(x[None] for x in told))
