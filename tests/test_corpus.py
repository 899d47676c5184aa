"""Clean motion to learn from: tracks end to end, takes that are read once, pairs, and arrays that are mapped."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from handdiff_lib import corpus as corpora
from handdiff_lib import rotation
from handdiff_lib.corpus import (
    Corpus,
    Labelled,
    is_validation,
    load_corpus,
    make_corpus,
    manipnet_states,
    manipnet_tracks,
    recorded_pairs,
    save_corpus,
    synthetic_corpus,
)
from handdiff_lib.hand import InputError
from handdiff_lib.motion import HandMotion, MotionError, fill_missing
from handdiff_lib.readers.manipnet import TAKES, TEST_TAKES
from handdiff_lib.storage import save_motion
from handdiff_lib.topology import FREE


def quiet(done: int, count: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def motion() -> HandMotion:
    """Ten frames of an open hand, every joint turned somehow."""
    chance = torch.Generator().manual_seed(0)
    turn = torch.randn(16, 3, generator=chance) + 0.1 * torch.randn(10, 16, 3, generator=chance)
    return HandMotion(
        R=rotation.exp(0.3 * turn), betas=torch.randn(10, generator=chance), transl=torch.zeros(10, 3),
        valid=torch.ones(10, dtype=torch.bool), fps=30.0, hand="open",
    )  # fmt: skip


# Tracks end to end


def test_a_missing_frame_splits_a_track(motion):
    gap = replace(motion, valid=torch.arange(10) != 4)
    made = make_corpus([Labelled(gap, torch.arange(10)), Labelled(motion)])
    assert made.length.tolist() == [4, 5, 10]
    assert made.first.tolist() == [0, 4, 9]
    assert made.state.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9] + [FREE] * 10
    assert torch.equal(made.R[4:9], motion.R[5:])
    assert torch.equal(made.betas, motion.betas.expand(3, 10))
    assert made.fps == motion.fps
    assert made.recorded is None


def test_one_shape_a_track_is_the_median_of_its_frames(motion):
    """Shapes 0, 1, ..., 9: the lower median is 4."""
    many = replace(motion, betas=torch.arange(10.0)[:, None].expand(-1, 10))
    assert make_corpus([Labelled(many)]).betas.tolist() == [[4.0] * 10]


def test_nothing_to_learn_from_is_named(motion):
    none = replace(motion, valid=torch.zeros(10, dtype=torch.bool))
    for tracks in ([], [Labelled(none)], [Labelled(motion, estimate=none)]):
        with pytest.raises(InputError, match="no track with a valid frame: nothing to learn from"):
            make_corpus(tracks)


def test_frame_rates_must_agree(motion):
    with pytest.raises(InputError, match="tracks of 25, 30 fps; make it the same first"):
        make_corpus([Labelled(motion), Labelled(replace(motion, fps=25.0))])


def test_estimates_stay_beside_their_truth(motion, generator):
    """Gaps of the estimate are filled, known, and say nothing; a stretch of truth without any answer is left out."""
    wrong = motion.R @ rotation.exp(0.1 * torch.randn(10, 16, 3, generator=generator))
    seen = torch.ones(10, dtype=torch.bool)
    seen[[2, 6, 7, 8, 9]] = False
    estimate = replace(motion, R=wrong, valid=seen, betas=motion.betas + 1)
    truth = replace(motion, valid=torch.arange(10) != 5)
    sure = replace(estimate, confidence=torch.full((10, 16), 0.5))
    made = make_corpus([Labelled(truth, estimate=estimate), Labelled(motion, estimate=sure)])
    assert made.length.tolist() == [5, 10], "frames 6 to 9 of the first have no answer"
    said = made.recorded
    assert torch.equal(said.R[:5], fill_missing(estimate[:5]).R)
    assert said.valid.tolist() == seen[:5].tolist() + seen.tolist()
    assert torch.equal(said.betas, (motion.betas + 1).expand(2, 10))
    assert (said.confidence[:5] == -1).all()
    assert said.confidence[5:, 0].tolist() == [0.5 if s else -1.0 for s in seen]


# Made-up motion, takes


def test_made_up_clips_are_ten_seconds_and_tell_their_progress(hand, motion, monkeypatch):
    asked, told = [], []

    def make(_: object, seed: int, frames: int, fps: float) -> SimpleNamespace:
        asked.append((seed, frames, fps))
        return SimpleNamespace(motion=motion, state=torch.full((10,), seed % 4))

    monkeypatch.setattr(corpora, "synthesize", make)
    made = synthetic_corpus(hand, 2, 5, lambda *progress: told.append(progress))
    assert asked == [(5, 600, 60.0), (6, 600, 60.0)]
    assert told == [(1, 2), (2, 2)]
    assert made.state.tolist() == [1] * 10 + [2] * 10


@pytest.fixture
def clone(motion, monkeypatch) -> list[str]:
    """A clone of ManipNet whose takes are made up; the list of those that were read."""
    asked = []

    def read(root: Path, take: str, model: object, stride: int) -> SimpleNamespace:
        assert stride == 1, "120 frames a second"
        asked.append(take)
        moved = replace(motion, transl=motion.transl + TAKES.index(take), fps=120.0)
        return SimpleNamespace(tracks={"left": replace(moved, side="left"), "right": moved})

    monkeypatch.setattr(corpora, "read_take", read)
    return asked


def test_test_takes_are_never_trained_on(hand, clone, tmp_path):
    """Not even when they lie in the cache."""
    cache = tmp_path / "cache" / "takes.npz"
    test = manipnet_tracks(tmp_path, hand, cache, quiet, test=True)
    assert set(clone) == set(TEST_TAKES) == {name.split(".")[0] for name in test}
    clone.clear()
    training = manipnet_tracks(tmp_path, hand, cache, quiet)
    assert not set(clone) & set(TEST_TAKES)
    assert set(training) == {f"{t}.{side}" for t in TAKES if t not in TEST_TAKES for side in ("left", "right")}
    assert {name.split(".")[0] for name in training if is_validation(name)} == {"mug3"}


def test_takes_are_read_once(hand, clone, tmp_path):
    first = manipnet_tracks(tmp_path, hand, tmp_path / "takes.npz", quiet)
    clone.clear()
    again = manipnet_tracks(tmp_path, hand, tmp_path / "takes.npz", quiet)
    assert clone == []
    assert all(torch.equal(again[name].R, first[name].R) for name in first)
    assert again["mug1.left"].side == "left"


def test_a_clone_that_is_not_there_is_named(hand, tmp_path):
    with pytest.raises(MotionError, match=r"take '\w+' not found in .*nowhere.*there are: none") as caught:
        manipnet_tracks(tmp_path / "nowhere", hand, tmp_path / "takes.npz", quiet)
    assert "\n" not in str(caught.value)


def test_labels_are_found_at_every_fourth_frame_and_held(hand, motion, monkeypatch, tmp_path):
    """Ten frames at 120 fps are labelled at 0, 4 and 8; a take without a mesh has no states."""

    def take(_: Path, name: str) -> SimpleNamespace:
        mesh = "mug.obj" if name == "mug1" else None
        return SimpleNamespace(object_mesh=mesh, object_pose=torch.eye(4).expand(10, 4, 4))

    monkeypatch.setattr(corpora, "take_joints", take)
    monkeypatch.setattr(corpora, "load_object", lambda mesh, scale, pose: pose)

    def annotate(slow: HandMotion, _: object, pose: torch.Tensor) -> SimpleNamespace:
        assert (slow.fps, len(slow), len(pose)) == (30.0, 3, 3)
        return SimpleNamespace(state=torch.tensor([0, 1, 2]))

    monkeypatch.setattr(corpora, "annotate", annotate)
    fast = replace(motion, fps=120.0)
    found = manipnet_states(tmp_path, hand, {"mug1.right": fast, "cup.left": fast}, quiet)
    assert found["mug1.right"].tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert found["cup.left"].tolist() == [FREE] * 10


# Pairs of an estimator's output and the truth


def test_pairs_are_read(hand, motion, tmp_path):
    """A track without a truth is no pair."""
    save_motion(tmp_path / "p.npz", {"a": motion, "a.truth": motion, "b": motion})
    (pair,) = recorded_pairs(tmp_path / "p.npz", hand)
    assert torch.equal(pair.estimate.R, motion.R)
    assert pair.state is None


def test_pairs_of_another_hand_have_its_mean_shape(hand, motion, tmp_path):
    mano = replace(motion, hand="mano", betas=motion.betas + 1)
    save_motion(tmp_path / "p.npz", {"a": mano, "a.truth": mano})
    (pair,) = recorded_pairs(tmp_path / "p.npz", hand)
    assert (pair.estimate.betas == 0).all()
    assert (pair.motion.betas == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 25.0}, "a and its truth differ in fps; save them alike"),
        ({"side": "left"}, "a and its truth differ in side"),
        ({"hand": "mano"}, "a and its truth differ in hand"),
        (slice(0, 9), "a and its truth differ in number of frames"),
        (None, "no pair of tracks NAME and NAME.truth; it holds a"),
    ],
)
def test_pairs_that_do_not_match_are_refused(hand, motion, tmp_path, change, message):
    other = motion[change] if isinstance(change, slice) else replace(motion, **change or {})
    save_motion(tmp_path / "p.npz", {"a": motion} | ({} if change is None else {"a.truth": other}))
    with pytest.raises(MotionError, match=message) as caught:
        recorded_pairs(tmp_path / "p.npz", hand)
    assert "p.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


# On disk


CARD = {"kind": "test", "tracks": ["a", "b"], "version": 2}


@pytest.fixture
def saved(motion, tmp_path) -> tuple[Corpus, Path]:
    made = make_corpus([Labelled(motion, torch.arange(10) % 4), Labelled(motion[:4])])
    save_corpus(tmp_path / "c", made, CARD)
    return made, tmp_path / "c"


def test_a_corpus_comes_back_mapped_into_memory(saved):
    """Writing into what came back leaves the file alone, and the other way round it is the file one sees."""
    made, folder = saved
    back = load_corpus(folder, CARD)
    for name in ("R", "betas", "state", "first", "length"):
        assert torch.equal(getattr(back, name), getattr(made, name)), name
    assert back.fps == made.fps
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(folder / "R.npy") in maps.read_text()
    before = (folder / "R.npy").read_bytes()
    back.R[0] = 0.0
    assert (folder / "R.npy").read_bytes() == before
    assert torch.equal(load_corpus(folder, CARD).R, made.R)


def test_a_large_corpus_is_loaded_without_reading_it(saved):
    """400 MB that lie on the disk as a hole; reading them would take a tenth of a second and the memory."""
    _, folder = saved
    frames = 700_000
    for name, dtype, shape in (("R", np.float32, (frames, 16, 3, 3)), ("state", np.int64, (frames,))):
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
    assert os.stat(folder / "R.npy").st_size > 4e8
    start = time.process_time()
    back = load_corpus(folder, CARD)
    assert len(back.R) == frames
    assert time.process_time() - start < 0.05


@pytest.mark.parametrize("damage", ["unfinished", "other parameters", "no card's text", "an array cut short", "gone"])
def test_what_is_not_whole_is_no_corpus(saved, damage):
    """So that it is made again."""
    _, folder = saved
    card = dict(CARD)
    match damage:
        case "unfinished":
            (folder / "card.json").unlink()
        case "other parameters":
            card["version"] = 3
        case "no card's text":
            (folder / "card.json").write_text('{"kind"')
        case "an array cut short":
            (folder / "R.npy").write_bytes((folder / "R.npy").read_bytes()[:-100])
        case "gone":
            (folder / "state.npy").unlink()
    assert load_corpus(folder, card) is None


def test_the_card_is_written_last(saved, monkeypatch):
    """A second writing that breaks off leaves no card, not even the old one."""
    made, folder = saved

    def full(path: Path, _: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_corpus(folder, made, CARD)
    assert load_corpus(folder, CARD) is None
    monkeypatch.undo()
    save_corpus(folder, made, CARD)
    assert json.loads((folder / "card.json").read_text()) == CARD | {"fps": made.fps}
    assert load_corpus(folder, CARD) is not None
