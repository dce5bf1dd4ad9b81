"""What a diffusion model is trained on: x_0, t, eps, the weight and the labels of a batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kinds import MIXTURE
from strategies import bad, check_bad
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.loss import simple_loss
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.training import denoising

SCHEDULE = linear_schedule(100, 0.001, 0.1)


def batch(n: int, draw=MIXTURE.sample, schedule=SCHEDULE, seed: int = 0, **options):
    return denoising(draw, schedule, **options)[0](n, torch.Generator().manual_seed(seed))


def test_what_the_loss_is_given():
    """x_0 from draw, t uniform over 1..T, eps standard normal, all independent of each other."""
    x_0, t, eps = batch(10_000, lambda n, generator: torch.rand(n, 2, generator=generator))
    assert x_0.shape == eps.shape == (10_000, 2) and t.dtype == torch.int64
    counts = t.bincount(minlength=101)
    assert counts[0] == 0 and len(counts) == 101
    chi_square = ((counts[1:] - 100) ** 2 / 100).sum()
    assert abs(chi_square - 99) < 4 * math.sqrt(2 * 99)
    assert abs(eps.mean()) < 4 / 20_000**0.5 and abs(eps.var() - 1) < 4 * (2 / 20_000) ** 0.5
    assert abs((x_0 * eps).mean()) < 4 * (1 / 3 / 20_000) ** 0.5
    again = batch(10_000, lambda n, generator: torch.rand(n, 2, generator=generator))
    assert all(torch.equal(a, b) for a, b in zip(again, (x_0, t, eps), strict=True))


@given(T=st.integers(1, 40), n=st.integers(1, 40))
def test_stratified_times_are_one_in_each_part(T, n):
    """Of n equal parts of the line from 0 to T, part k meets the unit from t_k - 1 to t_k."""
    t, k = batch(n, schedule=linear_schedule(T), stratified=True)[1], torch.arange(n)
    assert t.dtype == torch.int64 and t.min() >= 1 and t.max() <= T
    assert ((t - 1) * n < (k + 1) * T).all() and (t * n > k * T).all()
    if T % n == 0:
        assert torch.equal((t - 1) * n // T, k)


@pytest.mark.parametrize(("T", "n"), [(10, 10), (10, 7), (5, 8), (12, 4)])
def test_stratified_times_are_uniform_all_together(T, n):
    """And closer to it than independent ones: their chi square is not larger."""
    draw, _ = denoising(MIXTURE.sample, linear_schedule(T), stratified=True)
    generator = torch.Generator().manual_seed(0)
    counts = torch.cat([draw(n, generator)[1] for _ in range(200)]).bincount(minlength=T + 1)[1:]
    expected = 200 * n / T
    assert ((counts - expected) ** 2 / expected).sum() < (T - 1) + 4 * math.sqrt(2 * T)
    if n % T == 0:
        assert (counts == expected).all()


def test_labels_come_to_the_model_with_their_images():
    def draw(n, generator):
        y = torch.randint(5, (n,), generator=generator)
        return y.double(), y

    def model(x_t, t, y):
        assert torch.equal(x_t.round().long(), y)
        asked.append(y)
        return x_t

    asked, schedule = [], linear_schedule(3, 1e-8, 1e-8)  # hardly any noise, so x_t tells of x_0
    noised, loss = denoising(draw, schedule)
    loss(model, *noised(9, torch.Generator().manual_seed(0)))
    assert len(asked) == 1 and len(asked[0]) == 9


def test_the_loss_is_the_simple_loss_of_the_batch_or_another():
    weight = torch.linspace(0, 2, 101)
    x_0, t, eps = batch(64)

    def model(x_t, t):
        return 0.3 * x_t

    _, loss = denoising(MIXTURE.sample, SCHEDULE, weight)
    found = loss(model, x_0, t, eps)
    assert_close(found, simple_loss(model, SCHEDULE, x_0, t, eps, weight), rtol=0, atol=0)
    error = (0.3 * q_sample(SCHEDULE, x_0, t, eps) - eps) ** 2
    assert_close(found, (weight[t] * error).mean())

    def other(*arguments):
        assert arguments[0] is model and arguments[1] is SCHEDULE and arguments[-1] is weight
        return arguments[2].sum()

    _, loss = denoising(MIXTURE.sample, SCHEDULE, weight, loss=other)
    assert loss(model, x_0, t, eps) == x_0.sum()


def just(x):
    return lambda n, generator: x


BAD = [
    bad(
        "weight",
        lambda: denoising(MIXTURE.sample, SCHEDULE, torch.ones(7)),
        r"weight must be a table \[T \+ 1\] = \[101\], got \[7\]",
    ),
    bad("NaN", lambda: batch(2, just(torch.full((2,), math.nan))), "x_0 must be finite, got NaN"),
    bad(
        "pixels",
        lambda: batch(2, just(torch.ones(2).byte())),
        "x_0 must be a floating-point tensor, got a torch.uint8",
        TypeError,
    ),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
