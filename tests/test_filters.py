"""Filters on rotations: what stays, what turns with the hand, numbers by hand, and slower ways to the same answer."""

from math import degrees, pi, radians, sqrt

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.baselines import gaussian
from handdiff_lib.filters import NaiveEuler, OneEuro, RauchTungStriebel, SavitzkyGolay
from handdiff_lib.motion import HandMotion, MotionError

PROPER = [SavitzkyGolay(7, 2), OneEuro(), RauchTungStriebel(2.0)]
ALL = [*PROPER, NaiveEuler(2.0)]
AXIS = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
names = pytest.mark.parametrize("one", ALL, ids=lambda f: type(f).__name__)
proper = pytest.mark.parametrize("one", PROPER, ids=lambda f: type(f).__name__)


def track(R: Tensor, transl: Tensor | None = None, betas: Tensor | None = None, valid: Tensor | None = None):
    """A track at 30 frames a second."""
    t = len(R)
    return HandMotion(
        R=R,
        betas=torch.zeros(10, dtype=R.dtype) if betas is None else betas,
        transl=torch.zeros(t, 3, dtype=R.dtype) if transl is None else transl,
        valid=torch.ones(t, dtype=torch.bool) if valid is None else valid,
        fps=30.0,
        hand="open",
    )


def planar(angle: Tensor, **more: Tensor) -> HandMotion:
    """All joints at these angles about AXIS."""
    return track(rotation.exp((angle.double()[:, None, None] * AXIS).expand(-1, 16, 3)), **more)


def angles_of(motion: HandMotion) -> Tensor:
    """The way back: angles about AXIS, all joints alike; below half a turn."""
    angle = rotation.log(motion.R) @ AXIS
    assert (angle - angle[:, :1]).abs().max() < 1e-9
    return angle[:, 0]


def wild(generator: torch.Generator, t: int = 20) -> Tensor:
    """A random walk of every joint, some 10 degrees a frame, on top of any orientation."""
    step = 0.2 * torch.randn(t, 16, 3, generator=generator, dtype=torch.float64)
    R = [rotation.exp(2 * torch.randn(16, 3, generator=generator, dtype=torch.float64))]
    for v in step:
        R.append(R[-1] @ rotation.exp(v))
    return torch.stack(R[1:])


# What all do


@names
def test_a_still_hand_stays(one, generator):
    R = rotation.exp(2 * torch.randn(16, 3, generator=generator)).expand(20, 16, 3, 3)
    still = track(R, torch.full((20, 3), 0.4), torch.full((20, 10), -1.5))
    found = one(still)
    torch.testing.assert_close(found.R, R, atol=2e-6, rtol=0)
    torch.testing.assert_close(found.transl, still.transl)
    torch.testing.assert_close(found.betas, still.betas)


