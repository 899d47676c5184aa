r"""What a data set gives: tracks of hands and of the things they hold, all of one hand model.

Data sets write MANO parameters in many ways; here they become tracks of one hand:

    rotations   absolute, right-canonical; MANO's mean pose is added where a file leaves it out, principal components
                are multiplied out (a left file's mean and components are those of the right hand in the mirror)
    shape       the file's betas if `hand` is MANO; zeros, the mean shape, if it is another hand
    place       the wrist where the file has it; MANO's translation moves the rest wrist $J_0(\beta)$
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import clean_rotations, require_finite
from handdiff_lib.readers.files import need


@dataclass(frozen=True)
class ObjectTrack:
    """A thing that moves as one piece; `contact.load_object(mesh_file(), metres, pose)` makes it measurable."""

    pose: Float[Tensor, "t 4 4"]
    """Mesh to the frame of the hands' tracks, metres; the identity where it was not tracked."""
    valid: Bool[Tensor, "t"]
    """False where the thing was not tracked."""
    mesh: Path | None
    """Where the data set keeps its mesh; the file need not be there."""
    source: str
    """The data set, and where a person obtains it."""
    metres: float = 1.0
    """Length of the mesh file's unit."""

    def mesh_file(self) -> Path:
        """The mesh; MotionError says where a person obtains it if it is not there."""
        if self.mesh is None:
            raise MotionError(f"no mesh of this thing was found; it comes with {self.source}")
        return need(self.mesh, "the mesh of the thing", self.source)


@dataclass(frozen=True)
class Recording:
    """A sequence of a data set. All tracks have the same frames."""

    tracks: dict[str, HandMotion]
    """`left` and `right`, as far as there are any."""
    objects: dict[str, ObjectTrack]
    """The things of the scene, by the data set's name for them."""
    held: str | None = None
    """Which of them is grasped, where the data set says."""

    @property
    def fps(self) -> float:
        """Frames a second."""
        return next(iter(self.tracks.values())).fps


def pca_fingers(
    coefficients: Float[Tensor, "t k"], hand: HandModel, flat_hand_mean: bool, where: str
) -> Float[Tensor, "t 15 3 3"]:
    r"""Right-canonical finger rotations $\exp(m + c^\top C)$, C the first k components, m the mean pose or 0 if flat.

    Raises:
        MotionError: `hand` is not MANO; components of another hand would mean other poses.
    """
    mano = _mano(hand, f"{where}: the fingers are coefficients of MANO's principal components")
    vectors = coefficients @ mano.hands_components[: coefficients.shape[-1]].to(coefficients)
    if not flat_hand_mean:
        vectors = vectors + mano.hands_mean.to(coefficients)
    return rotation.exp(vectors.unflatten(-1, (15, 3)))


def around_mean_fingers(
    vectors: Float[Tensor, "t 45"], side: Side, hand: HandModel, where: str
) -> Float[Tensor, "t 15 3 3"]:
    """Right-canonical finger rotations from a real hand's rotation vectors that leave out MANO's mean pose.

    Raises:
        MotionError: `hand` is not MANO, so that the mean pose is not known.
    """
    mean = _mano(hand, f"{where}: the fingers are counted from MANO's mean pose").hands_mean.to(vectors)
    vectors = vectors.unflatten(-1, (15, 3))
    canonical = vectors if side == "right" else vectors * vectors.new_tensor([1.0, -1.0, -1.0])
    return rotation.exp(canonical + mean.view(15, 3))


def real_fingers(R: Float[Tensor, "t 15 3 3"], side: Side) -> Float[Tensor, "t 15 3 3"]:
    """Right-canonical finger rotations from a real hand's absolute ones."""
    return R if side == "right" else rotation.mirror(R)


def _mano(hand: HandModel, why: str) -> HandModel:
    """The hand, if it is MANO."""
    if hand.name != "mano":
        raise MotionError(
            f"{why}, so MANO itself is needed: take MANO_RIGHT.pkl from mano.is.tue.mpg.de (free for research, after "
            "registration), run handdiff hand import MANO_RIGHT.pkl, and read again with --hand mano_right.npz"
        )
    return hand


@dataclass(frozen=True)
class Place:
    """Where a hand is, in its real frame (left hands not mirrored), metres."""

    at: Float[Tensor, "t 3"]
    """The wrist, or MANO's translation of it."""
    is_wrist: bool
    """True for the wrist itself; False for a translation, which needs MANO's rest wrist."""
    left_shape_fault: bool = False
    """Posed with MANO's left file as distributed, whose shape directions lack the mirror in x (smplx issue 48).

    The wrist is put where that file has it. The fingers' shape is the true mirror's, a few millimetres off.
    """


def hand_track(
    root: Float[Tensor, "t 3 3"],
    fingers: Float[Tensor, "t 15 3 3"],
    betas: Float[Tensor, "*t 10"],
    place: Place,
    valid: Bool[Tensor, "t"],
    side: Side,
    fps: float,
    hand: HandModel,
    frame: str,
    where: str,
) -> HandMotion:
    """A track of `hand`; `root` is the real hand's global orientation, `fingers` are right-canonical already.

    Frames that are not valid may hold anything. Raises MotionError for NaN, or no rotation, in a valid frame, and for
    a track without a valid frame.
    """
    if not valid.any():
        raise MotionError(f"{where}: no frame has a {side} hand")
    kept = valid if betas.ndim == 2 else torch.ones(1, dtype=torch.bool)
    require_finite(betas.reshape(-1, 10), kept, "shape", where)
    require_finite(place.at, valid, "translation", where)
    root = clean_rotations(root[:, None].double(), valid, "global orientation", where)
    fingers = clean_rotations(fingers.double(), valid, "finger pose", where)
    if side == "left":
        root = rotation.mirror(root)
    betas = torch.zeros(10) if hand.name != "mano" else betas.float()
    if betas.ndim == 2:
        betas = torch.where(valid[:, None], betas, 0.0)
    rest_wrist = hand.shape(betas).rest_joints[..., 0, :]
    at = place.at.float() if side == "right" else rotation.mirror_points(place.at.float())
    if place.is_wrist:
        transl = at - rest_wrist
    else:
        transl = at
        _mano(hand, f"{where}: the hand's place is a translation of MANO's rest wrist")
        if side == "left" and place.left_shape_fault:
            shift = rest_wrist - hand.J_template[0]
            transl = at + rotation.mirror_points(shift) - shift
    return HandMotion(
        R=torch.cat([root, fingers], dim=1).float(),
        betas=betas,
        transl=torch.where(valid[:, None], transl, 0.0),
        valid=valid,
        fps=fps,
        side=side,
        hand=hand.name,
        frame=frame,
    )


def object_track(
    R: Float[Tensor, "t 3 3"],
    at: Float[Tensor, "t 3"],
    valid: Bool[Tensor, "t"],
    mesh: Path | None,
    source: str,
    where: str,
    metres: float = 1.0,
) -> ObjectTrack:
    """A thing from rotations and positions in metres."""
    require_finite(at, valid, "object position", where)
    pose = torch.eye(4).repeat(len(R), 1, 1)
    pose[:, :3, :3] = clean_rotations(R[:, None].double(), valid, "object rotation", where)[:, 0].float()
    pose[:, :3, 3] = torch.where(valid[:, None], at.float(), 0.0)
    return ObjectTrack(pose, valid, mesh, source, metres)
