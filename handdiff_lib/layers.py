"""Hand layers side by side: ours, smplx and body-models on the same arrays, poses and shapes.

All of them get rotation matrices and answer with 778 vertices or with 21 joints, each in its own best way. What counts
is the ratio within one run: the machine, its threads and its mood are the same for everyone.
"""

import contextlib
import importlib.util
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import OPEN_HAND, load_hand
from handdiff_lib.topology import OPENPOSE, TIPS

BATCHES = (1, 16, 256, 4096)
WORKS = ("vertices", "vertices and gradient", "21 joints")
Answer = Callable[[Float[Tensor, "b 16 3 3"], Float[Tensor, "b 10"]], Float[Tensor, "b k 3"]]


@dataclass(frozen=True)
class Layer:
    """What a package answers for rotations and betas."""

    vertices: Answer
    joints21: Answer
    """In the OpenPose order."""


@dataclass(frozen=True)
class LayerTime:
    """What one layer took for one piece of work."""

    layer: str
    batch: int
    work: str
    milliseconds: float
    """Median over the repetitions."""
    ratio: float
    """Times ours."""
    off_mm: float
    """Largest distance from our answer."""


def layers(device: torch.device) -> dict[str, Layer]:
    """Our layer first, then those of the packages that are installed, all with the open hand's arrays."""
    hand = load_hand().to(device)
    found = {
        "handdiff": Layer(
            lambda R, betas: hand.shape(betas).pose(R).skin(), lambda R, betas: hand.shape(betas).pose(R).joints21()
        )
    }
    for name, package, make in (("smplx", "smplx", _smplx), ("body-models", "body_models", _body_models)):
        if importlib.util.find_spec(package):
            found[name] = make(device)
    return found


def _smplx(device: torch.device) -> Layer:
    import smplx
    from smplx.utils import Struct

    with np.load(OPEN_HAND, allow_pickle=False) as file:
        arrays = Struct(**{key: file[key] for key in file.files})
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smplx.MANOLayer("", data_struct=arrays, is_rhand=True).to(device)

    def run(R: Tensor, betas: Tensor) -> object:
        return model(betas=betas, global_orient=R[:, :1], hand_pose=R[:, 1:])

    def joints21(R: Tensor, betas: Tensor) -> Tensor:
        said = run(R, betas)
        return _ordered(said.joints[:, :16], said.vertices[:, list(TIPS["smplx"])])

    return Layer(lambda R, betas: run(R, betas).vertices, joints21)


def _body_models(device: torch.device) -> Layer:
    from body_models.mano.torch import MANO

    model = MANO(model_path=OPEN_HAND, flat_hand_mean=True, rotation_type="rotmat").to(device)

    def vertices(R: Tensor, betas: Tensor, **some: object) -> Tensor:
        return model.forward_vertices(R[:, 1:], wrist_rotation=R[:, 0], shape=betas, **some)

    def joints21(R: Tensor, betas: Tensor) -> Tensor:
        skeleton = model.forward_skeleton(R[:, 1:], wrist_rotation=R[:, 0], shape=betas)
        return _ordered(skeleton[:, :, :3, 3], vertices(R, betas, vertex_indices=list(TIPS["smplx"])))

    return Layer(vertices, joints21)


def _ordered(joints: Float[Tensor, "b 16 3"], tips: Float[Tensor, "b 5 3"]) -> Float[Tensor, "b 21 3"]:
    return torch.cat([joints, tips], dim=1)[:, list(OPENPOSE)]


def layer_times(device: torch.device, batches: tuple[int, ...] = BATCHES, seconds: float = 0.4) -> Iterator[LayerTime]:
    """Time all layers, in turns so that a slow moment hits everyone, for about `seconds` each."""
    every = layers(device)
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        R = rotation.exp(0.3 * torch.randn(batch, 16, 3, generator=generator)).to(device)
        betas = torch.randn(batch, 10, generator=generator).to(device)
        for work in WORKS:
            answer = {name: layer.joints21 if "joints" in work else layer.vertices for name, layer in every.items()}
            with torch.no_grad():
                points = {name: ask(R, betas) for name, ask in answer.items()}
            took = {name: [] for name in every}
            until = time.perf_counter() + seconds * len(every)
            while time.perf_counter() < until or len(took["handdiff"]) < 3:
                for name, ask in answer.items():
                    took[name].append(_once(ask, R, betas, "gradient" in work))
            ours = median(took["handdiff"])
            for name, times in took.items():
                off = (points[name] - points["handdiff"]).norm(dim=-1).max().item()
                yield LayerTime(name, batch, work, 1000 * median(times), median(times) / ours, 1000 * off)


def _once(ask: Answer, R: Tensor, betas: Tensor, gradient: bool) -> float:
    """Seconds for one answer, and for its gradient with respect to pose and shape."""
    begin = time.perf_counter()
    if gradient:
        R, betas = R.clone().requires_grad_(), betas.clone().requires_grad_()
        ask(R, betas).sum().backward()
    else:
        with torch.no_grad():
            ask(R, betas)
    if R.device.type == "cuda":
        torch.cuda.synchronize(R.device)
    return time.perf_counter() - begin
