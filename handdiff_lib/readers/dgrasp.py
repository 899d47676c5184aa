r"""D-Grasp's label files (Christen et al. 2022): static grasps of YCB things, chosen from DexYCB's frames.

    dexycb_{train,test}_labels.pkl    {thing 1..21: {final_ee (n, 63), final_obj_pos (n, 7): position, quaternion wxyz}}

Right hands; 21 joints, metres, world: the wrist, then index, middle, ring, little finger and thumb, four each, tips
last. There is no time in them: a grasp is one frame.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib.motion import MotionError
from handdiff_lib.readers.dexycb import YCB
from handdiff_lib.readers.fields import quaternions, shaped
from handdiff_lib.readers.pickles import read_pickle

_ORDER = (0, 17, 18, 19, 20, *range(1, 17))
"""Where each of the 21 OpenPose joints stands: the thumb comes last in the file."""


@dataclass(frozen=True)
class Grasps:
    """Grasps of one thing."""

    joints: Float[Tensor, "n 21 3"]
    """21-joint order, metres, world."""
    object_pose: Float[Tensor, "n 4 4"]
    """Mesh to world."""


def read_grasps(path: str | Path) -> dict[str, Grasps]:
    """The grasps in a label file by the things' YCB names; MotionError for a file of another layout."""
    content, where = read_pickle(path), str(path)
    if not isinstance(content, dict) or not all(
        isinstance(value, dict) and {"final_ee", "final_obj_pos"} <= set(value) for value in content.values()
    ):
        raise MotionError(f"{where}: expected things with final_ee and final_obj_pos; it is no D-Grasp label file")
    found: dict[str, Grasps] = {}
    for number, value in content.items():
        moves = shaped(value["final_obj_pos"], (None, 7), "final_obj_pos", where)
        joints = shaped(value["final_ee"], (len(moves), 63), "final_ee", where).view(-1, 21, 3)
        pose = torch.eye(4).repeat(len(moves), 1, 1)
        pose[:, :3, :3] = quaternions(moves[:, 3:].numpy(), "wxyz", "final_obj_pos", where).float()
        pose[:, :3, 3] = moves[:, :3].float()
        found[YCB[int(number) - 1]] = Grasps(joints[:, list(_ORDER)].float(), pose)
    return found
