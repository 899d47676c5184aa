"""MANO's pickle: arrays come back as they were, and nothing in a pickle is ever run."""

import builtins
import io
import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.sparse import csc_matrix

from handdiff_lib.hand import HandModel, InputError, load_hand
from handdiff_lib.mano_file import import_mano, read_mano_pickle


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as Python 2's `str`, which is what MANO's own file holds."""

    def save_text(self, value):
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        length = struct.pack("<i", len(raw))
        self.write(pickle.BINSTRING + length + raw if self.bin else pickle.STRING + repr(raw)[1:].encode() + b"\n")
        self.memoize(value)

    dispatch: ClassVar = pickle._Pickler.dispatch | {bytes: save_text, str: save_text}


def as_python2(content: object, protocol: int) -> bytes:
    """The pickle as Python 2 would have written it, with the module names of its day."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, protocol, fix_imports=True).dump(content)
    raw = buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    return raw.replace(b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")


WRITERS = {
    "python 2, protocol 0": lambda content: as_python2(content, 0),
    "python 2, protocol 2": lambda content: as_python2(content, 2),
    "python 3, protocol 2": lambda content: pickle.dumps(content, protocol=2),
    "python 3, protocol 4": lambda content: pickle.dumps(content, protocol=4),
}


@pytest.fixture
def chumpy(monkeypatch):
    """Two classes that pickle under chumpy's names."""
    made = {}
    monkeypatch.setitem(sys.modules, "chumpy", ModuleType("chumpy"))
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        made[name] = type(name, (), {"__module__": module})
        stand_in = ModuleType(module)
        setattr(stand_in, name, made[name])
        monkeypatch.setitem(sys.modules, module, stand_in)
    return made


@pytest.fixture
def content(hand, chumpy):
    """The open hand laid out as in MANO_RIGHT.pkl: doubles, a sparse regressor, shape directions behind chumpy."""
    keys = ("v_template", "posedirs", "weights", "hands_mean", "hands_components")
    table = {key: getattr(hand, key).double().numpy() for key in keys}
    table["f"] = hand.faces.numpy().astype(np.uint32)
    table["J_regressor"] = csc_matrix(hand.J_regressor.double().numpy())
    table["J"] = hand.J_template.double().numpy()
    table["kintree_table"] = np.array([[2**32 - 1, 0], [0, 1]])
    table["bs_style"], table["bs_type"], table["scale"] = "lbs", "lrotmin", np.float64(1.0)
    housekeeping = {"_dirty_vars": {"x"}, "_itr": None, "_depends_on_deps": {}, "_make_dense": False}
    all_directions, selected = chumpy["Ch"](), chumpy["Select"]()
    # twenty directions, of which the first ten are used
    x = np.concatenate([hand.shapedirs.double().numpy(), np.ones((778, 3, 10))], -1)
    all_directions.__dict__ |= {"x": x, **housekeeping}
    idxs = np.arange(x.size).reshape(x.shape)[..., :10].ravel()
    selected.__dict__ |= {"a": all_directions, "idxs": idxs, "preferred_shape": (778, 3, 10), **housekeeping}
    table["shapedirs"] = selected
    return table


def written(folder, raw: bytes, name: str = "MANO_RIGHT.pkl"):
    path = folder / name
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_equal_arrays_come_back(hand: HandModel, content, tmp_path, write):
    path = written(tmp_path, write(content))
    import_mano(path, tmp_path / "mano.npz")
    back = load_hand(tmp_path / "mano.npz")
    assert back.name == "mano"
    for key in ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "hands_mean", "hands_components"):
        assert torch.equal(getattr(back, key), getattr(hand, key)), key
    assert torch.equal(back.faces, hand.faces)


def test_arrays_are_float32_under_manos_keys(content, tmp_path):
    arrays = read_mano_pickle(written(tmp_path, WRITERS["python 2, protocol 2"](content)))
    assert arrays.pop("f").dtype == np.uint32
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_byte_and_fortran_order_are_kept(hand, content, tmp_path):
    content["weights"] = np.asfortranarray(content["weights"]).astype(">f4")
    arrays = read_mano_pickle(written(tmp_path, WRITERS["python 3, protocol 4"](content)))
    np.testing.assert_array_equal(arrays["weights"], hand.weights.numpy())


def test_an_existing_file_is_kept_without_force(content, tmp_path):
    path, out = written(tmp_path, pickle.dumps(content)), tmp_path / "mano.npz"
    out.write_bytes(b"mine")
    with pytest.raises(InputError, match="--force"):
        import_mano(path, out)
    assert out.read_bytes() == b"mine"
    import_mano(path, out, force=True)
    assert load_hand(out).name == "mano"


