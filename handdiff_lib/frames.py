r"""What the denoiser is told of an estimate, frame by frame, from a frame that follows the wrist.

    R           rotations, the wrist's seen from the steady frame        betas       one shape a clip
    turns       from y to its Gaussian means, near and far               confidence  what the estimator says
    shake       how much each joint shakes                               valid       whether there was an answer

The means reach further than any window: they tell a window what the clip looks like. How much a joint shakes tells how
little to trust it, and to leave clean motion alone.
"""

import math
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
    """From y to its Gaussian means (`smoother_turns`)."""
    shake: Float[Tensor, "b t 16 2"]
    """How much y shakes (`shake_level`)."""

    def __getitem__(self, index: tuple[slice, slice]) -> "Frames":
        """A part along batch and time."""
        per_frame = (x[index] for x in (self.valid, self.confidence, self.turns, self.shake))
        return Frames(self.R[index], self.betas[index[0]], *per_frame)

    def windows(self, index: Int[Tensor, "w t"]) -> "Frames":
        """Windows of a batch of one clip, given the frames in each."""
        per_frame = (x[0][index] for x in (self.valid, self.confidence, self.turns, self.shake))
        return Frames(self.R[0][index], self.betas.expand(len(index), -1), *per_frame)


def steady_frame(R_root: Float[Tensor, "*b t 3 3"], valid: Bool[Tensor, "*b t"]) -> Float[Tensor, "*b t 3 3"]:
    """A slowly turning frame that follows the wrist: its Gaussian chordal mean over time.

    Turning the whole motion turns this frame with it, so what is seen from it stays.
    """
    return smooth_rotations(R_root[..., None, :, :], valid, STEADY)[..., 0, :, :]


def smoother_turns(R: Float[Tensor, "*b t 16 3 3"], valid: Bool[Tensor, "*b t"]) -> Float[Tensor, "*b t 16 k 3"]:
    r"""From each rotation to its Gaussian means, $c_k = \log(R^\top \bar R_{\sigma_k})$ for the sigmas in SIGMAS."""
    means = torch.stack([smooth_rotations(R, valid, sigma) for sigma in SIGMAS], dim=-3)
    return rotation.log(R[..., None, :, :].mT @ means)


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
) -> tuple[Frames, Float[Tensor, "b t 3 3"]]:
    """What the denoiser is told about filled estimates, and their steady frames; confidence as in `Frames`."""
    frame = steady_frame(R[:, :, 0], valid)
    turns, shake = smoother_turns(R, valid), shake_level(R, valid)
    return Frames(to_steady(R, frame), betas, valid, confidence, turns, shake), frame


def estimate_frames(motion: HandMotion) -> tuple[Frames, Float[Tensor, "1 t 3 3"]]:
    """The same for a filled track with one shape: a batch of one."""
    unknown = torch.full_like(motion.R[..., 0, 0], -1.0)
    said = unknown if motion.confidence is None else motion.confidence
    confidence = torch.where(motion.valid[:, None], said, unknown)  # as in training: a missing frame says nothing
    return estimate_frames_batch(motion.R[None], motion.betas[None], motion.valid[None], confidence[None])
