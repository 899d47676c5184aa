r"""Spiral convolution: from the 778 vertices of a hand to one feature vector.

The paper's "MeshCNN" [DIP ref. 9] is the spiral convolution of MobRecon and SpiralNet++ (Gong et al. 2019):
$y_i = W\,[x_{S(i,1)}, \dots, x_{S(i,9)}] + b$, with $S(i, \cdot)$ the spiral of vertex $i$ (see `pyramid`).
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from handdiff_lib.pyramid import SPIRAL, Pyramid


class SpiralConv(nn.Linear):
    """Convolution and pooling in one: the result exists only at the vertices that the next level keeps."""

    def __init__(self, c_in: int, c_out: int, spirals: Int[Tensor, "v_out k"]) -> None:
        super().__init__(SPIRAL * c_in, c_out)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("spirals", spirals.clone())

    def forward(self, x: Float[Tensor, "b v c"]) -> Float[Tensor, "b v_out c_out"]:
        """Gather each spiral, then one matrix product."""
        around = x.index_select(1, self.spirals.flatten()).unflatten(1, self.spirals.shape)
        return super().forward(around.flatten(2))


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
            x = F.elu(conv(x))
        return self.out(x.flatten(1))
