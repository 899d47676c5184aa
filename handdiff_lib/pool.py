"""The same work on many things, on all the threads that torch may use."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Thing, Result = TypeVar("Thing"), TypeVar("Result")


def in_threads(work: Callable[[Thing], Result], things: Iterable[Thing]) -> list[Result]:
    """What `work` makes of each, in order; each thread computes on one core.

    Many small tensors gain nothing from threads within an operation, which wait for one another most of the time.
    """
    count = torch.get_num_threads()
    if count == 1:
        return [work(thing) for thing in things]
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, things))
    finally:
        torch.set_num_threads(count)  # some of torch's libraries have one number for all threads
