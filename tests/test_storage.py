"""HandMotion on disk: what is saved comes back, what is wrong is named, no file is half written."""

import math
import pickle
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.storage import (
    check_motion,
    check_output,
    is_motion_file,
    load_motion,
    read_npz,
    save_motion,
    write_whole,
)


@pytest.fixture
def motion(generator) -> HandMotion:
    """Six frames with every field filled."""
    return HandMotion(
        R=rotation.exp(torch.randn(6, 16, 3, generator=generator)),
        betas=torch.randn(10, generator=generator),
        transl=torch.randn(6, 3, generator=generator),
        valid=torch.tensor([True, True, False, True, True, True]),
        fps=29.97,
        side="left",
        hand="open",
        frame="world",
        confidence=torch.rand(6, 16, generator=generator),
        sigma=torch.rand(6, 16, generator=generator),
        state_prob=torch.full((6, 4), 0.25),
        refined=torch.tensor([False, True, True, True, False, False]),
    )


def assert_equal(a: HandMotion, b: HandMotion) -> None:
    for field in fields(HandMotion):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert torch.equal(x, y) if isinstance(x, Tensor) else x == y, field.name


def test_round_trip_of_every_field(motion, tmp_path):
    path = tmp_path / "motion.npz"
    plain = replace(motion, confidence=None, sigma=None, state_prob=None, refined=None, side="right")
    one_frame = motion[:1]
    shapes = replace(motion, betas=torch.arange(60.0).reshape(6, 10))
    tracks = {"left": motion, "right": plain, "right.before": one_frame, "händ 3": shapes}
    save_motion(path, tracks)
    back = load_motion(path)
    assert list(back) == list(tracks)
    for name, track in tracks.items():
        assert_equal(back[name], track)


def test_doubles_are_stored_as_floats(motion, tmp_path):
    save_motion(tmp_path / "m.npz", {"left": motion.to(dtype=torch.float64)})
    assert_equal(load_motion(tmp_path / "m.npz")["left"], motion)


def test_a_frame_that_is_not_valid_may_hold_anything(motion, tmp_path):
    R = motion.R.clone()
    R[2] = math.nan
    save_motion(tmp_path / "m.npz", {"left": replace(motion, R=R)})
    assert load_motion(tmp_path / "m.npz")["left"].R[2].isnan().all()


def test_the_file_needs_no_pickle(motion, tmp_path):
    save_motion(tmp_path / "m.npz", {"left": motion})
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert str(file["schema"]) == "handmotion/1"
        assert file["tracks"].tolist() == ["left"]
        assert {file[key].dtype.kind for key in file.files} <= set("fbU")


