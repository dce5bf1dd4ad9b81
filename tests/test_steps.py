"""One step back: laws between DDPM, DDIM and the posterior, at whole times and real ones."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    CLOCKED,
    STEPS,
    bad,
    cases,
    check_bad,
    ddpm_small,
    earlier,
    floats,
    normal,
    numbers,
    schedules,
)
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.mixture import two_modes
from ddpm_lite.posterior import posterior
from ddpm_lite.prediction import predict_x_0
from ddpm_lite.sampling import (
    beta_tilde_variance,
    beta_variance,
    ddim_step,
    ddpm_step,
)
from ddpm_lite.schedule import linear_schedule, scales
from ddpm_lite.times import walk_times

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
ALL = [*STEPS.values(), *CLOCKED.values()]


@given(cases(), st.data())
def test_ddpm_step_is_the_posterior_at_x_0_hat_plus_noise(case, data):
    schedule, x_t, t, eps_hat = case.schedule, case.x_t, case.t, case.eps
    s = data.draw(earlier(case))
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    mean, beta_tilde = posterior(schedule, x_0_hat, x_t, t, s)
    # The variance of the forward steps from s to t, by walking them.
    beta = torch.zeros_like(beta_tilde)
    for b in range(len(t)):
        for step_beta in schedule.beta[s[b] + 1 : t[b] + 1].tolist():
            beta[b] = (1 - step_beta) * beta[b] + step_beta
    assert_close(beta_variance(schedule, t, s, x_t), beta, rtol=1e-10, atol=1e-13)
    assert_close(beta_tilde_variance(schedule, t, s, x_t), beta_tilde, **EXACT)
    noisy = (s > 0).reshape(beta.shape)
    for step, var in ((ddpm_step, beta), (ddpm_small, beta_tilde)):
        x_s = step(schedule, x_t, t, s, eps_hat, case.z)
        assert_close(x_s, mean + noisy * var.sqrt() * case.z, **CLOSE)


@given(cases())
def test_ddpm_step_is_algorithm_2(case):
    """x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) + sigma_t z."""
    schedule, t, x_t = case.schedule, case.t, case.x_t
    column = (len(t), *[1] * (x_t.ndim - 1))
    beta, alpha_bar = schedule.beta[t].reshape(column), schedule.alpha_bar[t].reshape(column)
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * case.eps) / (1 - beta).sqrt()
    sigma = torch.where(t > 1, schedule.beta[t].sqrt(), 0.0).reshape(column)
    assert_close(
        ddpm_step(schedule, x_t, t, t - 1, case.eps, case.z), mean + sigma * case.z, **CLOSE
    )


@given(cases(), st.data())
def test_ddim_at_eta_1_is_the_posterior(case, data):
    """On neighbouring steps it is the DDPM step with beta_tilde; on longer ones too."""
    args = (case.schedule, case.x_t, case.t)
    for s in (case.t - 1, data.draw(earlier(case))):
        ddim = ddim_step(*args, s, case.eps, case.z, eta=1.0)
        assert_close(ddim, ddpm_small(*args, s, case.eps, case.z), **CLOSE)


@given(cases(), st.data())
def test_ddim_at_eta_0_carries_x_0_and_eps_along(case, data):
    """With the true eps, x_t becomes x_s of the same x_0 and eps; z has no part in it."""
    schedule, s = case.schedule, data.draw(earlier(case))
    x_t = q_sample(schedule, case.x_0, case.t, case.eps)
    x_s = ddim_step(schedule, x_t, case.t, s, case.eps, case.z)
    assert torch.equal(x_s, ddim_step(schedule, x_t, case.t, s, case.eps, 0 * case.z))
    later = s > 0
    if later.any():
        kept = q_sample(schedule, case.x_0[later], s[later], case.eps[later])
        assert_close(x_s[later], kept, **CLOSE)
    assert_close(x_s[~later], case.x_0[~later], **CLOSE)


@given(cases(), st.data(), floats(0, 1))
def test_ddim_keeps_the_marginals_at_every_eta(case, data, eta):
    """eps and z are independent: the squares of their factors add up to 1 - alpha_bar_s."""
    schedule, s = case.schedule, data.draw(earlier(case))

    def x_s(eps, z):
        x_t = q_sample(schedule, case.x_0, case.t, eps)
        return ddim_step(schedule, x_t, case.t, s, eps, z, eta)

    one, zero = torch.ones_like(case.z), torch.zeros_like(case.z)
    mean = x_s(zero, zero)
    column = mean.new_ones(len(s), *[1] * (mean.ndim - 1))
    alpha_bar = schedule.alpha_bar[s].reshape(column.shape)
    assert_close(mean, alpha_bar.sqrt() * case.x_0, **CLOSE)
    var = (x_s(one, zero) - mean) ** 2 + (x_s(zero, one) - mean) ** 2
    assert_close(var, (1 - alpha_bar).expand_as(var), **CLOSE)
    assert_close(
        ((x_s(zero, one) - mean) ** 2),
        (eta**2 * beta_tilde_variance(schedule, case.t, s, mean)).expand_as(var),
        rtol=1e-6,
        atol=1e-12,
    )


def test_ddim_at_eta_1_on_neighbours_is_the_posterior_of_the_exact_denoiser():
    """At T = 1000, with x_0_hat = E[x_0 | x_t]: at every t, to 12 digits."""
    schedule, mixture = linear_schedule(), two_modes(0.2)
    t, x_t, z = torch.arange(1, 1001), 2 * normal(1000), normal(1000, seed=1)
    ours = ddim_step(schedule, x_t, t, t - 1, mixture.eps(schedule, x_t, t), z, eta=1.0)
    mean, var = posterior(schedule, mixture.x_0(schedule, x_t, t), x_t, t)
    assert_close(ours, mean + var.sqrt() * z, rtol=1e-12, atol=1e-12)


@given(cases(), st.data())
def test_ddim_at_eta_0_is_an_euler_step_in_the_right_variables(case, data):
    """In y = x / sqrt(alpha_bar) and r = sqrt(1 / alpha_bar - 1) the ODE is dy/dr = eps_hat."""
    schedule, s = case.schedule, data.draw(earlier(case))
    column = (len(s), *[1] * (case.x_t.ndim - 1))
    a_t, a_s = (schedule.alpha_bar[r].reshape(column) for r in (case.t, s))
    r_t, r_s = ((1 / a - 1).sqrt() for a in (a_t, a_s))
    euler = case.x_t / a_t.sqrt() + (r_s - r_t) * case.eps
    x_s = ddim_step(schedule, case.x_t, case.t, s, case.eps, case.z)
    assert_close(x_s / a_s.sqrt(), euler, **EXACT)


# real times


@given(cases(), st.data(), st.sampled_from(ALL))
def test_a_real_t_that_is_whole_is_the_integer(case, data, step):
    s = data.draw(earlier(case))
    whole = step(case.schedule, case.x_t, case.t, s, case.eps, case.z)
    real = step(case.schedule, case.x_t, case.t.double(), s.double(), case.eps, case.z)
    assert torch.equal(whole, real)


@given(cases(), st.data(), floats(0, 1))
def test_ddim_keeps_the_marginals_at_real_times(case, data, eta):
    """The law at eta of every pair of integers, at two times in between."""
    schedule, B = case.schedule, len(case.t)
    t = schedule.T * numbers(*data.draw(st.lists(floats(0.01, 1), min_size=B, max_size=B)))
    s = t * data.draw(floats(0, 0.99))
    signal_t, noise_t = scales(schedule, t, case.x_t)
    signal_s, noise_s = scales(schedule, s, case.x_t, first=0)
    one, zero = torch.ones_like(case.z), torch.zeros_like(case.z)

    def x_s(eps, z):
        return ddim_step(schedule, signal_t * case.x_0 + noise_t * eps, t, s, eps, z, eta)

    mean = x_s(zero, zero)
    assert_close(mean, signal_s * case.x_0, **CLOSE)
    var = (x_s(one, zero) - mean) ** 2 + (x_s(zero, one) - mean) ** 2
    assert_close(var, (noise_s**2).expand_as(var), **CLOSE)


@given(cases(), st.sampled_from([*STEPS.values()]))
def test_the_last_step_returns_x_0_hat(case, step):
    s = torch.zeros_like(case.t)
    x_0_hat = predict_x_0(case.schedule, case.x_t, case.t, case.eps)
    assert torch.equal(step(case.schedule, case.x_t, case.t, s, case.eps, case.z), x_0_hat)


@given(schedules(), st.data(), st.sampled_from(ALL))
def test_a_jump_is_a_step_of_the_respaced_schedule(schedule, data, step):
    steps = data.draw(st.integers(1, schedule.T))
    times = walk_times(schedule, steps).flip(0)
    k = torch.arange(1, steps + 1)
    x, eps, z = normal(3, steps)
    jump = step(schedule, x, times[1:], times[:-1], eps, z)
    assert_close(jump, step(schedule.respaced(steps), x, k, k - 1, eps, z), rtol=1e-7, atol=1e-7)


def test_steps_keep_dtype_layout_and_gradients():
    schedule, t, s = linear_schedule(), torch.tensor([2, 500, 1000]), torch.tensor([1, 0, 900])
    x, eps, z = (normal(2, 3, seed=i).T for i in range(3))
    for step in ALL:
        exact = step(schedule, x, t, s, eps, z)
        same = step(schedule, x.contiguous(), t, s, eps.contiguous(), z.contiguous())
        assert torch.equal(exact, same)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            rounded = step(schedule, x.to(dtype), t, s, eps.to(dtype), z.to(dtype))
            assert rounded.dtype == dtype
            tolerance = 100 * torch.finfo(dtype).eps
            assert_close(rounded.double(), exact, rtol=tolerance, atol=20 * tolerance)
        leaf = x.clone().requires_grad_()
        step(schedule, leaf, t, s, eps, z).sum().backward()
        assert leaf.grad.abs().min() > 0


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


BAD = [
    row
    for f in (ddpm_step, ddim_step)
    for row in (
        bad(
            "t 0", lambda f=f: f(S, X, T3 - 1, T3 - 1, X, X), r"t must lie in 1\.\.10, got .*clean"
        ),
        bad("t int", lambda f=f: f(S, X, 3, T3 - 1, X, X), r"t .*int: use torch\.full", TypeError),
        bad("t int32", lambda f=f: f(S, X, T3.int(), T3 - 1, X, X), r"t .*t\.long", TypeError),
        bad("s int", lambda f=f: f(S, X, T3, 0, X, X), r"s .*int: use torch\.full", TypeError),
        bad("s -1", lambda f=f: f(S, X, T3, T3 - 2, X, X), r"s must lie in 0\.\.10, got .* -1"),
        bad("s = t", lambda f=f: f(S, X, T3, T3, X, X), "s must be smaller than t, got s = 1 with"),
        bad(
            "eps", lambda f=f: f(S, X, T3, T3 - 1, X[:2], X), r"eps_hat .*of x_t, \[3\], got \[2\]"
        ),
        bad(
            "z", lambda f=f: f(S, X, T3, T3 - 1, X, X[:, None]), r"z .*of x_t, \[3\], got \[3, 1\]"
        ),
        bad("x NaN", lambda f=f: f(S, X * math.nan, T3, T3 - 1, X, X), "x_t must be finite"),
        bad("eps NaN", lambda f=f: f(S, X, T3, T3 - 1, X / 0, X), "eps_hat must be finite"),
        bad("empty", lambda f=f: f(S, X[:0], T3[:0], T3[:0], X[:0], X[:0]), "the batch is empty"),
        bad("x int", lambda f=f: f(S, T3, T3, T3 - 1, X, X), "x_t must be a float", TypeError),
    )
] + [
    bad(
        "table",
        lambda: ddpm_step(S, X, T3, T3 - 1, X, X, S.beta),
        "a function.*at.table",
        TypeError,
    ),
    bad(
        "eta", lambda: ddim_step(S, X, T3, T3 - 1, X, X, 1.1), r"eta must lie in \[0, 1\], got 1.1"
    ),
    bad("eta < 0", lambda: ddim_step(S, X, T3, T3 - 1, X, X, -0.1), r"eta must .*got -0.1"),
    bad("eta NaN", lambda: ddim_step(S, X, T3, T3 - 1, X, X, math.nan), r"eta must .*got nan"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
