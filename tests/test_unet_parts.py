"""The parts of the U-Net: blocks, attention, halving and doubling, and the waves of time."""

import math

import pytest
import torch
import torch.nn.functional as F
from strategies import normal
from torch import Tensor, nn
from torch.testing import assert_close

from ddpm_lite.networks.unet import Attention, Double, Embedding, Halve, ResBlock

T3 = torch.tensor([1, 500, 1000])


def drawn(model):
    """What starts at 0 is drawn from a normal distribution."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return model


def images(batch: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    return normal(batch, channels, size, size)


def test_neighbouring_times_look_different_in_any_precision():
    """bfloat16 has 8 bits: 997 and 999 are one number there, so time must not pass through it."""
    t, kept = torch.tensor([997, 999]), []
    embedding = Embedding(16, 12, 0)
    embedding.time[0].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        embedding.to(dtype)(t, None)
        assert kept[-1].dtype == dtype
        assert (kept[-1][0] - kept[-1][1]).abs().max() > 0.1
        assert_close(kept[-1].double(), kept[0], rtol=0, atol=4e-3)


def test_the_waves_of_time():
    """sin and cos of t / 10,000^(k / n)."""
    kept = []
    embedding = Embedding(8, 12, 0).double()
    embedding.time[0].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    embedding(T3, None)
    sin, cos = kept[0].chunk(2, dim=1)
    assert_close(sin**2 + cos**2, torch.ones(3, 4).double())
    expected = [[math.sin(t / 10_000 ** (k / 4)) for k in range(4)] for t in (1, 500, 1000)]
    assert_close(sin, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


# Its parts


def test_a_block_starts_as_its_skip():
    x, e = images(channels=16), normal(3, 12)
    assert torch.equal(ResBlock(16, 16, 12).double()(x, e), x)
    wider = ResBlock(16, 24, 12).double()
    assert wider(x, e).shape == (3, 24, 8, 8)
    assert torch.equal(wider(x, e), wider.skip(x))


def test_a_block_is_steered_by_scale_and_shift():
    """conv_2 sees silu((1 + scale) norm(conv_1(...)) + shift), channel by channel."""
    block, x, e = drawn(ResBlock(8, 16, 12).double()), images(channels=8), normal(3, 12)
    scale, shift = block.steer(e).reshape(3, 2, 16, 1, 1).unbind(1)
    seen = F.group_norm(block.conv_1(F.silu(block.norm_1(x))), 8)
    expected = block.skip(x) + block.conv_2(F.silu(seen * (1 + scale) + shift))
    assert_close(block(x, e), expected)


def attention(width: int = 16) -> Attention:
    torch.manual_seed(0)
    return drawn(Attention(width).double())


def test_attention_knows_no_places():
    """Where the positions go, the answers go."""
    x, places = images(channels=16, size=4), torch.randperm(16, generator=torch.Generator())
    moved = x.flatten(2)[:, :, places].reshape(x.shape)
    expected = attention()(x, None).flatten(2)[:, :, places].reshape(x.shape)
    assert_close(attention()(moved, None), expected)
    assert (attention()(x, None) - x).abs().max() > 0.1


def test_attention_is_that_of_torch():
    layer, x = attention(), images(channels=16, size=4)
    q, k, v = (part.mT for part in layer.qkv(layer.norm(x)).flatten(2).chunk(3, dim=1))
    answer = F.scaled_dot_product_attention(q, k, v).mT.reshape(x.shape)
    assert_close(layer(x, None), x + layer.out(answer))


def test_attention_starts_as_the_identity():
    x = images(channels=16)
    assert torch.equal(Attention(16).double()(x, None), x)


@pytest.mark.parametrize("size", [2, 4, 14])
def test_halve_and_double(size):
    x = images(channels=8, size=size)
    assert Halve(8).double()(x, None).shape == (3, 8, size // 2, size // 2)
    double = Double(8).double()
    assert double(x, None).shape == (3, 8, 2 * size, 2 * size)
    nn.init.dirac_(double.conv.weight), nn.init.zeros_(double.conv.bias)
    fourfold = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close(double(x, None), fourfold)
