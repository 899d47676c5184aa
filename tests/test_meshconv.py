"""The spiral convolution against its plain twin, its gradients against finite differences."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from handdiff_lib import meshconv
from handdiff_lib.meshconv import MeshEncoder, SpiralConv, _Spirals
from handdiff_lib.pyramid import SPIRAL, Pyramid


@pytest.fixture
def spirals(generator) -> Tensor:
    """Seven vertices that look at nine others each, out of twelve of which the last two are never seen."""
    return torch.randint(10, (7, SPIRAL), generator=generator)


@pytest.fixture
def conv(spirals) -> SpiralConv:
    torch.manual_seed(0)
    conv = SpiralConv(4, 6, spirals)
    torch.nn.init.normal_(conv.bias)
    return conv


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    """Five meshes are three chunks here."""
    monkeypatch.setattr(meshconv, "CHUNK", 2)


def plain(conv: SpiralConv, x: Tensor) -> Tensor:
    """Gather, then a linear layer; autograd does the rest."""
    around = x.index_select(1, conv.spirals.flatten()).view(len(x), len(conv.spirals), -1)
    return torch.nn.functional.linear(around, conv.weight, conv.bias)


def test_chunks_are_the_plain_convolution(conv, generator):
    """Values and all three gradients."""
    x = torch.randn(5, 12, 4, generator=generator)
    pull = torch.randn(5, 7, 6, generator=generator)
    found = []
    for convolve in (conv, lambda x: plain(conv, x)):
        leaf = x.clone().requires_grad_()
        conv.zero_grad()
        y = convolve(leaf)
        (y * pull).sum().backward()
        found.append((y.detach(), leaf.grad, conv.weight.grad.clone(), conv.bias.grad.clone()))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert (found[0][1][:, 10:] == 0).all(), "vertices that no spiral sees"
    assert found[0][1][:, :10].abs().max() > 0.1


def test_gradients_are_finite_differences(conv, generator):
    """In float64, five meshes in chunks of two."""
    conv = conv.double()
    x = torch.randn(5, 12, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *leaves: _Spirals.apply(*leaves, conv.spirals), (x, conv.weight, conv.bias))


@pytest.mark.parametrize("meshes", [1, 2, 4, 5])
def test_any_number_of_meshes(conv, generator, meshes):
    x = torch.randn(meshes, 12, 4, generator=generator)
    torch.testing.assert_close(conv(x), plain(conv, x), atol=1e-6, rtol=1e-5)


def test_bfloat16_under_autocast(conv, generator):
    """Eight bits of mantissa: within 3 % of the largest value; weights get float32 gradients."""
    x = torch.randn(5, 12, 4, generator=generator)
    want = plain(conv, x)
    with torch.autocast("cpu", torch.bfloat16):
        got = conv(x)
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).abs().max() < 0.03 * want.abs().max()
    weight = torch.autograd.grad(want.sum(), conv.weight)[0]
    got.float().sum().backward()
    assert conv.weight.grad.dtype == torch.float32
    assert (conv.weight.grad - weight).abs().max() < 0.03 * weight.abs().max()


def test_the_first_layer_does_not_ask_for_the_gradient_of_its_vertices(conv, generator, monkeypatch):
    """Summing over slots is the dear part of the way back; nothing behind the mesh is trained."""
    x = torch.randn(5, 12, 4, generator=generator)
    asked = []
    sums = torch.nn.functional.embedding_bag
    monkeypatch.setattr(meshconv.F, "embedding_bag", lambda *a, **k: asked.append(1) or sums(*a, **k))
    conv(x).sum().backward()
    assert asked == []
    assert x.grad is None
    conv(x.requires_grad_()).sum().backward()
    assert asked == [1, 1, 1]


def test_the_encoder_is_its_layers(generator):
    """Two levels: ELU after each convolution, then a linear layer; a deep copy is another network."""
    spirals = [torch.randint(12, (6, SPIRAL), generator=generator), torch.randint(6, (3, SPIRAL), generator=generator)]
    torch.manual_seed(0)
    encoder = MeshEncoder(Pyramid(spirals, [torch.arange(6), torch.arange(3)]), (4, 5), 8)
    x = torch.randn(3, 12, 3, generator=generator)
    first, second = encoder.convs
    hidden = torch.nn.functional.elu(plain(second, torch.nn.functional.elu(plain(first, x))))
    torch.testing.assert_close(encoder(x), encoder.out(hidden.reshape(3, 15)), atol=1e-6, rtol=1e-5)
    other = deepcopy(encoder)
    other.convs[0].weight.data.zero_()
    assert first.weight.abs().max() > 0
