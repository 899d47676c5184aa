"""The estimator in the loop: what is stored comes back, the truth turns with the camera, and scores by hand."""

import sys
from dataclasses import replace
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from handdiff_lib import rotation
from handdiff_lib.corpus import recorded_pairs
from handdiff_lib.hand import load_hand
from handdiff_lib.loop import (
    BINS,
    ESTIMATES,
    Errors,
    Trial,
    Watched,
    errors,
    in_bins,
    in_camera,
    lift,
    load_watched,
    measure,
    pairs,
    save_watched,
    trials,
)
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.raster import Camera, look_at
from handdiff_lib.readers.manipnet import TAKES, TEST_TAKES
from handdiff_lib.storage import save_motion
from handdiff_lib.synth import synthesize

CAMERA = look_at(np.array([0.3, 0.6, -0.8]), np.array([0.0, 0.1, 0.1]), np.array([0.0, 1.0, 0.0]), 500.0, 640, 480)
SCRIPTS = Path(__file__).resolve().parent.parent / "data" / "loop"


@cache
def world(side: str = "right", frames: int = 40) -> HandMotion:
    """A made-up track."""
    return replace(synthesize(load_hand(), 3, frames, side=side).motion, frame="world")


def watched(motion: HandMotion, hand, camera: Camera = CAMERA) -> Watched:
    """What a faultless estimator says of it: joints around their centre, in camera axes."""
    joints = motion.joints(hand).double().numpy()
    seen, t = camera.see(joints), len(joints)
    return Watched(
        side=motion.side, fps=motion.fps, camera=camera, pixels=camera.project(joints),
        world=seen - seen.mean(1, keepdims=True), presence=np.full(t, 0.9), handedness=np.full(t, 0.96),
        hidden=np.linspace(0, 1, t), inside=np.ones(t),
    )  # fmt: skip


def without(one: Watched, frames: slice) -> Watched:
    """The hand not found in some frames."""
    changed = {}
    for key in ("pixels", "world", "presence", "handedness"):
        changed[key] = getattr(one, key).copy()
        changed[key][frames] = np.nan
    return replace(one, **changed)


def script(name: str) -> ModuleType:
    """A file of data/loop."""
    spec = spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def detector():
    """The geometry of the making script; its networks are not needed."""
    return script("detector")


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_truth_in_a_camera_is_the_truth_seen_by_it(hand, side):
    motion = world(side)
    seen = in_camera(motion, CAMERA, hand)
    assert seen.frame == "camera"
    expected = CAMERA.see(motion.joints(hand).double().numpy())
    np.testing.assert_allclose(seen.joints(hand).numpy(), expected, atol=2e-6)
    assert rotation.angle_between(seen.R[:, 1:], motion.R[:, 1:]).max() == 0


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_faultless_estimate_lifts_onto_the_truth(hand, side):
    """IK puts joints within a millimetre on average, in orientation too: nothing was aligned."""
    motion = world(side)
    given = trials({f"cup1.head.{side}": watched(motion, hand)}, {f"cup1.{side}": motion}, hand)
    row = errors("lifted", [given[0].estimate.joints(hand)], given, hand)
    assert row.mean("mje_mm") < 1.0
    assert given[0].estimate.side == side
    assert given[0].estimate.confidence.min() > 0.9 * 0.6


def test_frames_without_landmarks_are_not_valid_and_have_no_confidence(hand):
    motion = lift(without(watched(world(), hand), slice(5, 9)), hand)
    assert (~motion.valid).nonzero()[:, 0].tolist() == [5, 6, 7, 8]
    assert motion.confidence[5:9].max() == 0


