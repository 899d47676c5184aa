r"""The hand: load, shape, pose, skin. Four values, each made from the one before.

    HandModel --shape(betas)--> ShapedHand --pose(R, transl)--> PosedHand --skin()--> vertices
     arrays                      rest joints                      joints                 778 points

The model and its arrays are MANO's (Romero et al. 2017; SMPL Eq. 2-10): a template, ten shape directions, 135 pose
corrections, skinning weights and a joint regressor. All lengths are metres. Rotations are absolute, parent to
joint, with the mean pose already in them: the identity is the flat rest pose.
Every function takes any leading shape and answers on the device and in the dtype of its input.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib.topology import OPENPOSE, PARENTS, TIPS

_HERE = Path(__file__).resolve().parent
DATA = _HERE / "data" if (_HERE / "data").is_dir() else _HERE.parent / "data"
"""What ships: the open hand, weights, clips. Inside the package when installed, beside it in a clone."""

OPEN_HAND = DATA / "hand" / "openhand.npz"
TOGETHER = 256
"""Hands that are skinned at once: what is in between of more does not stay in a core's cache."""


class InputError(ValueError):
    """Input that cannot be used; the message is one line with what is wrong and the cure."""


@dataclass(frozen=True)
class HandModel:
    """A hand's arrays, right hand, as in a MANO file."""

    name: str
    """`open` for the hand that ships; betas and weights are only meaningful with the hand they were made for."""
    v_template: Float[Tensor, "v 3"]
    shapedirs: Float[Tensor, "v 3 s"]
    posedirs: Float[Tensor, "v 3 p"]
    weights: Float[Tensor, "v 16"]
    J_regressor: Float[Tensor, "16 v"]
    faces: Int[Tensor, "f 3"]
    hands_mean: Float[Tensor, "45"]
    """Mean pose as axis-angle: what `flat_hand_mean=False` files leave out."""
    hands_components: Float[Tensor, "45 45"]
    """Rows are the principal components of the finger pose, axis-angle around `hands_mean`."""

    @cached_property
    def J_template(self) -> Float[Tensor, "16 3"]:
        """Rest joints of the mean shape."""
        return self.J_regressor @ self.v_template

    @cached_property
    def J_shapedirs(self) -> Float[Tensor, "16 3 s"]:
        """What each shape number does to the rest joints, so that joints never need vertices."""
        return torch.einsum("jv,vcs->jcs", self.J_regressor, self.shapedirs)

    @cached_property
    def posedirs_by_axis(self) -> Float[Tensor, "p 3 v"]:
        """The pose corrections with vertices last, as skinning reads them."""
        return self.posedirs.permute(2, 1, 0).contiguous()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "HandModel":
        """The same hand elsewhere or in another precision."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                value = value.to(device, dtype if value.is_floating_point() else None)
            moved[field.name] = value
        return HandModel(**moved)

    def shape(self, betas: Float[Tensor, "*batch s"]) -> "ShapedHand":
        """The rest pose of one person's hand."""
        return ShapedHand(self, betas, self.J_template + torch.einsum("...s,jcs->...jc", betas, self.J_shapedirs))

    def mean_shape(self) -> "ShapedHand":
        """The rest pose of the average hand."""
        return self.shape(self.v_template.new_zeros(self.shapedirs.shape[-1]))


@dataclass(frozen=True)
class ShapedHand:
    """A hand of a certain shape in the rest pose."""

    model: HandModel
    betas: Float[Tensor, "*batch s"]
    rest_joints: Float[Tensor, "*batch 16 3"]

    def pose(self, R: Float[Tensor, "*batch 16 3 3"], transl: Float[Tensor, "*batch 3"] | None = None) -> "PosedHand":
        """Turn every joint by `R` (relative to its parent) and move the whole by `transl`.

        The hand turns about its wrist joint, which stays where the rest pose has it, plus `transl`.
        """
        J = self.rest_joints
        turn = R[..., 1:, :, :].unflatten(-3, (5, 3))  # joint 1 + 3 f + k is the k-th of finger f
        offset = (J[..., 1:, :] - J[..., list(PARENTS[1:]), :]).unflatten(-2, (5, 3))
        R_root, p_root = R[..., :1, :, :], J[..., :1, :] + torch.zeros_like(R[..., :1, :, 0])
        R_now, p_now, turned, placed = R_root, p_root, [], []
        for k in range(3):  # five fingers at once
            p_now = p_now + (R_now @ offset[..., k, :, None])[..., 0]
            R_now = R_now @ turn[..., k, :, :]
            turned.append(R_now)
            placed.append(p_now)
        R_world = torch.cat([R_root, torch.stack(turned, dim=-3).flatten(-4, -3)], dim=-3)
        joints = torch.cat([p_root, torch.stack(placed, dim=-2).flatten(-3, -2)], dim=-2)
        if transl is not None:
            joints = joints + transl[..., None, :]
        return PosedHand(self, R, R_world, joints)


