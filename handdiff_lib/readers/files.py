r"""Files of plain values that data sets are made of, and what to say when one is missing."""

import json
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
import yaml

from handdiff_lib.motion import MotionError
from handdiff_lib.storage import read_npz

SHOWN = 5
"""How many missing parts an error names; it counts the rest."""


def need(path: Path, what: str, source: str) -> Path:
    """The path, if there is a file; MotionError says what it is and where a person obtains it."""
    if not path.is_file():
        raise MotionError(f"{path} not found: {what}; it comes with {source}")
    return path


def need_all(missing: Sequence[str], of: int, root: Path, what: str, source: str) -> None:
    """MotionError that names the first few missing parts and counts them, if there are any."""
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        raise MotionError(f"{root}: {len(missing)} of {of} {what} are missing: {shown}; they come with {source}")


def read_npy(path: Path) -> np.ndarray:
    """One array, without pickle."""
    if not path.is_file():
        raise MotionError(f"input {path} not found; check the path")
    try:
        array = np.load(path, allow_pickle=False)
    except (EOFError, MemoryError, OSError, SyntaxError, TokenError, TypeError, ValueError) as error:
        raise MotionError(f"{path} is not a readable .npy of numbers ({error}); save a plain array again") from None
    if not isinstance(array, np.ndarray):
        raise MotionError(f"{path} is an .npz by content; rename it to .npz")
    return array


def read_keys(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Some arrays of an `.npz`; the others stay on disk."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except Exception:  # a damaged file may raise anything; reading all of it says what is wrong
        found = sorted(read_npz(path))
        raise MotionError(f"{path}: keys {sorted(set(keys) - set(found))} are missing; found {found}") from None


def read_yaml(path: Path, keys: Sequence[str]) -> dict:
    """Names and values; MotionError for text that is no YAML, or without these names."""
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MotionError(f"{path} is not readable YAML ({' '.join(str(error).split())}); copy it again") from None
    return _with_keys(content, keys, path)


def read_json(path: Path, keys: Sequence[str] = ()) -> dict:
    """Names and values; MotionError for text that is no JSON, or without these names."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise MotionError(f"{path} is not readable JSON ({error}); copy it again") from None
    return _with_keys(content, keys, path)


def _with_keys(content: object, keys: Sequence[str], path: Path) -> dict:
    """The content, if it is a table with these names."""
    if not isinstance(content, dict):
        raise MotionError(f"{path}: expected names and values, found {type(content).__name__}")
    missing = sorted(set(keys) - set(content))
    if missing:
        raise MotionError(f"{path}: {', '.join(missing)} missing; found {', '.join(map(str, list(content)[:12]))}")
    return content
