"""The learning curves of a run, from its log."""

import json

import pytest

from handdiff_lib.hand import InputError
from handdiff_lib.learning import POINTS, learning_curves, write_curves


def write(path, rows: list[dict]) -> None:
    """A log with these lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_curve_is_made_of_means_and_the_last_word_on_a_step_counts(tmp_path):
    """240 steps of loss 0, 1, 2, ... become means of two; step 1 was written twice; a term that is 0 has no panel."""
    count = 2 * POINTS
    rows = [{"step": 1, "loss": 99.0, "doubt": -1.0, "consistency": 0.0}]
    rows += [{"step": k + 1, "loss": float(k), "doubt": -1.0, "consistency": 0.0} for k in range(count)]
    rows[-1] |= {"val_mje_mm": 12.5}
    write(tmp_path / "log.jsonl", rows)
    fig = learning_curves(tmp_path / "log.jsonl")
    assert [note.text for note in fig.layout.annotations] == ["loss", "doubt", "validation mje mm"]
    loss, _, judged = fig.data
    assert list(loss.y[:2]) == [0.5, 2.5]
    assert len(loss.y) == POINTS
    assert (list(judged.x), list(judged.y)) == ([count], [12.5])
    assert fig.layout.yaxis.type == "log"
    assert fig.layout.yaxis2.type == "linear", "the doubt may be below zero"


def test_the_page_needs_no_network(tmp_path):
    write(tmp_path / "log.jsonl", [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}])
    write_curves(tmp_path / "log.jsonl", tmp_path / "curves.html")
    page = (tmp_path / "curves.html").read_text()
    assert "<script src=" not in page
    assert "Learning curves" in page


def test_an_empty_log_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(InputError, match="has no step yet; train first"):
        learning_curves(tmp_path / "log.jsonl")
