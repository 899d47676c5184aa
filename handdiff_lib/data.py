"""Batches of noisy windows to learn from, drawn from clean motion (see `corpus`)."""

from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from handdiff_lib import rotation
from handdiff_lib.corpus import Corpus
from handdiff_lib.frames import CAMERA_AXIS, Frames, estimate_frames_batch, to_steady
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.losses import Target
from handdiff_lib.perturb import Estimate, NoiseConfig, perturb
from handdiff_lib.smoothing import smooth_rotations
from handdiff_lib.topology import CHAIN, FREE, REACH, RELEASE

USUAL_FPS = 30.0
PARTS = tuple(part.name for part in fields(Estimate))


@dataclass(frozen=True)
class DrawConfig:
    """How clean motion becomes a batch."""

    noise: NoiseConfig = field(default_factory=NoiseConfig)
    clip: int = 128
    """Frames that noise and filters see; a clip is cut into windows."""
    smooth: float = 0.75
    """The truth of noisy clips is smoothed with this sigma, in frames at 30 a second (the paper smooths too)."""
    clean: float = 0.2
    """Share of clips left as they are: there the answer is the input, captured noise and all."""
    widen: float = 0.6
    """Share of clips whose joints are all turned by a constant, up to 8 degrees or so: other hands, other fits."""


@dataclass(frozen=True)
class Batch:
    """Windows to learn from."""

    y: Frames
    target: Target


def draw_batch(
    corpora: list[Corpus],
    share: list[float],
    hand: HandModel,
    cfg: DrawConfig,
    windows: int,
    window: int,
    generator: torch.Generator,
) -> Batch:
    """A batch of perturbed windows, on the generator's device; the same generator state gives the same batch.

    Augmented by frame rate (20 to 60 fps), time reversal, random orientation, other wrists and fingers of the same
    batch, constant changes of every joint, and other shapes. The windows of a clip follow each other.
    """
    per_clip = min(cfg.clip // window, windows)
    clips = -(-windows // per_clip)
    dice = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=generator, device=generator.device)))
    cut = [_cut_clip(corpora, share, cfg.clip, dice) for _ in range(clips)]
    R, betas, state, step, said = _stacked(cut, generator.device)
    simulated = torch.tensor([item.recorded is None for item in cut], device=R.device)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=generator.device)

    turned = rotation.nearest_rotation(randn(clips, 3, 3))[:, None]
    any_axis = F.normalize(randn(clips, 3), dim=-1)  # the errors of simulated estimates know no camera
    axis = torch.where(simulated[:, None], any_axis, turned[:, 0] @ turned.new_tensor(CAMERA_AXIS))
    axis = axis * (rand(clips, 1) < torch.where(simulated, 0.5, 0.9)[:, None])
    R[:, :, 0], said.R[:, :, 0] = turned @ R[:, :, 0], turned @ said.R[:, :, 0]
    R, state = _reversed(R, state, (rand(clips) < 0.5) & simulated)
    R, state = _recombined(R, state, torch.where(simulated[:, None], rand(clips, 6), 1.0))
    some = (rand(clips, 1, 1, 1) < cfg.widen) & simulated[:, None, None, None]
    wider = some * 0.14 * rand(clips, 1, 1, 1) * randn(clips, 1, 15, 3)
    R = torch.cat([R[:, :, :1], R[:, :, 1:] @ rotation.exp(wider)], dim=2)
    betas = betas + 0.5 * randn(clips, 10) * simulated[:, None]

    severity = torch.where(simulated, rand(clips) * (rand(clips) >= cfg.clean), 1.0)
    noisy = (5 * severity).clamp(max=1)
    estimate = _either(perturb(R, betas, hand, cfg.noise, severity, generator), said, simulated)
    truth = _smoothed(R, cfg.smooth / step, noisy)
    y, frame = estimate_frames_batch(estimate.R, estimate.betas, estimate.valid, estimate.confidence, axis)
    target = Target(to_steady(truth, frame), betas, state, frame, noisy)
    return _windows(y, target, window, per_clip, windows)


@dataclass(frozen=True)
class _Clip:
    """A stretch of a track."""

    R: Tensor
    betas: Tensor
    state: Tensor
    step: float
    """Length of a frame, in frames at 30 a second."""
    recorded: Estimate | None
    """A batch of one."""


