"""Arrays as short text for a page: small integers, each with its unit, in base64; and the hand's arrays so packed.

With the hand in the page a motion is its rotations alone, 96 bytes a frame, and the browser skins it.
"""

import base64

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.topology import PARENTS, TIPS

UNIT = 1e-5
"""Metres: 16 bits reach 33 cm from the middle."""
NEAR = 4
"""Joints that move a vertex; what further ones add is dropped."""


def text(values: np.ndarray | Tensor, kind: str) -> str:
    """The values as base64 of this numpy type, lowest byte first; floats are rounded to integers where it is one."""
    array = np.asarray(values)
    kept = array.round() if np.issubdtype(np.dtype(kind), np.integer) else array
    return base64.b64encode(np.ascontiguousarray(kept.astype(np.dtype(kind).newbyteorder("<"))).tobytes()).decode()


def points_text(points: Float[Tensor, "*batch k 3"]) -> tuple[str, float]:
    """Points as 16-bit integers, and the length of one unit in metres: `UNIT`, or more for a large scene."""
    unit = max(UNIT, float(points.abs().max()) / 32767)
    return text(points / unit, "i2"), unit


def turns_text(R: Float[Tensor, "t 16 3 3"]) -> str:
    """Rotation vectors as 16-bit integers, one unit = pi / 32767 (0.0055 degrees)."""
    return text(rotation.log(R) * (32767 / torch.pi), "i2")


def hand_arrays(hand: HandModel) -> dict:
    """What static/hand.js needs of a hand, about 125 kB as JSON.

    Shape directions and pose corrections are 8-bit; corrections below a hundredth of a millimetre are left out.
    """
    template, unit = points_text(hand.v_template)
    shape_units = hand.shapedirs.abs().amax((0, 1)) / 127
    weight, near = hand.weights.sort(dim=1, descending=True)
    weight = weight[:, :NEAR] / weight[:, :NEAR].sum(1, keepdim=True)
    bend = hand.posedirs.unflatten(2, (15, 9)).permute(0, 2, 1, 3)  # (v, joint, 3, 9)
    vertex, joint = torch.nonzero(bend.abs().amax((2, 3)) > UNIT, as_tuple=True)
    bend_unit = max(float(bend.abs().max()), UNIT) / 127
    return {
        "template": template,
        "unit": unit,
        "shapedirs": text((hand.shapedirs / shape_units.clamp(min=1e-12)).permute(2, 0, 1), "i1"),
        "shape_units": shape_units.tolist(),
        "joints": text(hand.J_template, "f4"),
        "jointdirs": text(hand.J_shapedirs.permute(2, 0, 1), "f4"),
        "near": text(near[:, :NEAR], "u1"),
        "weights": text(_whole_shares(weight), "u1"),
        "bend_vertex": text(vertex, "u2"),
        "bend_joint": text(joint + 1, "u1"),
        "bend": text(bend[vertex, joint] / bend_unit, "i1"),
        "bend_unit": bend_unit,
        "faces": text(hand.faces, "u2"),
        "parents": list(PARENTS),
        "tips": list(TIPS["smplx"]),
    }


def _whole_shares(weight: Float[Tensor, "v 4"]) -> Float[Tensor, "v 4"]:
    """Shares of 255 that add up to it: the largest takes what rounding leaves."""
    shares = (255 * weight).round()
    shares[:, 0] += 255 - shares.sum(1)
    return shares
