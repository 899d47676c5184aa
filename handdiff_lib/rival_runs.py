r"""Training the rivals as we train ours, refining with them, and keeping them on disk.

They get our batches (`data.draw_batch`), windows, optimiser, learning rate, moving average and number of steps: a
`TrainConfig` is the budget. The losses are each method's own, with our weights where terms are the same:

    smoothnet               L1 of the coordinates and of their second differences
    posebert_*              rotations and joints, or joints alone, of the guess after every block
    transformer             rotations, shape, joints, velocity, acceleration
    constant_acceleration   rotations, shape, joints, and JERK times the squared third difference of its own joints
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from handdiff_lib import rotation
from handdiff_lib.checkpoint import save_tensors
from handdiff_lib.corpus import Corpus
from handdiff_lib.data import draw_batch
from handdiff_lib.denoiser import DECIMETRE
from handdiff_lib.frames import Frames, estimate_frames, from_steady
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.ik import fit_joints
from handdiff_lib.losses import LossWeights, Target, difference_loss, joint_loss, rotation_loss
from handdiff_lib.motion import HandMotion, fill_missing
from handdiff_lib.refine import WINDOW_CHUNK, is_short_gap, window_starts
from handdiff_lib.rivals import ROTATIONS, Rival, RivalConfig, coordinates, make_rival, to_joints, to_rotations
from handdiff_lib.storage import check_motion
from handdiff_lib.train import TrainConfig, learning_rate

JERK = 10.0
"""Weight of constant acceleration, third differences in dm: one of 10 mm costs as much as joints 7 mm off, one of 1 mm
a hundredth of that."""


def train_rival(
    cfg: RivalConfig, budget: TrainConfig, corpora: list[Corpus], share: list[float], hand: HandModel
) -> Iterator[tuple[Rival, dict[str, float]]]:
    """Train a rival, yielding the moving average of its weights, which one uses, with step and loss after every step.

    Of the budget draw, steps, batch, lr, warmup, clip, ema, weights and seed count. All chance comes from seed and
    step, as for ours, so that the batches are the same. Raises InputError when the loss or its gradient breaks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(budget.seed)
        model = make_rival(cfg, hand)
    ema = copy.deepcopy(model).requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=budget.lr)
    model.train()
    for step in range(budget.steps):
        seed = budget.seed * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed)
        batch = draw_batch(corpora, share, hand, budget.draw, budget.batch, cfg.window, generator)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(budget, step)
        with torch.random.fork_rng(devices=[]):  # dropout and hidden frames
            torch.manual_seed(seed)
            loss = rival_loss(model, batch.y, batch.target, budget.weights, hand)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), budget.clip)
        if not (loss.isfinite() and norm.isfinite()):
            raise InputError(f"{cfg.name}: the loss is not finite at step {step}; lower the learning rate")
        optimiser.step()
        memory = min(budget.ema, (step + 1) / (step + 11))
        torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in model.parameters()], 1 - memory)
        yield ema, {"step": step + 1, "loss": loss.item()}


def rival_loss(model: Rival, y: Frames, target: Target, weights: LossWeights, hand: HandModel) -> Float[Tensor, ""]:
    """What this rival minimises, mean over its guesses."""
    name = model.cfg.name
    guesses = model(coordinates(name, y.R, y.betas, hand), y.valid)
    truth = coordinates(name, target.R, target.betas, hand)
    match name:
        case "smoothnet":
            losses = [F.l1_loss(x, truth) + F.l1_loss(x.diff(n=2, dim=1), truth.diff(n=2, dim=1)) for x in guesses]
        case "posebert_positions":
            losses = [joint_loss(to_joints(x), to_joints(truth)) for x in guesses]
        case _:
            p = _joints(target.R, target.betas, hand)
            losses = [_pose_loss(name, x, y, target, p, weights, hand) for x in guesses]
    return torch.stack(losses).mean()