def _cut_clip(corpora: list[Corpus], share: list[float], frames: int, dice: torch.Generator) -> _Clip:
    """A random stretch of a random track at a random frame rate; recorded estimates keep their own."""
    corpus = corpora[int(torch.multinomial(torch.tensor(share), 1, generator=dice))]
    stride = 1
    if corpus.recorded is None:
        usual = corpus.fps / USUAL_FPS
        strides = [s for s in range(1, 13) if usual / 2 <= s <= 1.5 * usual] or [1]
        odds = torch.tensor([3.0 if s == usual else 1.0 for s in strides])
        stride = strides[int(torch.multinomial(odds, 1, generator=dice))]
        longest = int(corpus.length.max())
        stride = max(1, min(stride, (longest - 1) // max(1, frames - 1)))
    span = (frames - 1) * stride + 1
    room = (corpus.length - span + 1).clamp(min=0)
    if not room.any():
        raise InputError(f"no track has {span} frames without a gap, the length of a training clip; give longer ones")
    track = int(torch.multinomial(room.float(), 1, generator=dice))
    start = int(corpus.first[track]) + int(torch.randint(int(room[track]), (1,), generator=dice))
    part = slice(start, start + span, stride)
    betas, said = corpus.betas[track], None
    if corpus.recorded is not None:
        y = corpus.recorded
        said = _estimate(y.R[part], y.betas[track], y.valid[part], y.confidence[part])
    return _Clip(corpus.R[part], betas, corpus.state[part], stride * USUAL_FPS / corpus.fps, said)


def _estimate(R: Tensor, betas: Tensor, valid: Tensor, confidence: Tensor) -> Estimate:
    """An estimate as a batch of one; what part of its error is constant is not known."""
    return Estimate(R[None], betas[None], valid[None], confidence[None], R.new_zeros(1, 16, 3))


def _stacked(cut: list[_Clip], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Estimate]:
    """The clips as a batch; estimates of those without a recorded one are the clips themselves."""
    unknown = torch.full((len(cut[0].R), 16), -1.0)
    seen = torch.ones(len(cut[0].R), dtype=torch.bool)
    said = [c.recorded or _estimate(c.R, c.betas, seen, unknown) for c in cut]
    estimate = Estimate(*(torch.cat([getattr(s, name) for s in said]).to(device) for name in PARTS))
    R, betas, state = (torch.stack([getattr(c, name) for c in cut]).to(device) for name in ("R", "betas", "state"))
    return R, betas, state.long(), torch.tensor([c.step for c in cut], device=device), estimate


def _either(made: Estimate, said: Estimate, simulated: Tensor) -> Estimate:
    """Simulated estimates, and recorded ones where there are any."""
    pairs = ((getattr(made, name), getattr(said, name)) for name in PARTS)
    return Estimate(*(torch.where(simulated.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def _smoothed(R: Tensor, sigma: Float[Tensor, "b"], how_much: Float[Tensor, "b"]) -> Tensor:
    """Clips smoothed with their own sigma in frames, as far as `how_much` in [0, 1] says."""
    every = torch.ones(R.shape[:2], dtype=torch.bool, device=R.device)
    smooth = R.clone()
    for one in sigma.unique():
        some = (sigma == one) & (how_much > 0)
        if one > 0 and some.any():
            smooth[some] = smooth_rotations(R[some], every[some], float(one))
    return rotation.slerp(R, smooth, how_much[:, None, None].expand(R.shape[:3]))


def _windows(y: Frames, target: Target, window: int, per_clip: int, count: int) -> Batch:
    """Clips cut into consecutive windows from a common start, the first `count` of them."""

    def cut(x: Tensor) -> Tensor:
        return x[:, : per_clip * window].unflatten(1, (per_clip, window)).flatten(0, 1)[:count]

    def repeat(x: Tensor) -> Tensor:
        return x.repeat_interleave(per_clip, 0)[:count]

    frames = y.per_frame(cut, repeat(y.betas))
    truth = Target(cut(target.R), repeat(target.betas), cut(target.state), cut(target.frame), repeat(target.noisy))
    return Batch(frames, truth)


def _reversed(R: Tensor, state: Tensor, backwards: Tensor) -> tuple[Tensor, Tensor]:
    """Motions and states, some of them played backwards: a reach becomes a release."""
    swapped = state.clone()
    swapped[state == REACH], swapped[state == RELEASE] = RELEASE, REACH
    R = torch.where(backwards[:, None, None, None, None], R.flip(1), R)
    return R, torch.where(backwards[:, None], swapped.flip(1), state)


def _recombined(R: Tensor, state: Tensor, dice: Float[Tensor, "b 6"]) -> tuple[Tensor, Tensor]:
    """Some wrists (one in three) and fingers (one in eight) exchanged with those of the next motion in the batch.

    What such a hand does is anyone's guess: its frames lose their states.
    """
    other = R.roll(1, 0)
    R, state = R.clone(), state.clone()
    for k, joints in enumerate([(0,), *CHAIN.values()]):
        take = (dice[:, k] < (1 / 3 if k == 0 else 1 / 8)).nonzero()[:, 0]
        state[take] = FREE
        for joint in joints:
            R[take, :, joint] = other[take, :, joint]
    return R, state
