r"""Training the denoiser (DIP Algorithm 1), resumable at any saved step to the same result.

repeat: draw (x, y), a step n and noise; x_n by the forward marginal; a gradient step on the weighted losses
"""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from handdiff_lib.checkpoint import save_tensors
from handdiff_lib.data import Batch, Corpus, draw_batch
from handdiff_lib.denoiser import Denoiser, DenoiserConfig, Prediction, make_denoiser
from handdiff_lib.diffusion import ResidualShift, decode, encode, residual_shift
from handdiff_lib.hand import HandModel
from handdiff_lib.losses import LossWeights, loss_terms, weighted
from handdiff_lib.motion import MotionError
from handdiff_lib.perturb import NoiseConfig


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, besides the data."""

    model: DenoiserConfig = field(default_factory=DenoiserConfig.paper)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    N: int = 4
    """Diffusion steps."""
    steps: int = 60_000
    batch: int = 64
    """Windows a step."""
    lr: float = 1e-4
    """Highest learning rate; it rises over `warmup` steps and falls along a cosine to a twentieth."""
    warmup: int = 200
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.995
    """Memory of the moving average of the weights, which is what one uses."""
    synthetic: float = 0.35
    """Share of made-up motion where there is captured motion too."""
    seed: int = 0

    @classmethod
    def tiny(cls) -> "TrainConfig":
        """Under an hour on one CPU core."""
        return cls(model=DenoiserConfig.tiny(), steps=2400, lr=1e-3)

    @classmethod
    def base(cls) -> "TrainConfig":
        """A day on two CPU cores."""
        return cls(model=DenoiserConfig.base(), steps=20_000, lr=4e-4)

    @classmethod
    def paper(cls) -> "TrainConfig":
        """The paper's sizes and learning rate; meant for a GPU."""
        return cls()


@dataclass
class TrainState:
    """What changes while training."""

    model: Denoiser
    ema: Denoiser
    """Moving average of the model: the weights that one uses."""
    optimiser: torch.optim.AdamW
    step: int = 0


def new_state(cfg: TrainConfig, hand: HandModel) -> TrainState:
    """Seeded weights, no steps done."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        model = make_denoiser(cfg.model, hand)
    ema = copy.deepcopy(model).requires_grad_(False).eval()
    return TrainState(model, ema, torch.optim.AdamW(model.parameters(), lr=cfg.lr))


def train(
    state: TrainState, cfg: TrainConfig, corpora: list[Corpus], share: list[float], hand: HandModel
) -> Iterator[dict[str, float]]:
    """Train `state` up to `cfg.steps`, yielding the step, the loss and its terms after every step.

    The caller plots, saves or stops. All chance is drawn from the seed and the step, so that a run that was stopped
    goes on as if it had not been.
    """
    shift = residual_shift(cfg.N)
    state.model.train()
    while state.step < cfg.steps:
        generator = torch.Generator().manual_seed(cfg.seed * 1_000_003 + state.step)
        batch = draw_batch(corpora, share, hand, cfg.noise, cfg.batch, cfg.model.window, generator)
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(cfg, state.step)
        with torch.random.fork_rng(devices=[]):  # dropout
            torch.manual_seed(state.step)
            terms = loss_terms(denoise_batch(state.model, batch, shift, hand, generator), batch.target, hand)
        loss = weighted(terms, cfg.weights)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(state.model.parameters(), cfg.clip)
        state.optimiser.step()
        state.step += 1
        _average(state.ema, state.model, min(cfg.ema, state.step / (state.step + 10)))
        yield {"step": state.step, "loss": loss.item()} | {name: term.item() for name, term in terms.items()}


def denoise_batch(
    model: Denoiser, batch: Batch, shift: ResidualShift, hand: HandModel, generator: torch.Generator
) -> Prediction:
    r"""The prediction from $x_n$ at a random step n of each window (DIP Algorithm 1, line 3).

    The chain runs on residual vectors in the tangent space at y, where y is 0.
    """
    y, size = batch.y, len(batch.y.R)
    n = torch.randint(1, shift.N + 1, (size,), generator=generator)
    r0 = encode(batch.target.R, y.R)
    noise = torch.randn(r0.shape, generator=generator)
    rn = shift.forward_marginal(r0, torch.zeros_like(r0), n, noise)
    return model(decode(rn, y.R), y, n, hand)


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth of `cfg.lr`."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@torch.no_grad()
def _average(ema: Denoiser, model: Denoiser, memory: float) -> None:
    for mean, now in zip(ema.parameters(), model.parameters(), strict=True):
        mean.lerp_(now, 1 - memory)


def save_state(path: Path, state: TrainState, cfg: TrainConfig) -> None:
    """Write model, moving average and optimiser to `path` (safetensors) with the configuration beside it."""
    tensors = {"step": torch.tensor(state.step)}
    for name, value in state.model.state_dict().items():
        tensors[f"model/{name}"] = value
    for name, value in state.ema.state_dict().items():
        tensors[f"ema/{name}"] = value
    for index, moments in state.optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"optimiser/{index}/{name}"] = value
    save_tensors(path, tensors, {"config": asdict(cfg)})


def load_state(path: Path, cfg: TrainConfig, hand: HandModel) -> TrainState:
    """The state saved at `path`; MotionError when it belongs to another configuration (only `steps` may differ)."""
    card = json.loads(path.with_suffix(".json").read_text())
    now, then = json.loads(json.dumps(asdict(cfg))), card["config"]
    different = [k for k in now if k != "steps" and now[k] != then.get(k)]
    if different:
        what = ", ".join(different)
        raise MotionError(f"{path} was trained with another {what}; choose another --output or delete it")
    state, tensors = new_state(cfg, hand), load_file(path)
    state.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
    state.ema.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("ema/")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser/"):
            _, index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
    state.optimiser.load_state_dict({"state": moments, "param_groups": state.optimiser.state_dict()["param_groups"]})
    state.step = int(tensors["step"])
    return state
