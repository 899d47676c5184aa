r"""DexYCB (Chao et al. 2021): one hand grasps one of several YCB things, eight cameras, 30 frames a second.

    <subject>/<sequence>/{meta.yml, pose.npz}                poses in the world, for the whole sequence
    <subject>/<sequence>/<serial>/labels_%06d.npz            the same seen from a camera (OpenCV axes), a file a frame
    calibration/mano_<id>/mano.yml                           betas
    models/<thing>/textured_simple.obj                       meshes, metres

A pose is 51 numbers: global rotation vector (3), 45 principal components around MANO's mean pose, translation (3).
All zero means no hand; a thing that was not tracked has the identity. The hands were fitted with MANO's left file as
distributed (dex-ycb-toolkit issue 28), see `Place.left_shape_fault`. Image-free work needs `pose.npz`, `meta.yml` and
`calibration` alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import MotionError
from handdiff_lib.readers.fields import quaternions, shaped
from handdiff_lib.readers.files import need, need_all, read_keys, read_yaml
from handdiff_lib.readers.recording import (
    ObjectTrack,
    Place,
    Recording,
    hand_track,
    object_track,
    pca_fingers,
)

FPS = 30.0
SOURCE = "DexYCB, from dex-ycb.github.io (CC BY-NC 4.0)"
SUBJECTS = (
    *("20200709-subject-01", "20200813-subject-02", "20200820-subject-03", "20200903-subject-04"),
    *("20200908-subject-05", "20200918-subject-06", "20200928-subject-07", "20201002-subject-08"),
    *("20201015-subject-09", "20201022-subject-10"),
)
SERIALS = (
    *("836212060125", "839512060362", "840412060917", "841412060263"),
    *("932122060857", "932122060861", "932122061900", "932122062010"),
)
"""The cameras, in the evaluator's order."""
YCB = (
    *("002_master_chef_can", "003_cracker_box", "004_sugar_box", "005_tomato_soup_can", "006_mustard_bottle"),
    *("007_tuna_fish_can", "008_pudding_box", "009_gelatin_box", "010_potted_meat_can", "011_banana"),
    *("019_pitcher_base", "021_bleach_cleanser", "024_bowl", "025_mug", "035_power_drill", "036_wood_block"),
    *("037_scissors", "040_large_marker", "051_large_clamp", "052_extra_large_clamp", "061_foam_brick"),
)
"""The things; `ycb_ids` in `meta.yml` count them from 1."""
SEQUENCES = 100
"""Of each subject; five with each of twenty things."""

Setup = Literal["s0", "s1", "s2", "s3"]
Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """What belongs to a part of the data set; its images are every frame of every sequence from every camera."""

    sequences: tuple[str, ...]
    """`<subject>/<sequence>`, in the evaluator's order."""
    serials: tuple[str, ...]


def split(root: str | Path, setup: Setup, part: Part) -> Split:
    """The sequences and cameras of a part: s0 held-out sequences, s1 subjects, s2 cameras, s3 things.

    Raises:
        MotionError: some of its files are missing; the message names the first few and counts them.
    """
    root = Path(root)
    subjects = [SUBJECTS[k] for k in _subjects(setup, part)]
    found = {s: sorted(p.name for p in (root / s).glob("*") if p.is_dir()) for s in subjects}
    short = [f"{s} ({len(names)} of {SEQUENCES} sequences)" for s, names in found.items() if len(names) != SEQUENCES]
    need_all(short, len(subjects), root, f"subjects of DexYCB {setup} {part}", SOURCE)
    sequences = [f"{s}/{names[i]}" for s, names in found.items() for i in range(SEQUENCES) if _is_in(i, setup, part)]
    files = [f"{q}/{name}" for q in sequences for name in ("meta.yml", "pose.npz")]
    missing = [name for name in files if not (root / name).is_file()]
    need_all(missing, len(files), root, f"files of DexYCB {setup} {part}", SOURCE)
    cameras = {"train": SERIALS[:6], "val": SERIALS[6:7], "test": SERIALS[7:]}[part] if setup == "s2" else SERIALS
    return Split(tuple(sequences), tuple(cameras))


def _subjects(setup: Setup, part: Part) -> range | tuple[int, ...]:
    """Whose sequences a part takes."""
    if setup == "s0":
        return {"train": range(10), "val": range(2), "test": range(2, 10)}[part]
    if setup == "s1":
        return {"train": (0, 1, 2, 3, 4, 5, 9), "val": (6,), "test": (7, 8)}[part]
    return range(10)


