"""Gaussian means over time: the numbers of a small kernel, missing frames, ends, and slow twins."""

import math

import pytest
import roma
import torch
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.smoothing import smooth, smooth_rotations


def mean_at(values: Tensor, valid: Tensor, sigma: float, t: int) -> Tensor:
    """The weighted mean at frame t of one track, one frame at a time."""
    total, weight = torch.zeros_like(values[0]), 0.0
    for s in range(len(values)):
        if valid[s] and abs(s - t) <= math.ceil(4 * sigma):
            w = math.exp(-((s - t) ** 2) / (2 * sigma**2))
            total, weight = total + w * values[s], weight + w
    return total / weight if weight else values[t]


@pytest.fixture
def track(generator) -> tuple[Tensor, Tensor]:
    """Values (3, 40, 5) and which frames are valid: all, most, and only the first five."""
    valid = torch.rand(3, 40, generator=generator) < 0.6
    valid[0], valid[2] = True, torch.arange(40) < 5
    return torch.randn(3, 40, 5, generator=generator), valid


@pytest.mark.parametrize("sigma", [0.5, 2.0, 30.0])
def test_a_constant_stays(track, sigma):
    values = torch.full_like(track[0], 3.0)
    torch.testing.assert_close(smooth(values, track[1], sigma), values)


def test_three_frames_by_hand():
    r"""With $2 \sigma^2 = 1 / \ln 2$ the weights are 1, 1/2, 1/16: the middle of 0, 8, 0 is 8 / (1/2 + 1 + 1/2) = 4.

    At the first frame the kernel has 1, 1/2, 1/16 left, so that it is 4 / (25/16) = 2.56.
    """
    sigma = math.sqrt(0.5 / math.log(2))
    values = torch.tensor([[0.0], [8.0], [0.0]])
    got = smooth(values, torch.ones(3, dtype=torch.bool), sigma)
    torch.testing.assert_close(got[:, 0], torch.tensor([2.56, 4.0, 2.56]))


def test_missing_frames_weigh_nothing(track):
    values, valid = track
    other = torch.where(valid[..., None], values, 1e3)
    torch.testing.assert_close(smooth(other, valid, 2.0)[:2], smooth(values, valid, 2.0)[:2])
    beside = torch.tensor([[1.0], [99.0], [3.0]])
    got = smooth(beside, torch.tensor([True, False, True]), 1.0)
    torch.testing.assert_close(got[1], torch.tensor([2.0]), msg="answered from its neighbours, 1 and 3")


def test_a_frame_with_no_valid_one_in_reach_is_kept(track):
    """Four frames are in reach of sigma 1; track 2 has its last valid frame at 4."""
    values, valid = track
    got = smooth(values, valid, 1.0)
    assert torch.equal(got[2, 9:], values[2, 9:])
    torch.testing.assert_close(got[2, 8], values[2, 4])
    assert torch.equal(smooth(values, torch.zeros_like(valid), 1.0), values)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.3, 20.0])
def test_a_batch_equals_the_loop(track, sigma):
    values, valid = (x.clone() for x in track)
    got = smooth(values, valid, sigma)
    want = [torch.stack([mean_at(values[b], valid[b], sigma, t) for t in range(40)]) for b in range(3)]
    torch.testing.assert_close(got, torch.stack(want), atol=1e-5, rtol=1e-5)
    assert torch.equal(values, track[0]), "the input stays as it was"


def test_any_leading_shape_and_one_frame(track):
    values, valid = track
    torch.testing.assert_close(smooth(values[None], valid[None], 2.0)[0], smooth(values, valid, 2.0))
    torch.testing.assert_close(smooth(values[0], valid[0], 2.0), smooth(values, valid, 2.0)[0])
    torch.testing.assert_close(smooth(values[:, :1], valid[:, :1], 2.0), values[:, :1])


@pytest.mark.parametrize("spread", [0.3, 3.0], ids=["together", "apart"])
def test_rotations_are_chordal_means(generator, spread):
    """The rotation nearest to the mean of the matrices, one joint and frame at a time."""
    R = rotation.exp(spread * torch.randn(20, 4, 3, generator=generator, dtype=torch.float64))
    valid = torch.arange(20) % 5 != 2
    got = smooth_rotations(R, valid, 1.5)
    for t in (0, 2, 9, 19):
        want = roma.special_procrustes(mean_at(R, valid, 1.5, t))
        torch.testing.assert_close(got[t], want, atol=1e-6, rtol=0)


def test_nothing_wraps_at_half_a_turn():
    """From 170 to 190 degrees, the middle is 180, not 0."""
    angle = torch.deg2rad(torch.tensor([170.0, 190.0]))
    R = rotation.exp(angle[:, None, None] * torch.tensor([0.0, 0.0, 1.0]))
    got = smooth_rotations(R, torch.ones(2, dtype=torch.bool), 1000.0)
    torch.testing.assert_close(got[0, 0], torch.diag(torch.tensor([-1.0, -1.0, 1.0])), atol=1e-5, rtol=0)


def test_a_turned_motion_gives_turned_means(generator):
    R = rotation.exp(torch.randn(12, 2, 3, generator=generator))
    Q = rotation.exp(torch.tensor([0.3, -2.0, 0.7]))
    valid = torch.ones(12, dtype=torch.bool)
    torch.testing.assert_close(
        smooth_rotations(Q @ R, valid, 2.0), Q @ smooth_rotations(R, valid, 2.0), atol=1e-5, rtol=0
    )