WRONG = {  # name: key, what becomes of the array (None removes it), message
    "wrong shape of R": (
        "left/R",
        lambda x: x[:, :15],
        r"left: R expected shape \(6, 16, 3, 3\), found \(6, 15, 3, 3\)",
    ),
    "R as rotation vectors": ("left/R", lambda x: x[..., 0], r"R expected shape \(6, 16, 3, 3\), found \(6, 16, 3\)"),
    "other length": ("left/transl", lambda x: x[:4], r"transl expected shape \(6, 3\), found \(4, 3\)"),
    "shape": ("left/betas", lambda x: x[:8], r"betas expected shape \(6, 10\) or \(10,\), found \(8,\)"),
    "states": ("left/state_prob", lambda x: x[:, :3], r"state_prob expected shape \(6, 4\), found \(6, 3\)"),
    "NaN in R": ("left/R", lambda x: x * np.nan, "left: R expected finite numbers, found NaN or inf in 5 valid frames"),
    "inf in transl": (
        "left/transl",
        lambda x: np.where(np.arange(6)[:, None] == 3, np.inf, x).astype(np.float32),
        "transl expected finite numbers, found NaN or inf in 1 valid frames; mark those frames as not valid",
    ),
    "NaN in betas": ("left/betas", lambda x: x * np.nan, "betas expected finite numbers, found NaN or inf"),
    "scaled R": ("left/R", lambda x: 1.1 * x, "R expected rotation matrices, found 5 frames that are not"),
    "reflected R": ("left/R", lambda x: -x, "R expected rotation matrices, found 5 frames that are not"),
    "side": ("left/side", lambda x: np.array("both"), "left: side expected right or left, found 'both'"),
    "frame": ("left/frame", lambda x: np.array("moon"), "frame expected camera or world or object, found 'moon'"),
    "integers": ("left/R", lambda x: x.astype(int), "R expected floating numbers, found int64"),
    "complex": ("left/betas", lambda x: x.astype(complex), "betas expected floating numbers, found complex128"),
    "valid as numbers": ("left/valid", lambda x: x.astype(float), "valid expected bool, found float64"),
    "fps as text": ("left/fps", lambda x: np.array("30"), "fps expected one number, found <U2"),
    "two fps": (
        "left/fps",
        lambda x: np.array([30.0, 30.0]),
        r"fps expected one number, found float64 of shape \(2,\)",
    ),
    "no fps": ("left/fps", lambda x: np.array(0.0), "fps expected a number between 0 and 10000, found 0"),
    "NaN fps": ("left/fps", lambda x: np.array(np.nan), "fps expected a number between 0 and 10000, found nan"),
    "confidence": ("left/confidence", lambda x: x + 1, r"confidence expected values in \[0, 1\], found 1"),
    "missing R": ("left/R", None, "left: R is missing; a HandMotion needs it"),
    "missing side": ("left/side", None, "left: side is missing"),
    "other schema": (
        "schema",
        lambda x: np.array("handmotion/9"),
        "schema expected 'handmotion/1', found 'handmotion/9'",
    ),
    "no schema": ("schema", None, "schema expected 'handmotion/1', found 'none'"),
    "no tracks": ("tracks", lambda x: np.array([], dtype=str), "no tracks in the file"),
    "no list of tracks": ("tracks", None, "no tracks in the file"),
    "track not there": ("tracks", lambda x: np.array(["third"]), "third: R is missing"),
}