def test_stored_estimates_come_back_to_their_last_digit(hand, tmp_path):
    """A twentieth of a pixel, of a millimetre, half a percent; nan stays nan."""
    one = without(watched(world("left"), hand), slice(3, 7))
    one = replace(one, hidden=np.where(np.arange(40) == 30, np.nan, one.hidden))
    save_watched(tmp_path / "a.npz", {"cup1.head.left": one})
    back = load_watched(tmp_path / "a.npz")["cup1.head.left"]
    np.testing.assert_allclose(back.pixels, one.pixels, atol=0.0501)
    np.testing.assert_allclose(back.world, one.world, atol=0.0501e-3)
    for key in ("presence", "handedness", "hidden", "inside"):
        np.testing.assert_allclose(getattr(back, key), getattr(one, key), atol=0.00501)
    np.testing.assert_array_equal(back.found, one.found)
    assert (back.side, back.fps, back.camera.focal, back.camera.height) == ("left", 30.0, 500.0, 480)
    np.testing.assert_array_equal(back.camera.R_camera_world, CAMERA.R_camera_world)


def test_another_file_or_a_missing_truth_is_refused(hand, tmp_path):
    np.savez(tmp_path / "b.npz", joints=np.zeros((3, 21, 3)))
    with pytest.raises(MotionError, match="make_loop"):
        load_watched(tmp_path / "b.npz")
    one = watched(world(), hand)
    with pytest.raises(MotionError, match=r"no truth cup1\.right"):
        trials({"cup1.head.right": one}, {"mug1.right": world()}, hand)
    with pytest.raises(MotionError, match="40 frames at 25"):
        trials({"cup1.head.right": one}, {"cup1.right": replace(world(), fps=25.0)}, hand)


def test_a_truth_of_four_times_the_frame_rate_is_thinned(hand):
    fast = replace(world(frames=160), fps=120.0)
    slow = replace(fast[::4], fps=30.0)
    given = trials({"cup1.head.right": watched(slow, hand)}, {"cup1.right": fast}, hand)
    np.testing.assert_allclose(given[0].truth.R[:, 1:], slow.R[:, 1:])


def test_estimates_that_start_later_stand_beside_their_own_stretch(hand, tmp_path):
    """From frame 7 of 30 a second, that is 28 of 120; the start is stored."""
    fast = replace(world(frames=160), fps=120.0)
    slow = replace(fast[28:108:4], fps=30.0)
    save_watched(tmp_path / "a.npz", {"mug1.random0.right": replace(watched(slow, hand), start=7)})
    given = trials(load_watched(tmp_path / "a.npz"), {"mug1.right": fast}, hand)
    np.testing.assert_allclose(given[0].truth.R[:, 1:], slow.R[:, 1:])


def test_pairs_of_training_takes_and_of_the_one_kept_out(hand, tmp_path):
    """A hand that was never found makes no pair, and one that was lost is not learnt from."""
    one, truth = watched(world(), hand), world()
    aside = rotation.exp(torch.tensor([0.0, 2.0, 0.0])) @ truth.R[:, :1]
    lost = watched(replace(truth, R=torch.cat([aside, truth.R[:, 1:]], dim=1)), hand)
    given = {"mug1.random0.right": one, "mug3.random0.right": one, "mug1.random1.right": without(one, slice(None))}
    given |= {"mug1.random2.right": lost}
    save_watched(tmp_path / "a.npz", given)
    tracks = {"mug1.right": world(), "mug3.right": world()}
    made = script("make_pairs").train_and_val(tmp_path / "a.npz", tracks, hand)
    assert set(made["train"]) == {"mug1.random0.right", "mug1.random0.right.truth"}
    assert set(made["val"]) == {"mug3.random0.right", "mug3.random0.right.truth"}
    save_motion(tmp_path / "pairs.npz", made["train"])
    assert len(recorded_pairs(tmp_path / "pairs.npz", hand)) == 1


def test_a_drawn_camera_sees_all_joints_from_above_and_is_another_for_every_seed(hand):
    joints = world().joints(hand).double().numpy()
    drawn = [script("scenery").random_camera(joints, seed) for seed in range(20)]
    for camera in drawn:
        points = camera.project(joints)
        assert (points >= 0).all() and (points < (640, 480)).all()  # noqa: PT018 - one picture
        assert camera.see(joints)[..., 2].min() > 0
        assert camera.place[1] > joints.mean((0, 1))[1]
    assert len({round(camera.focal, 3) for camera in drawn}) == 20
    around = np.stack([camera.place for camera in drawn]) - joints.mean((0, 1))
    assert (np.ptp(around, axis=0)[[0, 2]] > 0.8).all()  # from all sides


