r"""HO-Cap (Wang et al. 2024): one or two hands and several things, eight cameras and a headset, in the world.

    <subject>/<sequence>/meta.yaml       num_frames, mano_sides, object_ids, subject_id
    <subject>/<sequence>/poses_m.npy     (2, T, 51): right, left; a missing hand is all -1
    <subject>/<sequence>/poses_o.npy     (n, T, 7): quaternion xyzw, translation; a missing thing is all -1
    calibration/mano/<subject>.yaml      betas
    models/<thing>/textured_mesh.obj     meshes, metres

A pose is a global rotation vector (3), 45 principal components of MANO (`flat_hand_mean=True`: from the flat hand) and
MANO's translation (3). The hands are MANO's two files as distributed, see `Place.left_shape_fault`. The files state no
frame rate.
"""

from pathlib import Path

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError, Side
from handdiff_lib.readers.fields import frame_rate, quaternions, shaped
from handdiff_lib.readers.files import need, read_npy, read_yaml
from handdiff_lib.readers.recording import ObjectTrack, Place, Recording, hand_track, object_track, pca_fingers

ROWS: tuple[Side, ...] = ("right", "left")
"""Whose poses stand where in `poses_m.npy`."""
SOURCE = "HO-Cap, from github.com/IRVLUTD/HO-Cap"


def is_sequence(path: Path) -> bool:
    """Whether this is a sequence's folder."""
    return (path / "poses_m.npy").is_file()


def read_sequence(folder: str | Path, hand: HandModel, fps: float | None = None) -> Recording:
    """A sequence; `hand` must be MANO.

    Raises:
        MotionError: a file is missing or damaged, or `hand` is another hand than MANO.
    """
    folder = Path(folder)
    where, root = str(folder), folder.resolve().parents[1]
    meta = read_yaml(
        need(folder / "meta.yaml", "what the sequence shows", SOURCE), ("mano_sides", "object_ids", "subject_id")
    )
    calibration = root / "calibration" / "mano" / f"{meta['subject_id']}.yaml"
    need(calibration, "the subject's hand shape", SOURCE)
    betas = shaped(read_yaml(calibration, ("betas",))["betas"], (10,), "betas", str(calibration))
    poses = shaped(read_npy(folder / "poses_m.npy"), (2, None, 51), "poses_m", where)
    rate = frame_rate(None, fps, where)
    tracks: dict[str, HandMotion] = {}
    for side in meta["mano_sides"]:
        if side not in ROWS:
            raise MotionError(f"{where}: mano_sides expected right and left, found {side!r}")
        pose = poses[ROWS.index(side)]
        tracks[side] = hand_track(
            root=rotation.exp(pose[:, :3]),
            fingers=pca_fingers(pose[:, 3:48], hand, flat_hand_mean=True, where=where),
            betas=betas,
            place=Place(pose[:, 48:], is_wrist=False, left_shape_fault=True),
            valid=(pose != -1).any(-1) & pose.isfinite().all(-1),
            side=side,
            fps=rate,
            hand=hand,
            frame="world",
            where=f"{where}: {side}",
        )
    if not tracks:
        raise MotionError(f"{where}: mano_sides is empty; the sequence shows no hand")
    path = need(folder / "poses_o.npy", "the poses of the things", SOURCE)
    moves = shaped(read_npy(path), (len(meta["object_ids"]), poses.shape[1], 7), "poses_o", str(path))
    objects: dict[str, ObjectTrack] = {}
    for name, pose in zip(meta["object_ids"], moves, strict=True):
        seen = (pose != -1).any(-1) & pose.isfinite().all(-1)
        R = quaternions(pose[:, :4].numpy(), "xyzw", "poses_o", where)
        mesh = root / "models" / name / "textured_mesh.obj"
        objects[name] = object_track(R, pose[:, 4:], seen, mesh, SOURCE, f"{where}: {name}")
    return Recording(tracks, objects)
