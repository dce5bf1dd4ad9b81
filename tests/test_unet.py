"""The U-Net: its shapes, how it starts, and what it sees."""

import pytest
import torch
from strategies import bad, check_bad, normal
from torch import Tensor, nn
from torch.testing import assert_close

from ddpm_lite.networks import UNETS, UNet, UNetConfig
from ddpm_lite.sampling import sample
from ddpm_lite.schedule import linear_schedule

SMALL = {"size": 8, "width": 16, "blocks": 1, "embedding": 12, "classes": 3}
T3 = torch.tensor([1, 500, 1000])
Y3 = torch.tensor([0, 2, 3])


def unet(zero: bool = False, **options) -> UNet:
    """In float64; unless ``zero``, what starts at 0 is drawn, so that every part counts."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(**SMALL | options)).double()
    return model if zero else drawn(model)


def drawn(model):
    """What starts at 0 is drawn from a normal distribution."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return model


def images(batch: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    return normal(batch, channels, size, size)


def size_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# Shapes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": 3},
        {"patch": 1},
        {"patch": 4},
        {"multipliers": (1,)},
        {"multipliers": (1, 2, 4), "patch": 1},
        {"multipliers": (3, 1)},
        {"blocks": 3},
        {"classes": 0},
        {"size": 12, "patch": 3},
        {"embedding": 1},
    ],
    ids=str,
)
def test_the_output_has_the_shape_of_the_image(options):
    model = unet(**options)
    x = images(channels=model.config.channels, size=model.config.size)
    y = Y3 if model.config.classes else None
    assert model(x, T3, y).shape == x.shape
    assert model(x[:1], T3[:1]).shape == (1, *x.shape[1:])


def test_rows_and_columns_at_each_level():
    """28 x 28 is folded to 14, halved to 7, and back; each skip is used once."""
    model, seen = UNet(UNetConfig(width=8, blocks=2, embedding=8)), []
    for layer in [model.stem, *model.down, *model.middle, *model.up]:
        layer.register_forward_hook(lambda _, inputs, out: seen.append(tuple(out.shape[1:])))
    model(images(1, size=28).float(), T3[:1])
    down = [(8, 14, 14)] * 3 + [(8, 7, 7)] + [(16, 7, 7)] * 2
    up = [(16, 7, 7)] * 3 + [(16, 14, 14)] + [(8, 14, 14)] * 3
    assert seen == [*down, *[(16, 7, 7)] * 3, *up]


def test_the_book_preset_has_a_million_parameters_and_the_full_one_more():
    assert 0.95e6 < size_of(UNet(UNETS["book"])) < 1.05e6
    assert size_of(UNet(UNETS["full"])) > 10e6
    assert UNet().config == UNETS["book"]


def test_weights_are_all_there_is():
    model = unet()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_output_has_the_dtype_of_the_image(dtype):
    x, model = images(), unet()
    exact = model(x, T3, Y3)
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-4
    same, single = model.to(dtype)(x.to(dtype), T3, Y3), model.float()(x.to(dtype), T3, Y3)
    assert same.dtype == single.dtype == dtype
    for answer in (same, single):
        assert_close(answer.double(), exact, rtol=tolerance, atol=tolerance * exact.std().item())


