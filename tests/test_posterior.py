"""The posterior q(x_s | x_t, x_0): by quadrature, by Bayes' rule, by SymPy."""

import math

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    bad,
    cases,
    check_bad,
    earlier,
    floats,
    from_betas,
    normal,
    numbers,
    schedules,
)
from torch.testing import assert_close

from ddpm_lite.forward import q_sample, q_step
from ddpm_lite.gaussian import log_density
from ddpm_lite.posterior import posterior, step_variances
from ddpm_lite.schedule import linear_schedule

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def walked(schedule, s: int, t: int) -> tuple[float, float]:
    """Factor and variance of q(x_t | x_s), by walking the steps s + 1 ... t."""
    kept, var = 1.0, 0.0
    for beta in schedule.beta[s + 1 : t + 1].tolist():
        kept, var = kept * (1 - beta), (1 - beta) * var + beta
    return math.sqrt(kept), var


@given(schedules(), st.data())
def test_moments_by_quadrature(schedule, data):
    """Normalise q(x_t | x_s) q(x_s | x_0) on a grid of x_s; take mean and variance."""
    t = data.draw(st.integers(1, schedule.T))
    s = data.draw(st.integers(0, t - 1))
    x_0, x_t = data.draw(floats(-3, 3)), data.draw(floats(-3, 3))
    mean, var = posterior(
        schedule, numbers(x_0), numbers(x_t), torch.tensor([t]), torch.tensor([s])
    )
    if s == 0:
        assert mean == x_0 and var == 0
        return
    factor, step_var = walked(schedule, s, t)
    signal, noise = walked(schedule, 0, s)
    # The grid need only hold the posterior: it is centred by the prior and the likelihood.
    width = 12 * math.sqrt(min(noise, step_var / factor**2))
    ends = sorted([signal * x_0, x_t / factor])
    x_s = torch.linspace(ends[0] - width, ends[1] + width, 20001, dtype=torch.float64)
    weight = log_density(x_t, factor * x_s, step_var) + log_density(x_s, signal * x_0, noise)
    weight = weight.softmax(0)
    expected = (weight * x_s).sum()
    assert_close(mean, expected[None], rtol=1e-9, atol=1e-9)
    assert_close(var, (weight * (x_s - expected) ** 2).sum()[None], rtol=1e-8, atol=1e-12)


@given(cases(), st.data())
def test_posterior_times_marginal_is_the_joint(case, data):
    """q(x_s | x_t, x_0) q(x_t | x_0) = q(x_t | x_s) q(x_s | x_0), at any x_s (here: z)."""
    t, s = case.t, data.draw(earlier(case))
    later = s > 0  # at s = 0 the posterior is a point
    mean, var = posterior(case.schedule, case.x_0, case.x_t, t, s)
    for b in later.nonzero().flatten().tolist():
        signal_t, noise_t = walked(case.schedule, 0, int(t[b]))
        signal_s, noise_s = walked(case.schedule, 0, int(s[b]))
        factor, step_var = walked(case.schedule, int(s[b]), int(t[b]))
        x_0, x_t, x_s = case.x_0[b], case.x_t[b], case.z[b]
        left = log_density(x_s, mean[b], var[b]) + log_density(x_t, signal_t * x_0, noise_t)
        right = log_density(x_t, factor * x_s, step_var)
        right = right + log_density(x_s, signal_s * x_0, noise_s)
        assert_close(left, right, rtol=1e-9, atol=1e-9)


