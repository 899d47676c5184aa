"""The rasteriser: a camera's numbers, what hides what, and how it is lit; a slow twin that asks every pixel."""

import time

import numpy as np
import pytest

from handdiff_lib.motion import MotionError
from handdiff_lib.raster import Camera, Light, Painted, look_at, render, vertex_normals

UP = np.array([0.0, 1.0, 0.0])
GREY = np.full((3, 3), 0.5)
LIGHT = Light(np.array([0.0, 0.0, -1.0]), UP, lamp=0.5, around=0.4)


def camera(width: int = 40, height: int = 30, focal: float = 50.0) -> Camera:
    """At the origin, looking along z, y down."""
    return Camera(np.eye(3), np.zeros(3), focal, width, height)


def triangle(*corners: tuple[float, float, float], colour: float = 0.5) -> Painted:
    """A single one, drawn from both sides."""
    return Painted(np.array(corners), np.array([[0, 1, 2]]), np.full((3, 3), colour), is_closed=False)


def wall(z: float, half: float = 0.1, x: float = 0.0, colour: float = 0.5) -> Painted:
    """A square before the camera."""
    corners = np.array([[x - half, -half, z], [x + half, -half, z], [x + half, half, z], [x - half, half, z]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Painted(corners, faces, np.full((4, 3), colour), is_closed=False)


def ball(radius: float, centre: np.ndarray, n: int = 24) -> Painted:
    """A closed ball of triangles, counter-clockwise from outside."""
    u, v = np.meshgrid(np.linspace(0, np.pi, n), np.arange(2 * n) / n * np.pi, indexing="ij")
    points = np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], -1).reshape(-1, 3)
    k = np.arange(n * 2 * n).reshape(n, 2 * n)
    a, b = k[:-1], k[1:]
    faces = [
        np.stack(t, -1).reshape(-1, 3) for t in ((a, b, np.roll(b, -1, 1)), (a, np.roll(b, -1, 1), np.roll(a, -1, 1)))
    ]
    return Painted(radius * points + centre, np.concatenate(faces), np.full((len(points), 3), 0.5))


def black(seen_by: Camera) -> np.ndarray:
    """No background."""
    return np.zeros((seen_by.height, seen_by.width, 3))


def test_a_point_one_metre_ahead_and_ten_centimetres_right_is_five_pixels_right():
    """Focal length 50 pixels; the middle of 40 x 30 pixels is (20, 15)."""
    np.testing.assert_allclose(camera().project(np.array([[0, 0, 1.0], [0.1, -0.2, 1.0]])), [[20, 15], [25, 5]])


def test_look_at_has_the_target_in_the_middle_and_up_above():
    place, target = np.array([1.0, 2.0, -1.0]), np.array([0.2, 0.5, 0.3])
    seen_by = look_at(place, target, UP, 50.0, 40, 30)
    np.testing.assert_allclose(seen_by.project(target), [20, 15])
    np.testing.assert_allclose(seen_by.see(target), [0, 0, np.linalg.norm(target - place)], atol=1e-12)
    np.testing.assert_allclose(seen_by.place, place)
    above = seen_by.project(target + 0.01 * UP)
    assert above[0] == pytest.approx(20)
    assert above[1] < 15
    np.testing.assert_allclose(np.linalg.det(seen_by.R_camera_world), 1)
    with pytest.raises(MotionError, match="move it aside"):
        look_at(target + UP, target, UP, 50.0, 40, 30)


def test_a_square_covers_the_pixels_whose_centres_it_covers():
    """20 cm at 1 m are 10 pixels: columns 15 to 24 and rows 10 to 19."""
    picture = render([wall(1.0)], camera(), LIGHT, black(camera()))
    expected = np.zeros((30, 40), dtype=bool)
    expected[10:20, 15:25] = True
    np.testing.assert_array_equal(picture.surface == 0, expected)
    np.testing.assert_array_equal(picture.covered[0], expected)
    np.testing.assert_allclose(picture.depth[expected], 1.0)
    assert np.isinf(picture.depth[~expected]).all()


def test_what_is_nearer_hides_what_is_behind():
    """A square of half the size at half the distance looks as large; moved by half its width it hides one half."""
    picture = render([wall(1.0), wall(0.5, half=0.05, x=0.05)], camera(), LIGHT, black(camera()))
    assert picture.hidden(0) == pytest.approx(0.5)
    assert picture.hidden(1) == 0
    assert (picture.surface == 1).sum() == 100
    order = render([wall(0.5, half=0.05, x=0.05), wall(1.0)], camera(), LIGHT, black(camera()))
    np.testing.assert_array_equal(order.rgb, picture.rgb)