def test_pairs_are_what_training_reads(hand, tmp_path):
    """Frames where a part of the hand is out of the picture have no truth."""
    inside = np.ones(40)
    inside[10:20] = 0.5
    save_motion(tmp_path / "pairs.npz", pairs([trial(hand, inside=inside)]))
    (pair,) = recorded_pairs(tmp_path / "pairs.npz", hand)
    assert (~pair.motion.valid).nonzero()[:, 0].tolist() == list(range(10, 20))
    assert pair.estimate.valid.all()


def trial(hand, **changes) -> Trial:
    """A faultless one with changes to what was watched."""
    motion = world()
    one = replace(watched(motion, hand), **changes)
    truth = in_camera(motion, CAMERA, hand)
    return Trial("cup1.head.right", one, truth, truth)


def test_errors_by_hand(hand):
    """All joints but the wrist 21 mm off along x, in frame 0 alone: 20 mm there, 0 elsewhere, and 0.5 on average of 40.

    Its one acceleration is 20 mm/frame^2, of 38. Frame 0 is not hidden; frame 1 onwards are hidden a little more each.
    """
    given = trial(hand)
    joints = given.truth.joints(hand)
    joints[0, 1:, 0] += 0.021
    row = errors("made up", [joints], [given], hand)
    assert row.mean("mje_mm") == pytest.approx(20 / 40, abs=1e-3)
    assert row.mean("accl_mm") == pytest.approx(20 / 38, abs=1e-3)
    assert row.by_hidden("mje_mm") == pytest.approx([20 / 10, 0, 0, 0], abs=1e-3)
    low, high = row.interval("mje_mm")
    assert low == pytest.approx(0.5, abs=1e-3) and high == pytest.approx(0.5, abs=1e-3)  # noqa: PT018 - one clip


def test_only_frames_with_the_whole_hand_in_the_picture_count(hand):
    inside = np.ones(40)
    inside[:30] = 20 / 21
    given = trial(hand, inside=inside)
    joints = given.truth.joints(hand)
    joints[:30] += torch.randn(30, 21, 3)
    row = errors("made up", [joints], [given], hand)
    assert len(row.mje_mm) == 10
    assert len(row.accl_mm) == 8
    assert row.mean("mje_mm") == pytest.approx(0, abs=1e-3)


def test_the_bootstrap_draws_clips_not_frames():
    """Two clips, of 0 mm and of 10 mm: a third of the draws hold one of them alone, so the interval is all of it."""
    clip = torch.tensor([0] * 50 + [1] * 50)
    value = 10.0 * clip
    row = Errors("made up", value, value, torch.zeros(100), clip, value, clip)
    assert row.mean("mje_mm") == 5
    assert row.interval("mje_mm") == (0, 10)


def test_bins_hold_every_share_once():
    hidden = torch.tensor([0, 0.249, 0.25, 0.5, 0.75, 1.0])
    counts = [int(chosen.sum()) for chosen in in_bins(hidden)]
    assert counts == [2, 1, 1, 2]
    assert len(BINS) == 5


def test_measure_counts_what_was_not_found_and_scores_every_frame(hand):
    """Frames 0 to 3 and 36 to 39 are lost: 32 of 40; a refiner that answers with the truth has no error."""
    motion = world()
    lost = without(without(watched(motion, hand), slice(0, 4)), slice(36, 40))
    given = trials({"cup1.head.right": lost}, {"cup1.right": motion}, hand)
    found = measure(given, {"handdiff": lambda _: given[0].truth}, hand)
    assert found.detected == (32, 40)
    assert found.detected_by_hidden == [(6, 10), (10, 10), (10, 10), (6, 10)]
    assert len(found.rows["landmarks"].mje_mm) == 32
    assert all(len(found.rows[name].mje_mm) == 40 for name in ("lifted", "gaussian", "gaussian_p", "handdiff"))
    assert found.rows["handdiff"].mean("mje_mm") == 0
    assert found.rows["landmarks"].mean("mje_mm") < found.rows["lifted"].mean("mje_mm")
    told = found.json()
    assert told["rows"]["handdiff"]["frames"] == 40
    assert told["detected"] == [32, 40]


