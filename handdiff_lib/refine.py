r"""Refining a track of any length: one walk back for the whole clip, looked at through overlapping windows.

    y --encode once--> features of every frame            windows, each a quarter farther on
    x_N --+--> features of every frame --> windows --> predictions --blend on SO(3)--> x0_hat of the clip
          ^                                                                              |
          +---------------------------- one reverse step for the whole clip <------------+

Because the clip takes each step as a whole, neighbouring windows never drift apart and there are no seams; a frame's
mesh is encoded once a step however many windows see it; and the cost grows with the number of frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.denoiser import Denoiser, Prediction
from handdiff_lib.diffusion import ResidualSpace, Rule, Space, frame_noise, residual_shift, sample
from handdiff_lib.frames import Frames, estimate_frames, from_steady
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.smoothing import smooth
from handdiff_lib.storage import check_motion
from handdiff_lib.timeline import in_order

FRAME_CHUNK, WINDOW_CHUNK = 256, 64
"""Frames and windows that go through the network at once: what keeps the memory of a long clip small."""
LONGEST_GAP = 32
"""Frames of the longest gap that is filled, if windows are not shorter: about a second."""

NOISE_MEMORY = 10.0
"""Sigma, in frames, over which it is averaged how noisy the estimate is."""
ENOUGH, STEEP = 2.5, 2.0
"""The logit at which the answer is followed half way, and how fast that changes. Chosen on the validation take, mug3:
its own logits are below 1, those of full training noise above 4.4, each in 98 % of the frames."""

Doubt = Literal["network", "spread"]
"""Where sigma comes from: what the network expects, or how far the samples lie apart."""
Kept = Literal["all", "first"]
"""What of a window counts: all frames, blended where windows overlap, or the first frame alone (released demo)."""


@dataclass(frozen=True)
class RefineConfig:
    """How to walk back. `presets.config_for` takes what belongs to the weights from their card."""

    N: int = 4
    """Diffusion steps, 0 for none (see `residual_shift`); belongs to the weights."""
    space: Space = "so3_at_y"
    """Coordinates of the chain; belong to the weights."""
    doubt: Doubt = "network"
    """Where sigma comes from; belongs to the weights."""
    sigma_scale: float = 1.0
    """What `calibration.fit_scale` found for the doubt; belongs to the weights."""
    rule: Rule = "deterministic"
    """How to step: the paper's posterior, without new noise, or the released demo's way."""
    stop: int = 1
    """The step whose prediction is the answer: 1 after the whole walk, N after asking the network once."""
    window: int | None = None
    """Frames the network sees at once; that of its training by default, which is also the most."""
    stride: int | None = None
    """Frames from one window to the next, a quarter of a window by default; smaller is slower."""
    kept: Kept = "all"
    first_pass: bool = False
    """Whether y is what the network answers to the estimate in the place of x_N (released demo), not the estimate."""
    samples: int = 1
    """Walks from different noise; the answer is their chordal mean."""
    strength: float = 1.0
    """How far to go from the estimate, its gaps filled, (0) to the answer (1)."""
    leave_clean: bool = True
    """Whether to go only as far as the estimate is taken for noisy, so that clean motion stays as it is."""
    seed: int = 0
    """Of the noise; the same seed gives the same motion."""


@torch.no_grad()
def refine(motion: HandMotion, model: Denoiser, hand: HandModel, cfg: RefineConfig | None = None) -> HandMotion:
    """The track as the model believes it was: same frames, missing ones filled, one shape, states and doubt with it.

    `hand` is the hand the model was trained with. A track of another hand keeps the median of its own betas and is
    seen by the model at mean shape. Gaps up to LONGEST_GAP or one window are filled and become valid; longer gaps are
    bridged, frames before the first and after the last answer follow the nearest one, and all of these stay not valid.
    Raises MotionError for a track without a valid frame or with values that make no sense, and for a configuration
    that makes no sense.
    """
    cfg = cfg or RefineConfig()
    check_motion(motion)
    check_config(cfg, model.cfg.window)
    motion = motion.to(dtype=model.pose_y.weight.dtype)
    own_hand = motion.hand == hand.name
    filled = fill_missing(motion.with_one_shape())
    seen = filled if own_hand else replace(filled, betas=torch.zeros_like(filled.betas))
    y, frame = estimate_frames(_first_pass(seen, model, hand, cfg) if cfg.first_pass else seen)
    answer = sampled_answer(model, y, hand, cfg)
    R = rotation.polar(from_steady(answer.R[None], frame)[0])
    far = cfg.strength * (how_noisy(answer.noisy, motion.valid) if cfg.leave_clean else torch.ones_like(answer.noisy))
    left = (1 - far)[:, None, None] * rotation.log(R.mT @ filled.R)
    valid = motion.valid | is_short_gap(motion.valid, min(LONGEST_GAP, cfg.window or model.cfg.window))
    return replace(
        filled,
        R=R @ rotation.exp(left),
        betas=torch.lerp(filled.betas, answer.betas, far.mean()) if own_hand else filled.betas,
        valid=valid,
        sigma=None if answer.sigma is None else (answer.sigma**2 + left.square().mean(-1)).sqrt(),
        state_prob=in_order(answer.state_prob),
        refined=valid.clone(),
    )


def check_config(cfg: RefineConfig, window: int) -> None:
    """Raise MotionError, with the cure, for a configuration that makes no sense with a network of this window."""
    if cfg.window is not None and not 1 <= cfg.window <= window:
        raise MotionError(f"window must be from 1 to {window} frames, found {cfg.window}")
    window = cfg.window or window
    if cfg.stride is not None and not 1 <= cfg.stride <= window:
        raise MotionError(f"stride must be from 1 to {window} frames, found {cfg.stride}")
    if cfg.kept == "first" and cfg.stride != 1:
        raise MotionError(f"the first frames of windows make a clip only with stride 1, found stride {cfg.stride}")
    if cfg.N < 0:
        raise MotionError(f"N must be 0 (no diffusion) or more, found {cfg.N}")
    if not 1 <= cfg.stop <= first_step(cfg):
        raise MotionError(f"the walk must stop at a step from {first_step(cfg)} down to 1, found {cfg.stop}")
    if cfg.samples < 1:
        raise MotionError(f"samples must be 1 or more, found {cfg.samples}")
    if not 0 <= cfg.strength <= 1:
        raise MotionError(f"strength must be from 0 (the input) to 1 (the answer), found {cfg.strength:g}")


def first_step(cfg: RefineConfig) -> int:
    """The step that a walk begins with: N, or 1 without diffusion."""
    return max(cfg.N, 1)


@dataclass(frozen=True)
class Answer:
    """What some walks say together, in the steady frame."""

    R: Float[Tensor, "t 16 3 3"]
    betas: Float[Tensor, "10"]
    state_prob: Float[Tensor, "t 4"]
    sigma: Float[Tensor, "t 16"] | None
    """Expected error, radians for each axis; None for the spread of a single sample."""
    noisy: Float[Tensor, "t"]
    """Logit of whether the estimate has any error to undo."""


@torch.no_grad()
def sampled_answer(model: Denoiser, y: Frames, hand: HandModel, cfg: RefineConfig) -> Answer:
    """The chordal mean of `cfg.samples` walks, with its doubt.

    What the network says of errors is read at the first step: at later ones it was trained with an x_n that tells
    of the truth, while here x_n only tells of its own guess, so that it would be too sure of itself.
    """
    features_y = encode_clip(model, y, hand)
    walks = [list(_walk(model, y, features_y, hand, cfg, k)) for k in range(cfg.samples)]
    R = torch.stack([walk[-1].R[0] for walk in walks], dim=-3)
    betas = torch.stack([walk[-1].betas[0] for walk in walks]).mean(0)
    state = torch.stack([walk[-1].state[0].softmax(-1) for walk in walks]).mean(0)
    mean = rotation.mean_rotation(R, R.new_ones(cfg.samples)) if cfg.samples > 1 else R[..., 0, :, :]
    match cfg.doubt:
        case "network":
            sigma = torch.stack([walk[0].log_sigma[0] for walk in walks]).mean(0).exp()
        case "spread":
            sigma = spread(R, mean) if cfg.samples > 1 else None
    noisy = torch.stack([walk[0].noisy[0] for walk in walks]).mean(0)
    return Answer(mean, betas, state, None if sigma is None else cfg.sigma_scale * sigma, noisy)


def how_noisy(logit: Float[Tensor, "t"], valid: Bool[Tensor, "t"]) -> Float[Tensor, "t"]:
    """From 0 for clean frames to 1 for noisy ones, changing slowly with time; missing frames need the answer: 1."""
    slow = smooth(logit[:, None], torch.ones_like(valid), NOISE_MEMORY)[:, 0]
    return torch.where(valid, (STEEP * (slow - ENOUGH)).sigmoid(), 1.0)


def spread(R: Float[Tensor, "*batch k 3 3"], mean: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    r"""Standard deviation of k rotations about their mean, radians for each of the three axes.

    $\sqrt{\sum_k \lVert\log(\bar R^\top R_k)\rVert^2 / (3 (k - 1))}$; k is at least 2. Never quite 0, so that one may
    divide by it where the samples agree.
    """
    apart = rotation.log(mean[..., None, :, :].mT @ R).square().sum((-1, -2))
    return (apart / (3 * (R.shape[-3] - 1))).sqrt().clamp(min=1e-6)


@torch.no_grad()
def walk_back(model: Denoiser, y: Frames, hand: HandModel, cfg: RefineConfig) -> Iterator[Prediction]:
    """Yield the clip's prediction of the clean motion at each step, N first (DIP Algorithm 2); a batch of one clip.

    The walk of the first sample.
    """
    yield from _walk(model, y, encode_clip(model, y, hand), hand, cfg, 0)


def _walk(
    model: Denoiser, y: Frames, features_y: Tensor, hand: HandModel, cfg: RefineConfig, number: int
) -> Iterator[Prediction]:
    space = ResidualSpace(cfg.space, anatomical_axes(hand))
    last: Prediction | None = None

    def denoise(rn: Tensor, _: Tensor, n: Tensor) -> Tensor:
        nonlocal last
        R_n = space.to_rotations(rn, y.R)
        features = features_y + _in_chunks(lambda part: model.encode_noisy(R_n[:, part], y.betas, hand), len(R_n[0]))
        last = predict_clip(model, features[0], n, y, hand, cfg)
        return space.to_chain(last.R, y.R)

    origin = torch.zeros_like(y.R[..., 0])
    for _ in sample(denoise, origin, residual_shift(cfg.N), cfg.rule, frame_noise(cfg.seed, number), cfg.stop):
        yield last


def _first_pass(seen: HandMotion, model: Denoiser, hand: HandModel, cfg: RefineConfig) -> HandMotion:
    """What the network makes of the estimate in the place of x_N: the y of the released demo's walk."""
    y, frame = estimate_frames(seen)
    features = encode_clip(model, y, hand) + _in_chunks(
        lambda part: model.encode_noisy(y.R[:, part], y.betas, hand), len(seen)
    )
    n = torch.tensor([first_step(cfg)], device=y.R.device)
    pred = predict_clip(model, features[0], n, y, hand, cfg)
    return replace(seen, R=rotation.polar(from_steady(pred.R, frame)[0]), betas=pred.betas[0])


