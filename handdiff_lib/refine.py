r"""Refining a track of any length: one walk back for the whole clip, looked at through overlapping windows.

    y --encode once--> features of every frame            windows of 16 frames, every 4 frames
    x_N --+--> features of every frame --> windows --> predictions --blend on SO(3)--> x0_hat of the clip
          ^                                                                              |
          +---------------------------- one reverse step for the whole clip <------------+

Because the clip takes each step as a whole, neighbouring windows never drift apart and there are no seams; a frame's
mesh is encoded once a step however many windows see it; and the cost grows with the number of frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.denoiser import Denoiser, Frames, Prediction, estimate_frames, from_steady
from handdiff_lib.diffusion import Rule, decode, encode, residual_shift, sample, seeded_noise
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.storage import check_motion

FRAME_CHUNK, WINDOW_CHUNK = 256, 64
"""Frames and windows that go through the network at once: what keeps the memory of a long clip small."""


@dataclass(frozen=True)
class RefineConfig:
    """How to walk back."""

    N: int = 4
    """Diffusion steps."""
    rule: Rule = "deterministic"
    """How to step: the paper's posterior, without new noise, or the released demo's way."""
    stride: int = 4
    """Frames from one window to the next; smaller asks more windows about each frame and is slower."""
    seed: int = 0
    """Of the noise at the start; the same seed gives the same motion."""


@torch.no_grad()
def refine(motion: HandMotion, model: Denoiser, hand: HandModel, cfg: RefineConfig | None = None) -> HandMotion:
    """The track as the model believes it was: same frames, missing ones filled, one shape, states with it.

    `hand` is the hand the model was trained with. A track of another hand keeps the median of its own betas and is
    seen by the model at mean shape. Gaps up to one window are filled and become valid; longer gaps are bridged, frames
    before the first and after the last answer follow the nearest one, and all of these stay not valid.
    Raises MotionError for a track without a valid frame or with values that make no sense, and for a stride that would
    leave frames out.
    """
    cfg = cfg or RefineConfig()
    check_motion(motion)
    motion = motion.to(dtype=model.pose_y.weight.dtype)
    if not 1 <= cfg.stride <= model.cfg.window:
        raise MotionError(f"stride must be from 1 to {model.cfg.window} frames, found {cfg.stride}")
    own_hand = motion.hand == hand.name
    filled = fill_missing(motion.with_one_shape())
    y, frame = estimate_frames(filled if own_hand else replace(filled, betas=torch.zeros_like(filled.betas)))
    *_, last = walk_back(model, y, hand, cfg)
    valid = motion.valid | is_short_gap(motion.valid, model.cfg.window)
    return replace(
        filled,
        R=rotation.polar(from_steady(last.R, frame)[0]),
        betas=last.betas[0] if own_hand else filled.betas,
        valid=valid,
        sigma=None,
        state_prob=last.state[0].softmax(-1),
        refined=valid.clone(),
    )


@torch.no_grad()
def walk_back(model: Denoiser, y: Frames, hand: HandModel, cfg: RefineConfig) -> Iterator[Prediction]:
    """Yield the clip's prediction of the clean motion at each step, N first (DIP Algorithm 2); a batch of one clip."""
    shift = residual_shift(cfg.N)
    features_y = _in_chunks(lambda part: model.encode_estimate(y[:, part], hand), len(y.R[0]))
    last: Prediction | None = None

    def denoise(rn: Tensor, _: Tensor, n: Tensor) -> Tensor:
        nonlocal last
        R_n = decode(rn, y.R)
        features = features_y + _in_chunks(lambda part: model.encode_noisy(R_n[:, part], y.betas, hand), len(R_n[0]))
        last = predict_clip(model, features[0], n, y, cfg.stride)
        return encode(last.R, y.R)

    origin = torch.zeros_like(y.R[..., 0])
    noise = seeded_noise(torch.Generator(origin.device).manual_seed(cfg.seed))
    for _ in sample(denoise, origin, shift, cfg.rule, noise):
        yield last


def predict_clip(
    model: Denoiser, features: Float[Tensor, "t d"], n: Int[Tensor, "1"], y: Frames, stride: int
) -> Prediction:
    """The clean motion of a whole clip: windows predicted in batches, then blended with Hann weights."""
    t = len(features)
    starts = window_starts(t, model.cfg.window, stride).to(features.device)
    size = min(t, model.cfg.window)
    within = torch.arange(size, device=features.device)
    weight = torch.sin(torch.pi * (within + 0.5) / size).square().to(features)
    total = features.new_zeros(t)
    R, state = torch.zeros_like(y.R[0]), features.new_zeros(t, 4)
    betas = []
    for part in starts.split(WINDOW_CHUNK):
        index = part[:, None] + within  # (w, size)
        count = len(part)
        pred = model.predict(features[index], n.expand(count), y.windows(index))
        flat, w = index.flatten(), weight.repeat(count)
        R.index_add_(0, flat, w[:, None, None, None] * pred.R.flatten(0, 1))
        state.index_add_(0, flat, w[:, None] * pred.state.flatten(0, 1))
        total.index_add_(0, flat, w)
        betas.append(pred.betas)
    blended = rotation.polar(R / total[:, None, None, None])
    return Prediction(blended[None], torch.cat(betas).mean(0, keepdim=True), (state / total[:, None])[None])


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
