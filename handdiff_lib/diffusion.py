r"""Residual-shifting diffusion: walk from a good motion to a noisy estimate, and back.

Symbols follow the paper, and so do the indices: `eta[n]` is $\eta_n$ for $n = 0, \dots, N$ with $\eta_0 = 0$, so no
line below needs an `n - 1` shift.

    x0   clean motion                y      initial estimate (the condition)
    xn   x0 after n steps            N      number of steps
    eta  share of y - x0 added       kappa  noise level, radians

The chain lives on plain vectors. Rotations enter it through a `ResidualSpace`: as residual vectors at the estimate or
as wrapped differences of anatomical angles; in both y is the origin. DIP is the paper (Zhang et al. 2025), ResShift is
Yue et al. 2023.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import pi, radians
from typing import Literal, assert_never

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_angles, anatomical_rotations

Rule = Literal["posterior", "deterministic", "renoise"]
"""How a sampler steps from n to n - 1: as the paper, without noise, or as the released demo."""
Space = Literal["so3_at_y", "euler_anat"]
"""Coordinates of the chain: rotation vectors at y, or the paper's angles. They belong to the weights."""


@dataclass(frozen=True)
class ResidualShift:
    r"""The chain $q(x_n \mid x_{n-1}, y)$ and what follows from it.

    In every method `n` has one step index in 1..N for each item of the batch; `noise` is standard normal.
    """

    eta: Float[Tensor, "N_plus_1"]
    """Share of the residual `y - x0` added after n steps; 0 at n = 0, near 1 at N. float64."""
    kappa: float
    """Noise level; the noise variance at step n is `kappa**2 * eta[n]`."""

    @property
    def N(self) -> int:
        """Number of steps."""
        return len(self.eta) - 1

    @property
    def noise_std(self) -> Float[Tensor, "N_plus_1"]:
        r"""$\kappa\sqrt{\eta_n}$ for n = 0..N."""
        return self.kappa * self.eta.sqrt()

    def forward_marginal(
        self,
        x0: Float[Tensor, "b *rest"],
        y: Float[Tensor, "b *rest"],
        n: Int[Tensor, "b"],
        noise: Float[Tensor, "b *rest"],
    ) -> Float[Tensor, "b *rest"]:
        r"""$x_n = x_0 + \eta_n (y - x_0) + \kappa\sqrt{\eta_n}\,\epsilon$ (DIP Eq. 1); also takes n = 0."""
        eta = self._eta(n, x0)
        return x0 + eta * (y - x0) + self.kappa * eta.sqrt() * noise

    def forward_step(
        self,
        previous: Float[Tensor, "b *rest"],
        x0: Float[Tensor, "b *rest"],
        y: Float[Tensor, "b *rest"],
        n: Int[Tensor, "b"],
        noise: Float[Tensor, "b *rest"],
    ) -> Float[Tensor, "b *rest"]:
        r"""$x_n = x_{n-1} + \alpha_n (y - x_0) + \kappa\sqrt{\alpha_n}\,\epsilon$, $\alpha_n = \eta_n - \eta_{n-1}$."""
        alpha = self._eta(n, x0) - self._eta(n - 1, x0)
        return previous + alpha * (y - x0) + self.kappa * alpha.sqrt() * noise

    def prior(self, y: Float[Tensor, "b *rest"], noise: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *rest"]:
        r"""Where the way back starts: $x_N = y + \kappa\sqrt{\eta_N}\,\epsilon$, the marginal at N for $x_0 = y$.

        Paper vs code: DIP Algorithm 2 prints variance $\kappa$, its text and the released demo $\kappa^2$.
        We take $\kappa^2 \eta_N$, which the chain itself gives.
        """
        return y + self.noise_std[-1].to(y) * noise

    def reverse_step(
        self,
        xn: Float[Tensor, "b *rest"],
        x0: Float[Tensor, "b *rest"],
        n: Int[Tensor, "b"],
        noise: Float[Tensor, "b *rest"],
    ) -> Float[Tensor, "b *rest"]:
        r"""A draw from $q(x_{n-1} \mid x_n, x_0)$ (as in ResShift): y has dropped out; n = 1 gives x0 exactly.

        $x_{n-1} = x_0 + k\,(x_n - x_0) + \kappa\sqrt{k\,\alpha_n}\,\epsilon$ with $k = \eta_{n-1} / \eta_n$.
        """
        now, before = self._eta(n, x0), self._eta(n - 1, x0)
        keep = before / now  # 0 at n = 1, near 1 late in the chain
        std = self.kappa * (keep * (now - before)).sqrt()
        return x0 + keep * (xn - x0) + std * noise

    def deterministic_step(
        self,
        xn: Float[Tensor, "b *rest"],
        x0: Float[Tensor, "b *rest"],
        y: Float[Tensor, "b *rest"],
        n: Int[Tensor, "b"],
    ) -> Float[Tensor, "b *rest"]:
        r"""The marginal at n - 1 with the noise that is already in xn, so nothing is drawn (SinSR's map).

        With $\epsilon$ read off from $x_n$: $x_{n-1} = x_0 + \eta_{n-1}(y - x_0) + \kappa\sqrt{\eta_{n-1}}\,\epsilon$.
        """
        now, before = self._eta(n, x0), self._eta(n - 1, x0)
        kept_noise = (before / now).sqrt() * (xn - x0 - now * (y - x0))
        return x0 + before * (y - x0) + kept_noise

    def renoise_step(
        self,
        x0: Float[Tensor, "b *rest"],
        y: Float[Tensor, "b *rest"],
        n: Int[Tensor, "b"],
        noise: Float[Tensor, "b *rest"],
    ) -> Float[Tensor, "b *rest"]:
        """A fresh draw from the marginal at n - 1: xn is forgotten.

        Paper vs code: the released demo steps like this; the paper's Algorithm 2 draws from the posterior.
        """
        return self.forward_marginal(x0, y, n - 1, noise)

    def _eta(self, n: Int[Tensor, "b"], like: Float[Tensor, "b *rest"]) -> Tensor:
        """`eta[n]`, one number an item, ready to multiply `like`."""
        return self.eta.to(n.device)[n].to(like).reshape(-1, *[1] * (like.ndim - 1))


def residual_shift(
    N: int = 4,
    kappa: float = radians(15),
    power: float = 0.1,
    eta_1: float | None = None,
    eta_N: float = 0.999,
) -> ResidualShift:
    r"""The chain with the geometric schedule $\eta_n = \eta_1^{1-w}\eta_N^{w}$, $w = ((n-1)/(N-1))^p$.

    The defaults are those of the released demo: eta = 0, 0.0010, 0.4870, 0.7592, 0.9990, noise 15 degrees at N.
    `eta_1` is `min(0.001, (0.04 / kappa)**2)` unless given. One step (N = 1) has the one share `eta_N`. N = 0 is no
    diffusion: one step from x to y itself, without noise, so that the denoiser sees y in the place of x_n.

    Raises ValueError when the numbers make no chain: N < 0, kappa <= 0, or not 0 < eta_1 <= eta_N <= 1.
    """
    if N < 0 or not kappa > 0:
        raise ValueError(f"residual_shift: needs N >= 0 and kappa > 0, found N = {N}, kappa = {kappa}")
    if N == 0:
        return ResidualShift(torch.tensor([0.0, 1.0], dtype=torch.float64), 0.0)
    eta_1 = min(0.001, (0.04 / kappa) ** 2) if eta_1 is None else eta_1
    if not 0 < eta_1 <= eta_N <= 1:
        raise ValueError(f"residual_shift: needs 0 < eta_1 <= eta_N <= 1, found {eta_1} and {eta_N}")
    u = torch.arange(N, dtype=torch.float64) / (N - 1) if N > 1 else torch.ones(1, dtype=torch.float64)
    w = u**power
    return ResidualShift(torch.cat([u.new_zeros(1), eta_1 ** (1 - w) * eta_N**w]), kappa)


@dataclass(frozen=True)
class Step:
    """One step of a walk back."""

    n: int
    """Step index, N first."""
    xn: Float[Tensor, "b *rest"]
    """What the denoiser saw."""
    x0: Float[Tensor, "b *rest"]
    """What it answered; the last one is the result."""


@torch.no_grad()
def sample(
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
    y: Float[Tensor, "b *rest"],
    shift: ResidualShift,
    rule: Rule,
    noise: Callable[[torch.Size], Tensor],
    stop: int = 1,
) -> Iterator[Step]:
    """Walk back from `shift.prior(y)`: yield step N, N - 1, ..., `stop`; each asks `denoise(xn, y, n) -> x0` once.

    `noise(shape)` gives standard normal numbers: one call for the start, then one between steps (none for the
    deterministic rule). `seeded_noise` makes one. The released demo is `rule="renoise", stop=2`.
    """
    xn = shift.prior(y, noise(y.shape).to(y))
    for step in range(shift.N, stop - 1, -1):
        n = torch.full((len(y),), step, device=y.device)
        x0 = denoise(xn, y, n)
        yield Step(step, xn, x0)
        if step == stop:
            return
        match rule:
            case "posterior":
                xn = shift.reverse_step(xn, x0, n, noise(y.shape).to(y))
            case "deterministic":
                xn = shift.deterministic_step(xn, x0, y, n)
            case "renoise":
                xn = shift.renoise_step(x0, y, n, noise(y.shape).to(y))
            case _:
                assert_never(rule)


def seeded_noise(generator: torch.Generator) -> Callable[[torch.Size], Tensor]:
    """A source of standard normal numbers for `sample`, on the generator's device, float32."""
    return lambda shape: torch.randn(shape, generator=generator, device=generator.device)


def frame_noise(seed: int, sample: int = 0) -> Callable[[torch.Size], Tensor]:
    """A source of standard normal numbers for a clip `(1, t, 16, 3)`, indexed by frame.

    What a frame gets depends on the seed, the sample, the draw and the number of the frame, never on how long the clip
    is; sample 0 begins as `seeded_noise` of a generator with that seed. Drawn on the CPU: the same on every device.
    """
    draws = count(1000 * sample)

    def draw(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1_000_003 * next(draws)))

    return draw


