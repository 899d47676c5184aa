r"""Spiral convolution: from the 778 vertices of a hand to one feature vector.

The paper's "MeshCNN" [DIP ref. 9] is the spiral convolution of MobRecon and SpiralNet++ (Gong et al. 2019):
$y_i = W\,[x_{S(i,1)}, \dots, x_{S(i,9)}] + b$, with $S(i, \cdot)$ the spiral of vertex $i$ (see `pyramid`).

Gathering spirals makes nine copies of everything, and writing them to memory costs more than the matrix product. So the
work is done a few meshes at a time, in cache, and the copies are made again on the way back instead of being kept.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from handdiff_lib.pyramid import SPIRAL, Pyramid

CHUNK = 32
"""Meshes at a time on a CPU; a GPU takes all at once."""


class _Spirals(torch.autograd.Function):
    """The convolution and its gradients, chunk by chunk."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, spirals: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, spirals)
        out = x.new_empty(len(x), len(spirals), len(weight))
        for part in _chunks(x):
            around = x[part].index_select(1, spirals.flatten()).view(-1, weight.shape[1])
            torch.addmm(bias, around, weight.mT, out=out[part].view(-1, len(weight)))
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, spirals = ctx.saved_tensors
        (_, v, c), slots = x.shape, spirals.numel()
        order = spirals.flatten().argsort(stable=True)  # slots that read vertex 0, then those that read vertex 1, ...
        starts = torch.searchsorted(spirals.flatten()[order], torch.arange(v, device=x.device))
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        for part in _chunks(x):
            rows = grad[part].reshape(-1, len(weight))
            grad_weight += rows.mT @ x[part].index_select(1, spirals.flatten()).view(-1, weight.shape[1])
            if grad_x is not None:
                mesh = torch.arange(len(x[part]), device=x.device)[:, None]
                per_slot = (rows @ weight).view(-1, c)
                index, offset = (mesh * slots + order).flatten(), (mesh * slots + starts).flatten()
                grad_x[part] = F.embedding_bag(index, per_slot, offset, mode="sum").view(-1, v, c)
        grad_bias = grad.sum((0, 1), dtype=grad_weight.dtype)
        return grad_x, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None


def _chunks(x: Tensor) -> list[slice]:
    size = CHUNK if x.device.type == "cpu" else max(1, len(x))
    return [slice(k, min(k + size, len(x))) for k in range(0, len(x), size)]


class SpiralConv(nn.Linear):
    """Convolution and pooling in one: the result exists only at the vertices that the next level keeps."""

    def __init__(self, c_in: int, c_out: int, spirals: Int[Tensor, "v_out k"]) -> None:
        super().__init__(SPIRAL * c_in, c_out)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("spirals", spirals.clone())

    def forward(self, x: Float[Tensor, "b v c"]) -> Float[Tensor, "b v_out c_out"]:
        """Gather each spiral, then one matrix product; in bfloat16 under autocast, as linear layers do."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return _Spirals.apply(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype), self.spirals)


class MeshEncoder(nn.Module):
    """Four spiral convolutions with ELU, then a linear layer: vertices to a feature vector (DIP section 3.2)."""

    def __init__(self, pyramid: Pyramid, channels: tuple[int, ...], d: int) -> None:
        super().__init__()
        ins = (3, *channels[:-1])
        self.convs = nn.ModuleList(SpiralConv(i, o, s) for i, o, s in zip(ins, channels, pyramid.spirals, strict=True))
        self.out = nn.Linear(len(pyramid.kept[-1]) * channels[-1], d)

    def forward(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b d"]:
        x = vertices
        for conv in self.convs:
            x = F.elu(conv(x), inplace=True)
        return self.out(x.flatten(1))
