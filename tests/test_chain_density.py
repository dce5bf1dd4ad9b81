"""The chain's own marginal: by whole paths, dense quadrature, Gaussians and samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import bad, check_bad, floats, mixtures, normal, numbers
from torch.testing import assert_close

from ddpm_lite.bound import vlb_terms
from ddpm_lite.density import chain_density, grid
from ddpm_lite.forward import q_step
from ddpm_lite.gaussian import log_density
from ddpm_lite.metrics import ks
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.schedule import constant_schedule, cosine_schedule, linear_schedule


def total(x, density):
    return float(density.sum() * (x[1] - x[0]))


# the chain's own marginal


@st.composite
def chains(draw, max_T=6):
    """A short schedule of large steps, and what `chain_density` takes: variance and variance_1."""
    T = draw(st.integers(2, max_T))
    schedule = linear_schedule(T, draw(floats(0.05, 0.4)), draw(floats(0.1, 0.6)))
    variance = numbers(0, 0, *draw(st.lists(floats(0.05, 0.8), min_size=T - 1, max_size=T - 1)))
    variance = draw(st.sampled_from([None, schedule.beta, variance]))
    return schedule, variance, draw(st.one_of(st.none(), floats(0.02, 0.5)))


def steps_back(model, schedule, variance, variance_1):
    """t, mu_theta(., t) and sigma_t^2 from T to 1, by the formulas of the papers."""
    for t in range(schedule.T, 0, -1):
        beta, noise = schedule.beta[t], 1 - schedule.alpha_bar[t]

        def mean(x, t=t, beta=beta, noise=noise):
            eps_hat = model(x, torch.full(x.shape, t))
            return (x - beta / noise.sqrt() * eps_hat) / (1 - beta).sqrt()

        var = (schedule.beta_tilde if variance is None else variance)[t]
        if t == 1:
            var = schedule.beta_tilde[2] if variance_1 is None else torch.tensor(variance_1)
        yield t, mean, var.double()


def spoiled(mixture, schedule):
    """A denoiser that is wrong everywhere, in a way that depends on x_t."""
    return lambda x_t, t: mixture.eps(schedule, x_t, t) + 0.3 * torch.cos(2 * x_t)


@given(mixtures(), chains())
@settings(max_examples=12)
def test_chain_density_against_dense_quadrature(mixture, chain):
    """The integral over paths, one full matrix a step, for a denoiser that is not exact."""
    schedule, model, x = chain[0], spoiled(mixture, chain[0]), grid(-12, 12, 801)
    p = log_density(x, 0.0, 1.0).exp()
    for _, mean, var in steps_back(model, *chain):
        p = log_density(x[:, None], mean(x), var).exp() @ p * (x[1] - x[0])
    density = chain_density(model, schedule, x, *chain[1:])
    assert_close(density, p, rtol=1e-4, atol=1e-6)
    assert_close(total(x, density), 1.0, rtol=1e-6, atol=0)


@given(floats(-2, 2), floats(0.3, 1.5), chains())
@settings(max_examples=20)
def test_chain_density_of_one_gaussian_is_gaussian_the_last_noise_included(mean_0, std_0, chain):
    model = GaussianMixture([1], [mean_0], [std_0]).denoiser(chain[0])
    mean, var = 0.0, 1.0
    for _, step_mean, noise in steps_back(model, *chain):
        zero, one = step_mean(numbers(0, 1))
        mean, var = (one - zero) * mean + zero, (one - zero) ** 2 * var + noise
    x = grid(-12, 12, 2049)
    density = chain_density(model, chain[0], x, *chain[1:])
    assert_close(density, log_density(x, mean, var).exp(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_paths_from_x_0_average_to_the_chain_density_and_their_logs_to_the_bound(variance):
    """E_q[p(x_0..T) / q(x_1..T | x_0)] is p_theta(x_0), and the mean of its logarithm is less.

    The same chain as `bound.vlb_terms`, which finds the bound by other means.
    """
    schedule, mixture, n = constant_schedule(6, 0.3), two_modes(0.3), 200_000
    table, model = getattr(schedule, variance), spoiled(mixture, schedule)
    x, generator = grid(n=2049), torch.Generator().manual_seed(11)
    i = 1024 + 128  # x = 1
    path = [x[i].expand(n)]
    for t in range(1, 7):
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        path.append(q_step(schedule, path[-1], torch.full((n,), t), z))
    log_ratio = log_density(path[6], 0.0, 1.0)
    for t, mean, var in steps_back(model, schedule, table, None):
        log_ratio += log_density(path[t - 1], mean(path[t]), var)
        log_ratio -= log_density(path[t], (1 - 0.3) ** 0.5 * path[t - 1], 0.3)
    p = chain_density(model, schedule, x, table)[i]
    ratio = log_ratio.exp()
    assert abs(ratio.mean() - p) < 4 * ratio.std() / n**0.5
    x_0 = path[0][:20_000]
    terms = vlb_terms(model, schedule, x_0, None, generator, log_density, table)
    error = math.hypot(terms.standard_error, float(log_ratio.std()) / n**0.5)
    assert abs(log_ratio.mean() + terms.total.mean()) < 4 * error
    assert log_ratio.mean() < p.log() - 10 * error


def test_chain_density_is_the_law_of_samples_with_noise_at_the_last_step():
    schedule, mixture, n = cosine_schedule(8), two_modes(0.3), 10_000
    model, x = mixture.denoiser(schedule), grid(n=2049)
    generator = torch.Generator().manual_seed(12)
    x_t = torch.randn(n, generator=generator, dtype=torch.float64)
    for _, mean, var in steps_back(model, schedule, schedule.beta, 0.2):
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        x_t = mean(x_t) + var.sqrt() * z
    density = chain_density(model, schedule, x, schedule.beta, 0.2)
    cdf = (density.cumsum(0) * (x[1] - x[0])).numpy()
    statistic, p = ks(x_t, lambda v: np.interp(v, x.numpy() + float(x[1] - x[0]) / 2, cdf))
    assert p > 0.01, statistic


def test_chain_density_comes_closer_to_the_data_as_one_over_T_squared():
    """KL(data || p_theta) with sigma^2 = beta and the same alpha_bar curve."""
    x, data = grid(n=1025), two_modes()
    found = []
    for T in (50, 200):
        schedule = linear_schedule().respaced(T)
        p = chain_density(data.denoiser(schedule), schedule, x, schedule.beta)
        log_q = data.log_prob(x)
        inside = log_q > -30
        found.append(total(x, (log_q.exp() * (log_q - p.clamp(min=1e-30).log()))[inside]))
    assert 0 < found[1] < found[0] / 10  # 4 times the steps: 16 times closer in the limit


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])
M, LINE = two_modes(), grid(n=64)
P, MODEL, NAN = M.log_prob(LINE).exp(), M.denoiser(S), math.nan


def of_chain(variance=None, variance_1=None, schedule=S):
    return chain_density(MODEL, schedule, LINE, variance, variance_1)


BAD = [
    bad("wide noise", lambda: of_chain(None, 16.0), "farther"),
    bad("chain table", lambda: of_chain(S.beta[1:]), r"table \[T \+ 1\] = \[11\].*got \[10\]"),
    bad("chain list", lambda: of_chain([0.1] * 11), "variance must be a table .*list", TypeError),
    bad("chain 0", lambda: of_chain(0 * S.beta), r"positive at t = 2\.\.T"),
    bad("chain var 0", lambda: of_chain(None, 0.0), "variance_1 must be positive .*got 0"),
    bad("chain var NaN", lambda: of_chain(None, NAN), "variance_1 must be positive .*nan"),
    bad("chain T 1", lambda: of_chain(schedule=linear_schedule(1)), "variance_1 .*when T = 1"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
