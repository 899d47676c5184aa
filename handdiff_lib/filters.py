r"""Filters over time, done on rotations: each a few settings that one calls with a motion; the answer has no gaps.

    SavitzkyGolay      a least-squares polynomial around each frame     looks ahead half a width
    OneEuro            a low-pass that opens with speed                 looks back only
    RauchTungStriebel  constant velocity, forth and back                sees the whole track
    NaiveEuler         Gaussian means of Euler angles, wraps and all    what not to do

All but the last are written with two maps, `apart(x, y)`, the vector from x to y, and `moved(x, v)`, x moved along v:

    numbers     y - x               x + v
    rotations   log(x^T y)          x exp(v)        in x's own frame: turning the whole motion turns the answer
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_angles, anatomical_rotations
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.smoothing import smooth

METRES = 0.1
"""Translation is filtered in units of 0.1 m, about a hand: so far a finger tip goes when its knuckle turns a radian."""
BRIDGED = 0.01
"""Weight of a frame that is not valid in a polynomial fit: enough to bridge a gap as wide as the fit."""
CHUNK = 512
"""Frames fitted at once."""
DIFFUSE = 1e6
"""Variance of the first velocity, in units of the noise a frame: nothing is known."""


@dataclass(frozen=True)
class Space:
    """How to go from one value to another."""

    apart: Callable[[Tensor, Tensor], Tensor]
    moved: Callable[[Tensor, Tensor], Tensor]


NUMBERS = Space(lambda x, y: y - x, lambda x, v: x + v)
ROTATIONS = Space(lambda x, y: rotation.log(x.mT @ y), lambda x, v: x @ rotation.exp(v))

Run = Callable[[Space, Tensor, Bool[Tensor, "t"], float], Tensor]
"""`run(space, values, valid, fps)` filters bridged values along their first axis."""


def over_time(motion: HandMotion, run: Run) -> HandMotion:
    """The motion with rotations, translation and per-frame betas filtered, missing frames answered; `valid` stays.

    Raises MotionError for a track without a valid frame.
    """
    filled, valid, fps = fill_missing(motion), motion.valid, motion.fps
    found = {
        "R": rotation.polar(run(ROTATIONS, filled.R, valid, fps)),
        "transl": METRES * run(NUMBERS, filled.transl / METRES, valid, fps),
    }
    if motion.betas.ndim == 2:
        found["betas"] = run(NUMBERS, filled.betas, valid, fps)
    return replace(filled, **found)


@dataclass(frozen=True)
class SavitzkyGolay:
    """The value at each frame of the polynomial that fits the frames around it best (Savitzky and Golay 1964).

    On rotations the polynomial is in the tangent space at the answer. The last fit at either end answers for all frames
    beyond its middle. Missing frames, bridged first, hardly count.
    """

    width: int = 11
    """Frames in a fit, odd; a shorter track is one fit."""
    order: int = 2
    """Of the polynomial, below `width`."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 2 == 0:
            raise MotionError(f"Savitzky-Golay: width must be an odd number of frames, found {self.width}")
        if not 0 <= self.order < self.width:
            raise MotionError(f"Savitzky-Golay: order must be from 0 to {self.width - 1}, found {self.order}")

    def __call__(self, motion: HandMotion) -> HandMotion:
        """The filtered motion."""
        return over_time(motion, self._run)

    def _run(self, space: Space, values: Tensor, valid: Tensor, _: float) -> Tensor:
        width = min(self.width, len(values))
        parts = []
        for at in torch.arange(len(values), device=values.device).split(CHUNK):
            start = (at - self.width // 2).clamp(0, len(values) - width)
            frame = start[:, None] + torch.arange(width, device=values.device)
            share = _polynomial_shares((frame - at[:, None]).double(), valid[frame], min(self.order, width - 1))
            share = share.to(values).reshape(*share.shape, *[1] * (values[0].ndim - (space is ROTATIONS)))
            answer = values[at]
            for _ in range(2):  # the second time about the answer, where the first was about a noisy frame
                answer = space.moved(answer, (share * space.apart(answer[:, None], values[frame])).sum(1))
            parts.append(answer)
        return torch.cat(parts)


def _polynomial_shares(place: Float[Tensor, "t k"], valid: Bool[Tensor, "t k"], order: int) -> Float[Tensor, "t k"]:
    r"""What each value adds to the fit at place 0: $e_0^\top (V^\top W V)^{-1} V^\top W$ with V the powers of place."""
    V = (place / place.abs().amax().clamp(min=1))[..., None] ** torch.arange(order + 1, device=place.device)
    weighted = torch.where(valid, 1.0, BRIDGED)[..., None] * V
    e0 = torch.zeros_like(V[:, 0]).index_fill(-1, torch.tensor(0, device=V.device), 1.0)
    return (weighted @ torch.linalg.solve(V.mT @ weighted, e0)[..., None])[..., 0]


@dataclass(frozen=True)
class OneEuro:
    r"""A causal low-pass with cut-off $f_{min} + \beta \lVert\hat v\rVert$ (Casiez, Roussel and Vogel 2012).

    $\hat v$ is the low-passed speed: radians a second of each joint, a tenth of a metre a second of the hand. A missing
    frame repeats the answer before it, and the next valid one knows how much time went by. Frames before the first
    valid one have no past; they follow it.
    """

    min_cutoff_hz: float = 1.0
    beta: float = 0.7
    """Hz for each unit of speed."""
    speed_cutoff_hz: float = 1.0

    def __post_init__(self) -> None:
        if not (self.min_cutoff_hz > 0 and self.speed_cutoff_hz > 0 and self.beta >= 0):
            raise MotionError(f"One-Euro: both cut-offs must be above 0 Hz and beta at least 0, found {self}")

    def __call__(self, motion: HandMotion) -> HandMotion:
        """The filtered motion."""
        return over_time(motion, self._run)

    def _run(self, space: Space, values: Tensor, valid: Tensor, fps: float) -> Tensor:
        out, known = values.clone(), valid.nonzero()[:, 0].tolist()
        answer = values[known[0]]
        speed = torch.zeros_like(space.apart(answer, answer))
        for before, now, after in zip(known, known[1:], [*known[2:], len(values)], strict=False):
            seconds = (now - before) / fps
            ahead = space.apart(answer, values[now])
            speed = torch.lerp(speed, ahead / seconds, _gain(torch.tensor(self.speed_cutoff_hz).to(speed), seconds))
            cutoff = self.min_cutoff_hz + self.beta * speed.norm(dim=-1, keepdim=True)
            out[before + 1 : now] = answer
            answer = space.moved(answer, _gain(cutoff, seconds) * ahead)
            out[now:after] = answer
        out[known[-1] :] = answer
        return out


def _gain(cutoff_hz: Tensor, seconds: float) -> Tensor:
    r"""Share of the way to a new value: $1 / (1 + \tau / T)$ with $\tau = 1 / 2 \pi f_c$."""
    return 1 / (1 + 1 / (2 * pi * cutoff_hz * seconds))


@dataclass(frozen=True)
class RauchTungStriebel:
    r"""The likeliest motion if velocity wanders: a Kalman filter forth, its correction back (Rauch et al. 1965).

    The state of a joint is its rotation and its velocity v in its own frame, $R_{t+1} = R_t \exp(v\,dt)$; the error of
    both is a vector about each axis, $F = [[1, dt], [0, 1]]$, which leaves out how far the axes themselves turn in a
    frame. So the gains are numbers, the same for all joints, and follow from the gaps alone. On a line this is the
    cubic smoothing spline: a wave of frequency f keeps $1 / (1 + (f / f_c)^4)$ of its size.
    Gaps are bridged by the model; outside the first and last valid frame the nearest answer stands.
    """

    cutoff_hz: float = 2.0

    def __post_init__(self) -> None:
        if not self.cutoff_hz > 0:
            raise MotionError(f"Rauch-Tung-Striebel: the cut-off must be above 0 Hz, found {self.cutoff_hz}")

    def __call__(self, motion: HandMotion) -> HandMotion:
        """The smoothed motion."""
        return over_time(motion, self._run)

    def _run(self, space: Space, values: Tensor, valid: Tensor, fps: float) -> Tensor:
        known = valid.nonzero()[:, 0]
        first, last = int(known[0]), int(known[-1])
        inside = slice(first, last + 1)
        measured = valid[inside].tolist()
        gains, backs = self._gains(measured, fps)
        x = values[first]
        v = torch.zeros_like(space.apart(x, x))
        guesses, states = [(x, v)], [(x, v)]  # velocities a frame, not a second: dt is 1
        for y, has, gain in zip(values[inside][1:], measured[1:], gains[1:], strict=True):
            x = space.moved(x, v)
            guesses.append((x, v))
            if has:
                error = space.apart(x, y)
                x, v = space.moved(x, gain[0] * error), v + gain[1] * error
            states.append((x, v))
        answers = [x]
        for (x_f, v_f), (x_p, v_p), C in zip(states[-2::-1], guesses[:0:-1], backs[::-1], strict=True):
            dx, dv = space.apart(x_p, x), v - v_p
            x, v = space.moved(x_f, C[0][0] * dx + C[0][1] * dv), v_f + C[1][0] * dx + C[1][1] * dv
            answers.append(x)
        out = torch.stack(answers[::-1])
        return torch.cat(
            [out[:1].expand(first, *out[0].shape), out, out[-1:].expand(len(values) - 1 - last, *out[0].shape)]
        )

    def _gains(self, measured: list[bool], fps: float) -> tuple[list[list[float]], list[list[list[float]]]]:
        r"""How far a new value moves place and velocity, and $C_t = P_t F^\top P_{t+1|t}^{-1}$ for the way back.

        The noise has variance 1; $Q = q [[1/3, 1/2], [1/2, 1]]$ with $q = (2 \pi f_c / fps)^4$, frames being the unit.
        """
        q = (2 * pi * self.cutoff_hz / fps) ** 4
        F = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        Q = q * torch.tensor([[1 / 3, 1 / 2], [1 / 2, 1.0]], dtype=torch.float64)
        P = torch.diag(torch.tensor([1.0, DIFFUSE], dtype=torch.float64))
        gains, backs = [[0.0, 0.0]], []
        for has in measured[1:]:
            ahead = F @ P @ F.mT + Q
            backs.append(torch.linalg.solve(ahead, F @ P).mT.tolist())
            K = ahead[:, 0] / (ahead[0, 0] + 1) if has else torch.zeros_like(ahead[0])
            gains.append(K.tolist())
            P = ahead - K[:, None] * ahead[0]
        return gains, backs


@dataclass(frozen=True)
class NaiveEuler:
    """Gaussian means of Euler angles (y, x, z in MANO's frames), as if they were numbers; missing frames weigh nothing.

    Where an angle passes half a turn, its mean lies on the other side of the circle and the hand spins round: this is
    what a filter must not do, and our reading of why DIP's SmoothFilter loses in MJE (Table 3).
    """

    sigma_frames: float = 2.0

    def __post_init__(self) -> None:
        if not self.sigma_frames > 0:
            raise MotionError(f"naive Euler: sigma must be above 0 frames, found {self.sigma_frames}")

    def __call__(self, motion: HandMotion) -> HandMotion:
        """The filtered motion."""
        filled = fill_missing(motion)
        axes = torch.eye(3).to(filled.R).expand(16, 3, 3)
        angles = smooth(anatomical_angles(filled.R, axes).flatten(1), motion.valid, self.sigma_frames)
        found = {
            "R": anatomical_rotations(angles.unflatten(1, (16, 3)), axes),
            "transl": smooth(filled.transl, motion.valid, self.sigma_frames),
        }
        if motion.betas.ndim == 2:
            found["betas"] = smooth(filled.betas, motion.valid, self.sigma_frames)
        return replace(filled, **found)