def _pose_loss(
    name: str,
    x: Float[Tensor, "b t c"],
    y: Frames,
    target: Target,
    p: Float[Tensor, "b t 21 3"],
    w: LossWeights,
    hand: HandModel,
) -> Float[Tensor, ""]:
    """The terms of `losses` that have a meaning for this rival, weighted as ours; p are the target's joints."""
    R = to_rotations(x)
    betas = x[..., ROTATIONS:].mean(1) if x.shape[-1] > ROTATIONS else y.betas
    p_hat = _joints(R, betas, hand)
    q_hat, q = p_hat @ R[..., 0, :, :], p @ target.R[..., 0, :, :]
    loss = w.rotation * rotation_loss(R, target.R) + w.joints * joint_loss(p_hat, p) + w.fingers * joint_loss(q_hat, q)
    if name == "posebert_angles":
        return loss
    loss = loss + w.shape * F.mse_loss(betas, target.betas)
    if name == "constant_acceleration":
        return loss + JERK * p_hat.diff(n=3, dim=1).square().sum(-1).mean()
    for order, weight in ((1, w.velocity), (2, w.acceleration)):
        loss = loss + weight * (difference_loss(p_hat, p, order) + difference_loss(q_hat, q, order)) / 2
    return loss


def _joints(R: Float[Tensor, "b t 16 3 3"], betas: Float[Tensor, "b 10"], hand: HandModel) -> Float[Tensor, "b t 21 3"]:
    """Seen from the wrist, dm."""
    joints = hand.shape(betas[:, None]).pose(R).joints21()
    return DECIMETRE * (joints - joints[..., :1, :])


@torch.no_grad()
def refine_rival(motion: HandMotion, model: Rival, hand: HandModel, stride: int | None = None) -> HandMotion:
    """The track as a rival sees it, as `refine` would answer: same frames, gaps filled, one shape.

    Windows are `stride` frames apart, by default a quarter of a window, and blended with Hann weights; a short track is
    one window that repeats its last frame. Positions become a hand by `ik`, its shape free to follow them. Raises
    MotionError as `refine` does.
    """
    check_motion(motion)
    motion = motion.to(dtype=next(model.parameters()).dtype)
    own_hand = motion.hand == hand.name
    filled = fill_missing(motion.with_one_shape())
    seen = filled if own_hand else replace(filled, betas=torch.zeros_like(filled.betas))
    y, frame = estimate_frames(seen)
    x = _blended(model, coordinates(model.cfg.name, y.R, y.betas, hand)[0], y.valid[0], stride)
    valid = motion.valid | is_short_gap(motion.valid, model.cfg.window)
    answer = replace(filled, valid=valid, refined=valid.clone())
    if model.cfg.name == "posebert_positions":
        wrist = seen.pose(hand).joints[:, :1]
        fit = fit_joints(to_joints(x[None])[0] @ frame[0].mT / DECIMETRE + wrist, hand, betas=seen.betas)
        return replace(answer, R=fit.R, betas=fit.betas, transl=fit.transl) if own_hand else replace(answer, R=fit.R)
    R = rotation.polar(from_steady(to_rotations(x[None]), frame)[0])
    has_shape = own_hand and x.shape[-1] > ROTATIONS
    return replace(answer, R=R, betas=x[:, ROTATIONS:].mean(0) if has_shape else filled.betas)


def _blended(model: Rival, x: Float[Tensor, "t c"], valid: Tensor, stride: int | None) -> Float[Tensor, "t c"]:
    """The last guess of overlapping windows, their coordinates averaged with Hann weights."""
    t, size = len(x), model.cfg.window
    total, weight = torch.zeros_like(x), x.new_zeros(t, 1)
    within = torch.arange(size)
    hann = torch.sin(torch.pi * (within + 0.5) / size).square()
    for starts in window_starts(t, size, stride or max(1, size // 4)).split(WINDOW_CHUNK):
        place = starts[:, None] + within
        index, w = place.clamp(max=t - 1), (hann * (place < t)).to(x)[..., None]
        guess = model(x[index], valid[index])[-1]
        total.index_add_(0, index.flatten(), (w * guess).flatten(0, 1))
        weight.index_add_(0, index.flatten(), w.flatten(0, 1))
    return total / weight


def save_rival(path: Path, model: Rival, card: dict) -> None:
    """Write a rival's weights (safetensors) and its card, with the configuration, beside it."""
    save_tensors(path, model.state_dict(), {"config": asdict(model.cfg)} | card)


def load_rival(path: Path, hand: HandModel) -> tuple[Rival, dict]:
    """A rival in eval mode and its card. Raises InputError when there is none, or the files are damaged."""
    path = Path(path)
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise InputError(f"rival {path} with its card {path.stem}.json not found; train it first")
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        model = make_rival(RivalConfig(**card["config"]), hand)
        model.load_state_dict(load_file(path))
    except Exception as error:  # a damaged file may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"rival {path} with its card cannot be read ({reason}); train it again") from None
    return model.eval(), card