@proper
def test_turning_the_motion_turns_the_answer(one, generator):
    R, G = wild(generator), rotation.exp(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    valid = torch.rand(20, generator=generator) > 0.3
    torch.testing.assert_close(one(track(G @ R, valid=valid)).R, G @ one(track(R, valid=valid)).R, atol=1e-6, rtol=0)


def test_the_naive_filter_depends_on_the_camera(generator):
    """The same motion seen by a camera that is turned comes out as another one."""
    R, G = wild(generator), rotation.exp(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    one = NaiveEuler(2.0)
    assert rotation.angle_between(one(track(G @ R)).R, G @ one(track(R)).R).max() > 0.5


@names
def test_missing_frames_are_answered(one, generator):
    """What stands there (NaN) does not leak, also at both ends; `valid` still tells."""
    R, valid = wild(generator), torch.ones(20, dtype=torch.bool)
    valid[[0, 1, 7, 8, 9, 19]] = False
    numbers = torch.randn(20, 13, generator=generator, dtype=torch.float64)
    for x in (R, numbers):
        x[~valid] = torch.nan
    found = one(track(R, numbers[:, :3], numbers[:, 3:], valid))
    assert torch.equal(found.valid, valid)
    for x in (found.R, found.transl, found.betas):
        assert x.isfinite().all()
    eye = torch.eye(3, dtype=torch.float64).expand(20, 16, 3, 3)
    torch.testing.assert_close(found.R.mT @ found.R, eye, atol=1e-6, rtol=0)


@names
def test_one_frame_is_its_own_answer(one, generator):
    R = wild(generator, 1)
    torch.testing.assert_close(one(track(R)).R, R, atol=1e-6, rtol=0)


@names
def test_a_track_without_a_valid_frame_is_refused(one):
    with pytest.raises(MotionError, match="no valid frame"):
        one(planar(torch.zeros(4), valid=torch.zeros(4, dtype=torch.bool)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: SavitzkyGolay(8, 2), "width must be an odd number of frames, found 8"),
        (lambda: SavitzkyGolay(5, 5), "order must be from 0 to 4, found 5"),
        (lambda: OneEuro(min_cutoff_hz=0.0), "both cut-offs must be above 0 Hz"),
        (lambda: RauchTungStriebel(0.0), "cut-off must be above 0 Hz, found 0"),
        (lambda: NaiveEuler(0.0), "sigma must be above 0 frames, found 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, why):
    with pytest.raises(MotionError, match=why):
        make()


# Savitzky-Golay


@pytest.mark.parametrize(("width", "order"), [(5, 1), (7, 2), (11, 3)])
def test_savitzky_golay_about_one_axis_is_scipys(width, order, generator):
    """The ends included: there the last fit answers."""
    angle = 0.8 * torch.randn(40, generator=generator, dtype=torch.float64)
    transl = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    found = SavitzkyGolay(width, order)(planar(angle, transl=transl))
    want = savgol_filter(angle.numpy(), width, order, mode="interp")
    torch.testing.assert_close(angles_of(found), torch.from_numpy(want), atol=1e-6, rtol=0)
    want = savgol_filter(transl.numpy(), width, order, axis=0, mode="interp")
    torch.testing.assert_close(found.transl, torch.from_numpy(want))


def test_savitzky_golay_by_hand():
    """Five values and a parabola: (-3, 12, 17, 12, -3) / 35 in the middle."""
    angle = torch.tensor([0.0, 0.0, 0.35, 0.0, 0.0])
    assert angles_of(SavitzkyGolay(5, 2)(planar(angle)))[2].item() == pytest.approx(0.17, abs=1e-7)


def test_savitzky_golay_keeps_a_parabola_over_a_gap():
    """A turn that gets faster, through half a turn; with three frames missing it is off by a hundredth of a degree."""
    angle = 0.004 * torch.arange(40).square()
    motion, valid = planar(angle), torch.ones(40, dtype=torch.bool)
    found = SavitzkyGolay(9, 2)(motion)
    torch.testing.assert_close(found.R, motion.R, atol=1e-6, rtol=0)
    valid[20:23] = False
    found = SavitzkyGolay(9, 2)(planar(angle, valid=valid))
    assert rotation.angle_between(found.R, motion.R).max().rad2deg() < 0.05


def test_a_fit_is_about_the_answer(generator):
    """Slow twin: at each frame the answer about which the polynomial of the logarithms is 0 at that frame."""
    R = wild(generator, 12)
    found = SavitzkyGolay(5, 2)(track(R)).R
    for t in (0, 4, 7, 11):
        start = min(max(t - 2, 0), 7)
        for joint in (0, 7):
            X = R[t, joint]
            for _ in range(8):
                logs = rotation.log(X.T @ R[start : start + 5, joint]).numpy()
                at_t = np.array([np.polyval(np.polyfit(np.arange(start, start + 5) - t, one, 2), 0) for one in logs.T])
                X = X @ rotation.exp(torch.from_numpy(at_t))
            assert rotation.angle_between(found[t, joint], X) < 0.01


def test_many_frames_are_fitted_in_parts(generator):
    """600 frames are more than go at once: the seam does not show."""
    angle = 0.4 * torch.randn(600, generator=generator, dtype=torch.float64)
    found = angles_of(SavitzkyGolay(7, 2)(planar(angle)))
    torch.testing.assert_close(found, torch.from_numpy(savgol_filter(angle.numpy(), 7, 2)), atol=1e-6, rtol=0)


# One-Euro


def test_one_euro_by_hand():
    """With cut-off fps / 2 pi each frame goes half of the way: 1/2, 3/4; after a missing frame two thirds: 11/12."""
    angle = torch.tensor([0.0, 1.0, 1.0, 0.5, 1.0])
    valid = torch.tensor([True, True, True, False, True])
    found = OneEuro(30 / (2 * pi), beta=0.0)(planar(angle, transl=angle.double()[:, None].expand(-1, 3), valid=valid))
    want = torch.tensor([0, 1 / 2, 3 / 4, 3 / 4, 11 / 12], dtype=torch.float64)
    torch.testing.assert_close(angles_of(found), want, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.transl[:, 0], want, atol=1e-7, rtol=0)


def test_one_euro_about_one_axis_is_the_scalar_filter(generator):
    """Slow twin: Casiez' algorithm for numbers; translation counts in tenths of a metre."""
    y = torch.randn(30, generator=generator, dtype=torch.float64).cumsum(0) * 0.1
    zero = torch.zeros(30, dtype=torch.float64)
    found = OneEuro(0.8, 1.5, 1.2)(planar(y, transl=torch.stack([y / 10, zero, zero], -1)))

    def gain(cutoff):
        return 1 / (1 + 30 / (2 * pi * cutoff))

    answer, speed, want = y[0].item(), 0.0, [y[0].item()]
    for value in y[1:].tolist():
        speed += gain(1.2) * ((value - answer) * 30 - speed)
        answer += gain(0.8 + 1.5 * abs(speed)) * (value - answer)
        want.append(answer)
    want = torch.tensor(want, dtype=torch.float64)
    torch.testing.assert_close(angles_of(found), want, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.transl[:, 0], want / 10, atol=1e-6, rtol=0)


def test_one_euro_looks_back_only(generator):
    R = wild(generator)
    other = torch.cat([R[:12], wild(generator, 8)])
    a, b = (OneEuro()(track(x)).R for x in (R, other))
    assert torch.equal(a[:12], b[:12])
    assert not torch.equal(a[12:], b[12:])


# Rauch-Tung-Striebel


def test_rauch_tung_striebel_by_hand():
    """0, 1, 0 with q = 9: the least sum of squares plus 1/9 of the bending 1.5 D^2, D = -2, is 1/6, 2/3, 1/6."""
    angle = torch.tensor([0.0, 1.0, 0.0])
    found = RauchTungStriebel(sqrt(3) * 30 / (2 * pi))(planar(angle, transl=angle.double()[:, None].expand(-1, 3)))
    want = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    torch.testing.assert_close(angles_of(found), want, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.transl[:, 0], want, atol=1e-5, rtol=0)


def test_rauch_tung_striebel_halves_a_wave_at_its_cutoff():
    r"""And keeps $1 / (1 + 2^4)$ of one twice as fast, away from the ends."""
    t = torch.arange(210, dtype=torch.float64)
    for f, kept in ((1.0, 1 / 2), (2.0, 1 / 17)):
        wave = 0.5 * torch.sin(2 * pi * f * t / 30)
        found = angles_of(RauchTungStriebel(1.0)(planar(wave)))[60:-60]
        assert ((found @ wave[60:-60]) / wave[60:-60].square().sum()).item() == pytest.approx(kept, rel=0.03)


def test_rauch_tung_striebel_keeps_a_steady_turn_across_a_gap():
    """6 degrees a frame, more than one whole turn, ends and ten missing frames included."""
    motion = planar(torch.arange(80) * radians(6))
    valid = torch.ones(80, dtype=torch.bool)
    valid[30:40] = False
    found = RauchTungStriebel(1.0)(track(motion.R, valid=valid))
    assert rotation.angle_between(found.R, motion.R).max().rad2deg() < 0.01


def test_rauch_tung_striebel_is_the_least_squares_of_the_whole_track(generator):
    """Slow twin: all places and velocities of a line from one linear system, values missing here and there."""
    y, t = torch.randn(25, generator=generator, dtype=torch.float64).numpy(), 25
    valid = (torch.rand(25, generator=generator) > 0.3).numpy()
    valid[[0, -1]] = True
    q = (2 * pi * 2.0 / 30) ** 4
    F, Qi = np.array([[1, 1], [0, 1]]), np.linalg.inv(q * np.array([[1 / 3, 1 / 2], [1 / 2, 1]]))
    A, b = np.zeros((2 * t, 2 * t)), np.zeros(2 * t)
    for k in range(t):
        if valid[k]:
            A[2 * k, 2 * k] += 1
            b[2 * k] += y[k]
        if k + 1 < t:
            D = np.zeros((2, 2 * t))
            D[:, 2 * k : 2 * k + 2], D[:, 2 * k + 2 : 2 * k + 4] = -F, np.eye(2)
            A += D.T @ Qi @ D
    want = torch.from_numpy(np.linalg.solve(A, b)[::2].copy())
    found = RauchTungStriebel(2.0)(planar(torch.from_numpy(y), valid=torch.from_numpy(valid)))
    torch.testing.assert_close(angles_of(found), want, atol=1e-4, rtol=0)


def test_rauch_tung_striebel_is_near_the_full_smoother(generator):
    """Slow twin of one joint: 6 x 6 covariances, F by finite differences, on a shaky turn of 4 degrees a frame."""
    t, q = 30, (2 * pi * 2.0 / 30) ** 4
    turn = torch.arange(t, dtype=torch.float64)[:, None, None] * radians(4) * AXIS
    R = rotation.exp(turn) @ rotation.exp(0.05 * torch.randn(t, 16, 3, generator=generator, dtype=torch.float64))
    found = RauchTungStriebel(2.0)(track(R)).R[:, 3]
    Q = torch.kron(q * torch.tensor([[1 / 3, 1 / 2], [1 / 2, 1.0]]), torch.eye(3)).double()

    def apart(a, b):
        return torch.cat([rotation.log(a[0].T @ b[0]), b[1] - a[1]])

    def moved(a, e):
        return a[0] @ rotation.exp(e[:3]), a[1] + e[3:]

    def ahead(a):
        return a[0] @ rotation.exp(a[1]), a[1]

    eye, H = torch.eye(6, dtype=torch.float64), torch.eye(3, 6, dtype=torch.float64)
    x, P = (R[0, 3], torch.zeros(3, dtype=torch.float64)), torch.diag(torch.tensor([1.0] * 3 + [1e6] * 3)).double()
    kept = []
    for k in range(1, t):
        guess = ahead(x)
        F = torch.stack([apart(guess, ahead(moved(x, 1e-6 * e))) / 1e-6 for e in eye], dim=1)
        P_ahead = F @ P @ F.T + Q
        kept.append((x, guess, P @ F.T @ torch.linalg.inv(P_ahead)))
        K = P_ahead @ H.T @ torch.linalg.inv(H @ P_ahead @ H.T + torch.eye(3).double())
        x, P = moved(guess, K @ rotation.log(guess[0].T @ R[k, 3])), (eye - K @ H) @ P_ahead
    want = [x[0]]
    for before, guess, C in reversed(kept):
        x = moved(before, C @ apart(guess, x))
        want.append(x[0])
    error = rotation.angle_between(found, torch.stack(want[::-1])).max().rad2deg()
    moved_by = rotation.angle_between(found, R[:, 3]).mean().rad2deg()
    assert error < 0.1 * moved_by, f"{error:.3f} of {moved_by:.3f} degrees"


# Euler angles as if they were numbers


def test_the_naive_filter_breaks_at_a_wrap():
    """A hand that turns about y from 150 to 210 degrees spins round at 180; on rotations nothing happens."""
    angle = torch.linspace(radians(150), radians(210), 41, dtype=torch.float64)
    R = rotation.exp((angle[:, None, None] * torch.tensor([0.0, 1.0, 0.0])).expand(41, 16, 3))
    errors = [rotation.angle_between(m.R, R).max() for m in (NaiveEuler(2.0)(track(R)), gaussian(track(R), 2.0))]
    assert degrees(errors[0]) > 120
    assert degrees(errors[1]) < 3


def test_far_from_wraps_the_naive_filter_is_the_gaussian(generator):
    R = rotation.exp(0.02 * torch.randn(30, 16, 3, generator=generator, dtype=torch.float64))
    near = rotation.angle_between(NaiveEuler(1.5)(track(R)).R, gaussian(track(R), 1.5).R).max()
    assert near < 1e-3
