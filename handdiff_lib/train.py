r"""Training the denoiser (DIP Algorithm 1), resumable at any saved step to the same result.

repeat: draw (x, y), a step n and noise; x_n by the forward marginal; a gradient step on the weighted losses
"""

import copy
import json
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from handdiff_lib.anatomy import anatomical_axes
from handdiff_lib.checkpoint import save_tensors
from handdiff_lib.corpus import Corpus
from handdiff_lib.data import Batch, DrawConfig, draw_batch
from handdiff_lib.denoiser import Denoiser, DenoiserConfig, Prediction, make_denoiser
from handdiff_lib.diffusion import ResidualSpace, Space, residual_shift
from handdiff_lib.frames import Frames
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.losses import LossWeights, loss_terms, weighted
from handdiff_lib.motion import MotionError


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, besides the data."""

    model: DenoiserConfig = field(default_factory=DenoiserConfig.paper)
    draw: DrawConfig = field(default_factory=DrawConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    N: int = 4
    """Diffusion steps; 0 is the deterministic twin: one step from x to y without noise, so that x_n is y."""
    space: Space = "so3_at_y"
    """Coordinates of the chain."""
    rollout: float = 0.0
    """Share of the batches in which x_n is what the walk itself would have made of step n + 1: trajectory consistency
    read as practice on the sampler's own states. With a weight on `consistency` the two answers shall agree as well."""
    teacher: float = 0.5
    """Share of own answers in the decoder's frames at the end of training; it rises from 0 (`loop` alone)."""
    steps: int = 60_000
    batch: int = 64
    """Windows a step, over all devices."""
    shorter: float = 0.0
    """Share of the batches whose windows are cut into four, so that short clips are known too."""
    hold_meshes: bool = False
    """Whether the mesh encoders stay as they are, for fine-tuning: a step then takes half the time."""
    lr: float = 1e-4
    """Highest learning rate; it rises over `warmup` steps and falls along a cosine to a twentieth."""
    warmup: int = 200
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.995
    """Memory of the moving average of the weights, which is what one uses."""
    bf16: bool = False
    """Mesh convolutions and Transformer in bfloat16; rotations, the hand and the losses stay in float32."""
    synthetic: float = 0.35
    """Share of made-up motion where there is captured motion too."""
    recorded: float = 0.15
    """Share of an estimator's own output where there is captured motion too."""
    seed: int = 0

    @classmethod
    def tiny(cls) -> "TrainConfig":
        """Half an hour on two CPU cores."""
        return cls(model=DenoiserConfig.tiny(), steps=2400, batch=32, lr=1e-3)

    @classmethod
    def base(cls) -> "TrainConfig":
        """The weights that ship."""
        return cls(model=DenoiserConfig.base(), steps=6000, batch=4, shorter=0.25, lr=6e-4)

    @classmethod
    def paper(cls) -> "TrainConfig":
        """The paper's sizes, learning rate and coordinates; meant for a GPU."""
        draw = DrawConfig(smooth=1.5)
        return cls(draw=draw, space="euler_anat", rollout=0.5, weights=LossWeights(consistency=0.5), bf16=True)


@dataclass
class TrainState:
    """What changes while training."""

    model: Denoiser
    ema: Denoiser
    """Moving average of the model: the weights that one uses."""
    optimiser: torch.optim.AdamW
    step: int = 0


class NotFinite(InputError):
    """The loss became NaN or infinite; `batch` is the one that did it."""

    def __init__(self, step: int, terms: dict[str, Tensor], batch: Batch) -> None:
        names = ", ".join(name for name, term in terms.items() if not term.isfinite()) or "the gradient"
        super().__init__(f"the loss is not finite at step {step} ({names}); lower the learning rate or see the batch")
        self.step, self.batch = step, batch