@dataclass(frozen=True)
class PosedHand:
    """A posed hand: where its joints are and how they are turned."""

    shaped: ShapedHand
    R: Float[Tensor, "*batch 16 3 3"]
    """Rotations relative to the parent."""
    R_world_joint: Float[Tensor, "*batch 16 3 3"]
    joints: Float[Tensor, "*batch 16 3"]
    """Joint positions in MANO order, translation included."""

    def __getitem__(self, part: slice) -> "PosedHand":
        """Some of the first leading axis."""
        shaped = self.shaped
        if shaped.betas.ndim == self.joints.ndim - 1 and len(shaped.betas) > 1:  # not one shape for all
            shaped = ShapedHand(shaped.model, shaped.betas[part], shaped.rest_joints[part])
        return PosedHand(shaped, self.R[part], self.R_world_joint[part], self.joints[part])

    def skin(self) -> Float[Tensor, "*batch v 3"]:
        """All vertices; on a CPU, those of many hands TOGETHER at a time."""
        hands = self.joints[..., 0, 0].numel()
        if self.joints.ndim == 2 or hands <= TOGETHER or self.joints.device.type != "cpu":
            return self._placed(slice(None)).mT
        count = len(self.joints)
        size = max(1, TOGETHER * count // hands)
        return torch.cat([self[k : k + size]._placed(slice(None)) for k in range(0, count, size)]).mT

    def tips(self, convention: str = "smplx") -> Float[Tensor, "*batch 5 3"]:
        """The five finger-tip vertices (see `topology.TIPS`), without skinning the other 773."""
        return self._placed(list(TIPS[convention])).mT

    def joints21(self, tips: str = "smplx") -> Float[Tensor, "*batch 21 3"]:
        """Joints and tips in the 21-joint OpenPose order: wrist, then thumb to little, four each."""
        return torch.cat([self.joints, self.tips(tips)], dim=-2)[..., list(OPENPOSE), :]

    def _placed(self, rows: slice | list[int]) -> Float[Tensor, "*batch 3 k"]:
        r"""Linear blend skinning of some vertices: $v' = \sum_j w_{vj} (G_j (v - J_j) + p_j)$.

        Coordinates come before vertices until the end, so that every sum runs along the vertices; and sums go where
        their first term lies, since the system takes longer to give new memory than they take.
        """
        model, shaped = self.shaped.model, self.shaped
        bend = (self.R[..., 1:, :, :] - torch.eye(3, dtype=self.R.dtype, device=self.R.device)).flatten(-3)
        posedirs = model.posedirs_by_axis[..., rows]  # (135, 3, k)
        rest = (bend @ posedirs.flatten(1)).unflatten(-1, posedirs.shape[1:])
        rest += model.v_template[rows].mT + torch.einsum("...s,vcs->...cv", shaped.betas, model.shapedirs[rows])
        moved = self.joints - (self.R_world_joint @ shaped.rest_joints[..., None])[..., 0]
        transform = torch.cat([self.R_world_joint, moved[..., None]], dim=-1).movedim(-3, -1)  # (..., 3, 4, 16)
        blended = (transform.flatten(-3, -2) @ model.weights[rows].mT).unflatten(-2, (3, 4))  # (..., 3, 4, k)
        placed = torch.addcmul(blended[..., 3, :], blended[..., 0, :], rest[..., 0, None, :])
        for c in (1, 2):
            placed.addcmul_(blended[..., c, :], rest[..., c, None, :])
        return placed


def load_hand(path: str | Path | None = None) -> HandModel:
    """The hand in an `.npz` with MANO's keys, float32; without a path the open hand that ships.

    `handdiff hand import` makes such a file from a licensed MANO pickle. The name is `open` for `openhand.npz` and
    `mano` for any other file.

    Raises InputError when there is no such file, it cannot be read, or a key is missing or has the wrong shape.
    """
    path = OPEN_HAND if path is None else Path(path)
    if not path.is_file():
        raise InputError(f"hand file {path} not found; {_CURE}")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key in SHAPES}
    except Exception:  # a damaged file may raise anything
        raise InputError(f"{path} is not a hand .npz; {_CURE}") from None
    return hand_from_arrays(arrays, "open" if path.name == OPEN_HAND.name else "mano")


_CURE = "make one with: handdiff hand import MANO_RIGHT.pkl"

SHAPES = {
    "v_template": (778, 3),
    "shapedirs": (778, 3, 10),
    "posedirs": (778, 3, 135),
    "weights": (778, 16),
    "J_regressor": (16, 778),
    "f": (1538, 3),
    "hands_mean": (45,),
    "hands_components": (45, 45),
}
"""Keys and shapes of a MANO-style file."""


def hand_from_arrays(arrays: dict[str, np.ndarray], name: str) -> HandModel:
    """A float32 HandModel from arrays with MANO's keys; a missing or misshapen one is named."""
    for key, shape in SHAPES.items():
        if key not in arrays:
            raise InputError(f"hand {name}: key {key!r} is missing; a MANO-style file needs {', '.join(SHAPES)}")
        if arrays[key].shape != shape:
            raise InputError(f"hand {name}: {key} has shape {arrays[key].shape}, expected {shape}")
    values = {k: torch.as_tensor(np.asarray(arrays[k], np.float32)) for k in SHAPES if k != "f"}
    faces = torch.as_tensor(np.asarray(arrays["f"], np.int64))
    return HandModel(name=name, faces=faces, **values)
