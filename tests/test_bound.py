"""The terms of the bound, by densities of whole paths and by the model's own calls."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import (
    bad,
    cases,
    check_bad,
    floats,
    from_betas,
    generator,
    knowing,
    mixtures,
    normal,
    numbers,
    schedules,
    seeds,
)
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ddpm_lite.bound import vlb_terms
from ddpm_lite.forward import q_step
from ddpm_lite.gaussian import log_density
from ddpm_lite.loss import eps_weight
from ddpm_lite.mixture import two_modes
from ddpm_lite.prediction import clipped, predict_eps
from ddpm_lite.schedule import at, linear_schedule

EXACT = {"rtol": 1e-12, "atol": 1e-12}

# the terms of the bound

line_terms = partial(vlb_terms, decoder=log_density)


@given(cases(), st.sampled_from([torch.float32, torch.float64]), floats(0.1, 3), seeds)
def test_every_term_is_the_kl_of_torch_distributions(case, dtype, factor, seed):
    """From the model's calls alone, with the formulas of Ho et al. 2020 in float64."""
    schedule, calls = case.schedule, {}
    assume(schedule.T > 1)

    def model(x_t, t):
        assert x_t.dtype == dtype and not torch.is_grad_enabled()
        eps_hat = (x_t / 2 + at(schedule.beta, t, x_t)).sin()
        calls[int(t[0])] = x_t.double(), eps_hat.double()
        return eps_hat

    x_0, variance = case.x_0.to(dtype), factor * schedule.beta
    terms = line_terms(model, schedule, x_0, None, generator(seed), variance=variance)
    assert set(calls) == set(range(1, schedule.T + 1)) and (terms.sizes == 1).all()
    x = x_0.double()
    for t, (x_t, eps_hat) in calls.items():
        beta, ab, ab_prev = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        mu_theta = (x_t - beta / (1 - ab).sqrt() * eps_hat) / (1 - beta).sqrt()
        if t == 1:
            nats = -Normal(mu_theta, schedule.beta_tilde[2].sqrt()).log_prob(x)
            found = terms.decoder
        else:
            mu = ab_prev.sqrt() * beta * x + (1 - beta).sqrt() * (1 - ab_prev) * x_t
            q = Normal(mu / (1 - ab), ((1 - ab_prev) / (1 - ab) * beta).sqrt())
            nats = kl_divergence(q, Normal(mu_theta, variance[t].sqrt()))
            found = terms.middle[:, t - 2]
            assert (terms.times[:, t - 2] == t).all()
        assert found.dtype == torch.float64
        assert_close(found, nats.reshape(len(x), -1).sum(1), rtol=1e-7, atol=1e-9)
    ab = schedule.alpha_bar[-1]
    prior = kl_divergence(Normal(ab.sqrt() * x, (1 - ab).sqrt()), Normal(0.0, 1.0))
    assert_close(terms.prior, prior.reshape(len(x), -1).sum(1), rtol=1e-7, atol=1e-9)
    total = terms.prior + terms.middle.sum(1) + terms.decoder
    assert_close(terms.total, total, **EXACT)


@given(cases(), seeds)
def test_with_beta_tilde_a_middle_term_is_the_weighted_error_in_eps(case, seed):
    schedule, errors = case.schedule, []
    assume(schedule.T > 1)

    def model(x_t, t):
        eps_hat = (2 * x_t).cos()
        eps = predict_eps(schedule, x_t, t, case.x_0)
        errors.append(((eps - eps_hat) ** 2).reshape(len(t), -1).sum(1))
        return eps_hat

    terms = line_terms(model, schedule, case.x_0, None, generator(seed))
    weight = eps_weight(schedule, schedule.beta_tilde)[2:]
    assert_close(terms.middle, weight * torch.stack(errors[1:], 1), rtol=1e-8, atol=1e-9)


def reverse_step(model, schedule, variance, x, t):
    """Mean and variance of p_theta(x_{t-1} | x_t = x), by Algorithm 2."""
    beta, ab = schedule.beta[t], schedule.alpha_bar[t]
    eps_hat = model(x, torch.full((len(x),), t))
    mean = (x - beta / (1 - ab).sqrt() * eps_hat) / (1 - beta).sqrt()
    return mean, schedule.beta_tilde[2] if t == 1 else variance[t]


def path_bound(model, schedule, variance, x_0, nodes=20):
    """E log q(x_1..x_T | x_0) - log p(x_0..x_T) over forward paths, by Gauss-Hermite quadrature."""
    z, w = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(nodes))
    z = torch.cartesian_prod(*[z] * schedule.T)
    w = torch.cartesian_prod(*[w / w.sum()] * schedule.T).prod(1)
    x, log_ratio = torch.full((len(z),), x_0, dtype=torch.float64), torch.zeros(len(z))
    for t in range(1, schedule.T + 1):
        now = torch.full((len(z),), t)
        x_t = q_step(schedule, x, now, z[:, t - 1])
        log_q = Normal((1 - schedule.beta[t]).sqrt() * x, schedule.beta[t].sqrt()).log_prob(x_t)
        mean, var = reverse_step(model, schedule, variance, x_t, t)
        log_ratio = log_ratio + log_q - Normal(mean, var.sqrt()).log_prob(x)
        x = x_t
    log_ratio = log_ratio - Normal(0.0, 1.0).log_prob(x)
    return float((w * log_ratio).sum())


def evidence(model, schedule, variance, x_0):
    """log p_theta(x_0), by carrying the density of x_t down on a grid."""
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    density = Normal(0.0, 1.0).log_prob(x).exp()
    for t in range(schedule.T, 0, -1):
        mean, var = reverse_step(model, schedule, variance, x, t)
        to = x if t > 1 else numbers(x_0)
        density = Normal(mean, var.sqrt()).log_prob(to[:, None]).exp() @ density * (x[1] - x[0])
    return float(density.log())


