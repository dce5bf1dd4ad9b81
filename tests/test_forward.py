"""The forward process: one step composed t times is the jump, and diffusers agrees."""

import math

import pytest
import torch
from hypothesis import given
from strategies import bad, cases, check_bad, from_betas, normal, schedules
from torch.testing import assert_close

from ddpm_lite.forward import q_sample, q_step
from ddpm_lite.gaussian import log_density
from ddpm_lite.metrics import ks
from ddpm_lite.schedule import cosine_schedule, linear_schedule

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def affine(function):
    """The numbers a, b of a map (x, eps) -> a x + b eps."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return function(one, zero).item(), function(zero, one).item()


@given(schedules())
def test_steps_composed_by_induction_have_the_law_of_the_jump(schedule):
    """From x_0: the mean is multiplied by a, the variance by a^2, and b^2 is added; at every t."""
    signal, var = 1.0, 0.0
    for t in range(1, schedule.T + 1):
        now = torch.tensor([t])
        a, b = affine(lambda x, eps, now=now: q_step(schedule, x, now, eps))
        signal, var = a * signal, a**2 * var + b**2
        jump_signal, jump_std = affine(lambda x, eps, now=now: q_sample(schedule, x, now, eps))
        assert_close((jump_signal, jump_std**2), (signal, var), **EXACT)
        # Unit variance is kept by both.
        assert_close((a**2 + b**2, jump_signal**2 + jump_std**2), (1.0, 1.0), **EXACT)


@given(cases())
def test_step_and_jump_are_affine_in_each_sample_with_its_own_t(case):
    for function, first in ((q_step, 1 - case.schedule.beta), (q_sample, case.schedule.alpha_bar)):
        x_t = function(case.schedule, case.x_0, case.t, case.eps)
        assert x_t.shape == case.x_0.shape
        for b, t in enumerate(case.t.tolist()):
            kept = first[t].item()
            expected = math.sqrt(kept) * case.x_0[b] + math.sqrt(1 - kept) * case.eps[b]
            assert_close(x_t[b], expected, **EXACT)


def test_first_step_and_first_jump_are_one():
    schedule, x, eps = linear_schedule(), normal(5, seed=1), normal(5, seed=2)
    t = torch.ones(5, dtype=torch.int64)
    assert_close(q_step(schedule, x, t, eps), q_sample(schedule, x, t, eps), **EXACT)


def test_a_simulated_walk_ends_in_the_law_of_the_jump():
    schedule, n = cosine_schedule(20), 4000
    x = torch.full((n,), 1.5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 13):
        eps = torch.randn(n, generator=generator, dtype=torch.float64)
        x = q_step(schedule, x, torch.full((n,), t), eps)
    alpha_bar = math.prod((1 - schedule.beta[1:13]).tolist())
    law = torch.distributions.Normal(1.5 * alpha_bar**0.5, (1 - alpha_bar) ** 0.5)
    assert ks(x, lambda v: law.cdf(torch.from_numpy(v)).numpy())[1] > 0.01


def test_path_density_integrates_to_the_jump():
    """Chapman-Kolmogorov on a grid: q(x_2|x_0) = integral of q(x_2|x_1) q(x_1|x_0) over x_1."""
    schedule = from_betas(0.1, 0.3)
    x_1 = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    x_0, x_2 = 1.2, torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    first = log_density(x_1, math.sqrt(0.9) * x_0, 0.1)
    second = log_density(x_2, math.sqrt(0.7) * x_1, 0.3)
    density = (first + second).exp().sum(1) * 16 / 4000
    signal, std = affine(lambda x, eps: q_sample(schedule, x, torch.tensor([2]), eps))
    assert_close(density.log(), log_density(x_2[:, 0], signal * x_0, std**2), **EXACT)


def test_gradients_flow_to_data_and_noise():
    schedule, t = linear_schedule(10), torch.tensor([1, 4, 10])
    x_0, eps = normal(3, 2, seed=1).requires_grad_(), normal(3, 2, seed=2).requires_grad_()
    q_sample(schedule, x_0, t, eps).sum().backward()
    assert_close(x_0.grad[:, 0], schedule.alpha_bar[t].sqrt(), **EXACT)
    assert_close(eps.grad[:, 1], (1 - schedule.alpha_bar[t]).sqrt(), **EXACT)


def test_single_precision_loses_only_its_own_rounding():
    schedule, t = linear_schedule(), torch.tensor([1, 2, 500, 1000])
    x_0, eps = normal(4, 3, seed=1), normal(4, 3, seed=2)
    exact = q_sample(schedule, x_0, t, eps)
    for dtype, rounding in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)):
        x_t = q_sample(schedule, x_0.to(dtype), t, eps.to(dtype))
        assert x_t.dtype == dtype
        assert_close(x_t.double(), exact, rtol=rounding, atol=rounding)
    noise = q_sample(schedule, torch.zeros(4, 3), t, eps.float()).double()
    assert_close(noise, q_sample(schedule, 0 * x_0, t, eps), rtol=1e-6, atol=0)


def test_memory_layout_does_not_matter():
    schedule, t = linear_schedule(10), torch.tensor([3, 9, 9, 1])[::2]
    x, eps = normal(6, 5, 2, seed=1).transpose(0, 2), normal(1, 5, 1, seed=2).expand(2, 5, 6)
    x_t = q_sample(schedule, x, t, eps)
    assert torch.equal(x_t, q_sample(schedule, x.contiguous(), t, eps.contiguous()))


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


@pytest.mark.parametrize("T", [1, 2, 50, 1000])
def test_linear_tables_are_diffusers(diffusers, T):
    theirs = diffusers.DDPMScheduler(num_train_timesteps=T, beta_schedule="linear")
    ours = linear_schedule(T)
    assert_close(ours.beta[1:], theirs.betas.double(), rtol=1e-6, atol=1e-9)
    assert_close(ours.alpha_bar[1:], theirs.alphas_cumprod.double(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("T", [2, 50, 1000])
def test_cosine_tables_are_diffusers(diffusers, T):
    theirs = diffusers.DDPMScheduler(num_train_timesteps=T, beta_schedule="squaredcos_cap_v2")
    ours = cosine_schedule(T)
    assert_close(ours.beta[1:], theirs.betas.double(), rtol=1e-6, atol=1e-9)
    assert_close(ours.alpha_bar[1:], theirs.alphas_cumprod.double(), rtol=1e-4, atol=1e-8)


def test_jump_is_diffusers_add_noise(diffusers):
    """Their t is ours minus 1; their tables are float32 until they are given ours."""
    schedule = linear_schedule(100)
    theirs = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule="linear")
    t, x_0, eps = torch.arange(1, 101), normal(100, 2, seed=1), normal(100, 2, seed=2)
    x_t = q_sample(schedule, x_0, t, eps)
    assert_close(theirs.add_noise(x_0, eps, t - 1), x_t, rtol=0, atol=1e-5)
    theirs.alphas_cumprod = schedule.alpha_bar[1:]
    assert_close(theirs.add_noise(x_0, eps, t - 1), x_t, **EXACT)


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
BAD = [
    row
    for f, first in ((q_step, "x_prev"), (q_sample, "x_0"))
    for row in (
        bad("t 0", lambda f=f: f(S, X, T3 - 1, X), r"t must lie in 1\.\.10, got .* 0 .*clean data"),
        bad("t 11", lambda f=f: f(S, X, T3 + 1, X), r"t must lie in 1\.\.10, got .* to 11"),
        bad("t int32", lambda f=f: f(S, X, T3.int(), X), r"t .*int32.*use t\.long", TypeError),
        bad("t int", lambda f=f: f(S, X, 3, X), r"t .*got int: use torch\.full", TypeError),
        bad("t [B, 1]", lambda f=f: f(S, X, T3[:, None], X), r"t .*is \[3, 1\], the batch \[3\]"),
        bad("eps", lambda f=f: f(S, X, T3, X[:2]), rf"eps .*of {first}, \[3\], got \[2\]"),
        bad("NaN", lambda f=f: f(S, X * math.nan, T3, X), f"{first} must be finite, got NaN"),
        bad("eps inf", lambda f=f: f(S, X, T3, X / 0), "eps must be finite, got NaN or inf"),
        bad("x int", lambda f=f: f(S, T3, T3, X), f"{first} .*torch.int64.*convert", TypeError),
        bad("empty", lambda f=f: f(S, X[:0], T3[:0], X[:0]), "the batch is empty"),
    )
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