def new_state(cfg: TrainConfig, hand: HandModel) -> TrainState:
    """Seeded weights, no steps done."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        model = make_denoiser(cfg.model, hand)
    ema = copy.deepcopy(model).requires_grad_(False).eval()
    return TrainState(model, ema, torch.optim.AdamW(model.parameters(), lr=cfg.lr))


def train(
    state: TrainState,
    cfg: TrainConfig,
    corpora: list[Corpus],
    share: list[float],
    hand: HandModel,
    accelerator: Accelerator | None = None,
) -> Iterator[dict[str, float]]:
    """Train `state` up to `cfg.steps`, yielding the step, the loss and its terms after every step.

    The caller plots, saves or stops. All chance is drawn from the seed and the step, so that a run that was stopped
    goes on as if it had not been. With several processes each draws its own part of the batch. Raises NotFinite when
    the loss or its gradient breaks, before the weights change.
    """
    accelerator = accelerator or Accelerator(cpu=True)
    device, count = accelerator.device, accelerator.num_processes
    hand = hand.to(device)
    state.ema.to(device)
    for encoder in (state.model.mesh_y, state.model.mesh_x):
        encoder.requires_grad_(not cfg.hold_meshes)
    model, optimiser = accelerator.prepare(state.model, state.optimiser)
    trainer = Trainer(model, cfg, hand)
    model.train()
    while state.step < cfg.steps:
        seed = (cfg.seed * 1_000_003 + state.step) * count + accelerator.process_index
        generator = torch.Generator(device).manual_seed(seed)
        size = -(-cfg.batch // count)
        cut = 4 if torch.rand((), generator=generator, device=device) < cfg.shorter else 1
        batch = draw_batch(corpora, share, hand, cfg.draw, size * cut, cfg.model.window // cut, generator)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(cfg, state.step)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout
            torch.manual_seed(seed)
            terms = trainer.terms(batch, state.step / cfg.steps, generator)
        loss = weighted(terms, cfg.weights)
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), cfg.clip)
        if not (loss.isfinite() and norm.isfinite()):
            raise NotFinite(state.step, terms, batch)
        with _undisturbed():
            optimiser.step()
            state.step += 1
            _average(state.ema, accelerator.unwrap_model(model), min(cfg.ema, state.step / (state.step + 10)))
        yield {"step": state.step, "loss": loss.item()} | {name: term.item() for name, term in terms.items()}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the block is done, so that a state which is saved then is never half changed."""
    if threading.current_thread() is not threading.main_thread():  # no other thread hears of Ctrl-C
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Trainer:
    """From a batch to the losses."""

    model: nn.Module
    cfg: TrainConfig
    hand: HandModel

    def terms(self, batch: Batch, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of the answer, half of those of the encoder's draft added where there is one."""
        before, pred = self.denoise(batch, progress, generator)
        terms = loss_terms(pred, batch.target, self.hand, before)
        if pred.draft is None:
            return terms
        draft = loss_terms(pred.draft, batch.target, self.hand)
        return {name: term + 0.5 * draft[name] for name, term in terms.items()}

    def denoise(
        self, batch: Batch, progress: float, generator: torch.Generator
    ) -> tuple[Prediction | None, Prediction]:
        r"""The prediction from $x_n$ at a random step n of each window (DIP Algorithm 1, line 3).

        In a `rollout` x_n is where the walk arrives from n + 1 with the network's own answer, which comes first.
        """
        y, shift = batch.y, residual_shift(self.cfg.N)
        space = ResidualSpace(self.cfg.space, anatomical_axes(self.hand))
        size, device = len(y.R), y.R.device
        n = torch.randint(1, shift.N + 1, (size,), generator=generator, device=device)
        r0 = space.to_chain(batch.target.R, y.R)
        noise = torch.randn(r0.shape, generator=generator, device=device)
        ahead = shift.N > 1 and torch.rand((), generator=generator, device=device) < self.cfg.rollout
        n = n.clamp(min=2) if ahead else n
        rn = shift.forward_marginal(r0, torch.zeros_like(r0), n, noise)
        teaching = {}
        if self.cfg.model.decoder == "loop":
            teaching = {"truth": batch.target.R, "own": self.cfg.teacher * progress}
        before = None
        if ahead:
            with torch.no_grad():
                before = self._answer(space.to_rotations(rn, y.R), y, n, teaching)
            guess = space.to_chain(before.R, y.R)
            rn, n = shift.deterministic_step(rn, guess, torch.zeros_like(rn), n), n - 1
        return before, self._answer(space.to_rotations(rn, y.R), y, n, teaching)

    def _answer(self, R_n: Tensor, y: Frames, n: Tensor, teaching: dict) -> Prediction:
        with torch.autocast(R_n.device.type, torch.bfloat16, enabled=self.cfg.bf16):
            return self.model(R_n, y, n, self.hand, **teaching)


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth of `cfg.lr`."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@torch.no_grad()
def _average(ema: Denoiser, model: Denoiser, memory: float) -> None:
    torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in model.parameters()], 1 - memory)


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
    """The state saved at `path`; MotionError when the file is damaged or belongs to another configuration.

    Only `steps` may differ, and `bf16`: another machine may be built for another precision.
    """
    try:
        then, tensors = json.loads(path.with_suffix(".json").read_text())["config"], load_file(path)
    except Exception as error:  # a damaged file may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MotionError(f"{path} with its card cannot be read ({reason}); delete it to start again") from None
    now = json.loads(json.dumps(asdict(cfg)))
    different = [k for k in now if k not in ("steps", "bf16") and now[k] != then.get(k)]
    if different:
        what = ", ".join(different)
        raise MotionError(f"{path} was trained with another {what}; choose another --output or delete it")
    state = new_state(cfg, hand)
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


ROWS = ("deterministic", "diffusion", "state", "kinetics", "stability")
"""Rows of the paper's Table 3; each adds its part to those before."""


def ablated(cfg: TrainConfig, row: str) -> TrainConfig:
    """A run with the parts up to `row` of ROWS and none of the others.

    Without states the decoder is not told any and no label is learnt from; kinetics and stability go with states.
    """
    has = dict.fromkeys(ROWS[: ROWS.index(row) + 1], True)
    off = {name: 0.0 for name in ("state", "kinetics", "stability") if name not in has}
    model = replace(cfg.model, states_in=cfg.model.states_in and "state" in has)
    return replace(cfg, model=model, N=cfg.N if "diffusion" in has else 0, weights=replace(cfg.weights, **off))