def test_the_shipped_estimates_are_what_the_readme_says():
    """Two takes, three cameras, two hands; a hand found has numbers, and most are found."""
    found = load_watched()
    assert ESTIMATES.stat().st_size < 3e6
    names = {f"{t}.{c}.{s}" for t in ("cup1", "teapot3") for c in ("head", "front", "side") for s in ("left", "right")}
    assert set(found) == names
    for one in found.values():
        assert len(one.world) >= 256
        assert one.found.any()
        np.testing.assert_array_equal(one.found, np.isfinite(one.presence))
        assert np.nanmax(one.hidden) <= 1
        assert (one.presence[one.found] > 0.49).all()


def test_the_estimates_for_training_are_of_no_test_take():
    """Five takes, eight drawn cameras, two hands; a validation take among them, and stretches of all the take."""
    path = SCRIPTS / "mediapipe_train.npz"
    found = load_watched(path)
    assert path.stat().st_size < 2.5e6
    takes = set(TAKES) - set(TEST_TAKES)
    assert set(found) == {f"{take}.random{k}.{side}" for take in takes for k in range(8) for side in ("left", "right")}
    for take in takes:
        starts = {one.start for name, one in found.items() if name.startswith(take)}
        assert len(starts) == 8
        assert max(starts) > 600
    assert all(len(one.found) == 160 and (one.inside == 1).all() for one in found.values())


def test_a_crop_of_the_whole_picture_is_the_picture(detector):
    picture = np.random.default_rng(0).random((8, 8, 3))
    whole = detector.Roi(np.array([4.0, 4.0]), 8.0, 0.0)
    np.testing.assert_allclose(detector.crop(picture, whole, 8, "constant"), picture)


def test_a_crop_turned_by_a_quarter_stands_on_its_side(detector):
    """Turned by 90 degrees, the square's right is the picture's down."""
    picture = np.random.default_rng(0).random((8, 8, 3))
    turned = detector.crop(picture, detector.Roi(np.array([4.0, 4.0]), 8.0, np.pi / 2), 8, "nearest")
    np.testing.assert_allclose(turned, picture[:, ::-1].transpose(1, 0, 2), atol=1e-12)


def test_a_hand_that_points_up_needs_no_turn(detector):
    wrist = np.array([100.0, 200.0])
    assert detector.upright(wrist, wrist - np.array([0, 50])) == pytest.approx(0)
    assert detector.upright(wrist, wrist + np.array([50, 0])) == pytest.approx(np.pi / 2)


def test_the_next_crop_holds_the_hand_and_turns_with_it(detector):
    points = np.random.default_rng(1).normal(size=(21, 2)) * 30 + 200
    first = detector.next_roi(points)
    R = np.array([[0.0, -1.0], [1.0, 0.0]])
    turned = detector.next_roi((points - 200) @ R.T + 200)
    np.testing.assert_allclose(turned.centre, (first.centre - 200) @ R.T + 200)
    assert turned.size == pytest.approx(first.size)
    assert np.sin(turned.angle - first.angle) == pytest.approx(1)


def test_overlap_by_hand(detector):
    """Two squares of 2, one moved by 1: a share of 2 of 6."""
    one, other = (detector.Roi(np.array([x, 0.0]), 2.0, 0.3) for x in (0.0, 1.0))
    assert one.overlap(other) == pytest.approx(1 / 3)
    assert one.overlap(one) == 1


def test_palms_that_overlap_become_one(detector):
    """Two boxes on one place, with scores 3 and 1, and one far away."""
    boxes = np.zeros((3, 9, 2))
    boxes[:, 1] = 1.0
    boxes[1, 0], boxes[2, 0] = [0.4, 0.0], [5.0, 5.0]
    found = detector.merged(boxes, np.array([0.9, 0.3, 0.5]))
    assert len(found) == 2
    np.testing.assert_allclose(found[0][0], [0.1, 0.0])
    assert len(detector.ANCHORS) == 2016
