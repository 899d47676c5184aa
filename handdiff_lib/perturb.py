r"""From clean motion to what a per-frame estimator would have said: the noise that training learns to undo.

The parts, each drawn once a sequence and turned up by a severity in [0, 1] (0 leaves the motion as it is):

    jitter      independent in every frame                bias      one wrong pose kept throughout
    drift       correlated over time, half of it shared   outliers  wrist flipped, two fingers swapped
                by the joints of a finger                 missing   frames without an answer
    occlusion   bursts in which fingers are pulled        shape     wrong betas
                to a mean pose, frozen and shaken         confidence  a noisy hint of the error, for half the tracks

Angles act in a joint's own frame, $R \leftarrow R \exp([\xi]_\times)$; fingers err most in flexion, half as much in
abduction, and least in twist about the bone (axes of `anatomy`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import gap_ends
from handdiff_lib.topology import CHAIN, FINGERS

Range = tuple[float, float]


@dataclass(frozen=True)
class NoiseConfig:
    """Ranges that a sequence's noise is drawn from at severity 1. Angles are standard deviations in degrees."""

    jitter_deg: Range = (0.3, 6.0)
    """Fingers, log-uniform; every joint varies around it by a factor of about 1.6."""
    root_jitter_deg: Range = (0.3, 6.0)
    drift_deg: Range = (1.0, 12.0)
    root_drift_deg: Range = (0.5, 10.0)
    memory: Range = (0.8, 0.99)
    """Correlation of the drift from one frame to the next."""
    bias_deg: Range = (0.0, 8.0)
    root_bias_deg: Range = (0.0, 12.0)
    bursts: float = 0.7
    """Expected occlusions in 16 frames."""
    outlier: float = 0.01
    """Chance of each kind of outlier in a frame."""
    missing: float = 0.04
    """Chance that a frame is missing; a third of them start a gap of up to six."""
    shape: float = 0.4
    """Standard deviation of the error of each beta."""

    @classmethod
    def hamer_like(cls) -> "NoiseConfig":
        """A test profile after DIP Table 1, row HaMeR (MJE 18.9, P-MJE 4.4, ACCL 7.95).

        Over 100 draws the ManipNet test takes show 19.4, 4.2 and 9.2; single draws scatter widely, since a track's
        wrist error is drawn once.
        """
        return cls(
            jitter_deg=(0.8, 0.8), root_jitter_deg=(0.8, 0.8), drift_deg=(2.3, 2.3), root_drift_deg=(4.0, 4.0),
            memory=(0.97, 0.97), bias_deg=(1.7, 1.7), root_bias_deg=(4.8, 4.8), bursts=0.3, outlier=0.0, missing=0.02,
        )  # fmt: skip

    @classmethod
    def khand_like(cls) -> "NoiseConfig":
        """A test profile after DIP Table 1, row K-Hand (MJE 24.4, P-MJE 5.8, ACCL 14.41).

        Over 100 draws the ManipNet test takes show 25.4, 5.6 and 19.0.
        """
        return cls(
            jitter_deg=(1.6, 1.6), root_jitter_deg=(2.0, 2.0), drift_deg=(2.9, 2.9), root_drift_deg=(4.7, 4.7),
            memory=(0.97, 0.97), bias_deg=(2.3, 2.3), root_bias_deg=(6.3, 6.3), bursts=0.4, outlier=0.0, missing=0.03,
        )  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A batch of perturbed motions; missing frames are filled as `motion.fill_missing` fills them."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    valid: Bool[Tensor, "b t"]
    confidence: Float[Tensor, "b t 16"]
    """In [0, 1]; -1 for tracks whose estimator says nothing."""


def perturb(
    R: Float[Tensor, "b t 16 3 3"],
    betas: Float[Tensor, "b 10"],
    hand: HandModel,
    noise: NoiseConfig,
    severity: Float[Tensor, "b"],
    generator: torch.Generator,
) -> Estimate:
    """An estimator's view of clean motions. The same generator state gives the same noise."""
    b, t = R.shape[:2]
    chance = _Chance(generator, R)
    how_bad = severity[:, None, None, None]
    xi = torch.deg2rad(_angles(chance, noise, b, t) * AXES.to(R)) * how_bad
    xi = (anatomical_axes(hand).to(R).mT @ xi[..., None])[..., 0]
    hidden, pull, frozen = _occlusions(chance, noise.bursts * severity / 16, b, t)
    xi = torch.where(hidden[..., None], xi + 2 * (xi - xi.mean(1, keepdim=True)), xi)
    held = R.gather(1, frozen[:, :, None, None, None].expand_as(R))
    mean_pose = rotation.exp(hand.hands_mean.to(R).view(15, 3))
    seen = R.clone()
    to_mean = rotation.slerp(held[:, :, 1:], mean_pose.expand_as(held[:, :, 1:]), pull[..., None].expand(-1, -1, 15))
    seen[:, :, 1:] = torch.where(hidden[:, :, 1:, None, None], to_mean, R[:, :, 1:])
    seen = _outliers(chance, seen, noise.outlier * severity)
    answer = seen @ rotation.exp(xi)
    error = rotation.angle_between(R, answer)

    valid = _observed(chance, noise.missing * severity, b, t)
    before, after, share = gap_ends(valid)
    row = torch.arange(b, device=R.device)[:, None]
    bridged = rotation.slerp(answer[row, before], answer[row, after], share.to(R)[..., None].expand(-1, -1, 16))
    answer = torch.where(valid[..., None, None, None], answer, bridged)

    scale = torch.deg2rad(chance.uniform(b, 1, 1, low=8.0, high=20.0))
    hint = torch.exp(-error / scale) + 0.1 * chance.normal(b, t, 16)
    told = (chance.uniform(b, 1, 1) < 0.5) & valid[..., None]
    confidence = torch.where(told, hint.clamp(0, 1), torch.full_like(hint, -1.0))
    wrong_betas = betas + noise.shape * severity[:, None] * chance.normal(b, 10)
    return Estimate(answer, wrong_betas, valid, confidence)


