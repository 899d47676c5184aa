r"""From clean motion to what a per-frame estimator would have said: the noise that training learns to undo.

The parts, each drawn once a sequence and turned up by a severity in [0, 1] (0 leaves the motion as it is):

    jitter      heavy-tailed, forgotten in a frame or two   time        the answer belongs to a moment nearby
    drift       correlated over time, half of it shared     outliers    wrist turned over, hand taken for the other
                by the joints of a finger                               one, two fingers swapped
    bias        one wrong pose kept throughout, for a       missing     frames without an answer
                fifth of the sequences to one side          shape       wrong betas
    occlusion   bursts in which fingers are pulled to a     confidence  a noisy hint of the error, for half the
                mean pose, frozen and shaken                            sequences

Angles act in a joint's own frame, $R \leftarrow R \exp([\xi]_\times)$; fingers err most in flexion, half as much in
abduction, and least in twist about the bone (axes of `anatomy`). How a real estimator shakes is measured by
data/noise/measure.py, with how close the noise comes, in data/noise/hamer.json.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, gap_ends
from handdiff_lib.topology import CHAIN, FINGERS

Range = tuple[float, float]


@dataclass(frozen=True)
class NoiseConfig:
    """Ranges that a sequence's noise is drawn from at severity 1. Angles are standard deviations in degrees."""

    jitter_deg: Range = (0.3, 6.0)
    """Fingers, log-uniform; every joint varies around it by a factor of about 1.6."""
    root_jitter_deg: Range = (0.3, 8.0)
    jitter_memory: Range = (0.0, 0.8)
    """Correlation of the jitter from one frame to the next; real estimators see similar images."""
    tails: Range = (0.0, 1.0)
    """Standard deviation of the logarithm of each frame's jitter: 0 is Gaussian, 0.7 jumps as HaMeR does."""
    drift_deg: Range = (0.7, 8.0)
    root_drift_deg: Range = (0.5, 10.0)
    memory: Range = (0.8, 0.99)
    """Correlation of the drift from one frame to the next."""
    bias_deg: Range = (0.0, 8.0)
    root_bias_deg: Range = (0.0, 12.0)
    one_sided: float = 0.2
    """Share of the sequences whose bias has one sign an axis in all joints: every finger too straight, say."""
    bursts: float = 0.7
    """Expected occlusions in 16 frames."""
    outlier: float = 0.01
    """Chance of each kind of outlier in a frame."""
    missing: float = 0.04
    """Chance that a frame is missing; a third of them start a gap of up to six."""
    shape: float = 0.4
    """Standard deviation of the error of each beta, one for the sequence: a median takes care of the rest."""
    shift: float = 1.0
    """Half of the sequences answer early or late by up to this many frames ..."""
    wobble: float = 0.25
    """... and swing about that by this standard deviation, in frames."""

    @classmethod
    def hamer_like(cls) -> "NoiseConfig":
        """A test profile after DIP Table 1, row HaMeR (MJE 18.9, P-MJE 4.4, ACCL 7.95); see `_profile`.

        Over 100 draws the ManipNet test takes, cut into clips of 128 frames, show 19.0, 4.4 and 8.05.
        """
        return _profile(jitter=1.9, root_jitter=0.25, slow=2.6, root_slow=6.46, bursts=0.3, missing=0.02)

    @classmethod
    def khand_like(cls) -> "NoiseConfig":
        """A test profile after DIP Table 1, row K-Hand (MJE 24.4, P-MJE 5.8, ACCL 14.41); see `_profile`.

        Over 100 draws the ManipNet test takes, cut into clips of 128 frames, show 24.4, 5.8 and 14.6.
        """
        return _profile(jitter=3.4, root_jitter=1.95, slow=2.7, root_slow=7.85, bursts=0.4, missing=0.03)


CONSTANT, MEMORY_S = 0.6, 0.4
"""Test profiles: share of the slow error's variance that never changes in a sequence; time constant of the rest."""