def test_autocast_computes_in_bfloat16_and_answers_in_float32():
    x, model = images().float(), unet().float()
    exact, seen = model(x, T3, Y3), []
    model.stem.register_forward_hook(lambda _, inputs, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        answer = model(x, T3, Y3)
    assert seen == [torch.bfloat16] and answer.dtype == torch.float32
    assert (answer - exact).std() < 0.05 * exact.std()


# What it sees


def test_it_starts_as_eps_hat_0():
    assert torch.equal(unet(zero=True)(images(), T3, Y3), torch.zeros(3, 1, 8, 8).double())


def test_no_label_is_the_label_after_the_classes():
    model, x = unet(), images()
    assert torch.equal(model(x, T3), model(x, T3, torch.full((3,), 3)))
    answers = [model(x, T3, torch.full((3,), y)) for y in range(4)]
    for i, answer in enumerate(answers):
        assert all((answer - other).abs().max() > 1e-3 for other in answers[:i])


def test_time_may_be_whole_or_real():
    model, x = unet(), images()
    whole = model(x, T3)
    for dtype in (torch.float32, torch.float64, torch.int32):
        assert torch.equal(model(x, T3.to(dtype)), whole)
    near = model(x, T3 - 1e-6)
    assert_close(near, whole, rtol=0, atol=1e-4)
    assert not torch.equal(near, whole)


def test_each_sample_is_seen_alone():
    model, x = unet(), images()
    whole = model(x, T3, Y3)
    for b in range(3):
        alone = model(x[b : b + 1], T3[b : b + 1], Y3[b : b + 1])
        assert_close(whole[b : b + 1], alone, rtol=1e-10, atol=1e-10)


def test_the_layout_in_memory_does_not_matter():
    model, x = unet(), images(channels=1)
    plain = model(x, T3, Y3)
    last = model.to(memory_format=torch.channels_last)
    assert model.stem.weight.is_contiguous(memory_format=torch.channels_last)
    for layout in (x, x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        assert_close(last(layout, T3, Y3), plain, rtol=1e-10, atol=1e-10)


def test_every_pixel_sees_every_pixel():
    """Attention joins what convolutions keep apart: no gradient is 0 from corner to corner."""
    model, x = unet(size=32, patch=1), images(1, size=32).requires_grad_()
    model(x, T3[:1])[0, 0, 0, 0].backward()
    assert (x.grad != 0).all()


def test_gradients_reach_every_parameter_after_two_steps():
    """First only the head learns, then what each block adds, then all."""
    model = unet(zero=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, t, y = images(4), torch.tensor([1, 10, 100, 1000]), torch.arange(4)
    reached = []
    for _ in range(3):
        optimizer.zero_grad()
        (model(x, t, y) - x).square().mean().backward()
        optimizer.step()
        reached.append({n for n, p in model.named_parameters() if p.grad.abs().max() > 1e-12})
    names = {name for name, _ in model.named_parameters()}
    assert reached[0] == {"head.weight", "head.bias"}
    assert reached[1] > reached[0] and reached[2] == names
    assert (model.embedding.label.weight.grad.abs().amax(1) > 0).all()


def test_it_is_a_model_for_the_samplers():
    *_, (s, x_0, _) = sample(unet().float(), linear_schedule(3), (2, 1, 8, 8))
    assert s == 0 and x_0.isfinite().all()


X = images()
BAD = [
    *(
        bad(name, lambda n=name, v=value: UNetConfig(**{n: v}), f"{name} must be a .* got {value}")
        for name in ("size", "channels", "patch", "width", "blocks", "embedding")
        for value in (-1, 2.5, 10**9)
    ),
    *(
        bad(f"{name} 0", lambda n=name: UNetConfig(**{n: 0}), f"{name} must be a .* got 0")
        for name in ("patch", "width", "blocks", "embedding")
    ),
    bad("open", lambda: UNet(UNetConfig(size=0)), "size and channels must be at .*, got 0 and 1"),
    bad("classes", lambda: UNetConfig(classes=-1), r"classes must be .* in 0\.\.65536, got -1"),
    bad("many blocks", lambda: UNetConfig(blocks=101), r"blocks must be .* in 1\.\.100, got 101"),
    bad("no level", lambda: UNetConfig(multipliers=()), r"one level or more, got \(\)"),
    bad("level 0", lambda: UNetConfig(multipliers=(1, 0)), r"one level or more, got \(1, 0\)"),
    bad("groups", lambda: UNetConfig(width=12), "width must be a multiple of 8 .*got 12"),
    bad("stem", lambda: UNetConfig(width=4, multipliers=(2,)), "multiple of 8 .GroupNorm., got 4"),
    bad("patch", lambda: UNetConfig(patch=3), "multiple of 6 .patch 3, halved 1 times.*got 28"),
    bad(
        "levels",
        lambda: UNetConfig(multipliers=(1, 1, 1)),
        "size must be a multiple of 8 .patch 2, halved 2 times.*28: fewer multipliers, or pad",
    ),
    bad("x_t", lambda: unet()(images(size=4), T3), r"\[B, 1, 8, 8\], got \[3, 1, 4, 4\]"),
    bad("channels", lambda: unet()(images(channels=2), T3), r"\[B, 1, 8, 8\], got \[3, 2, 8, 8\]"),
    bad("no batch", lambda: unet()(X[0], T3), r"x_t must be \[B, 1, 8, 8\], got \[1, 8, 8\]"),
    bad("t", lambda: unet()(X, T3[:2]), r"t must be \[B\] = \[3\], got \[2\]"),
    bad("t [B, 1]", lambda: unet()(X, T3[:, None]), r"t must be \[B\] = \[3\], got \[3, 1\]"),
    bad("t number", lambda: unet()(X, torch.tensor(5)), r"t must be \[B\] = \[3\], got \[\]"),
    bad("y", lambda: unet()(X, T3, Y3[:2]), r"y must be int64 \[B\] = \[3\], got .*int64 \[2\]"),
    bad("y dtype", lambda: unet()(X, T3, Y3.float()), "y must be int64 .*got torch.float32"),
    bad("y 4", lambda: unet()(X, T3, Y3 + 1), r"y must lie in 0\.\.3, got values from 1 to 4"),
    bad("y -1", lambda: unet()(X, T3, Y3 - 1), r"y must lie in 0\.\.3, got values from -1"),
    bad("y list", lambda: unet()(X, T3, [0, 1, 2]), r"y must be int64 .B. = .3., got list"),
    bad("y none", lambda: unet()(X, T3, Y3[:0]), r"y must be int64 .*\[3\], got .*\[0\]"),
    bad("pixels", lambda: unet()((9 * X).byte(), T3), "x_t must be a floating.*uint8", TypeError),
    bad("x_t NaN", lambda: unet()(X / 0, T3), "x_t must be finite"),
    bad("y unknown", lambda: unet(classes=0)(X, T3, Y3), "knows no classes: leave y out"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
