"""The bound from a stated subset of the times: unbiased, and with a true error."""

import math
import runpy
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import bad, check_bad, generator, knowing, normal, numbers, schedules, seeds
from torch.testing import assert_close

from ddpm_lite.bound import Terms, vlb_terms
from ddpm_lite.gaussian import log_density
from ddpm_lite.loss import eps_weight
from ddpm_lite.mixture import two_modes
from ddpm_lite.schedule import linear_schedule

BENCHMARK = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "digits.py"))
EXACT = {"rtol": 1e-12, "atol": 1e-12}

# the terms of the bound

line_terms = partial(vlb_terms, decoder=log_density)


# a stated subset of the times


@given(schedules(), st.data(), seeds)
def test_strata_cover_every_t_once(schedule, data, seed):
    T = schedule.T
    assume(T > 1)
    K, x_0 = data.draw(st.integers(1, T - 1)), normal(200, seed=seed)
    terms = line_terms(lambda x, t: 0 * x, schedule, x_0, K, generator(seed))
    assert terms.times.shape == terms.middle.shape == terms.sizes.shape == (200, K)
    sizes = terms.sizes[0]
    assert (terms.sizes == sizes).all() and sizes.min() >= 1
    last = 1 + sizes.cumsum(0)
    k = torch.arange(1, K + 1)
    assert ((last - torch.maximum(k + 1.0, T ** (k / K))).abs() < 0.51).all() and last[-1] == T
    for k, (size, end) in enumerate(zip(sizes.tolist(), last.tolist(), strict=True)):
        drawn = terms.times[:, k].unique().tolist()
        possible = list(range(end - size + 1, end + 1))
        assert set(drawn) <= set(possible)
        if size <= 10:
            assert drawn == possible  # 200 draws miss one of 10 with probability 7e-9
        elif size > 20:
            assert len(drawn) > size / 2
    if T - 1 == K:
        every = line_terms(lambda x, t: 0 * x, schedule, x_0, None, generator(seed))
        assert all(torch.equal(a, b) for a, b in zip(every, terms, strict=True))


def test_a_stratified_sum_is_unbiased():
    """The terms are made to be t, exactly: whatever is wrong in the sum is the strata's fault."""
    schedule, x_0 = linear_schedule(101), torch.zeros(20_000, dtype=torch.float64)
    weight = eps_weight(schedule, schedule.beta_tilde)
    error = torch.zeros_like(weight)
    error[2:] = (torch.arange(2, 102) / weight[2:]).sqrt()
    for strata in (1, 7, 40):
        model = knowing(schedule, x_0, error)
        terms = line_terms(model, schedule, x_0, strata, generator(1))
        assert_close(terms.middle, terms.times.double(), rtol=1e-8, atol=1e-8)
        found = terms.total - terms.prior - terms.decoder
        assert abs(found.mean() - 5150) < 4 * found.std() / math.sqrt(len(x_0))
        sizes = terms.sizes[0]
        spread = (sizes**2 * (sizes**2 - 1) / 12).sum().sqrt()  # s times one of s numbers in a row
        assert abs(found.std() / spread - 1) < 0.02


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    """With new samples, new noise and new t in each of 400 repetitions."""
    schedule, data, draws = linear_schedule(20, 0.01, 0.3), two_modes(), generator(5)
    model, means, errors = data.denoiser(schedule), [], []
    for _ in range(400):
        terms = line_terms(model, schedule, data.sample(24, draws), 3, draws)
        means.append(terms.total.mean())
        errors.append(terms.standard_error)
    claimed = numbers(*errors).square().mean().sqrt()
    assert abs(claimed / torch.stack(means).std() - 1) < 0.12  # the ratio itself is known to 4 %
    every = line_terms(model, schedule, data.sample(20_000, draws), None, draws)
    assert abs(torch.stack(means).mean() - every.total.mean()) < 4 * claimed / 20


def test_batches_join_and_labels_stay_with_their_samples():
    schedule, x_0, seen = linear_schedule(5), normal(6, 2), []

    def model(x_t, t, y):
        seen.append(y)
        return y[:, None].expand_as(x_t).clone()

    y = torch.arange(6.0, dtype=torch.float64)
    parts = [
        line_terms(partial(model, y=y[rows]), schedule, x_0[rows], 2, generator(1))
        for rows in (slice(0, 4), slice(4, 6))
    ]
    joined = Terms(*map(torch.cat, zip(*parts, strict=True)))
    assert joined.times.shape == joined.middle.shape == (6, 2) and len(seen) == 6
    assert_close(joined.total, torch.cat([p.total for p in parts]), **EXACT)
    assert_close(joined.standard_error, joined.total.std().item() / math.sqrt(6), **EXACT)


# the command that measures a checkpoint


def test_one_draw_gives_the_terms_of_every_variance():
    """What the benchmark computes from the terms for beta_tilde, against those terms themselves."""
    schedule, x_0, factor = linear_schedule(30), normal(8, 3), 1 + torch.rand(29).double()
    model = two_modes().denoiser(schedule)

    def measured(variance=None, strata=None):
        def each(x_t, t):
            return model(x_t.flatten(), t.repeat_interleave(3)).reshape(x_t.shape)

        return line_terms(each, schedule, x_0, strata, generator(), variance=variance)

    variance = schedule.beta_tilde.clone()
    variance[2:] *= factor
    found = BENCHMARK["with_factor"](measured(), factor, 3)
    assert_close(found.middle, measured(variance).middle, rtol=1e-9, atol=1e-12)
    best = BENCHMARK["best_factor"](measured(), 3)
    least = BENCHMARK["with_factor"](measured(), best, 3).middle.mean(0)
    for other in (1.01 * best, best / 1.01, torch.ones_like(best)):
        assert (least < BENCHMARK["with_factor"](measured(), other, 3).middle.mean(0)).all()


S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


def terms(x_0=X, *args, **options):
    return line_terms(lambda x, t: x, S, x_0, *args, **options)


BAD = [
    bad("strata 0", lambda: terms(X, 0), r"times must be None .*1\.\.9 strata, got 0"),
    bad("strata 10", lambda: terms(X, 10), r"1\.\.9 strata, got 10"),
    bad("strata 1.5", lambda: terms(X, 1.5), r"1\.\.9 strata, got 1\.5"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
