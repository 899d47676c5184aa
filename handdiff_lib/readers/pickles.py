r"""Pickles without danger: numpy arrays in dicts, lists and tuples, and nothing else.

A pickle is a small program that may name any function. Here the few names that numpy arrays need are answered by
stand-ins of our own, which only keep bytes, and every other name is refused. Nothing of the file is ever called.
"""

import io
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np

from handdiff_lib.motion import MotionError

Plain = None | bool | int | float | complex | str | bytes | np.ndarray | np.generic | list | tuple | dict
"""What a pickle read here can hold; containers hold the same again."""


def read_pickle(path: str | Path) -> Plain:
    """The plain value in a pickle; MotionError names a class that is not allowed, or says that the file is damaged."""
    path = Path(path)
    if not path.is_file():
        raise MotionError(f"input {path} not found; check the path")
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise MotionError(f"{path} was written by torch.save, which is not read; {_CURE}")
    try:
        _check_sizes(data)
        return _plain(_Reader(io.BytesIO(data), encoding="latin1").load(), {})
    except _Refused as error:
        raise MotionError(f"{path}: {error}") from None
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise MotionError(f"{path} is not a readable pickle (cut short or damaged: {reason}); copy it again") from None


_CURE = "save numpy arrays with np.savez instead, e.g. np.savez('hands.npz', hand_pose=hand_pose.cpu().numpy(), ...)"
_DAMAGE = (
    *(EOFError, MemoryError, OverflowError, RecursionError, pickle.UnpicklingError),
    *(ValueError, TypeError, AttributeError, KeyError, IndexError),
)


def _check_sizes(data: bytes) -> None:
    """ValueError where a piece claims more bytes than the file has, or a place in a memo that would not fit in memory.

    The unpickler makes room for both before it looks.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and not 0 <= argument <= count:
            raise ValueError(f"memo place {argument}")


class _Refused(Exception):
    """The pickle asks for something that is not on the list."""


class _Reader(pickle.Unpickler):
    """An unpickler whose only names are the stand-ins below."""

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for a name, or a refusal."""
        known = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if known is not None:
            return lambda *args: known(*args)  # a fresh one, since a pickle may set attributes on what it is given
        if module.split(".")[0] == "torch":
            raise _Refused(f"the pickle holds torch tensors ({module}.{name}), which are not read; {_CURE}")
        raise _Refused(
            f"the pickle asks for {module}.{name}, and loading it could run code; only numpy arrays, numbers and text "
            f"in dicts, lists and tuples are read; {_CURE}"
        )


class _Dtype:
    """Stands in for numpy.dtype: a type code, and its byte order once the state arrives."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?(b1|[iufcSU]\d{1,5})", code):
            raise _Refused(f"the pickle holds an array of type {code!r}; only arrays of numbers and text are read")
        self.value = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        _version, order, *layout = state
        if any(part is not None for part in layout[:3]):
            raise _Refused("the pickle holds a structured array; only arrays of numbers and text are read")
        self.value = self.value.newbyteorder(order)


class _Array:
    """Stands in for numpy.ndarray until its bytes arrive."""

    value: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        _version, shape, dtype, is_fortran, raw = state
        self.value = _filled(raw, dtype, shape, "F" if is_fortran else "C")


def _filled(raw: object, dtype: object, shape: object, order: object = "C") -> np.ndarray:
    """An array of these bytes; python 2 wrote them as text."""
    if not isinstance(dtype, _Dtype):
        raise ValueError("an array without a type")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, dtype.value).reshape(shape, order=order).copy()


def _reconstruct(_kind: object, _shape: object, _code: object) -> _Array:
    """What numpy pickles first: an empty array, filled by its state."""
    return _Array()


def _scalar(dtype: object, raw: object) -> np.generic:
    """One number."""
    return _filled(raw, dtype, ())[()]


def _encode(text: object, encoding: object) -> bytes:
    """How old protocols write bytes."""
    if encoding != "latin1":
        raise _Refused(f"the pickle encodes text as {encoding!r}; only latin1 is read")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How old protocols write no bytes at all."""
    return b""


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _filled,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
}


def _plain(value: object, done: dict[int, Plain]) -> Plain:
    """The value with every stand-in replaced by its array; what the pickle shares stays shared."""
    if id(value) in done:
        return done[id(value)]
    match value:
        case _Array(value=np.ndarray() as array):
            plain: Plain = array
        case dict():
            plain = {key: _plain(item, done) for key, item in value.items()}
        case list():
            plain = [_plain(item, done) for item in value]
        case tuple():
            plain = tuple(_plain(item, done) for item in value)
        case None | bool() | int() | float() | complex() | str() | bytes() | np.ndarray() | np.generic():
            plain = value
        case _:
            raise _Refused("the pickle holds an unfinished array or a class; only arrays and plain containers are read")
    done[id(value)] = plain
    return plain
