"""Weights on disk: they come back, in half precision, and what is missing or damaged is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from handdiff_lib import rotation
from handdiff_lib.checkpoint import SHIPPED, load_denoiser, save_denoiser
from handdiff_lib.denoiser import Denoiser, DenoiserConfig
from handdiff_lib.frames import estimate_frames_batch
from handdiff_lib.hand import InputError
from handdiff_lib.pyramid import build_pyramid

SMALL = DenoiserConfig(channels=(4, 4, 4, 4), d=32, layers=1, heads=2, feedforward=32)


@pytest.fixture(scope="module")
def model(hand) -> Denoiser:
    """A network that does something."""
    torch.manual_seed(0)
    model = Denoiser(SMALL, build_pyramid(hand.v_template, hand.faces)).eval()
    for head in (model.pose_head, model.shape_head, model.doubt_head):
        torch.nn.init.normal_(head[-1].weight, std=0.1)
    return model


@torch.no_grad()
def test_weights_come_back(model, hand, generator, tmp_path):
    """To a tenth of a degree the first time, since half the bits are dropped, and exactly from then on."""
    path, second = tmp_path / "w" / "some.safetensors", tmp_path / "second.safetensors"
    save_denoiser(path, model, {"N": 4, "name": "some"})
    back, card = load_denoiser(path)
    assert (card["N"], card["name"]) == (4, "some")
    assert back.cfg == SMALL
    assert not back.training
    save_denoiser(second, back, {})
    R = rotation.exp(0.3 * torch.randn(2, 16, 16, 3, generator=generator))
    every, unknown = torch.ones(2, 16, dtype=torch.bool), torch.full((2, 16, 16), -1.0)
    y, _ = estimate_frames_batch(R, torch.zeros(2, 10), every, unknown, torch.zeros(2, 3))
    n = torch.full((2,), 2)
    one, two, three = (m(y.R, y, n, hand) for m in (model, back, load_denoiser(second)[0]))
    assert rotation.angle_between(one.R, y.R).max().rad2deg() > 5
    assert rotation.angle_between(one.R, two.R).max().rad2deg() < 0.1
    for name in ("betas", "state", "log_sigma", "noisy"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), atol=0.01, rtol=0)
    for name in ("R", "betas", "state", "log_sigma", "noisy"):
        assert torch.equal(getattr(two, name), getattr(three, name)), name
    assert sorted(p.name for p in path.parent.iterdir()) == ["some.json", "some.safetensors"], "nothing else is left"
    assert json.loads(path.with_suffix(".json").read_text())["config"]["d"] == 32
    tensors = load_file(path)
    assert tensors["mesh_y.convs.0.spirals"].dtype == torch.int16
    assert tensors["pose_x.weight"].dtype == torch.float16


def test_missing_weights_name_the_cure(model, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"none\.safetensors .*not found; train some: handdiff train"):
        load_denoiser(tmp_path / "none.safetensors")
    monkeypatch.setattr("handdiff_lib.checkpoint.DEFAULT_WEIGHTS", tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match=r"tiny\.safetensors"):
        load_denoiser()
    save_denoiser(tmp_path / "tiny.safetensors", model, {})
    (tmp_path / "tiny.json").unlink()
    with pytest.raises(InputError, match=r"card tiny\.json not found"):
        load_denoiser()


@pytest.mark.parametrize("damage", ["weights", "card", "another card"])
def test_damaged_weights_are_named(model, tmp_path, damage):
    path = tmp_path / "some.safetensors"
    save_denoiser(path, model, {"N": 4})
    if damage == "weights":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "card":
        path.with_suffix(".json").write_text("{")
    else:
        path.with_suffix(".json").write_text(json.dumps({"config": {"window": 16}}))
    with pytest.raises(InputError, match=r"some\.safetensors .*cannot be read") as caught:
        load_denoiser(path)
    assert "\n" not in str(caught.value)


def test_weights_that_ship_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in SHIPPED.glob("*.safetensors"):
        model, card = load_denoiser(Path(path.stem))
        assert card["name"] == path.stem
        assert torch.equal(model.pose_y.weight, load_denoiser(path)[0].pose_y.weight)
    with pytest.raises(InputError, match=r"weights nothing with .* some that ship: base, free"):
        load_denoiser(Path("nothing"))