def test_the_terms_add_up_to_the_log_ratio_of_whole_paths():
    """And that is more than -log of the chain's own marginal: it is a bound."""
    schedule = linear_schedule(4, 0.1, 0.5)
    exact, anything = two_modes().denoiser(schedule), numbers(-1, -1, 0.3, 0.1, 0.6)
    for spoil, choice in ((0.7, anything), (0.0, schedule.beta), (0.7, None)):

        def model(x_t, t, spoil=spoil):
            return exact(x_t, t) + spoil * (x_t + t).sin()

        variance = schedule.beta_tilde if choice is None else choice
        for seed, x_0 in enumerate((-1.7, 0.4, 3.0)):
            repeated = numbers(x_0).expand(20_000)
            terms = line_terms(model, schedule, repeated, None, generator(seed), variance=choice)
            bound = path_bound(model, schedule, variance, x_0)
            assert abs(terms.total.mean().item() - bound) < 4 * terms.standard_error
            assert terms.standard_error < 0.06
            assert bound > -evidence(model, schedule, variance, x_0)


@given(mixtures(), schedules(6), seeds)
def test_the_mean_bound_is_above_the_entropy_of_the_data(mixture, schedule, seed):
    """The bound is above -log p_theta(x_0), which no p_theta has below the entropy on average."""
    assume(schedule.T > 1)
    draws = generator(seed)
    x_0 = mixture.sample(400, draws)
    terms = line_terms(mixture.denoiser(schedule), schedule, x_0, None, draws)
    excess = terms.total + mixture.log_prob(x_0)
    assert excess.mean() > -5 * excess.std() / 20


@given(cases(), st.sampled_from([0.3, 1.0]), floats(0.1, 3), seeds)
def test_the_terms_of_a_clipped_model_are_those_of_steps_at_the_clamped_x_0_hat(case, c, f, seed):
    """By the posterior of Ho et al. at clamp(x_0_hat), from the unclipped model's calls alone."""
    schedule, calls = case.schedule, {}
    assume(schedule.T > 1)

    def model(x_t, t):
        calls[int(t[0])] = x_t, 2 * x_t.sin()
        return 2 * x_t.sin()

    x, variance = case.x_0, f * schedule.beta
    clip = clipped(model, schedule, c)
    terms = line_terms(clip, schedule, x, None, generator(seed), variance=variance)
    for t, (x_t, eps_hat) in calls.items():
        beta, ab, ab_prev = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        x_0_hat = ((x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()).clamp(-c, c)
        if t == 1:
            nats = -Normal(x_0_hat, schedule.beta_tilde[2].sqrt()).log_prob(x)
            found = terms.decoder
        else:
            mu, mu_theta = (
                ab_prev.sqrt() * beta * known + (1 - beta).sqrt() * (1 - ab_prev) * x_t
                for known in (x, x_0_hat)
            )
            q = Normal(mu / (1 - ab), ((1 - ab_prev) / (1 - ab) * beta).sqrt())
            nats = kl_divergence(q, Normal(mu_theta / (1 - ab), variance[t].sqrt()))
            found = terms.middle[:, t - 2]
        assert_close(found, nats.reshape(len(x), -1).sum(1), rtol=1e-6, atol=1e-8)


def test_a_model_that_knows_the_data_pays_for_the_ends_alone():
    schedule, x_0 = linear_schedule(50), normal(6, 2, 3)
    terms = line_terms(knowing(schedule, x_0), schedule, x_0, None, generator())
    assert_close(terms.middle, torch.zeros(6, 49, dtype=torch.float64), rtol=0, atol=1e-18)
    rate = 0.5 * (2 * math.pi * schedule.beta_tilde[2]).log()
    assert_close(terms.decoder, (6 * rate).expand(6), **EXACT)


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


def terms(x_0=X, *args, **options):
    return line_terms(lambda x, t: x, S, x_0, *args, **options)


def FIRST(x, mean, var):
    """A decoder that answers for one image."""
    return log_density(x, mean, var)[:1]


def SUMMED(x, mean, var):
    return log_density(x, mean, var).sum(1)


BAD = [
    bad("x_0 int", lambda: terms(X.long()), "x_0 must be a floating-point tensor", TypeError),
    bad("x_0 NaN", lambda: terms(X / 0), "x_0 must be finite"),
    bad("x_0 0-D", lambda: terms(X[0]), r"x_0 must be a batch \[B, \*D\].*got \[\]"),
    bad("x_0 empty", lambda: terms(X[:0]), r"x_0 must be a batch .*got \[0\]"),
    bad("T 1", lambda: vlb_terms(lambda x, t: x, from_betas(0.1), X), "T must be at least 2"),
    bad("bound's sigma", lambda: terms(variance=0 * S.beta), "variance must be positive"),
    bad("bound's table", lambda: terms(variance=S.beta[1:]), r"variance .*\[11\], got \[10\]"),
    bad("bound's list", lambda: terms(variance=[1.0] * 11), "variance .*got list", TypeError),
    bad("bound's model", lambda: vlb_terms(lambda x, t: x[:, None], S, X), "model must return"),
    bad("bound's NaN", lambda: vlb_terms(lambda x, t: x / 0, S, X), "eps_hat must be finite"),
    bad("decoder [1, D]", lambda: terms(X[:, None], decoder=FIRST), r"log p .*\[3, 1\], got .1"),
    bad("decoder [B]", lambda: terms(X[:, None], decoder=SUMMED), r"log p .*\[3, 1\], got .3.$"),
    bad("one sample", lambda: terms(X[:1]).standard_error, "needs 2 samples or more"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