class Payload:
    """Pickles as a call, with arguments."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


class State(Payload):
    """Pickles as a harmless-looking numpy array whose state holds the call."""

    def __reduce__(self):
        make, args, _ = np.zeros(1).__reduce__()
        return make, args, (1, (1,), np.dtype("f8"), False, Payload(self.call, *self.args))


CALLS = {
    "os.system": lambda marker: (os.system, f"touch {marker}"),
    "subprocess.Popen": lambda marker: (subprocess.Popen, ["touch", str(marker)]),
    "eval": lambda marker: (builtins.eval, f"open({str(marker)!r}, 'w')"),
    "exec": lambda marker: (builtins.exec, f"open({str(marker)!r}, 'w')"),
    "open": lambda marker: (builtins.open, str(marker), "w"),
    "numpy savetxt": lambda marker: (np.savetxt, str(marker), [1.0]),
}
PLACES = {
    "alone": lambda payload, state: payload,
    "in the table": lambda payload, state: {"v_template": payload},
    "as a key": lambda payload, state: {payload: 1},
    "deep inside": lambda payload, state: {"bs_style": [({"x": [payload]},)]},
    "in an array's state": lambda payload, state: {"weights": state},
    "in an object array": lambda payload, state: {"weights": np.array([payload], dtype=object)},
    "as the arguments of an array": lambda payload, state: Payload(np.zeros(1).__reduce__()[0], payload, (0,), b"b"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_hostile_pickle_is_refused_and_never_run(tmp_path, call, place, protocol):
    marker = tmp_path / "marker"
    raw = pickle.dumps(place(Payload(*call(marker)), State(*call(marker))), protocol=protocol)
    assert "REDUCE" in {opcode.name for opcode, _, _ in pickletools.genops(raw)}
    with pytest.raises(InputError, match=r"refused, nothing was run: it asks to run [\w.]+, which no MANO file needs"):
        read_mano_pickle(written(tmp_path, raw))
    assert not marker.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"(S'touch MARKER'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x0dset.__class__\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x11dtype.__base__.os\x93.",
        b"\x80\x02\x82\x01.",
        b"cnumpy\nload\n(S'MARKER'\ntR.",
    ],
    ids=["INST opcode", "STACK_GLOBAL", "dotted name", "dotted name in numpy", "extension code", "numpy.load"],
)
def test_hand_written_attacks_are_refused(tmp_path, raw):
    marker = tmp_path / "marker"
    with pytest.raises(InputError):
        read_mano_pickle(written(tmp_path, raw.replace(b"MARKER", str(marker).encode())))
    assert not marker.exists()


def test_the_message_is_one_line_whatever_the_name(tmp_path):
    name = b"a\nb\x1b[2J" + 200 * b"c"
    raw = b"\x80\x04\x8c\x02os" + b"\x8c" + bytes([len(name)]) + name + b"\x93."
    with pytest.raises(InputError) as caught:
        read_mano_pickle(written(tmp_path, raw))
    assert str(caught.value).isprintable()
    assert "MANO_RIGHT.pkl from mano.is.tue.mpg.de" in str(caught.value)


@pytest.mark.parametrize("damage", ["empty", "text", "zip", "no table", "half", "last byte"])
def test_a_damaged_file_gives_one_clear_line(content, tmp_path, damage):
    good = as_python2(content, 2)
    raw = {
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "zip": b"PK\x03\x04" + bytes(40),
        "no table": pickle.dumps([1, 2]),
        "half": good[: len(good) // 2],
        "last byte": good[:-1],
    }[damage]
    with pytest.raises(InputError, match=r"is no readable MANO pickle \(.+\); take") as caught:
        read_mano_pickle(written(tmp_path, raw))
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_is_an_error_or_harmless(content, tmp_path):
    """Change one byte of the program around the arrays, 300 times: arrays or InputError, never anything else."""
    good = as_python2(content, 2)
    program = [at for opcode, _, at in pickletools.genops(good) for at in range(at, at + 3)]
    chance, refused = random.Random(0), 0
    for _ in range(300):
        raw = bytearray(good)
        raw[chance.choice(program) % len(raw)] = chance.randrange(256)
        try:
            read_mano_pickle(written(tmp_path, bytes(raw)))
        except InputError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weights", None, "weights"),
        ("weights", np.zeros((778, 24)), r"weights has shape \(778, 24\), expected \(778, 16\)"),
        ("weights", np.full((778, 16), np.nan), "weights holds NaN or inf"),
        ("weights", np.full((778, 16), None), "expected numbers"),
        ("weights", "text", "expected an array, found str"),
        ("f", np.full((1538, 3), 778), "f names vertex 778 of 778"),
        ("J_regressor", csc_matrix((24, 6890)), r"sparse matrix of shape \(24, 6890\)"),
    ],
    ids=["missing", "of another model", "NaN", "objects", "text", "faces", "regressor of a body"],
)
def test_a_wrong_array_is_named(content, tmp_path, key, value, message):
    content.pop(key)
    if value is not None:
        content[key] = value
    with pytest.raises(InputError, match=message):
        read_mano_pickle(written(tmp_path, pickle.dumps(content)))


def test_a_left_hand_is_refused(content, tmp_path):
    """By its name, and by its fingers, which point along +x."""
    with pytest.raises(InputError, match=r"left hand; import MANO_RIGHT\.pkl"):
        read_mano_pickle(written(tmp_path, pickle.dumps(content), "MANO_LEFT.pkl"))
    content["v_template"] = content["v_template"] * [-1, 1, 1]
    with pytest.raises(InputError, match=r"left hand; import MANO_RIGHT\.pkl"):
        read_mano_pickle(written(tmp_path, pickle.dumps(content)))


def test_a_missing_file_says_where_to_get_one(tmp_path):
    with pytest.raises(InputError, match=r"not found; take MANO_RIGHT\.pkl from mano\.is\.tue\.mpg\.de"):
        read_mano_pickle(tmp_path / "MANO_RIGHT.pkl")
