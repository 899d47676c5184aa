"""joblib's pickles, and D-Grasp's label files, which are such."""

import io
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from handdiff_lib.motion import MotionError
from handdiff_lib.readers.dgrasp import read_grasps
from handdiff_lib.readers.pickles import read_pickle
from handdiff_lib.topology import BONES21


class NumpyArrayWrapper:
    """What joblib writes for an array."""


NumpyArrayWrapper.__module__ = "joblib.numpy_pickle"


class _Joblib(pickle._Pickler):
    """Writes arrays as joblib does: a description, then the bytes, aligned to 16 in newer files."""

    def __init__(self, file: io.BytesIO, protocol: int, is_aligned: bool) -> None:
        super().__init__(file, protocol)
        self.out, self.is_aligned = file, is_aligned

    def save(self, obj: object, *rest: object) -> None:
        """Arrays apart, all else as always."""
        if type(obj) is not np.ndarray:
            return super().save(obj, *rest)
        wrapper = NumpyArrayWrapper()
        wrapper.__dict__ |= {"subclass": np.ndarray, "shape": obj.shape, "dtype": obj.dtype, "allow_mmap": True}
        wrapper.order = "F" if obj.flags.f_contiguous and not obj.flags.c_contiguous else "C"
        if self.is_aligned:
            wrapper.numpy_array_alignment_bytes = 16
        super().save(wrapper, *rest)
        if self.proto >= 4:
            self.framer.commit_frame(force=True)
        if self.is_aligned:
            self.out.write(bytes([3, 0, 0, 0]))
        self.out.write(obj.tobytes("A"))


def as_joblib(monkeypatch: pytest.MonkeyPatch, value: object, protocol: int = 3, is_aligned: bool = False) -> bytes:
    """The bytes of `joblib.dump(value)`."""
    package, module = ModuleType("joblib"), ModuleType("joblib.numpy_pickle")
    module.NumpyArrayWrapper = NumpyArrayWrapper
    monkeypatch.setitem(sys.modules, "joblib", package)
    monkeypatch.setitem(sys.modules, "joblib.numpy_pickle", module)
    file = io.BytesIO()
    _Joblib(file, protocol, is_aligned).dump(value)
    return file.getvalue()


@pytest.mark.parametrize("is_aligned", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_in_joblib_pickles(tmp_path: Path, monkeypatch, protocol: int, is_aligned: bool) -> None:
    value = {
        np.int64(3): np.arange(6.0).reshape(2, 3),
        "turned": [np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)), np.zeros((0, 4), np.float32)],
        "rest": "words",
    }
    (tmp_path / "a.pkl").write_bytes(as_joblib(monkeypatch, value, protocol, is_aligned))
    read = read_pickle(tmp_path / "a.pkl")
    np.testing.assert_array_equal(read[3], value[3])
    np.testing.assert_array_equal(read["turned"][0], value["turned"][0])
    assert read["turned"][1].shape == (0, 4)
    assert read["rest"] == "words"


def test_joblib_pickles_are_no_way_around_the_list(tmp_path: Path, monkeypatch) -> None:
    whole = as_joblib(monkeypatch, {"x": np.arange(4.0), "y": Path("a")})
    (tmp_path / "a.pkl").write_bytes(whole)
    with pytest.raises(MotionError, match=r"asks for pathlib"):
        read_pickle(tmp_path / "a.pkl")
    whole = as_joblib(monkeypatch, {"x": np.arange(4.0)})
    for length in range(whole.index(b"NumpyArrayWrapper\n") + 18, len(whole)):
        (tmp_path / "a.pkl").write_bytes(whole[:length])
        with pytest.raises(MotionError, match=r"not a readable pickle|asks for"):
            read_pickle(tmp_path / "a.pkl")
    huge = whole.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85")
    assert huge != whole
    (tmp_path / "a.pkl").write_bytes(huge)
    with pytest.raises(MotionError, match="not a readable pickle"):
        read_pickle(tmp_path / "a.pkl")


def test_a_made_label_file(tmp_path: Path, monkeypatch) -> None:
    joints = np.arange(63.0)[None]
    content = {np.int64(14): {"final_ee": joints, "final_obj_pos": np.array([[1.0, 2, 3, 0, 0, 0, 1]])}}
    (tmp_path / "labels.pkl").write_bytes(as_joblib(monkeypatch, content))
    found = read_grasps(tmp_path / "labels.pkl")
    assert list(found) == ["025_mug"]
    assert found["025_mug"].joints[0, :6, 0].tolist() == [0, 51, 54, 57, 60, 3]
    assert found["025_mug"].object_pose[0].diagonal().tolist() == [-1, -1, 1, 1]
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({1: {"final_ee": joints}}))
    with pytest.raises(MotionError, match="it is no D-Grasp label file"):
        read_grasps(tmp_path / "b.pkl")


@pytest.mark.recording
def test_recorded_grasps_are_hands_that_hold(recordings: Path) -> None:
    """The file's joints seen from the thing are its own `final_ee_rel`; bones are a hand's, the tips near the thing."""
    path = recordings / "dexycb_grasps" / "dexycb_test_labels.pkl"
    found, raw = read_grasps(path), read_pickle(path)
    assert len(found) == 20
    for (name, grasps), content in zip(found.items(), raw.values(), strict=True):
        R, at = grasps.object_pose[:, :3, :3], grasps.object_pose[:, None, :3, 3]
        local = (grasps.joints - at) @ R
        same = torch.from_numpy(content["final_ee_rel"]).view(-1, 21, 3)[:, [0, 17, 18, 19, 20, *range(1, 17)]]
        torch.testing.assert_close(local, same.float(), atol=1e-6, rtol=0, msg=name)
        start, end = torch.tensor(BONES21).T
        bones = (grasps.joints[:, end] - grasps.joints[:, start]).norm(dim=-1)
        assert 0.01 < bones.min() < bones.max() < 0.12
        reach = (grasps.joints[:, [4, 8, 12, 16, 20]] - grasps.joints[:, :1]).norm(dim=-1).mean(0)
        assert reach.argmax() in (1, 2, 3), "the longest reach is a middle finger's, or of one beside it"
        assert local[:, [4, 8]].norm(dim=-1).max() < 0.25