def test_a_surface_out_of_the_picture_has_no_hidden_share():
    picture = render([wall(1.0, x=5.0), wall(-1.0)], camera(), LIGHT, black(camera()))
    assert np.isnan(picture.hidden(0))
    assert np.isnan(picture.hidden(1))
    assert (picture.surface == -1).all()


def test_depth_and_surface_equal_a_slow_twin():
    """Every pixel against every triangle: where the ray meets the plane, if inside."""
    rng = np.random.default_rng(0)
    corners = rng.uniform([-0.4, -0.3, 0.6], [0.4, 0.3, 1.4], size=(12, 3, 3))
    surfaces = [triangle(*c) for c in corners.tolist()]
    picture = render(surfaces, camera(), LIGHT, black(camera()))
    depth, which = np.full((30, 40), np.inf), np.full((30, 40), -1)
    for y in range(30):
        for x in range(40):
            ray = np.array([(x + 0.5 - 20) / 50, (y + 0.5 - 15) / 50, 1.0])
            for k, (a, b, c) in enumerate(corners):
                share = np.linalg.solve(np.stack([a, b, c], axis=1), ray)  # z = 1 / their sum
                if (share >= 0).all() and 1 / share.sum() < depth[y, x]:
                    depth[y, x], which[y, x] = 1 / share.sum(), k
    np.testing.assert_array_equal(picture.surface, which)
    np.testing.assert_allclose(picture.depth, depth)
    assert (which >= 0).sum() > 300


def test_colours_are_interpolated_in_space_not_in_the_picture():
    """A strip from 1 m to 3 m away: the middle of its picture lies at 1.5 m, a quarter of the way."""
    strip = np.array([[-0.1, 0.2, 1.0], [0.1, 0.2, 1.0], [0.1, 0.2, 3.0], [-0.1, 0.2, 3.0]])
    colour = np.array([[0.0] * 3, [0.0] * 3, [1.0] * 3, [1.0] * 3])
    painted = Painted(strip, np.array([[0, 1, 2], [0, 2, 3]]), colour, is_closed=False)
    seen_by = camera(height=300, width=100, focal=1500.0)
    everywhere = Light(np.array([0.0, -1.0, 0.0]), np.array([0.0, -1.0, 0.0]), lamp=0.0, around=1.0)
    picture = render([painted], seen_by, everywhere, black(seen_by))
    rows = np.flatnonzero(picture.surface[:, 50] == 0)
    row = rows[len(rows) // 2]
    np.testing.assert_allclose(picture.rgb[row, 50, 0], (picture.depth[row, 50] - 1) / 2, atol=1e-9)


def test_a_square_that_faces_the_lamp_has_lamp_and_surroundings():
    """Half of grey 0.5 from the lamp, 0.4 x 0.75 of it from around: its normal is level."""
    picture = render([wall(1.0)], camera(), LIGHT, black(camera()))
    np.testing.assert_allclose(picture.rgb[15, 20], 0.5 * (0.5 + 0.4 * 0.75))


def test_a_closed_ball_looks_the_same_without_the_triangles_that_are_turned_away():
    whole = ball(0.1, np.array([0.02, 0.01, 0.6]))
    turned = [Painted(whole.vertices, whole.faces[k::2], whole.colour, is_closed=False) for k in range(2)]
    culled, all_of_it = (render(s, camera(), LIGHT, black(camera())) for s in ([whole], turned))
    np.testing.assert_array_equal(culled.covered[0], all_of_it.covered.any(0))
    np.testing.assert_allclose(culled.depth, all_of_it.depth)
    assert culled.depth.min() == pytest.approx(0.5, abs=2e-3)


def test_normals_of_a_ball_point_outwards():
    whole = ball(0.1, np.zeros(3))
    normal = vertex_normals(whole.vertices, whole.faces)
    inner = slice(48, -48)  # without the poles, where vertices coincide
    cosine = (normal * whole.vertices).sum(1) / np.linalg.norm(normal, axis=1) / 0.1
    assert cosine[inner].min() > 0.99


def test_a_hand_takes_less_than_50_ms(hand):
    """CPU time, the better of three."""
    vertices = hand.v_template.double().numpy() + np.array([0.0, 0.0, 0.6])
    painted = Painted(vertices, hand.faces.numpy(), np.full((778, 3), 0.6))
    seen_by = camera(320, 320, 400.0)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        picture = render([painted], seen_by, LIGHT, black(seen_by))
        seconds.append(time.process_time() - start)
    assert (picture.surface == 0).sum() > 2000
    assert min(seconds) < 0.05


def test_a_background_of_another_size_is_refused():
    with pytest.raises(MotionError, match="the camera's size"):
        render([wall(1.0)], camera(), LIGHT, np.zeros((30, 30, 3)))
