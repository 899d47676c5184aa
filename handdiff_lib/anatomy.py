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
