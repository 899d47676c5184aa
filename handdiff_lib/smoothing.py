r"""Gaussian means over time, of numbers and of rotations; missing frames have no say.

    x_t = sum_s w(s - t) valid_s y_s / sum_s w(s - t) valid_s,    w(d) = exp(-d^2 / 2 sigma^2)

For rotations the sum is followed by the nearest rotation (the chordal mean), so nothing wraps at half a turn. At the
ends of a track the rest of the kernel is renormalised.
"""

from math import ceil

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation

REACH = 4
"""The kernel is cut off at this many sigmas."""
MATRIX = 512
"""Up to this many frames the sums are one matrix product, which is faster than a convolution."""


def smooth(values: Float[Tensor, "*b t d"], valid: Bool[Tensor, "*b t"], sigma: float) -> Float[Tensor, "*b t d"]:
    """Weighted means of the valid values around each frame, sigma > 0 in frames; a frame with none in reach is kept."""
    t, reach = values.shape[-2], ceil(REACH * sigma)
    keep = valid.to(values)[..., None]
    both = torch.cat([values * keep, keep], dim=-1)
    if t <= MATRIX:
        frame = torch.arange(t, dtype=values.dtype, device=values.device)
        apart = frame - frame[:, None]
        sums = torch.where(apart.abs() <= reach, (-0.5 * (apart / sigma).square()).exp(), 0) @ both
    else:
        offset = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
        kernel = (-0.5 * (offset / sigma).square()).exp()
        flat = both.mT.flatten(0, -2)[:, None]
        sums = torch.nn.functional.conv1d(flat, kernel[None, None], padding=reach)[:, 0].reshape(both.mT.shape).mT
    weight = sums[..., -1:]
    return torch.where(weight > 0, sums[..., :-1] / weight.clamp(min=torch.finfo(values.dtype).tiny), values)


def smooth_rotations(
    R: Float[Tensor, "*b t j 3 3"], valid: Bool[Tensor, "*b t"], sigma: float
) -> Float[Tensor, "*b t j 3 3"]:
    """Chordal means of the valid rotations around each frame, joint by joint."""
    return rotation.polar(smooth(R.flatten(-3), valid, sigma).reshape(R.shape))
