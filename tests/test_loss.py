"""The simple loss, its weights, and the batches that it is computed on."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    bad,
    cases,
    check_bad,
    floats,
    from_betas,
    generator,
    normal,
    numbers,
    schedules,
)
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.gaussian import kl
from ddpm_lite.loss import denoising, eps_weight, simple_loss, x_0_weight
from ddpm_lite.posterior import posterior
from ddpm_lite.prediction import predict_x_0
from ddpm_lite.schedule import linear_schedule

EXACT = {"rtol": 1e-12, "atol": 1e-12}


@given(cases())
def test_loss_is_the_mean_squared_error_at_x_t(case):
    seen = []

    def model(x_t, t):
        seen.append((x_t, t))
        return case.z

    loss = simple_loss(model, case.schedule, case.x_0, case.t, case.eps)
    x_t, t = seen[0]
    assert len(seen) == 1 and loss.shape == () and torch.equal(t, case.t)
    assert torch.equal(x_t, q_sample(case.schedule, case.x_0, t, case.eps))
    assert_close(loss, torch.nn.functional.mse_loss(case.z, case.eps), **EXACT)


@given(cases(), st.data())
def test_weighted_loss_weighs_each_sample_by_its_t(case, data):
    n = case.schedule.T + 1
    weight = numbers(*data.draw(st.lists(floats(0, 5), min_size=n, max_size=n)))
    loss = simple_loss(lambda x, t: case.z, case.schedule, case.x_0, case.t, case.eps, weight)
    per_sample = [float(((case.z[b] - case.eps[b]) ** 2).mean()) for b in range(len(case.t))]
    expected = sum(
        weight[t].item() * e for t, e in zip(case.t.tolist(), per_sample, strict=True)
    ) / len(case.t)
    assert_close(loss.item(), expected, **EXACT)


def test_loss_trains_the_model_through_autograd():
    """The loss of eps_hat = a is least at a = mean(eps), where its gradient vanishes."""
    schedule, eps = linear_schedule(10), normal(50, seed=1)
    a = eps.mean().clone().requires_grad_()
    t = torch.arange(50) % 10 + 1
    simple_loss(lambda x, t: a.expand_as(x), schedule, normal(50), t, eps).backward()
    assert_close(a.grad, torch.zeros_like(a), rtol=0, atol=1e-14)


def sine(x, t):
    return (2 * x).sin()


def variances(schedule):
    return [schedule.beta, schedule.beta_tilde, (schedule.beta + schedule.beta_tilde) / 2]


@given(schedules(), st.integers(0, 2), floats(-2, 2), floats(-2, 2))
def test_weights_are_the_kl_of_two_reverse_steps(schedule, which, x_0, eps_error):
    """KL between steps with means mu_tilde(x_0) and mu_tilde(x_0_hat), one variance, at each t."""
    if schedule.T == 1:
        return
    variance = variances(schedule)[which]
    t = torch.arange(2, schedule.T + 1)
    x_0, eps = numbers(x_0).expand(len(t)), normal(len(t))
    x_t = q_sample(schedule, x_0, t, eps)
    x_0_hat = predict_x_0(schedule, x_t, t, eps + eps_error)
    mean, mean_hat = (posterior(schedule, x, x_t, t)[0] for x in (x_0, x_0_hat))
    divergence = kl(mean, variance[t], mean_hat, variance[t])
    assert_close(eps_weight(schedule, variance)[t] * eps_error**2, divergence, rtol=1e-6, atol=1e-9)
    by_x_0 = x_0_weight(schedule, variance)[t] * (x_0 - x_0_hat) ** 2
    assert_close(by_x_0, divergence, rtol=1e-6, atol=1e-9)


@given(schedules())
def test_with_beta_tilde_the_x_0_weight_is_half_the_fall_of_the_snr(schedule):
    weight = x_0_weight(schedule, schedule.beta_tilde)
    assert len(weight) == schedule.T + 1 and (weight[:2] == 0).all()
    assert_close(weight[2:], -schedule.snr[1:].diff() / 2, rtol=1e-9, atol=1e-9)
    assert (eps_weight(schedule, schedule.beta)[:2] == 0).all()


def test_float32_table_and_model():
    schedule, t = linear_schedule(10), torch.tensor([1, 10])
    x_0, eps = normal(2, 3, dtype=torch.float32), normal(2, 3, seed=1, dtype=torch.float32)
    loss = simple_loss(lambda x, t: 0 * x, schedule, x_0, t, eps, schedule.beta.float())
    assert loss.dtype == torch.float32 and loss > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_has_the_dtype_of_the_data(dtype):
    schedule, t, (x_0, eps) = linear_schedule(10), torch.arange(1, 11), normal(2, 10, 3).to(dtype)
    found = simple_loss(sine, schedule, x_0, t, eps, schedule.snr)
    exact = simple_loss(sine, schedule, x_0.double(), t, eps.double(), schedule.snr)
    assert found.dtype == dtype
    assert_close(found.double(), exact, rtol=50 * torch.finfo(dtype).eps, atol=0)


# the batches


def some(n, generator):
    """Data and its labels: the label is the sign of the first coordinate."""
    x_0 = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return x_0, (x_0[:, 0] > 0).long()


def test_a_batch_is_all_that_is_random_and_its_loss_the_simple_one():
    schedule, model = linear_schedule(7), sine
    for weight in (None, schedule.beta):
        draw, loss = denoising(lambda n, g: some(n, g)[0], schedule, weight)
        batch = draw(9, generator(3))
        for ours, theirs in zip(batch, draw(9, generator(3)), strict=True):
            assert torch.equal(ours, theirs)
        x_0, t, eps = batch
        assert torch.equal(x_0, some(9, generator(3))[0])
        assert t.shape == (9,) and t.dtype == torch.int64 and eps.shape == (9, 2)
        assert torch.equal(loss(model, *batch), simple_loss(model, schedule, x_0, t, eps, weight))


def test_t_and_eps_are_those_of_algorithm_1():
    """t uniform in 1..T, eps standard normal, all independent of the data."""
    x_0, t, eps = denoising(lambda n, g: some(n, g)[0], linear_schedule(100))[0](
        10_000, generator()
    )
    counts = t.bincount(minlength=101)
    assert counts[0] == 0 and len(counts) == 101
    assert abs(((counts[1:] - 100) ** 2 / 100).sum() - 99) < 4 * math.sqrt(2 * 99)
    assert abs(eps.mean()) < 4 / 20_000**0.5 and abs(eps.var() - 1) < 4 * (2 / 20_000) ** 0.5
    assert abs((x_0 * eps).mean()) < 4 / 20_000**0.5


def test_labels_go_with_their_samples_to_the_model_and_a_loss_may_be_given():
    schedule, told = linear_schedule(7), []

    def model(x_t, t, y):
        return x_t * y[:, None]

    def mine(asked, *rest):
        told.append(rest)
        return simple_loss(asked, *rest)

    draw, loss = denoising(some, schedule, schedule.beta, loss=mine)
    x_0, t, eps, y = draw(50, generator())
    assert torch.equal(y, (x_0[:, 0] > 0).long())
    expected = simple_loss(partial(model, y=y), schedule, x_0, t, eps, schedule.beta)
    assert torch.equal(loss(model, x_0, t, eps, y), expected)
    assert told[0][0] is schedule and told[0][-1] is schedule.beta


def times_of(T, batch, steps):
    """The t of each of so many stratified batches: [steps, batch]."""
    draw, _ = denoising(lambda n, g: some(n, g)[0], linear_schedule(T), stratified=True)
    draws = generator(batch)
    return torch.stack([draw(batch, draws)[1] for _ in range(steps)])


@given(T=st.integers(1, 40), batch=st.integers(1, 40))
def test_stratified_times_are_one_in_each_part(T, batch):
    """Of batch equal parts of the line from 0 to T, part k meets the unit from t_k - 1 to t_k."""
    t, k = times_of(T, batch, 1), torch.arange(batch)
    assert t.dtype == torch.int64 and t.min() >= 1 and t.max() <= T
    assert ((t - 1) * batch < (k + 1) * T).all() and (t * batch > k * T).all()
    if T % batch == 0:
        assert torch.equal((t - 1) * batch // T, k.expand_as(t))


@pytest.mark.parametrize(("T", "batch"), [(10, 10), (10, 7), (5, 8), (12, 4)])
def test_stratified_times_are_uniform_all_together(T, batch):
    """And closer to it than independent ones: their chi square is not larger."""
    counts = times_of(T, batch, 200).flatten().bincount(minlength=T + 1)[1:]
    expected = 200 * batch / T
    assert ((counts - expected) ** 2 / expected).sum() < (T - 1) + 4 * math.sqrt(2 * T)
    if batch % T == 0:
        assert (counts == expected).all()


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


def loss(model=lambda x, t: x, x_0=X, t=T3, eps=X, weight=None):
    return simple_loss(model, S, x_0, t, eps, weight)


def drawn(draw):
    """The loss of a batch of 3."""
    batches, loss = denoising(draw, S)
    return loss(sine, *batches(3, generator()))


BAD = [
    bad("t 0", lambda: loss(t=T3 - 1), r"t must lie in 1\.\.10, got .*clean data"),
    bad("t int32", lambda: loss(t=T3.int()), r"t .*torch.int32.*use t\.long", TypeError),
    bad("eps", lambda: loss(eps=X[:2]), r"eps must have the shape of x_0, \[3\], got \[2\]"),
    bad("NaN", lambda: loss(x_0=X / 0), "x_0 must be finite, got NaN or infinity"),
    bad("empty", lambda: loss(x_0=X[:0], t=T3[:0], eps=X[:0]), "the batch is empty"),
    bad("model", lambda: loss(lambda x, t: x[:, None]), r"model must return .*\[3\], got \[3, 1\]"),
    bad("weight short", lambda: loss(weight=torch.ones(5)), r"weight .*\[11\], got \[5\]"),
    bad("weight long", lambda: loss(weight=torch.ones(12)), r"weight must be a table .*got \[12\]"),
    bad("weight 0-D", lambda: loss(weight=torch.ones(())), r"weight must be a table .*got \[\]"),
    bad("weight list", lambda: loss(weight=[1.0] * 11), "weight must be a table.*list", TypeError),
    bad("draw none", lambda: drawn(lambda n, g: X[:0]), r"x_0 must be a batch .*got \[0\]"),
    bad("draw int", lambda: drawn(lambda n, g: T3), "x_0 must be a float.*convert it", TypeError),
    bad("draw array", lambda: drawn(lambda n, g: X.numpy()), "x_0 must be .*ndarray", TypeError),
    bad("draw weight", lambda: denoising(some, S, S.beta[1:]), r"weight must be .*\[11\], got .10"),
    bad("draw few", lambda: drawn(lambda n, g: X[:2]), "one entry per sample"),
    bad("variance", lambda: eps_weight(S, S.beta[1:]), r"variance .*= \[11\], got \[10\]"),
    bad("variance 0", lambda: eps_weight(S, 0 * S.beta), r"variance .*at t = 2\.\.T, got 0"),
    bad("variance NaN", lambda: x_0_weight(S, S.beta / 0 * 0), "variance must be positive .*nan"),
    bad("x_0 weight", lambda: x_0_weight(S, from_betas(0.1).beta), r"variance .*got \[2\]"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
