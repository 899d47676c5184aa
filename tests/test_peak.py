"""The measured rate of matrix products."""

import time

import torch

from handdiff_lib.peak import matrix_rate


def test_any_machine_multiplies_faster_than_a_gigaflop():
    assert matrix_rate(torch.float32, size=512) > 1e9


def test_the_rate_counts_two_operations_a_product(monkeypatch):
    """Matrices of 100 x 100, half a second each by the clock: 2 * 100^3 / 0.5 = 4e6."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: 0.5 * next(ticks))
    assert matrix_rate(torch.float64, size=100) == 4e6
