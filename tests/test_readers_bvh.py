"""BVH: a skeleton worked out by hand, and every way in which the text can be broken."""

from pathlib import Path

import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.motion import MotionError
from handdiff_lib.readers.bvh import read_bvh

TEXT = """HIERARCHY
ROOT arm
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation
  JOINT hand
  {
    OFFSET 1 0 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    End Site
    {
      OFFSET 9 9 9
    }
  }
  JOINT other
  {
    OFFSET 0 2 0
    CHANNELS 3 Zrotation Xrotation Yrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.025
10 20 30 0 0 90 0 0 0 0 0 0
10 20 30 90 90 0 0 0 0 0 0 0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "a.bvh"
    path.write_text(text)
    return path


def test_positions_by_hand(tmp_path: Path) -> None:
    bvh = read_bvh(write(tmp_path, TEXT))
    assert bvh.skeleton.names == ("arm", "hand", "other")
    assert bvh.skeleton.parents == (-1, 0, 0)
    assert bvh.fps == pytest.approx(40)
    p = bvh.world()[..., :3, 3]
    # A quarter turn about z carries x to y and y to -x.
    expected = torch.tensor([[10.0, 20, 30], [10, 21, 30], [8, 20, 30]], dtype=torch.float64)
    torch.testing.assert_close(p[0], expected)
    # R = Ry Rx: y goes to z by x, then z to x by y; x goes to -z by y.
    expected = torch.tensor([[10.0, 20, 30], [10, 20, 29], [12, 20, 30]], dtype=torch.float64)
    torch.testing.assert_close(p[1], expected)


def test_rotations_multiply_in_the_listed_order(tmp_path: Path) -> None:
    numbers = "0 0 0 10 20 30 0 0 0 10 20 30"
    text = TEXT.replace("10 20 30 0 0 90 0 0 0 0 0 0", numbers)
    bvh = read_bvh(write(tmp_path, text))
    x, y, z = (lambda a, k=k: rotation.exp(torch.eye(3, dtype=torch.float64)[k] * a * torch.pi / 180) for k in range(3))
    torch.testing.assert_close(bvh.R_parent_joint[0, 0], y(10) @ x(20) @ z(30))
    torch.testing.assert_close(bvh.R_parent_joint[0, 2], z(10) @ x(20) @ y(30))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TEXT, "", "expected HIERARCHY and MOTION"),
        ("MOTION", "", "expected HIERARCHY and MOTION"),
        ("Frames: 2", "Frames: 3", "expected 3 frames of 12 numbers, found 2 of 12"),
        ("Frames: 2", "Frames: 0", "at least one frame"),
        ("Frames: 2", "Frames two", "Frames: N"),
        ("Frame Time: 0.025", "Frame Time: 0", "positive frame time"),
        ("0 0 90 0 0 0 0 0 0", "0 0 90 0 0 0 0 0", "not a row of 12 numbers"),
        ("0 0 90 0 0 0 0 0 0", "0 0 90 x 0 0 0 0 0", "not a row of 12 numbers"),
        ("  JOINT hand\n  {", "  JOINT hand\n", "HIERARCHY part is damaged"),
        ("JOINT hand", "BONE hand", "unknown word 'BONE'"),
        ("3 Zrotation", "3 Wrotation", "unknown channels"),
        ("OFFSET 1 0 0", "OFFSET 1 zero 0", "HIERARCHY part is damaged"),
    ],
)
def test_broken_text(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(MotionError, match=message):
        read_bvh(write(tmp_path, TEXT.replace(old, new, 1)))


def test_not_text_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_bytes(bytes(range(128, 256)))
    with pytest.raises(MotionError, match="not a text file"):
        read_bvh(tmp_path / "a.bvh")
    with pytest.raises(MotionError, match="not found"):
        read_bvh(tmp_path / "b.bvh")