@given(cases(), st.data())
def test_posterior_averaged_over_x_t_is_the_marginal_of_x_s(case, data):
    """A mean affine in x_t: its law at noise level s must come out, mean and variance."""
    schedule, t, s = case.schedule, case.t, data.draw(earlier(case))
    x_t = q_sample(schedule, case.x_0, t, torch.zeros_like(case.eps))
    mean, var = posterior(schedule, case.x_0, x_t, t, s)
    shifted, _ = posterior(schedule, case.x_0, x_t + 1, t, s)
    signal = schedule.alpha_bar[s].sqrt().reshape(var.shape)
    noise_s, noise_t = (1 - schedule.alpha_bar[u].reshape(var.shape) for u in (s, t))
    assert_close(mean, signal * case.x_0, **EXACT)
    total = (shifted - mean) ** 2 * noise_t + var
    assert_close(total, noise_s.expand_as(total), **EXACT)


@given(cases())
def test_default_s_is_the_step_before(case):
    schedule, t = case.schedule, case.t
    mean, var = posterior(schedule, case.x_0, case.x_t, t)
    explicit, explicit_var = posterior(schedule, case.x_0, case.x_t, t, t - 1)
    assert torch.equal(mean, explicit) and torch.equal(var, explicit_var)
    assert mean.shape == case.x_0.shape
    assert var.shape == (len(t), *[1] * (case.x_0.ndim - 1))
    assert_close(var.flatten(), schedule.beta_tilde[t], **EXACT)
    first = t == 1
    assert torch.equal(mean[first], case.x_0[first]) and (var[first] == 0).all()


def test_sympy_completes_the_square():
    """-2 log of q(x_t | x_s) q(x_s | x_0) is a quadratic in x_s: read off mean and variance."""
    x, x_0, x_t = sympy.symbols("x x_0 x_t", real=True)
    beta, a_bar = sympy.symbols("beta abar", positive=True)  # beta_t and alpha_bar_{t-1}
    alpha = 1 - beta
    square = (x_t - sympy.sqrt(alpha) * x) ** 2 / beta
    square += (x - sympy.sqrt(a_bar) * x_0) ** 2 / (1 - a_bar)
    curvature = sympy.diff(square, x, 2) / 2
    mean = sympy.solve(sympy.diff(square, x), x)[0]

    # The formulas of Ho et al. 2020, eq. 7 ...
    noise = 1 - alpha * a_bar
    beta_tilde = (1 - a_bar) / noise * beta
    mu_tilde = sympy.sqrt(a_bar) * beta / noise * x_0
    mu_tilde += sympy.sqrt(alpha) * (1 - a_bar) / noise * x_t
    assert sympy.simplify(1 / curvature - beta_tilde) == 0
    assert sympy.simplify(mean - mu_tilde) == 0

    # ... and the numbers of the code.
    schedule = from_betas(0.2, 0.5)  # alpha_bar_1 = 0.8, beta_2 = 0.5
    ours = posterior(schedule, numbers(0.7), numbers(-1.1), torch.tensor([2]))
    values = {beta: 0.5, a_bar: 0.8, x_0: 0.7, x_t: -1.1}
    theirs = [numbers(float(formula.subs(values))) for formula in (mean, 1 / curvature)]
    assert_close(list(ours), theirs, **EXACT)


@given(schedules(), st.data())
def test_respaced_schedule_has_the_posterior_of_the_jump(schedule, data):
    steps = data.draw(st.integers(1, schedule.T))
    respaced = schedule.respaced(steps)
    k = torch.arange(1, steps + 1)
    times = (schedule.alpha_bar[:, None] - respaced.alpha_bar).abs().argmin(0)
    x_0, x_t = normal(steps, seed=1), normal(steps, seed=2)
    jump = posterior(schedule, x_0, x_t, times[1:], times[:-1])
    assert_close(jump, posterior(respaced, x_0, x_t, k), rtol=1e-9, atol=1e-9)


@given(cases(), st.data())
def test_step_variances_compose(case, data):
    schedule, t, s = case.schedule, case.t, data.draw(earlier(case))
    variances = step_variances(schedule, t, s, case.x_0)
    for b in range(len(t)):
        _, step = walked(schedule, int(s[b]), int(t[b]))
        _, noise_s = walked(schedule, 0, int(s[b]))
        _, noise_t = walked(schedule, 0, int(t[b]))
        expected = (step, noise_s, noise_t)
        assert_close(tuple(v[b].item() for v in variances), expected, rtol=1e-10, atol=1e-13)


