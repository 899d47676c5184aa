"""Figures show what the motion is: same picture from any camera frame, true times, nothing lost to rounding."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.report import _stretch, report
from handdiff_lib.scene import COLORS, EYE, MISSING, Grid, across
from handdiff_lib.view import curves, finger_acceleration_deg, hand_figure, player, show


def bending(t: int, fps: float = 30.0, noise: float = 0.0, **changes: object) -> HandMotion:
    """A hand that closes over `t` frames; every frame is valid unless told otherwise."""
    rotvec = torch.zeros(t, 16, 3)
    rotvec[:, 1:13, 2] = torch.linspace(0, 1.2, t)[:, None]
    rotvec = rotvec + noise * torch.randn(rotvec.shape, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(t, dtype=torch.bool)
    motion = HandMotion(rotation.exp(rotvec), torch.zeros(10), torch.zeros(t, 3), valid, fps, "right", "open")
    return replace(motion, **changes)


def points(trace) -> np.ndarray:
    """Vertices of a mesh as the figure stores them."""
    return np.stack([trace.x, trace.y, trace.z], -1).astype(float)


def test_grid_keeps_points_to_half_a_hundredth_of_a_millimetre(generator):
    cloud = 0.2 * torch.rand(3, 50, 3, generator=generator)
    grid = Grid(cloud, torch.tensor(EYE))
    assert grid.unit == 1e-5
    stored = grid.xyz(cloud[1])
    assert all(values.dtype == np.int16 for values in stored.values())
    back = torch.tensor(np.stack(list(stored.values()), -1)).float() * grid.unit + grid.centre
    torch.testing.assert_close(back, cloud[1], atol=0.51e-5, rtol=0)


def test_grid_of_a_large_scene_still_fits_16_bits():
    cloud = torch.tensor([[[0.0, 0.0, 0.0], [4.0, 1.0, 0.0]]])
    stored = Grid(cloud, torch.tensor(EYE)).xyz(cloud[0])
    assert max(abs(int(value)) for values in stored.values() for value in values) <= 32767


def test_hand_figure_thins_long_motions_and_tells_true_times(hand: HandModel):
    motion = bending(200, fps=50.0)
    fig = hand_figure(motion.vertices(hand), hand.faces, fps=50.0)
    names = [frame.name for frame in fig.frames]
    assert len(names) == 60
    assert (names[0], names[-1]) == ("0.00 s", "3.98 s")  # frame 199 at 50 fps
    assert [step.label for step in fig.layout.sliders[0].steps] == names


def test_hand_figure_draws_bones_through_both_joint_orders(hand: HandModel):
    posed = hand.mean_shape().pose(bending(2).R)
    for joints, bones in ((posed.joints, 15), (posed.joints21(), 20)):
        line = points(hand_figure(posed.skin(), hand.faces, joints=joints).data[1])
        assert len(line) == 2 * bones + 1  # out and back along every bone
        assert len(np.unique(line, axis=0)) == bones + 1
        np.testing.assert_array_equal(line[0], line[-1])


def test_player_shows_the_same_picture_for_any_camera_frame(hand: HandModel, generator):
    motion = bending(12)
    camera = rotation.exp(torch.randn(3, generator=generator))
    R = motion.R.clone()
    R[:, 0] = camera @ R[:, 0]
    elsewhere = replace(motion, R=R, transl=torch.randn(12, 3, generator=generator))
    here, there = player({"a": motion}, hand), player({"a": elsewhere}, hand)
    for one, other in zip(here.frames, there.frames, strict=True):
        np.testing.assert_allclose(points(one.data[0]), points(other.data[0]), atol=2)


def test_player_mirrors_left_hands(hand: HandModel):
    right, left = (player({"a": bending(4, side=side)}, hand) for side in ("right", "left"))
    np.testing.assert_allclose(points(left.data[0]), points(right.data[0]) * [1, 1, -1], atol=1)
    assert left.layout.scene.camera.eye.z == -right.layout.scene.camera.eye.z


def test_player_puts_hands_side_by_side_in_the_order_given(hand: HandModel):
    fig = player({"before": bending(8, noise=0.1), "after": bending(8), "truth": bending(8)}, hand)
    right = across(torch.tensor(EYE)).numpy()
    spans = [[(points(frame.data[k]) @ right).tolist() for frame in fig.frames] for k in range(3)]
    for one, other in pairwise(spans):
        assert max(map(max, one)) < min(map(min, other))


def test_player_greys_frames_without_an_estimate(hand: HandModel):
    valid = torch.tensor([True, False, True, True])
    fig = player({"before": bending(4, valid=valid), "after": bending(4)}, hand)
    assert [frame.data[0].color for frame in fig.frames] == [COLORS["before"], MISSING, *[COLORS["before"]] * 2]
    assert {frame.data[1].color for frame in fig.frames} == {COLORS["after"]}


def test_player_matches_tracks_of_different_rate_by_time(hand: HandModel):
    fast = bending(61, fps=60.0)
    slow = fast[torch.arange(0, 61, 4)]
    fig = player({"fast": fast, "slow": replace(slow, fps=15.0)}, hand)
    alone = player({"fast": fast, "same": fast}, hand)
    assert fig.frames[-1].name == "1.00 s"
    assert len(fig.frames) == 31  # 60 a second are played as 30
    np.testing.assert_allclose(points(fig.frames[-1].data[1]), points(alone.frames[-1].data[1]), atol=1)


def test_player_window(hand: HandModel):
    fig = player({"a": bending(90)}, hand, start=1.0, seconds=0.5)
    assert [fig.frames[0].name, fig.frames[-1].name] == ["1.00 s", "1.50 s"]


def test_trails_end_at_the_finger_tips(hand: HandModel):
    fig = player({"a": bending(20)}, hand, trails=5)
    mesh, trail = fig.frames[-1].data
    lines = points(trail).reshape(5, 7, 3)  # six places and a gap for each finger
    tips = points(mesh)[[744, 320, 443, 554, 671]]
    np.testing.assert_allclose(lines[:, -2], tips, atol=1)
    assert np.isnan(lines[:, -1]).all()


def test_acceleration_of_a_steady_turn_is_zero_and_gaps_stay_gaps():
    """One degree more each frame is no acceleration; a frame that jumps by 3 degrees adds 3, then 6, then 3."""
    rotvec = torch.zeros(9, 16, 3)
    rotvec[:, :, 2] = torch.arange(9.0).deg2rad()[:, None]
    rotvec[3, :, 2] += torch.tensor(3.0).deg2rad()
    valid = torch.arange(9) != 7
    motion = bending(9, R=rotation.exp(rotvec), valid=valid)
    expected = torch.tensor([0.0, 3.0, 6.0, 3.0, 0.0, torch.nan, torch.nan])
    torch.testing.assert_close(finger_acceleration_deg(motion), expected, atol=1e-3, rtol=0, equal_nan=True)


def test_curves_of_long_recordings_stay_small():
    fig = curves({"before": bending(9000, noise=0.01)})
    assert len(fig.data[0].x) <= 4000
    assert abs(fig.data[0].x[-1] - 300) < 0.2  # seconds


def test_show_is_live_without_the_book_and_static_in_it(hand: HandModel, monkeypatch):
    fig = hand_figure(bending(2).vertices(hand), hand.faces)
    monkeypatch.delenv("HANDDIFF_BOOK", raising=False)
    assert show(fig) is fig
    monkeypatch.setenv("HANDDIFF_BOOK", "1")
    page = show(fig).data
    assert "Plotly.newPlot" in page
    assert len(page) < 200_000  # plotly.js is not in it


def test_report_is_one_page_with_everything_inside(hand: HandModel, tmp_path):
    path = tmp_path / "report.html"
    before = {"right": bending(400, noise=0.05), "<b>": bending(400, noise=0.05, side="left")}
    after = {name: bending(400, side=motion.side) for name, motion in before.items()}
    report(path, before, after, hand, truth=after)
    page = path.read_text()
    assert len(page) < 8_000_000
    assert page.count("plotly.js v") == 1
    assert page.count("Plotly.newPlot(") >= 4
    assert "src=" not in page.replace("<script", "\n<script").split("plotly.js v")[0]
    assert "<h2><b>" not in page
    assert "&lt;b&gt;" in page
    with pytest.raises(MotionError, match="force"):
        report(path, before, after, hand)


def test_report_takes_a_table_and_names_what_does_not_match(hand: HandModel, tmp_path):
    motion = {"right": bending(10)}
    report(tmp_path / "a.html", motion, motion, hand, table=[{"": "before", "MJE (mm)": 12.5}])
    assert "<td>12.5</td>" in (tmp_path / "a.html").read_text()
    with pytest.raises(MotionError, match="no track in both"):
        report(tmp_path / "b.html", motion, {"left": bending(10)}, hand)


def test_report_plays_the_stretch_that_shakes_most():
    motion = bending(900)
    R = motion.R.clone()
    R[500:560] = bending(900, noise=0.1).R[500:560]
    start, seconds = _stretch(replace(motion, R=R), 60)
    assert abs(start - 500 / 30) < 0.2
    assert seconds == pytest.approx(59 / 30)
    assert _stretch(bending(40), 60) == (0.0, 40 / 30)