def _profile(
    jitter: float, root_jitter: float, slow: float, root_slow: float, bursts: float, missing: float
) -> NoiseConfig:
    r"""A test profile at 30 frames a second, its shape fixed before any training: a slow error of which 60 % of the
    variance is constant, the rest forgotten as $e^{-t / 0.4 s}$, jitter with HaMeR's tails and memory, and bursts.
    """
    still, moving, rho = sqrt(CONSTANT), sqrt(1 - CONSTANT), exp(-1 / (30 * MEMORY_S))
    return NoiseConfig(
        jitter_deg=(jitter, jitter), root_jitter_deg=(root_jitter, root_jitter),
        jitter_memory=(0.55, 0.55), tails=(0.7, 0.7), memory=(rho, rho),
        drift_deg=(moving * slow, moving * slow), root_drift_deg=(moving * root_slow, moving * root_slow),
        bias_deg=(still * slow, still * slow), root_bias_deg=(still * root_slow, still * root_slow),
        one_sided=0.0, bursts=bursts, outlier=0.0, missing=missing, shift=0.0, wobble=0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A batch of perturbed motions; missing frames are filled as `motion.fill_missing` fills them."""

    R: Float[Tensor, "b t 16 3 3"]
    betas: Float[Tensor, "b 10"]
    valid: Bool[Tensor, "b t"]
    confidence: Float[Tensor, "b t 16"]
    """In [0, 1]; -1 for tracks whose estimator says nothing."""
    constant: Float[Tensor, "b 16 3"]
    """Rotation vectors of the bias: `R @ exp(constant)` is the truth with that part of the error alone."""


def perturb(
    R: Float[Tensor, "b t 16 3 3"],
    betas: Float[Tensor, "b 10"],
    hand: HandModel,
    noise: NoiseConfig,
    severity: Float[Tensor, "b"],
    generator: torch.Generator,
) -> Estimate:
    """An estimator's view of clean motions. The same generator state gives the same noise.

    Chance is drawn on the generator's device, the work done on that of `R`.
    """
    b, t = R.shape[:2]
    chance = _Chance(generator, R)
    axes = anatomical_axes(hand).to(R)
    hidden, pull, shown = _occlusions(chance, noise.bursts * severity / 16, b, t)
    constant, moving = (severity[:, None, None, None] * x for x in _angles(chance, noise, hidden))
    xi = torch.einsum("jac,btja->btjc", axes, constant + moving)

    seen = _at_another_time(chance, R, noise, severity)
    mean_pose = torch.cat([R.new_zeros(1, 3), hand.hands_mean.to(R).view(15, 3)])
    where, when, joint = (hidden & (torch.arange(16, device=R.device) > 0)).nonzero(as_tuple=True)
    held = seen[where, shown[where, when], joint]
    seen[where, when, joint] = rotation.slerp(held, rotation.exp(mean_pose)[joint], pull[where, when])
    seen = _outliers(chance, seen, axes, noise.outlier * severity)
    answer = seen @ rotation.exp(xi)
    error = rotation.angle_between(R, answer)

    valid = _observed(chance, noise.missing * severity, b, t)
    before, after, share = gap_ends(valid)
    where, when = (~valid).nonzero(as_tuple=True)
    ends = answer[where, before[where, when]], answer[where, after[where, when]]
    answer[where, when] = rotation.slerp(*ends, share[where, when, None].to(R).expand(-1, 16))

    scale = torch.deg2rad(chance.uniform(b, 1, 1, low=8.0, high=20.0))
    hint = torch.exp(-error / scale) + 0.1 * chance.normal(b, t, 16)
    told = (chance.uniform(b, 1, 1) < 0.5) & valid[..., None]
    confidence = torch.where(told, hint.clamp(0, 1), torch.full_like(hint, -1.0))
    wrong_betas = betas + noise.shape * severity[:, None] * chance.normal(b, 10)
    bias = torch.einsum("jac,bja->bjc", axes, constant[:, 0])
    return Estimate(answer, wrong_betas, valid, confidence, bias)


def simulated_estimate(truth: HandMotion, hand: HandModel, noise: NoiseConfig, seed: int) -> HandMotion:
    """What an estimator would have said of a track of `hand`; the same seed says the same.

    The simulated hint of its error is left out: estimators in use give none, and it would tell too much.
    """
    generator = torch.Generator().manual_seed(seed)
    said = perturb(truth.R[None], truth.betas[None], hand, noise, torch.ones(1), generator)
    return replace(truth, R=said.R[0], betas=said.betas[0], valid=said.valid[0])


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
        drawn = torch.rand(*shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * drawn.to(self.like)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.generator.device).to(self.like)

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        return low * (high / low) ** self.uniform(*shape)


def _angles(chance: _Chance, noise: NoiseConfig, hidden: Bool[Tensor, "b t 16"]) -> tuple[Tensor, Tensor]:
    """Radians about anatomical axes: the bias (b, 1, 16, 3), and drift with jitter (b, t, 16, 3)."""
    b, t = hidden.shape[:2]

    def level(draw: Callable[..., Tensor], fingers: Range, root: Range) -> Float[Tensor, "b 1 16 1"]:
        sizes = [draw(b, 1, 1, 1, low=low, high=high) for low, high in (root, fingers)]
        return torch.cat([sizes[0], sizes[1].expand(-1, -1, 15, -1)], dim=2)

    def between(bounds: Range) -> Float[Tensor, "b"]:
        return chance.uniform(b, low=bounds[0], high=bounds[1])

    tails = between(noise.tails)[:, None, None, None]
    loud = (chance.normal(b, t, 1, 1) + chance.normal(b, t, 6, 1)[:, :, _FINGER]) / sqrt(2)
    loud = torch.exp(tails * loud - tails.square())  # mean square 1
    vary = torch.exp(0.5 * chance.normal(b, 1, 16, 1))
    shake = remembered(loud * chance.normal(b, t, 16, 3), between(noise.jitter_memory))
    jitter = level(chance.log_uniform, noise.jitter_deg, noise.root_jitter_deg) * vary * shake
    jitter = torch.where(hidden[..., None], 3 * jitter, jitter)

    push = (chance.normal(b, t, 16, 3) + chance.normal(b, t, 6, 3)[:, :, _FINGER]) / sqrt(2)
    drift = level(chance.log_uniform, noise.drift_deg, noise.root_drift_deg) * remembered(push, between(noise.memory))

    bias = chance.normal(b, 1, 16, 3)
    one_sided = chance.uniform(b, 1, 1, 1) < noise.one_sided
    bias = torch.where(one_sided, bias.abs() * chance.normal(b, 1, 1, 3).sign(), bias)
    bias = level(chance.uniform, noise.bias_deg, noise.root_bias_deg) * bias
    weight = torch.deg2rad(AXES.to(hidden.device, bias.dtype))
    return weight * bias, weight * (drift + jitter)


def remembered(push: Float[Tensor, "b t *d"], rho: Float[Tensor, "b"]) -> Float[Tensor, "b t *d"]:
    r"""Numbers that remember, $x_t = \rho x_{t-1} + \sqrt{1 - \rho^2}\, p_t$ with $x_0 = p_0$: as large as the pushes.

    All frames at once, as the convolution with $\rho^k$ by Fourier transform.
    """
    b, t = push.shape[:2]
    flat = push.reshape(b, t, -1)
    kernel = rho[:, None] ** torch.arange(t, device=push.device, dtype=push.dtype)
    flat = torch.cat([flat[:, :1], (1 - rho.square()).sqrt()[:, None, None] * flat[:, 1:]], dim=1)
    product = torch.fft.rfft(flat, n=2 * t, dim=1) * torch.fft.rfft(kernel, n=2 * t)[..., None]
    return torch.fft.irfft(product, n=2 * t, dim=1)[:, :t].reshape(push.shape)


def _at_another_time(
    chance: _Chance, R: Float[Tensor, "b t 16 3 3"], noise: NoiseConfig, severity: Float[Tensor, "b"]
) -> Float[Tensor, "b t 16 3 3"]:
    """A copy of the motion in which half of the sequences run a little early or late, by slerp between frames."""
    b, t = R.shape[:2]
    off = chance.uniform(b, 1, low=-noise.shift, high=noise.shift)
    off = off + noise.wobble * remembered(chance.normal(b, t), torch.full_like(severity, 0.9))
    (some,) = ((chance.uniform(b) < 0.5) & (severity > 0)).nonzero(as_tuple=True)
    moment = (torch.arange(t, device=R.device) + severity[:, None] * off).clamp(0, t - 1)[some]
    before = moment.long()
    after = (before + 1).clamp(max=t - 1)
    row = some[:, None]
    seen = R.clone()
    seen[some] = rotation.slerp(R[row, before], R[row, after], (moment - before)[..., None].expand(-1, -1, 16))
    return seen


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


def _outliers(
    chance: _Chance, R: Float[Tensor, "b t 16 3 3"], axes: Float[Tensor, "16 3 3"], rate: Float[Tensor, "b"]
) -> Float[Tensor, "b t 16 3 3"]:
    """Single frames gone wrong, written into `R`: the wrist turned by half about the camera's x or z, the hand taken
    for the other one, or two neighbouring fingers exchanged.

    Taken for the other hand, palm and back change places (half a turn about the hand's own x, along the fingers);
    twist and abduction change sign.
    """
    b, t = R.shape[:2]
    flip, other, swap = ((chance.uniform(b, t) < rate[:, None]).nonzero(as_tuple=True) for _ in range(3))
    half_turns = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]]).to(R)
    which = (chance.uniform(b, t) < 0.5).long()[flip]
    R[(*flip, 0)] = half_turns[which].diag_embed() @ R[(*flip, 0)]
    across = axes.mT @ torch.diag(R.new_tensor([1.0, 1.0, -1.0])) @ axes  # mirrors a joint's plane of flexion
    mirrored = across @ R[other] @ across
    mirrored[:, 0] = R[(*other, 0)] @ half_turns[0].diag()
    R[other] = mirrored
    order = list(range(16))
    order[1:4], order[4:7] = order[4:7], order[1:4]
    R[swap] = R[swap][:, order]
    return R


def _observed(chance: _Chance, rate: Float[Tensor, "b"], b: int, t: int) -> Bool[Tensor, "b t"]:
    """Which frames have an answer; at least one a track."""
    lost = chance.uniform(b, t) < rate[:, None]
    gap = torch.where(chance.uniform(b, t) < 1 / 3, chance.uniform(b, t, low=2.0, high=7.0), 1.0)
    now = torch.arange(t, device=lost.device)
    latest = torch.where(lost, now, -1).cummax(1).values
    valid = (latest < 0) | (now - latest >= gap.gather(1, latest.clamp(min=0)))
    valid[:, 0] |= ~valid.any(1)
    return valid
