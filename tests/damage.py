"""Damaged files."""

from pathlib import Path

from handdiff_lib.motion import MotionError
from handdiff_lib.readers.pickles import read_pickle


def refusals(whole: bytes, path: Path) -> int:
    """How many of the files with one byte changed `read_pickle` refuses; whatever it raises else goes through."""
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_pickle(path)
        except MotionError:
            refused += 1
    return refused