AXES = torch.tensor([[1.0, 1.0, 1.0]] + 12 * [[0.35, 0.5, 1.0]] + 3 * [[0.6, 0.7, 1.0]])
"""How much each joint errs in twist, abduction and flexion; the wrist errs alike about all axes."""

_FINGER = torch.zeros(16, dtype=torch.long)
for _k, _finger in enumerate(FINGERS):
    _FINGER[list(CHAIN[_finger])] = _k + 1


@dataclass(frozen=True)
class _Chance:
    """Random tensors on the device and in the dtype of `like`, all from one generator."""

    generator: torch.Generator
    like: Tensor

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator).to(self.like)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator).to(self.like)

    def log_uniform(self, bounds: Range, *shape: int) -> Tensor:
        low, high = (torch.tensor(x, dtype=torch.float64).log() for x in bounds)
        return torch.exp(self.uniform(*shape, low=float(low), high=float(high)))


def _angles(chance: _Chance, noise: NoiseConfig, b: int, t: int) -> Float[Tensor, "b t 16 3"]:
    """Jitter, drift and bias in degrees."""

    def level(fingers: Range, root: Range, draw: str) -> Tensor:
        one = getattr(chance, draw) if draw == "log_uniform" else lambda r, *s: chance.uniform(*s, low=r[0], high=r[1])
        sizes = [one(root, b, 1, 1, 1), one(fingers, b, 1, 1, 1).expand(-1, -1, 15, -1)]
        return torch.cat(sizes, dim=2)

    vary = torch.exp(0.5 * chance.normal(b, 1, 16, 1))
    jitter = level(noise.jitter_deg, noise.root_jitter_deg, "log_uniform") * vary * chance.normal(b, t, 16, 3)
    rho = chance.uniform(b, 1, 1, low=noise.memory[0], high=noise.memory[1])
    own, shared = chance.normal(b, t, 16, 3), chance.normal(b, t, 6, 3)[:, :, _FINGER]
    push = (own + shared) / 2**0.5
    walk = [push[:, 0]]
    for k in range(1, t):
        walk.append(rho * walk[-1] + (1 - rho**2).sqrt() * push[:, k])
    drift = level(noise.drift_deg, noise.root_drift_deg, "log_uniform") * torch.stack(walk, dim=1)
    bias = level(noise.bias_deg, noise.root_bias_deg, "uniform") * chance.normal(b, 1, 16, 3)
    return jitter + drift + bias


def _occlusions(chance: _Chance, rate: Float[Tensor, "b"], b: int, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which joints are hidden (b, t, 16), the pull to the mean pose (b, t), the frame whose pose is shown (b, t)."""
    starts = chance.uniform(b, t) < rate[:, None]
    length = chance.uniform(b, t, low=2.0, high=13.0).long()
    group = chance.uniform(b, t, 6) < 0.5
    group |= (chance.uniform(b, t, 1) < 0.3).expand_as(group)  # the whole hand
    strength, freezes = chance.uniform(b, t, low=0.3), chance.uniform(b, t) < 0.3
    now = torch.arange(t, device=starts.device)
    latest = torch.where(starts, now, -1).cummax(1).values  # the burst each frame may belong to
    at = latest.clamp(min=0)
    inside = (latest >= 0) & (now - at < length.gather(1, at))
    hidden = inside[..., None] & group.gather(1, at[..., None].expand(-1, -1, 6))[..., _FINGER]
    shown = torch.where(inside & freezes.gather(1, at), at, now.expand(b, -1))
    return hidden, strength.gather(1, at), shown


def _outliers(chance: _Chance, R: Float[Tensor, "b t 16 3 3"], rate: Float[Tensor, "b"]) -> Tensor:
    """Single frames with the wrist turned by half a turn, or with two neighbouring fingers exchanged."""
    b, t = R.shape[:2]
    flip = (chance.uniform(b, t) < rate[:, None])[..., None, None]
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0])).to(R)
    root = torch.where(flip, half_turn @ R[:, :, 0], R[:, :, 0])
    swap = (chance.uniform(b, t) < rate[:, None])[..., None, None, None]
    order = list(range(16))
    order[1:4], order[4:7] = order[4:7], order[1:4]
    swapped = torch.where(swap, R[:, :, order], R)
    return torch.cat([root[:, :, None], swapped[:, :, 1:]], dim=2)


def _observed(chance: _Chance, rate: Float[Tensor, "b"], b: int, t: int) -> Bool[Tensor, "b t"]:
    """Which frames have an answer; at least one a track."""
    lost = chance.uniform(b, t) < rate[:, None]
    gap = torch.where(chance.uniform(b, t) < 1 / 3, chance.uniform(b, t, low=2.0, high=7.0), 1.0)
    now = torch.arange(t, device=lost.device)
    latest = torch.where(lost, now, -1).cummax(1).values
    valid = (latest < 0) | (now - latest >= gap.gather(1, latest.clamp(min=0)))
    valid[:, 0] |= ~valid.any(1)
    return valid
