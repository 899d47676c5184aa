r"""Pickles without danger: arrays in dicts, lists and tuples, and nothing else.

A pickle is a small program that may name any function. Here the few names that numpy arrays and torch tensors need are
answered by stand-ins of our own, which only keep bytes, and every other name is refused. Nothing of the file is ever
called. Tensors come back as numpy arrays.
"""

import io
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from handdiff_lib.motion import MotionError
from handdiff_lib.readers.tensors import check_sizes, parameter, storage, tensor

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
    return _unpickled(data, path)


def read_object_npy(path: str | Path) -> Plain:
    """The one plain value that `np.save` of a dict or list has put into an `.npy`; the same refusals as `read_pickle`.

    Numpy pickles what is no array of numbers as an array with one object in it.
    """
    path = Path(path)
    if not path.is_file():
        raise MotionError(f"input {path} not found; check the path")
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _is_fortran, dtype = read_header(file)
        except _DAMAGE as error:
            raise MotionError(f"{path} is not a readable .npy ({error}); copy it again") from None
        if not dtype.hasobject or shape != ():
            raise MotionError(f"{path} holds an array {shape} of {dtype}; expected one dict, as np.save writes it")
        return _unpickled(file.read(), path, may_hold_object=True)


def _unpickled(data: bytes, path: Path, may_hold_object: bool = False) -> Plain:
    """The plain value in these bytes of a file."""
    try:
        if b"cjoblib.numpy_pickle\n" in data or b"\x8c\x13joblib.numpy_pickle" in data:
            return _plain(_JoblibReader(io.BytesIO(data), encoding="latin1").load(), {})
        check_sizes(data)
        reader = _Reader(io.BytesIO(data), encoding="latin1")
        reader.may_hold_object = may_hold_object
        return _plain(reader.load(), {})
    except _Refused as error:
        raise MotionError(f"{path}: {error}") from None
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise MotionError(f"{path} is not a readable pickle (cut short or damaged: {reason}); copy it again") from None


_CURE = "save numpy arrays with np.savez instead, e.g. np.savez('hands.npz', hand_pose=hand_pose.cpu().numpy(), ...)"
_DAMAGE = (
    *(EOFError, MemoryError, OverflowError, RecursionError, pickle.UnpicklingError),
    *(ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError, struct.error),
)


class _Refused(Exception):
    """The pickle asks for something that is not on the list."""


class _Reader(pickle.Unpickler):
    """An unpickler whose only names are the stand-ins below."""

    may_hold_object = False
    """Whether an array may hold one object, as `np.save` writes a dict."""

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for a name, or a refusal."""
        if self.may_hold_object and (module, name) == ("numpy", "dtype"):
            return lambda *args: _Dtype(*args, may_be_object=True)
        return _stand_in(module, name)


class _JoblibReader(pickle._Unpickler):
    """An unpickler for `joblib.dump`, where the bytes of an array stand in the file, behind what describes it.

    The unpickler that is written in C reads ahead, so this is the one written in Python; it makes no room before it
    looks, but for byte arrays, which no such file needs.
    """

    dispatch = {k: v for k, v in pickle._Unpickler.dispatch.items() if k != pickle.BYTEARRAY8[0]}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for a name, or a refusal."""
        return _Wrapped if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper") else _stand_in(module, name)

    def load_build(self) -> None:
        """State for what was made last; if that describes an array, its bytes follow."""
        super().load_build()
        if isinstance(self.stack[-1], _Wrapped):
            self.stack[-1] = self.stack[-1].read(self._file_read)

    dispatch[pickle.BUILD[0]] = load_build


class _Wrapped:
    """Stands in for joblib's description of an array."""

    def __init__(self) -> None:
        self.state: dict = {}

    def __setstate__(self, state: object) -> None:
        self.state = dict(state)

    def read(self, read: Callable[[int], bytes]) -> np.ndarray:
        """The array, from the bytes that follow; newer files align them with a few bytes before."""
        shape, dtype = tuple(self.state["shape"]), self.state["dtype"]
        count = int(np.prod(shape, dtype=object))
        if not isinstance(dtype, _Dtype) or min((0, *shape)) < 0:
            raise ValueError("an array without a type or shape")
        if self.state.get("numpy_array_alignment_bytes") is not None:
            read(read(1)[0])
        raw = read(count * dtype.value.itemsize)
        if len(raw) != count * dtype.value.itemsize:
            raise EOFError("an array without its bytes")
        return _filled(raw, dtype, shape, self.state["order"])


def _stand_in(module: str, name: str) -> object:
    """What answers to a name; _Refused for one that is not on the list."""
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

    def __init__(self, code: object, align: object = False, copy: object = False, may_be_object: bool = False) -> None:
        if may_be_object and code == "O8":
            self.value = np.dtype(object)
            return
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?(b1|[iufcSU]\d{1,5})", code):
            raise _Refused(f"the pickle holds an array of type {code!r}; only arrays of numbers and text are read")
        self.value = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        _version, order, *layout = state
        if any(part is not None for part in layout[:3]):
            raise _Refused("the pickle holds a structured array; only arrays of numbers and text are read")
        self.value = self.value.newbyteorder(order)


class _Array:
    """Stands in for numpy.ndarray until its bytes arrive, or its one object."""

    value: object = None

    def __setstate__(self, state: object) -> None:
        _version, shape, dtype, is_fortran, raw = state
        if isinstance(dtype, _Dtype) and dtype.value.hasobject:
            if shape != () or not isinstance(raw, list) or len(raw) != 1:
                raise _Refused("the file holds an array of objects; only arrays of numbers and text are read")
            self.value = raw[0]
            return
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
    ("torch.storage", "_load_from_bytes"): storage,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("torch._utils", "_rebuild_parameter"): parameter,
}


def _plain(value: object, done: dict[int, Plain]) -> Plain:
    """The value with every stand-in replaced by its array; what the pickle shares stays shared."""
    if id(value) in done:
        return done[id(value)]
    match value:
        case _Array(value=np.ndarray() as array):
            plain: Plain = array
        case _Array(value=dict() | list() as held):
            plain = _plain(held, done)
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