@pytest.mark.parametrize(("key", "change", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(motion, tmp_path, key, change, message):
    """Field, what was expected, what was found, in one line that begins with the path."""
    path = tmp_path / "motion.npz"
    save_motion(path, {"left": motion})
    arrays = read_npz(path)
    if change is None:
        del arrays[key]
    else:
        arrays[key] = change(arrays[key])
    np.savez(path, **arrays)
    with pytest.raises(MotionError, match=message) as caught:
        load_motion(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_empty_track_is_named(motion, tmp_path):
    with pytest.raises(MotionError, match="left: the track is empty; it needs at least one frame"):
        save_motion(tmp_path / "m.npz", {"left": motion[:0]})
    path = tmp_path / "empty.npz"
    save_motion(path, {"left": motion})
    arrays = read_npz(path)
    per_frame = ("R", "transl", "valid", "confidence", "sigma", "state_prob", "refined")
    np.savez(path, **arrays | {f"left/{name}": arrays[f"left/{name}"][:0] for name in per_frame})
    with pytest.raises(MotionError, match="the track is empty"):
        load_motion(path)


def test_a_motion_that_makes_no_sense_is_not_saved(motion, tmp_path):
    with pytest.raises(MotionError, match="left: R expected rotation matrices"):
        save_motion(tmp_path / "m.npz", {"left": replace(motion, R=2 * motion.R)})
    assert list(tmp_path.iterdir()) == []


def test_the_worst_frame_is_named(motion):
    R = motion.R.clone()
    R[4] *= 1.01
    with pytest.raises(MotionError, match=r"found 1 frames that are not \(frame 4 is off by 0\.02\)"):
        check_motion(replace(motion, R=R, valid=torch.ones(6, dtype=torch.bool)))


def test_the_frame_number_counts_missing_frames_too(motion):
    """Frame 2 is not valid; a bad frame 4 is called frame 4 all the same."""
    R = motion.R.clone()
    R[4] *= 1.01
    with pytest.raises(MotionError, match="frame 4 is off"):
        check_motion(replace(motion, R=R))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_named(motion, tmp_path, share):
    path = tmp_path / "motion.npz"
    save_motion(path, {"left": motion})
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(MotionError, match=r"is not a readable \.npz.*copy it again"):
        load_motion(path)


def test_damage_inside_a_file_is_named(motion, tmp_path):
    """The checksum of the zip tells."""
    path = tmp_path / "motion.npz"
    save_motion(path, {"left": motion})
    raw = bytearray(path.read_bytes())
    for at in range(len(raw) // 4, len(raw) // 2):
        raw[at] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(MotionError, match=r"is not a readable \.npz"):
        load_motion(path)


class Payload:
    """Touches a file when a pickle that holds it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_objects_are_refused_and_never_run(motion, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "motion.npz"
    np.savez(path, R=np.array([Payload(marker)], dtype=object))
    with pytest.raises(MotionError, match="holds python objects, which are never loaded"):
        load_motion(path)
    path.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(MotionError):
        load_motion(path)
    assert not marker.exists()


HEADERS = {
    "cut": "{'descr': '<f4', 'fortran_order': False",
    "no header": "frame,x,y,z",
    "no dtype": "{'descr': 'zz', 'fortran_order': False, 'shape': (3,)}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
    "far too large": "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000000,)}",
    "quotes": "'''''''''",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_damaged_header_is_named_as_damage(tmp_path, header):
    """Not as python objects, which it does not hold."""
    path = tmp_path / "motion.npz"
    text = header.encode() + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("R.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(MotionError, match=r"is not a readable \.npz.*copy it again") as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)


def test_any_flipped_byte_is_an_error_or_harmless(motion, tmp_path):
    """Never another exception, whatever the damage does to zip and headers."""
    path = tmp_path / "motion.npz"
    save_motion(path, {"left": motion})
    good, refused = path.read_bytes(), []
    for at in range(0, len(good), 37):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x5A]) + good[at + 1 :])
        try:
            load_motion(path)
        except MotionError as error:
            refused.append(str(error))
    assert len(refused) > len(good) / 37 / 2
    assert not any("\n" in message for message in refused)


def test_a_single_array_is_no_motion(tmp_path):
    with (tmp_path / "motion.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(MotionError, match=r"is a single array, not an \.npz"):
        load_motion(tmp_path / "motion.npz")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "motion.npz", tmp_path):
        with pytest.raises(MotionError, match="not found; check the path"):
            load_motion(path)


def test_a_file_claims_to_be_a_motion_by_its_schema():
    assert is_motion_file({"schema": np.array("handmotion/1")})
    assert not is_motion_file({"R": np.zeros(3)})


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def write(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_whole(tmp_path / "out.npz", write, ".npz")
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_keeps_the_old_file(tmp_path):
    def write(file):
        file.write(b"half")
        raise KeyboardInterrupt

    path = tmp_path / "out.npz"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, write, ".npz", force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_exists_is_replaced_only_by_force(motion, tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(b"mine")
    with pytest.raises(MotionError, match=r"exists; add --force to replace it"):
        save_motion(path, {"left": motion})
    assert path.read_bytes() == b"mine"
    save_motion(path, {"left": motion}, force=True)
    assert_equal(load_motion(path)["left"], motion)


def test_a_missing_folder_is_named_with_its_cure(motion, tmp_path):
    with pytest.raises(MotionError, match=r"output folder .*nowhere does not exist; make it first: mkdir -p .*nowhere"):
        save_motion(tmp_path / "nowhere" / "m.npz", {"left": motion})


def test_the_name_must_end_in_a_known_way(tmp_path):
    with pytest.raises(MotionError, match=r"must end in \.npz or \.html"):
        check_output(tmp_path / "m.txt", (".npz", ".html"))
    assert check_output(str(tmp_path / "m.npz"), (".npz",)) == tmp_path / "m.npz"
