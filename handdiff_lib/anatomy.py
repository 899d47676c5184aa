r"""Anatomical axes: what twist, abduction and flexion mean at each joint of a hand.

`C = anatomical_axes(hand)` turns vectors of a joint's MANO frame into its anatomical frame, x along the bone towards
the palm, y out of the back of the finger, z the axis of flexion:

    back of the hand  y          R_anatomical = C R C^T        about x: twist
                      |                                        about y: abduction, towards the thumb positive
         tip -- bone -+-- x      v_anatomical = C v            about z: flexion, closing positive
                     z toward the thumb
"""

import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.topology import CHAIN, FINGERS, TIPS

_DORSAL = {finger: (0.0, 1.0, 0.0) for finger in FINGERS} | {"thumb": (0.36, 0.54, 0.76)}
"""Roughly out of the nail in the rest pose; the thumb lies turned by about 60 degrees."""


def anatomical_axes(hand: HandModel) -> Float[Tensor, "16 3 3"]:
    """Rotation from each joint's MANO frame to its anatomical one, by the mean rest skeleton; identity at the wrist."""
    rest, tips = hand.J_template, hand.v_template[list(TIPS["smplx"])]
    frames = [torch.eye(3, dtype=rest.dtype, device=rest.device)] * 16
    for finger, tip in zip(FINGERS, tips, strict=True):
        points = [*rest[list(CHAIN[finger])], tip]
        dorsal = rest.new_tensor(_DORSAL[finger])
        for joint, start, end in zip(CHAIN[finger], points, points[1:], strict=False):
            x = torch.nn.functional.normalize(start - end, dim=0)
            y = torch.nn.functional.normalize(dorsal - (dorsal @ x) * x, dim=0)
            frames[joint] = torch.stack([x, y, torch.linalg.cross(x, y)])
    return torch.stack(frames)


def anatomical_angles(R: Float[Tensor, "*batch 16 3 3"], axes: Float[Tensor, "16 3 3"]) -> Float[Tensor, "*batch 16 3"]:
    r"""Twist, abduction and flexion in radians: $C R C^\top = R_y(a_y) R_x(a_x) R_z(a_z)$, in the order x, y, z.

    Twist lies in [-pi/2, pi/2], the others in (-pi, pi]. At a twist of a quarter turn the other two are not unique and
    the gradient there is not finite. The wrist's angles are about the axes of the MANO frame.
    """
    local = axes @ R @ axes.mT
    twist = torch.atan2(-local[..., 1, 2], torch.hypot(local[..., 1, 0], local[..., 1, 1]))
    abduction = torch.atan2(local[..., 0, 2], local[..., 2, 2])
    flexion = torch.atan2(local[..., 1, 0], local[..., 1, 1])
    return torch.stack([twist, abduction, flexion], dim=-1)


def anatomical_rotations(
    angles: Float[Tensor, "*batch 16 3"], axes: Float[Tensor, "16 3 3"]
) -> Float[Tensor, "*batch 16 3 3"]:
    """Rotations in MANO's frames from `anatomical_angles`: its inverse."""
    x, y, z = (rotation.exp(angles[..., k, None] * torch.eye(3).to(angles)[k]) for k in range(3))
    return axes.mT @ y @ x @ z @ axes
