r"""MANO's own pickle, read without running it.

    MANO_RIGHT.pkl --read_mano_pickle--> arrays --import_mano--> mano.npz --hand.load_hand--> HandModel

A pickle is a small program: it names things to import and calls them. Here nothing is imported and nothing is called:
each name that a MANO file needs becomes an inert record, which remembers what it was given, and every other name is
refused. Arrays are then put together from the records, with sizes and dtypes checked.
"""

import io
import pickle
from pathlib import Path

import numpy as np

from handdiff_lib.hand import SHAPES, InputError, hand_from_arrays
from handdiff_lib.storage import write_whole

_CURE = "take MANO_RIGHT.pkl from mano.is.tue.mpg.de"


class _Record:
    """What a name in the pickle stands for: the arguments and the state it was given, and nothing else."""

    def __new__(cls, *args):
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state):
        self.state = state


class _Array(_Record):
    """`numpy._reconstruct(...)`; the state ends in shape, dtype, Fortran order and raw bytes."""


class _Dtype(_Record):
    """`numpy.dtype("f8", ...)`; the state holds the byte order."""


class _Bytes(_Record):
    """`_codecs.encode(text, "latin1")`: how Python 3 spells bytes in a pickle of protocol 2."""


class _Sparse(_Record):
    """`scipy.sparse.csc_matrix`; the state is its attributes."""


class _Ch(_Record):
    """`chumpy.ch.Ch`: an array under the name x."""


class _Select(_Record):
    """`chumpy.reordering.Select`: the entries `idxs` of the flattened `a`, in `preferred_shape`."""


class _Aside(_Record):
    """A harmless name whose value no array needs: single numbers, chumpy's book-keeping."""


class _Instance(_Record):
    """`copy_reg._reconstructor(kind, ...)`: how protocols 0 and 1 make an instance; only records are made."""

    def __new__(cls, kind, *rest):
        if not issubclass(kind, _Record):
            raise TypeError("an object that is no array")
        return kind()


_NAMES = {
    "numpy.ndarray": _Aside,
    "numpy.dtype": _Dtype,
    "scipy.sparse.csc.csc_matrix": _Sparse,
    "scipy.sparse._csc.csc_matrix": _Sparse,
    "chumpy.ch.Ch": _Ch,
    "chumpy.reordering.Select": _Select,
    "_codecs.encode": _Bytes,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _Aside for core in ("core", "_core")},
    **{f"{builtins}.{name}": _Aside for builtins in ("__builtin__", "builtins") for name in ("set", "object")},
    **{f"{registry}._reconstructor": _Instance for registry in ("copy_reg", "copyreg")},
}
"""All names that a pickle of MANO may hold, Python 2's and 3's, and what stands for each."""


class _Reader(pickle.Unpickler):
    """An unpickler that knows `_NAMES` and no other."""

    def find_class(self, module, name):
        """The record for a name; InputError for any name that is not on the list."""
        full = f"{module}.{name}"
        if full not in _NAMES:
            shown = full.encode("unicode_escape").decode()[:80]  # a name may hold line breaks and terminal codes
            raise InputError(f"refused, nothing was run: it asks to run {shown}, which no MANO file needs")
        return _NAMES[full]


def read_mano_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a `MANO_RIGHT.pkl` under MANO's keys: float32, faces uint32.

    Raises InputError, with the cure, for a file that asks to run anything, is cut short, is no MANO file, or holds
    the left hand.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"input {path} not found; {_CURE} (free for research, after registration)")
    if "LEFT" in path.name.upper() and "RIGHT" not in path.name.upper():
        raise InputError(f"{path} is the left hand; import MANO_RIGHT.pkl: left hands are mirrored right ones")
    try:
        content = _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}, not a table of arrays")
        arrays = {key: _numbers(content[key], key) for key in SHAPES if key in content}
        hand_from_arrays(arrays, path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}; {_CURE}") from None
    except Exception as error:  # a damaged pickle may raise anything, since it is damaged at any place
        raise InputError(f"{path} is no readable MANO pickle ({_one_line(error)}); {_CURE}") from None
    joints = arrays["J_regressor"] @ arrays["v_template"]
    if joints[4, 0] > joints[0, 0]:  # the middle knuckle; fingers of the right hand point along -x
        raise InputError(f"{path} holds a left hand; import MANO_RIGHT.pkl: left hands are mirrored right ones")
    return arrays


def import_mano(path: str | Path, out: str | Path, force: bool = False) -> None:
    """Write the hand in a `MANO_RIGHT.pkl` to an `.npz` that `hand.load_hand` takes, whole or not at all."""
    arrays = read_mano_pickle(path)
    write_whole(out, lambda file: np.savez_compressed(file, **arrays), suffix=".npz", force=force)


def _one_line(error: Exception) -> str:
    """What went wrong, short enough to print."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _numbers(value: object, key: str) -> np.ndarray:
    """The array behind one key, checked to be finite numbers."""
    array = _array(value).astype(np.uint32 if key == "f" else np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{key} holds NaN or inf")
    if key == "f" and array.max() >= SHAPES["v_template"][0]:
        raise ValueError(f"f names vertex {array.max()} of {SHAPES['v_template'][0]}")
    return array


def _array(value: object) -> np.ndarray:
    """The array that a record stands for; TypeError for anything else."""
    match value:
        case _Array():
            shape, dtype, is_fortran, raw = value.state[-4:]
            dtype = _dtype(dtype)
            return np.frombuffer(_raw(raw), dtype).reshape(_ints(shape), order="F" if is_fortran else "C")
        case _Ch():
            return _array(value.state["x"])
        case _Select():
            chosen = _array(value.state["a"]).ravel()[_array(value.state["idxs"])]
            return chosen.reshape(_ints(value.state["preferred_shape"]))
        case _Sparse():
            return _dense(value.state)
    raise TypeError(f"expected an array, found {type(value).__name__}")


def _dtype(record: object) -> np.dtype:
    """A dtype of plain numbers; never objects, which would be pointers."""
    dtype = np.dtype(str(record.args[0]))
    if dtype.kind not in "biuf":
        raise TypeError(f"expected numbers, found dtype {dtype}")
    return dtype.newbyteorder(record.state[1])


def _dense(state: dict) -> np.ndarray:
    """A sparse matrix written out; rows and columns outside of it raise IndexError or ValueError."""
    shape = _ints(state["_shape"])
    if shape != SHAPES["J_regressor"]:
        raise ValueError(f"sparse matrix of shape {shape}, expected {SHAPES['J_regressor']}")
    rows, counts = _array(state["indices"]), np.diff(_array(state["indptr"]))
    if counts.max() > len(rows):
        raise ValueError("sparse matrix with more entries than rows for them")
    dense = np.zeros(shape)
    np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), counts)), _array(state["data"]))
    return dense


def _raw(value: object) -> bytes:
    """Bytes: Python 2 wrote them as text, Python 3 as bytes or, in protocol 2, as a call."""
    if isinstance(value, _Bytes):
        value = value.args[0]
    if not isinstance(value, str | bytes):
        raise TypeError(f"expected the bytes of an array, found {type(value).__name__}")
    return value.encode("latin1") if isinstance(value, str) else value


def _ints(shape: tuple) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)
