"""The layers that are compared answer alike, so that their times mean the same thing."""

import pytest
import torch

from handdiff_lib.layers import WORKS, layer_times, layers


def test_all_three_say_the_same():
    """Vertices and joints, within a hundredth of a millimetre; who is not installed is not compared."""
    assert list(layers(torch.device("cpu"))) == ["handdiff", "smplx", "body-models"]
    rows = list(layer_times(torch.device("cpu"), batches=(1, 3), seconds=0.0))
    assert [(row.batch, row.work) for row in rows[::3]] == [(b, work) for b in (1, 3) for work in WORKS]
    assert max(row.off_mm for row in rows) < 0.01
    for k in range(0, len(rows), 3):
        assert rows[k].ratio == 1
        assert rows[k + 1].ratio == pytest.approx(rows[k + 1].milliseconds / rows[k].milliseconds)


def test_a_package_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "smplx" else object())
    assert list(layers(torch.device("cpu"))) == ["handdiff", "body-models"]
