"""What the tests share: the open hand, seeded randomness, and the folder of real recordings."""

import os
from pathlib import Path

import pytest
import torch

from handdiff_lib.hand import HandModel, load_hand
from handdiff_lib.pyramid import build_pyramid

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def hand() -> HandModel:
    """The open hand, float32."""
    return load_hand()


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder that HANDDIFF_DATA names; a test that needs a recording is skipped without it."""
    folder = os.environ.get("HANDDIFF_DATA")
    if not folder:
        pytest.skip("HANDDIFF_DATA is not set: this test reads real recordings (see Data and licences in the book)")
    return Path(folder)


@pytest.fixture(scope="module")
def one_pyramid(hand):
    """Every model of a module is of the same hand; its pyramid is computed once."""
    pyramid = build_pyramid(hand.v_template, hand.faces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("handdiff_lib.denoiser.build_pyramid", lambda *_: pyramid)
        yield
