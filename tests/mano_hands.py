"""Stand-ins for MANO's two files, made of the open hand, for tests of data sets that need MANO."""

from dataclasses import replace

import torch
from torch import Tensor

from handdiff_lib.hand import HandModel

MIRROR = torch.tensor([-1.0, 1.0, 1.0])
VECTOR = torch.tensor([1.0, -1.0, -1.0])
"""What a mirror at x = 0 does to points and to rotation vectors."""


def mano_like(hand: HandModel) -> HandModel:
    """The open hand under MANO's name, with a mean pose and components of its own, and a wrist that shape moves."""
    random = torch.Generator().manual_seed(7)
    mean = 0.2 * torch.randn(45, generator=random)
    components = torch.linalg.qr(torch.randn(45, 45, generator=random)).Q
    shapes = hand.shapedirs + 0.002  # the open hand's wrist stands still; MANO's does not
    return replace(hand, name="mano", shapedirs=shapes, hands_mean=mean, hands_components=components)


def left_of(right: HandModel, has_fault: bool) -> HandModel:
    """The left file: everything in the mirror, but with MANO's fault not its shape directions."""
    turns = (MIRROR[:, None] * MIRROR).flatten().repeat(15)
    shapes = right.shapedirs if has_fault else right.shapedirs * MIRROR[:, None]
    return replace(
        right,
        v_template=right.v_template * MIRROR,
        shapedirs=shapes,
        posedirs=right.posedirs * MIRROR[:, None] * turns,
        hands_mean=right.hands_mean * VECTOR.repeat(15),
        hands_components=right.hands_components * VECTOR.repeat(15),
    )


def real_joints(model: HandModel, R: Tensor, betas: Tensor, transl: Tensor) -> Tensor:
    """Joints as a data set's own tools compute them: its hand's own file, no mirror anywhere."""
    return model.shape(betas).pose(R, transl).joints21()