def _is_in(i: int, setup: Setup, part: Part) -> bool:
    """Whether a subject's i-th sequence belongs to a part; five in a row show the same thing."""
    if setup == "s0":
        return (i % 5 != 4) == (part == "train")
    if setup == "s3":
        held = {3: "val", 19: "val", 7: "test", 11: "test", 15: "test"}
        return held.get(i // 5, "train") == part
    return True


@dataclass(frozen=True)
class Image:
    """One image of a split; its place in `images` is the evaluator's image id."""

    sequence: str
    serial: str
    frame: int


def images(root: str | Path, parts: Split) -> list[Image]:
    """Every image of a split in the official evaluator's order: sequence, then camera, then frame."""
    found = []
    for sequence in parts.sequences:
        count = _meta(Path(root) / sequence)["num_frames"]
        found += [Image(sequence, serial, frame) for serial in parts.serials for frame in range(count)]
    return found


def is_sequence(path: Path) -> bool:
    """Whether this is a sequence's folder."""
    return (path / "meta.yml").is_file() and (path / "pose.npz").is_file()


def read_sequence(folder: str | Path, hand: HandModel, serial: str | None = None) -> Recording:
    """A sequence in the world, or with `serial` as its labels have it in that camera; `hand` must be MANO.

    Raises:
        MotionError: a file is missing (with where it comes from) or damaged, or `hand` is another hand than MANO.
    """
    folder = Path(folder)
    meta, where = _meta(folder), str(folder)
    pose_m, pose_y = _world(folder) if serial is None else _labels(folder, serial, int(meta["num_frames"]))
    side = meta["mano_sides"][0]
    root = folder.resolve().parents[1]
    calibration = root / "calibration" / f"mano_{meta['mano_calib'][0]}" / "mano.yml"
    need(calibration, "the subject's hand shape", SOURCE)
    betas = shaped(read_yaml(calibration, ("betas",))["betas"], (10,), "betas", str(calibration))
    track = hand_track(
        root=rotation.exp(pose_m[:, :3]),
        fingers=pca_fingers(pose_m[:, 3:48], hand, flat_hand_mean=False, where=where),
        betas=betas,
        place=Place(pose_m[:, 48:], is_wrist=False, left_shape_fault=True),
        valid=(pose_m != 0).any(-1),
        side=side,
        fps=FPS,
        hand=hand,
        frame="world" if serial is None else "camera",
        where=where,
    )
    if len(meta["ycb_ids"]) != pose_y.shape[1] or len(pose_y) != len(track):
        raise MotionError(
            f"{where}: {len(meta['ycb_ids'])} things and {len(track)} frames, but object poses {tuple(pose_y.shape)}"
        )
    objects: dict[str, ObjectTrack] = {}
    for k, ycb_id in enumerate(meta["ycb_ids"]):
        pose, name = pose_y[:, k], YCB[ycb_id - 1]
        valid = (pose - torch.eye(4)[:3]).abs().amax((-1, -2)) > 0
        mesh = root / "models" / name / "textured_simple.obj"
        objects[name] = object_track(pose[..., :3], pose[..., 3], valid, mesh, SOURCE, f"{where}: {name}")
    return Recording({side: track}, objects, YCB[meta["ycb_ids"][meta["ycb_grasp_ind"]] - 1])


def view_joints(folder: str | Path, serial: str) -> Float[Tensor, "t 21 3"]:
    """The official joints seen from a camera: 21-joint order, metres, tips as in `topology.TIPS["manopth"]`.

    A frame in which the hand is out of sight is NaN; the evaluator leaves it out.
    """
    folder = Path(folder)
    rows = [_label(folder, serial, k)["joint_3d"] for k in range(int(_meta(folder)["num_frames"]))]
    joints = shaped(np.stack(rows), (None, 1, 21, 3), "joint_3d", f"{folder}/{serial}")[:, 0]
    return torch.where((joints == -1).all(-1).all(-1)[:, None, None], torch.nan, joints).float()


def _world(folder: Path) -> tuple[Float[Tensor, "t 51"], Float[Tensor, "t n 3 4"]]:
    """Hand and object poses in `pose.npz`."""
    path = need(folder / "pose.npz", "the poses of hand and things", SOURCE)
    content, where = read_keys(path, ("pose_m", "pose_y")), str(path)
    pose_y = shaped(content["pose_y"], (None, None, 7), "pose_y", where)
    R = quaternions(content["pose_y"][..., :4], "xyzw", "pose_y", where)
    pose_m = shaped(content["pose_m"], (len(pose_y), 1, 51), "pose_m", where)[:, 0]
    return pose_m, torch.cat([R, pose_y[..., 4:, None]], dim=-1)


def _labels(folder: Path, serial: str, count: int) -> tuple[Float[Tensor, "t 51"], Float[Tensor, "t n 3 4"]]:
    """Hand and object poses in a camera's label files."""
    where = f"{folder}/{serial}"
    names = [f"labels_{k:06d}.npz" for k in range(count)]
    missing = [name for name in names if not (folder / serial / name).is_file()]
    need_all(missing, count, folder / serial, "label files", SOURCE)
    rows = [_label(folder, serial, k) for k in range(count)]
    pose_m = shaped(np.stack([row["pose_m"] for row in rows]), (count, 1, 51), "pose_m", where)[:, 0]
    return pose_m, shaped(np.stack([row["pose_y"] for row in rows]), (count, None, 3, 4), "pose_y", where)


def _label(folder: Path, serial: str, frame: int) -> dict[str, np.ndarray]:
    """What a label file says of poses and joints; its segmentation stays on disk."""
    path = need(folder / serial / f"labels_{frame:06d}.npz", "the labels of a frame", SOURCE)
    return read_keys(path, ("pose_m", "pose_y", "joint_3d"))


def _meta(folder: Path) -> dict:
    """What `meta.yml` says."""
    path = need(folder / "meta.yml", "what the sequence shows", SOURCE)
    return read_yaml(path, ("num_frames", "ycb_ids", "ycb_grasp_ind", "mano_sides", "mano_calib"))
