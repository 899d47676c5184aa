"""Pickles: arrays come back, nothing runs, and every refusal says why."""

import os
import pickle
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import refusals

from handdiff_lib.motion import MotionError
from handdiff_lib.readers import pickles
from handdiff_lib.readers.pickles import read_pickle

PLAIN = {
    "c order": np.arange(6, dtype=np.float32).reshape(2, 3),
    "f order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "flags": np.array([True, False]),
    "text": np.array(["left", "right"]),
    "empty": np.zeros((0, 3)),
    "nothing": None,
    "number": np.float32(1.5),
    "list": [1, 2.5, "a", b"bytes", (True, None), np.ones((1, 3))],
}


def same(a: object, b: object) -> bool:
    """Equal values, types of arrays included."""
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    assert same(PLAIN, read_pickle(path))


def test_ordered_dict_and_shared_arrays(tmp_path: Path) -> None:
    shared = np.ones(3)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(OrderedDict(a=shared, b=[shared])))
    read = read_pickle(tmp_path / "a.pkl")
    assert type(read) is dict
    assert read["a"] is read["b"][0]


class Shell:
    """Runs a command when a plain `pickle.load` meets it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def test_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Shell(f"touch {mark}")]))
    with pytest.raises(MotionError, match=r"asks for posix.system|asks for nt.system"):
        read_pickle(tmp_path / "a.pkl")
    assert not mark.exists()


def test_a_pickle_cannot_change_the_reader(tmp_path: Path) -> None:
    """BUILD sets attributes on whatever was named last; it must only reach a throw-away."""
    (tmp_path / "a.pkl").write_bytes(b"cnumpy.core.multiarray\n_reconstruct\n}S'mark'\nI1\nsb.")
    with pytest.raises(MotionError, match="only arrays"):
        read_pickle(tmp_path / "a.pkl")
    assert not hasattr(pickles._reconstruct, "mark")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Counter("aab"), "collections.Counter"),
        (Path("a"), "pathlib"),
        (torch.device("cpu"), "torch tensors.*np.savez"),
        (np.array([{"a": 1}], dtype=object), "type 'O8'"),
        (np.zeros(2, dtype=[("a", "f4")]), "type 'V4'"),
        (np.datetime64("2020-01-01"), "type 'M8'"),
    ],
)
def test_refusals_name_the_class(tmp_path: Path, value: object, message: str) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": value}))
    with pytest.raises(MotionError, match=message):
        read_pickle(tmp_path / "a.pkl")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = pickle.dumps({"x": np.arange(4.0), "y": [1, "two"]})
    path = tmp_path / "a.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(MotionError, match="not a readable pickle"):
            read_pickle(path)


def test_every_changed_byte_is_read_or_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"x": np.arange(4.0)})
    path = tmp_path / "a.pkl"
    assert refusals(whole, path) > len(whole) // 3


def test_claimed_sizes_need_no_memory(tmp_path: Path) -> None:
    """A few bytes that claim 64 GB of memo, and an array of a million million bytes."""
    for claim in (b"\x80\x02Nr\xff\xff\xff\xff.", b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00a."):
        (tmp_path / "a.pkl").write_bytes(claim)
        with pytest.raises(MotionError, match="not a readable pickle"):
            read_pickle(tmp_path / "a.pkl")


def test_a_list_in_itself_is_refused(tmp_path: Path) -> None:
    loop: list = []
    loop.append(loop)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(loop))
    with pytest.raises(MotionError, match="not a readable pickle"):
        read_pickle(tmp_path / "a.pkl")


def test_missing_file_and_torch_save(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="not found"):
        read_pickle(tmp_path / "none.pkl")
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pkl")
    with pytest.raises(MotionError, match=r"torch.save.*np.savez"):
        read_pickle(tmp_path / "a.pkl")
