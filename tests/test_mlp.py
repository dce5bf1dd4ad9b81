"""The small network: shapes, types, and what it can and cannot see of t."""

import re

import pytest
import torch
from strategies import bad, check_bad, normal
from torch.testing import assert_close

from ddpm_lite.density import grid, sampled_density
from ddpm_lite.metrics import w1_density
from ddpm_lite.mixture import two_modes
from ddpm_lite.networks import MLP
from ddpm_lite.sampling import sample
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.training.checkpoint import WEIGHTS

T3 = torch.tensor([1, 500, 1000])


def mlp(**options) -> MLP:
    torch.manual_seed(0)
    return MLP(**{"width": 16} | options)


@pytest.mark.parametrize(("dim", "shape"), [(1, (3,)), (1, (3, 1)), (2, (3, 2)), (5, (3, 5))])
def test_output_has_the_shape_and_dtype_of_x_t(dim, shape):
    x = normal(*shape, dtype=torch.float32)
    assert mlp(dim=dim)(x, T3).shape == shape
    assert mlp(dim=dim).double()(x.double(), T3).dtype == torch.float64
    assert mlp(dim=dim).bfloat16()(x.bfloat16(), T3).dtype == torch.bfloat16


@pytest.mark.parametrize(("dim", "shape"), [(1, (0,)), (1, (0, 1)), (3, (0, 3))])
def test_no_points_are_no_answers(dim, shape):
    assert mlp(dim=dim)(torch.zeros(shape), T3[:0]).shape == shape


def test_weights_of_another_dtype_are_no_obstacle():
    """Grids are float64, networks float32: like the exact denoiser, it answers as asked."""
    x, model = normal(3), mlp()
    answer = model(x, T3)
    assert answer.dtype == torch.float64
    assert_close(answer.float(), model(x.float(), T3), rtol=1e-4, atol=1e-5)
    assert sampled_density(model, linear_schedule(3), grid(-20, 20, 512)).dtype == torch.float64


@pytest.mark.parametrize(("dim", "width", "depth"), [(1, 8, 1), (2, 16, 3), (3, 4, 6)])
def test_width_and_depth_are_those_asked_for(dim, width, depth):
    """Weights and biases, layer by layer: in, hidden to hidden, out."""
    count = (dim + 16 + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * dim
    model = MLP(dim, width, depth)
    assert sum(p.numel() for p in model.parameters()) == count
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_each_sample_is_seen_alone_and_whatever_its_layout():
    model, x = mlp(dim=2).double(), normal(2, 3).T
    whole = model(x, T3)
    assert_close(whole, model(x.contiguous(), T3), rtol=0, atol=0)
    for b in range(3):
        assert_close(whole[b : b + 1], model(x[b : b + 1], T3[b : b + 1]), rtol=1e-12, atol=1e-12)
    assert torch.equal(model(x, T3, y=torch.zeros(3)), whole)


def test_time_is_a_fraction_of_T_whole_or_not():
    short, long = mlp(T=10).double(), mlp(T=1000).double()
    x = normal(3)
    assert_close(short(x, torch.tensor([1, 5, 10])), long(x, torch.tensor([100, 500, 1000])))
    near = long(x, T3 - 1e-6)
    assert_close(near, long(x, T3), rtol=1e-4, atol=1e-5)
    assert not torch.equal(near, long(x, T3))


def test_neighbouring_times_look_different_in_any_precision():
    """bfloat16 has 8 bits: 999 and 1000 are one number there, so time must not pass through it."""
    x, t = torch.full((2,), 0.5), torch.tensor([997, 999])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        model, seen = mlp().to(dtype), []
        model.layers[0].register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0])
        )
        model(x.to(dtype), t)
        a, b = seen[0].double()
        assert (a - b).abs().max() > 0.1
        exact = mlp().double()
        kept = []
        exact.layers[0].register_forward_pre_hook(
            lambda _, inputs, kept=kept: kept.append(inputs[0])
        )
        exact(x.double(), t)
        assert_close(seen[0].double(), kept[0], rtol=0, atol=4e-3)


def test_gradients_reach_every_parameter_and_the_input():
    model, x = mlp(), normal(3, dtype=torch.float32).requires_grad_()
    model(x, T3).square().sum().backward()
    assert x.grad.abs().min() > 0
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_it_is_a_model_for_the_samplers():
    *_, (s, x_0, _) = sample(mlp(T=3), linear_schedule(3), (4,))
    assert s == 0 and x_0.shape == (4,) and x_0.isfinite().all()


def test_the_card_of_the_shipped_one_says_what_is_measured():
    model, data, schedule, x = load_pretrained("line"), two_modes(), linear_schedule(), grid()
    card = (WEIGHTS / "line.md").read_text("utf-8")
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in card
    steps, *rows = re.findall(r"^\| (?:steps|line|exact) \|(.*)\|$", card, re.MULTILINE)
    steps, *rows = ([float(v) for v in row.split("|")] for row in (steps, *rows))
    truth = data.log_prob(x).exp()
    for denoiser, row in zip((model, data.denoiser(schedule)), rows, strict=True):
        for n, said in list(zip(steps, row, strict=True))[2:]:
            found = w1_density(x, sampled_density(denoiser, schedule, x, steps=int(n)), truth)
            assert abs(found - said) < 6e-4, n


X = torch.zeros(3)
BAD = [
    bad("dim", lambda: MLP(dim=0), "dim must be a whole number of at least 1, got 0"),
    bad("width", lambda: MLP(width=0), "width must be a whole number of at least 1, got 0"),
    bad("width 2.5", lambda: MLP(width=2.5), "width must be a whole number .* got 2.5"),
    bad("depth", lambda: MLP(depth=-1), "depth must be a whole number of at least 1, got -1"),
    bad("T", lambda: MLP(T=0), "T must be a whole number of at least 1, got 0"),
    bad("frequencies", lambda: MLP(frequencies=0), "frequencies must be a whole"),
    bad("x_t", lambda: mlp()(torch.zeros(3, 2), T3), r"x_t must be \[B, 1\].*got \[3, 2\]"),
    bad("x_t 1-D", lambda: mlp(dim=2)(X, T3), r"x_t must be \[B, 2\].*got \[3\]"),
    bad("x_t 3-D", lambda: mlp()(X[:, None, None], T3), r"x_t must be \[B, 1\].*got \[3, 1, 1\]"),
    bad("x_t 0-D", lambda: mlp()(X[0], T3), r"x_t must be \[B, 1\].*got \[\]"),
    bad("x_t int", lambda: mlp()(T3, T3), "x_t must be a floating.*int64", TypeError),
    bad("x_t NaN", lambda: mlp()(X / 0, T3), "x_t must be finite"),
    bad("t", lambda: mlp()(X, T3[:2]), r"and t \[B\], got \[3\] and \[2\]"),
    bad("t [B, 1]", lambda: mlp()(X, T3[:, None]), r"and t \[B\], got \[3\] and \[3, 1\]"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
