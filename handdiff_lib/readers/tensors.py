r"""Torch tensors inside a pickle, as numpy arrays, without torch.

`pickle.dumps` of a tensor names two functions: one makes a storage from bytes, one views a storage as a tensor. The
bytes are what torch's old file format holds, five small pickles and the numbers:

    magic  version  system  ("storage", type, key, device, count, view)  [key]  count (8 bytes)  numbers

Both functions are answered here by stand-ins that check every size against the bytes that are there.
"""

import io
import pickle
import pickletools

import numpy as np

_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
_MAGIC = 0x1950A86A20F9469CFC6C


def check_sizes(data: bytes) -> None:
    """ValueError where a piece claims more bytes than the file has, or a place in a memo that would not fit in memory.

    The unpickler makes room for both before it looks.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and not 0 <= argument <= count:
            raise ValueError(f"memo place {argument}")


def storage(raw: object) -> np.ndarray:
    """Stands in for `torch.storage._load_from_bytes`: the numbers, flat. ValueError for bytes of another form."""
    if not isinstance(raw, bytes):
        raise ValueError("a tensor without its bytes")
    stream = io.BytesIO(raw)
    magic, _version, _system, place, keys = (_part(raw, stream) for _ in range(5))
    if magic != _MAGIC or not isinstance(place, _Place) or keys != [place.key]:
        raise ValueError("a tensor whose bytes are not torch's")
    count = int.from_bytes(stream.read(8), "little")
    dtype, numbers = np.dtype(place.dtype), stream.read()
    if count != place.count or len(numbers) != count * dtype.itemsize:
        raise ValueError(f"a tensor of {count} numbers in {len(numbers)} bytes")
    return np.frombuffer(numbers, dtype)


def tensor(flat: object, offset: object, size: object, stride: object, *_rest: object) -> np.ndarray:
    """Stands in for `torch._utils._rebuild_tensor_v2`: a copy of the numbers that the tensor shows."""
    if not isinstance(flat, np.ndarray) or flat.ndim != 1:
        raise ValueError("a tensor without a storage")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = int(np.prod(size, dtype=object))
    if min(offset, *size, *stride, 0) < 0 or count > len(flat) or (count and last >= len(flat)):
        raise ValueError(f"a tensor of shape {size} that is larger than its storage")
    if not count:
        return np.zeros(size, flat.dtype)
    steps = tuple(step * flat.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False).copy()


def parameter(value: object, *_rest: object) -> object:
    """Stands in for `torch._utils._rebuild_parameter`: the tensor itself."""
    return value


class _Place:
    """What the old format says of a storage."""

    def __init__(self, words: tuple) -> None:
        kind, self.dtype, self.key, _device, self.count, *view = words
        if kind != "storage" or self.dtype not in _TYPES.values() or view not in ([], [None]):
            raise ValueError("a tensor whose storage is of an unknown kind")


class _Part(pickle.Unpickler):
    """An unpickler that knows the names of storages and no other."""

    def find_class(self, module: str, name: str) -> str:
        """The numbers' type."""
        if module != "torch" or name not in _TYPES:
            raise pickle.UnpicklingError(f"a tensor of {module}.{name}, which is not read")
        return _TYPES[name]

    def persistent_load(self, words: tuple) -> _Place:
        """A storage's place, checked."""
        return _Place(words)


def _part(raw: bytes, stream: io.BytesIO) -> object:
    """The next pickle of several."""
    check_sizes(raw[stream.tell() :])
    return _Part(stream).load()
