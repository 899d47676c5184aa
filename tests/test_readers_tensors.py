"""Torch tensors in pickles: every kind comes back as numpy has it, and no size is believed."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import refusals

from handdiff_lib.motion import MotionError
from handdiff_lib.readers.pickles import read_object_npy, read_pickle
from handdiff_lib.readers.tensors import tensor

KINDS = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_become_arrays(tmp_path: Path, kind: str, protocol: int) -> None:
    value = torch.arange(12).view(3, 4).to(getattr(torch, kind))
    shown = {"whole": value, "turned": value.T, "part": value[1:, 2], "one": value[2, 3], "none": value[:0]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(shown, protocol=protocol))
    read = read_pickle(tmp_path / "a.pkl")
    assert list(read) == list(shown)
    for name, array in read.items():
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.dtype(kind)
        np.testing.assert_array_equal(array, shown[name].numpy())


def test_parameters_and_shared_tensors(tmp_path: Path) -> None:
    shared = torch.nn.Parameter(torch.ones(2))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([shared, {"again": shared}]))
    first, second = read_pickle(tmp_path / "a.pkl")
    assert first.tolist() == [1, 1]
    assert second["again"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (1, (2, 3), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (10**9,), (0,)), (0, (2, 2), (1,))],
)
def test_a_tensor_larger_than_its_storage_is_refused(offset: int, size: tuple, stride: tuple) -> None:
    flat = np.arange(6.0)
    assert tensor(flat, 0, (2, 3), (3, 1)).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match=r"larger|argument"):
        tensor(flat, offset, size, stride)


def test_every_cut_and_every_changed_byte_is_read_or_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"x": torch.arange(4.0)})
    path = tmp_path / "a.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(MotionError, match="not a readable pickle"):
            read_pickle(path)
    assert refusals(whole, path) > len(whole) // 3


def test_kinds_without_a_numpy_twin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(torch.ones(2, dtype=torch.bfloat16)))
    with pytest.raises(MotionError, match="BFloat16Storage, which is not read"):
        read_pickle(tmp_path / "a.pkl")


def test_a_dict_in_an_npy(tmp_path: Path) -> None:
    value = {"right": {"rot": np.ones((2, 3), np.float32), "names": ["a", "b"]}, "left": {"shape": np.zeros(10)}}
    np.save(tmp_path / "a.npy", value)
    read = read_object_npy(tmp_path / "a.npy")
    assert list(read) == ["right", "left"]
    assert read["right"]["names"] == ["a", "b"]
    np.testing.assert_array_equal(read["right"]["rot"], value["right"]["rot"])
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(MotionError, match=r"holds an array \(3,\) of float64; expected one dict"):
        read_object_npy(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.array([{}, {}], dtype=object))
    with pytest.raises(MotionError, match=r"holds an array \(2,\) of object"):
        read_object_npy(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", {"inner": np.array([None, 1], dtype=object)})
    with pytest.raises(MotionError, match="an array of objects"):
        read_object_npy(tmp_path / "d.npy")
    (tmp_path / "e.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:100])
    with pytest.raises(MotionError, match="not a readable"):
        read_object_npy(tmp_path / "e.npy")
    with pytest.raises(MotionError, match="not found"):
        read_object_npy(tmp_path / "none.npy")