def test_gradients_dtypes_and_layouts():
    schedule, t = linear_schedule(), torch.tensor([1, 2, 1000])
    x_0, x_t = normal(2, 3, seed=1).T, normal(2, 3, seed=2).T
    exact, exact_var = posterior(schedule, x_0, x_t, t)
    same, _ = posterior(schedule, x_0.contiguous(), x_t.contiguous(), t)
    assert torch.equal(exact, same)
    for dtype, rounding in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)):
        mean, var = posterior(schedule, x_0.to(dtype), x_t.to(dtype), t)
        assert mean.dtype == var.dtype == dtype
        assert_close(mean.double(), exact, rtol=rounding, atol=rounding)
        assert_close(var.double(), exact_var, rtol=rounding, atol=0)
    leaf = x_0.clone().requires_grad_()
    posterior(schedule, leaf, x_t, t)[0].sum().backward()
    assert_close(leaf.grad[0], numbers(1, 1), **EXACT)


def test_one_step_there_and_the_posterior_back():
    """Sampling x_s, then x_t, then x_s again from the posterior leaves the law of x_s as it was."""
    schedule, n = from_betas(0.3, 0.4), 20_000
    t = torch.full((n,), 2)
    x_0 = torch.full((n,), 0.5, dtype=torch.float64)
    eps, step_eps, z = normal(3, n, seed=7)
    x_1 = q_sample(schedule, x_0, t - 1, eps)
    x_2 = q_step(schedule, x_1, t, step_eps)
    mean, var = posterior(schedule, x_0, x_2, t)
    again = mean + var.sqrt() * z
    assert_close(again.mean(), x_1.mean(), rtol=0, atol=4 * math.sqrt(2 * 0.3 / n))
    assert_close(again.var(), x_1.var(), rtol=0, atol=4 * 0.3 * math.sqrt(4 / n))


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
BAD = [
    bad("t 0", lambda: posterior(S, X, X, T3 - 1), r"t must lie in 1\.\.10, got .*clean data"),
    bad("t 11", lambda: posterior(S, X, X, T3 + 1), r"t must lie in 1\.\.10, got .* to 11"),
    bad("t int", lambda: posterior(S, X, X, 3), r"t .*got int: use torch\.full", TypeError),
    bad("s -1", lambda: posterior(S, X, X, T3, T3 - 2), r"s must lie in 0\.\.10, got .* from -1"),
    bad(
        "s = t", lambda: posterior(S, X, X, T3, T3), "s must be smaller.*s = 1 with t = 1: the step"
    ),
    bad(
        "s > t", lambda: posterior(S, X, X, T3, T3 * 0 + 6), "s must be .*s = 6 with t = 1: the st"
    ),
    bad("s int", lambda: posterior(S, X, X, T3, 0), r"s must be an int64.*torch\.full", TypeError),
    bad("s real", lambda: posterior(S, X, X, T3, T3 - 1.5), r"s must lie in \[0, 10\], got .*-0.5"),
    bad("s short", lambda: posterior(S, X, X, T3, T3[:2] - 1), r"s must have one .*\[2\].*\[3\]"),
    bad(
        "shapes",
        lambda: posterior(S, X, X[:2], T3),
        r"x_t must have the shape of x_0, \[3\].*\[2\]",
    ),
    bad("x int", lambda: posterior(S, T3, X, T3), "x_0 must be a floating.*int64", TypeError),
    bad("variances", lambda: step_variances(S, T3, T3 - 1, T3), "like must be a float", TypeError),
    bad("NaN", lambda: posterior(S, X, X * math.nan, T3), "x_t must be finite, got NaN"),
    bad("empty", lambda: posterior(S, X[:0], X[:0], T3[:0]), "the batch is empty"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
