"""Work spread over threads."""

import threading

import pytest
import torch

from handdiff_lib.pool import in_threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_from_threads_that_use_one_core(three_threads):
    meeting = threading.Barrier(3, timeout=30)  # passed only by three at once

    def work(k: int) -> tuple[int, int]:
        meeting.wait()
        return k, torch.get_num_threads()

    assert in_threads(work, range(6)) == [(k, 1) for k in range(6)]
    assert torch.get_num_threads() == 3


def test_one_thread_stays_where_it_is(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    here = threading.get_ident()
    assert in_threads(lambda _: threading.get_ident(), range(2)) == [here, here]


def test_what_goes_wrong_is_told_and_threads_are_given_back(three_threads):
    def work(k: int) -> int:
        return 1 // k

    with pytest.raises(ZeroDivisionError):
        in_threads(work, [1, 0, 2])
    assert torch.get_num_threads() == 3
