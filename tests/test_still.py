"""A still is what the geometry says: nearer hides farther, light falls from the upper left, the PNG opens."""

import io

import numpy as np
import pytest
from PIL import Image

from handdiff_lib.still import LAMP, LIGHT, SHADES, Easel, normals_of

RED, BLUE = (200, 40, 40), (40, 40, 200)
SQUARE = np.array([[0, 1, 2], [0, 2, 3]])
TOWARD = np.tile([0.0, 0.0, 1.0], (4, 1))


def square(low: float, high: float, z: float) -> np.ndarray:
    """Corners in pixels."""
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]])


def test_a_square_covers_its_pixels_and_nothing_else():
    """Corners at 2 and 5 cover the 4 x 4 pixels 2 to 5."""
    easel = Easel(10, 8, [RED])
    easel.mesh(square(2, 5, 0.0), TOWARD, SQUARE, 0)
    covered = easel.picture().pixels > 0
    assert covered.sum() == 16
    assert covered[2:6, 2:6].all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_surface_is_seen_whatever_is_drawn_first(order):
    easel = Easel(10, 10, [RED, BLUE])
    for k in order:
        easel.mesh(square(1, 8, float(k)), TOWARD, SQUARE, k)
    picture = easel.picture().rgb((255, 255, 255))
    assert picture[4, 4, 2] > 2 * picture[4, 4, 0]  # blue has the larger z


def test_shade_of_a_surface_that_faces_the_eye_by_hand():
    """Its normal is (0, 0, 1): everywhere-light, the lamp's z share, and all of the eye's light."""
    easel = Easel(4, 4, [(100, 100, 100)])
    easel.mesh(square(0, 3, 0.0), TOWARD, SQUARE, 0)
    expected = 100 * (LIGHT[0] + LIGHT[1] * LAMP[2] + LIGHT[2])
    step = 100 * (sum(LIGHT) - LIGHT[0]) / (SHADES - 1)
    assert abs(int(easel.picture().rgb((0, 0, 0))[1, 1, 0]) - expected) <= step / 2 + 1


def test_columns_do_not_spill():
    easel = Easel(10, 6, [RED])
    easel.mesh(square(-20, 20, 0.0), TOWARD, SQUARE, 0, left=5)
    pixels = easel.picture().pixels
    assert (pixels[:, 5:] > 0).all()
    assert (pixels[:, :5] == 0).all()


def test_png_opens_elsewhere_with_the_same_pixels_and_a_clear_ground():
    easel = Easel(12, 9, [RED])
    easel.mesh(square(3, 6, 0.0), TOWARD, SQUARE, 0)
    picture = easel.picture()
    image = np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGBA"))
    assert image.shape == (9, 12, 4)
    np.testing.assert_array_equal(image[..., 3] > 0, picture.pixels > 0)
    seen = picture.pixels > 0
    np.testing.assert_array_equal(image[seen][:, :3], picture.rgb((0, 0, 0))[seen])


def test_normals_of_a_sphere_point_outwards(hand):
    """Of a closed surface around the origin, scaled to a sphere, the normals are the points themselves."""
    corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    faces = np.array([[a, b, c] for a in (0, 1) for b in (2, 3) for c in (4, 5)])
    turned = [f if np.linalg.det(corners[f]) > 0 else f[::-1] for f in faces]
    np.testing.assert_allclose(normals_of(corners, np.array(turned)), corners, atol=1e-12)


def test_more_colours_than_a_palette_holds_are_refused():
    with pytest.raises(ValueError, match="at most 16 colours, 17"):
        Easel(4, 4, [RED] * 17)