@dataclass(frozen=True)
class ResidualSpace:
    """The way from rotations to the chain's vectors and back: x as seen from y, radians, so that y itself is 0.

    Training and refining walk through the same one.
    """

    space: Space
    axes: Float[Tensor, "16 3 3"]
    """`anatomical_axes` of the hand; only the angles need them."""

    def to_chain(
        self, R_x: Float[Tensor, "*batch 16 3 3"], R_y: Float[Tensor, "*batch 16 3 3"]
    ) -> Float[Tensor, "*batch 16 3"]:
        """Residual vectors of x at y.

        Paper vs code: DIP's residual is y - x in angles, and its demo subtracts them as they are; ours is always
        wrapped, so that it never goes the long way round. Its sign is turned, since our y is the origin.
        """
        match self.space:
            case "so3_at_y":
                return encode(R_x, R_y)
            case "euler_anat":
                axes = self.axes.to(R_y)
                return wrap(anatomical_angles(R_x, axes) - anatomical_angles(R_y, axes))
            case _:
                assert_never(self.space)

    def to_rotations(
        self, r: Float[Tensor, "*batch 16 3"], R_y: Float[Tensor, "*batch 16 3 3"]
    ) -> Float[Tensor, "*batch 16 3 3"]:
        """The rotations that residual vectors at y stand for: undoes `to_chain`."""
        match self.space:
            case "so3_at_y":
                return decode(r, R_y)
            case "euler_anat":
                axes = self.axes.to(R_y)
                return anatomical_rotations(anatomical_angles(R_y, axes) + r, axes)
            case _:
                assert_never(self.space)


def encode(R_x: Float[Tensor, "*batch 3 3"], R_y: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    r"""Residual vectors $r = \log(R_y^\top R_x)$, radians: rotation x as seen from y, so that y itself is 0.

    Paper vs code: DIP and its demo diffuse Euler angles, which jump by a turn; these vectors do not, and a constant
    change of the joint frame turns them along instead of changing the chain.
    """
    return rotation.log(R_y.mT @ R_x)


def decode(r: Float[Tensor, "*batch 3"], R_y: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    r"""Rotations $R_y \exp(r)$: undoes `encode`."""
    return R_y @ rotation.exp(r)


def wrap(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""The same angle in $(-\pi, \pi]$. From +179 to -179 degrees is `wrap(-358 deg)`, which is 2 degrees."""
    return pi - torch.remainder(pi - angle, 2 * pi)
