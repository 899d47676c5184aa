"""Figures show what the motion is: same picture from any camera frame, true times, nothing lost to rounding."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.charts import bars, mean_interval
from handdiff_lib.hand import HandModel, InputError
from handdiff_lib.lanes import curve_lane, state_lane
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.report import _stretch, report
from handdiff_lib.scene import COLORS, EYE, Grid
from handdiff_lib.stage import Scale, Stage
from handdiff_lib.topology import FREE
from handdiff_lib.view import curves, finger_acceleration_deg, ghosts, hand_figure, player, show, walk


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


def test_hand_figure_starts_where_its_slider_stands(hand: HandModel):
    fig = hand_figure(bending(5).vertices(hand), hand.faces, active=3)
    assert fig.layout.sliders[0].active == 3
    np.testing.assert_array_equal(fig.data[0].x, fig.frames[3].data[0].x)
    assert not np.array_equal(fig.data[0].x, fig.frames[0].data[0].x)


def test_hand_figure_draws_bones_through_both_joint_orders(hand: HandModel):
    posed = hand.mean_shape().pose(bending(2).R)
    for joints, bones in ((posed.joints, 15), (posed.joints21(), 20)):
        line = points(hand_figure(posed.skin(), hand.faces, joints=joints).data[1])
        assert len(line) == 2 * bones + 1  # out and back along every bone
        assert len(np.unique(line, axis=0)) == bones + 1
        np.testing.assert_array_equal(line[0], line[-1])


def skins(stage: Stage, frame: int) -> list[torch.Tensor]:
    """Vertices of every hand of a player at a frame."""
    return [stage.cast.points(actor, [frame])[0] for actor in stage.cast.actors]


def test_player_shows_the_same_picture_for_any_camera_frame(hand: HandModel, generator):
    motion = bending(12)
    camera = rotation.exp(torch.randn(3, generator=generator))
    R = motion.R.clone()
    R[:, 0] = camera @ R[:, 0]
    elsewhere = replace(motion, R=R, transl=torch.randn(12, 3, generator=generator))
    here, there = player({"a": motion}, hand), player({"a": elsewhere}, hand)
    for frame in (0, 11):
        torch.testing.assert_close(skins(here, frame), skins(there, frame), atol=2e-5, rtol=0)


def test_player_lets_hands_move_about_their_mean_place(hand: HandModel):
    """A wrist that goes 10 cm along x is 5 cm to each side of the middle; held steady it does not move."""
    motion = bending(11, transl=torch.linspace(0, 0.1, 11)[:, None] * torch.tensor([1.0, 0, 0]))
    moving, steady = (player({"a": motion}, hand, steady=steady).cast.actors[0].place for steady in (False, True))
    torch.testing.assert_close(moving[[0, -1], 0], torch.tensor([-0.05, 0.05]))
    assert not steady.any()


def test_player_mirrors_left_hands(hand: HandModel):
    right, left = (player({"a": bending(4, side=side)}, hand) for side in ("right", "left"))
    torch.testing.assert_close(skins(left, 3)[0], skins(right, 3)[0] * torch.tensor([1.0, 1, -1]))
    mirrored = [stage.cast.camera().axes[2] for stage in (right, left)]
    torch.testing.assert_close(mirrored[0], mirrored[1] * torch.tensor([1.0, 1, -1]))


def test_player_puts_hands_side_by_side_in_the_order_given(hand: HandModel):
    stage = player({"before": bending(8, noise=0.1), "after": bending(8), "truth": bending(8)}, hand)
    assert stage.columns == ("before", "after", "truth")
    assert [(actor.column, actor.color) for actor in stage.cast.actors] == list(enumerate(COLORS.values()))
    heads = re.findall(r"hs-chip.*?</span>", stage.html())
    assert [re.sub("<.*?>", "", head).split(">")[-1] for head in heads] == ["before", "after", "truth"]


def test_player_greys_frames_without_an_estimate(hand: HandModel):
    valid = torch.tensor([True, False, True, True])
    stage = player({"before": bending(4, valid=valid), "after": bending(4)}, hand)
    assert [actor["missing"] for actor in stage._data()["actors"]] == [[1], []]


def test_player_matches_tracks_of_different_rate_by_time(hand: HandModel):
    fast = bending(61, fps=60.0)
    slow = fast[torch.arange(0, 61, 4)]
    stage = player({"fast": fast, "slow": replace(slow, fps=15.0)}, hand)
    assert len(stage) == 31  # 60 a second are played as 30
    assert stage.fps == pytest.approx(30)
    one, other = skins(stage, 30)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_player_window(hand: HandModel):
    stage = player({"a": bending(90)}, hand, start=1.0, seconds=0.5)
    assert stage.start == 1.0
    assert len(stage) == 16
    assert len(player({"a": bending(90)}, hand, max_frames=20)) == 18  # every fifth of 90


def test_player_shows_numbers_as_colour_and_refuses_names_that_are_not_there(hand: HandModel):
    tracks = {"after": bending(9, noise=0.2), "truth": bending(9)}
    stage = player(tracks, hand, error_to="truth", lines={"speed": {"after": torch.arange(8.0)}})
    apart = 1000 * (skins(stage, 4)[0] - skins(stage, 4)[1]).norm(dim=-1)
    assert stage.truth == 1
    assert apart.max() / 3 < stage.scale.high < apart.max() * 5
    sigma = torch.full((9, 16), 1.5)
    assert player(tracks, hand, heat={"after": sigma}).scale == Scale("value", 0.0, 2.0)
    with pytest.raises(MotionError, match="no track 'before' on the stage; there are after, truth"):
        player(tracks, hand, error_to="before")
    with pytest.raises(MotionError, match="5 values for 9 frames"):
        player(tracks, hand, lines={"speed": {"after": torch.arange(5.0)}})


def test_walk_shows_a_pose_a_step_beside_one_for_all(hand: HandModel):
    motion = bending(5)
    stage = walk({"x": motion.R, "truth": motion.R[-1:]}, hand, labels=list("43210"), error_to="truth", active=4)
    one, other = skins(stage, 4)
    torch.testing.assert_close(one, other)
    assert (skins(stage, 0)[0] - skins(stage, 0)[1]).norm(dim=-1).max() > 0.03
    assert (stage.label, stage.names) == ("n =", tuple("43210"))


def test_ghosts_are_faint_but_for_one(hand: HandModel):
    samples = [bending(6, noise=0.1 * k) for k in range(1, 4)]
    stage = ghosts(samples, hand, over=bending(6))
    assert [actor.opacity for actor in stage.cast.actors] == [1.0, 0.12, 0.12, 0.12]
    assert stage.columns == ("3 samples, truth solid",)
    assert {actor.column for actor in stage.cast.actors} == {0}


def test_curve_lane_draws_what_the_numbers_say():
    """0, 10, 5 over a lane 100 high with 4 free at each end: bottom 96, top 4, middle 50; NaN begins a new line."""
    lane = curve_lane("speed", {"a": torch.tensor([0.0, 10.0, torch.nan, 5.0])}, {"a": "#112233"})
    path = re.search(r'd="(.*?)"', lane).group(1)
    assert path == "M0.0 96.0L333.3 4.0M1000.0 50.0"
    assert "speed over the frames: a 5.00 on average" in lane
    assert "speed, 0 to 10" in lane


def test_long_curves_keep_their_jumps():
    values = torch.zeros(9001)
    values[4321] = 7.0
    path = re.search(r'd="(.*?)"', curve_lane("x", {"a": values}, {"a": "#112233"})).group(1)
    assert " 4.0" in path
    assert len(re.findall("[ML]", path)) <= 1500


def test_state_lane_has_a_block_a_run():
    lane = state_lane("states", torch.tensor([FREE, 0, 0, 1, 1, 1, 1, 0]))
    blocks = re.findall(r'<rect x="(.*?)" y="0" width="(.*?)".*?<title>(.*?)<', lane)
    assert blocks == [("125.0", "250.0", "reach"), ("375.0", "500.0", "stable grasp"), ("875.0", "125.0", "reach")]
    assert "states over the frames: reach, then stable grasp, then reach" in lane


def test_mean_interval_by_hand():
    """1, 2, 3: mean 2, standard deviation 1, t of 2 degrees of freedom 4.303, so 2 ± 4.303 / sqrt 3 = 2 ± 2.484."""
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == pytest.approx(2.0)
    assert (high - mean, mean - low) == (pytest.approx(2.484, abs=1e-3),) * 2
    assert mean_interval([5.0]) == (5.0, 5.0, 5.0)


def test_bars_show_intervals_and_every_run():
    fig = bars({"a": [1.0, 2.0, 3.0], "b": [4.0]}, "MJE (mm)")
    assert list(fig.data[0].x) == [2.0, 4.0]
    assert list(fig.data[0].error_x.array) == pytest.approx([2.484, 0.0], abs=1e-3)
    assert sorted(fig.data[1].x) == [1.0, 2.0, 3.0, 4.0]
    given = bars({"a": (2.0, 1.5, 3.0)}, "mm", runs=False)
    assert list(given.data[0].error_x.arrayminus) == [0.5]
    with pytest.raises(InputError, match="value, low, high"):
        bars({"a": (2.0, 1.5)}, "mm", runs=False)


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
    assert len(page) < 1_000_000
    assert page.count("addHand(") == 2  # defined once, called once
    assert page.count('class="handstage"') == 2
    assert page.count('class="hs-lane"') == 2
    assert not re.search(r'(src|href)="(?!data:)', page)
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