def encode_clip(model: Denoiser, y: Frames, hand: HandModel) -> Float[Tensor, "1 t d"]:
    """Features of every frame of the estimate, some frames at a time."""
    return _in_chunks(lambda part: model.encode_estimate(y[:, part], hand), len(y.R[0]))


def predict_clip(
    model: Denoiser,
    features: Float[Tensor, "t d"],
    n: Int[Tensor, "1"],
    y: Frames,
    hand: HandModel,
    cfg: RefineConfig | None = None,
) -> Prediction:
    """The clean motion of a whole clip: windows predicted in batches, then blended with Hann weights.

    With `cfg.kept` "first" a frame's answer is that of the window which starts there; windows at the end are shorter,
    which is what masking the frames beyond does.
    """
    t = len(features)
    total = features.new_zeros(t)
    R, state, errors = torch.zeros_like(y.R[0]), features.new_zeros(t, 4), features.new_zeros(t, 17)
    betas = []
    cfg = cfg or RefineConfig()
    window = cfg.window or model.cfg.window
    for index in _windows(t, window, cfg.stride or max(1, window // 4), cfg.kept):
        index = index.to(features.device)
        count, size = index.shape
        pred = model.predict(features[index], n.expand(count), y.windows(index), hand)
        within = torch.arange(size, device=features.device)
        hann = torch.sin(torch.pi * (within + 0.5) / size).square()
        w = (hann if cfg.kept == "all" else (within == 0)).to(features).repeat(count)
        flat = index.flatten()
        R.index_add_(0, flat, w[:, None, None, None] * pred.R.flatten(0, 1))
        state.index_add_(0, flat, w[:, None] * pred.state.flatten(0, 1))
        said = torch.cat([pred.log_sigma, pred.noisy[..., None]], dim=-1)
        errors.index_add_(0, flat, w[:, None] * said.flatten(0, 1))
        total.index_add_(0, flat, w)
        betas.append(pred.betas)
    share = total[:, None]
    blended = rotation.polar(R / share[..., None, None])
    log_sigma, noisy = (errors / share).split([16, 1], dim=-1)
    shape = torch.cat(betas).mean(0, keepdim=True)
    return Prediction(blended[None], shape, (state / share)[None], log_sigma[None], noisy[None, :, 0])


def _windows(t: int, window: int, stride: int, kept: Kept) -> Iterator[Int[Tensor, "w size"]]:
    """Frames of windows that go through the network together."""
    for starts in window_starts(t, window, stride).split(WINDOW_CHUNK):
        yield starts[:, None] + torch.arange(min(t, window))
    if kept == "first":
        for start in range(max(0, t - window) + 1, t):
            yield torch.arange(start, t)[None]


def window_starts(t: int, window: int, stride: int) -> Int[Tensor, "w"]:
    """First frames of windows that cover t frames; the last window ends with the clip. A short clip is one window."""
    last = max(0, t - window)
    starts = torch.arange(0, last + 1, stride)
    return starts if starts[-1] == last else torch.cat([starts, starts.new_tensor([last])])


def is_short_gap(valid: Tensor, longest: int) -> Tensor:
    """True for missing frames in gaps of at most `longest` frames that have valid frames on both sides."""
    known = valid.nonzero()[:, 0].tolist()
    short = torch.zeros_like(valid)
    for before, after in pairwise(known):
        if 1 < after - before <= longest + 1:
            short[before + 1 : after] = True
    return short


def _in_chunks(encode_part: Callable[[slice], Tensor], t: int) -> Tensor:
    """Frame features of a clip, computed some frames at a time."""
    return torch.cat([encode_part(slice(k, min(k + FRAME_CHUNK, t))) for k in range(0, t, FRAME_CHUNK)], dim=1)
