"""Schedules: the tables, their laws, and what is gathered from them."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, check_bad, floats, from_betas, normal, numbers, schedules
from torch.testing import assert_close

from ddpm_lite.schedule import (
    NoiseSchedule,
    alpha_bar_like,
    at,
    constant_schedule,
    cosine_schedule,
    linear_schedule,
    scales,
)
from ddpm_lite.times import timestep_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}


@given(schedules())
def test_tables_follow_from_beta(schedule):
    betas = schedule.beta.tolist()
    assert len(betas) == schedule.T + 1 and betas[0] == 0
    alpha_bar = [math.prod(1 - b for b in betas[: t + 1]) for t in range(schedule.T + 1)]
    assert_close(schedule.alpha, numbers(*(1 - b for b in betas)), **EXACT)
    assert_close(schedule.alpha_bar.tolist(), alpha_bar, **EXACT)
    assert schedule.alpha_bar[0] == 1 and schedule.snr[0] == math.inf
    assert (schedule.alpha_bar.diff() < 0).all() and schedule.alpha_bar[-1] > 0
    assert (schedule.snr.diff() < 0).all()
    # snr = a / (1 - a) says: a = snr / (1 + snr).
    assert_close(schedule.snr[1:] / (1 + schedule.snr[1:]), schedule.alpha_bar[1:], **EXACT)


@given(schedules())
def test_beta_tilde_is_the_variance_of_two_gaussian_facts_about_x_prev(schedule):
    """Precisions add: of q(x_t | x_{t-1}), alpha_t / beta_t, and of q(x_{t-1} | x_0)."""
    beta_tilde = schedule.beta_tilde
    assert len(beta_tilde) == schedule.T + 1 and beta_tilde[0] == beta_tilde[1] == 0
    precision = schedule.alpha[2:] / schedule.beta[2:] + 1 / (1 - schedule.alpha_bar[1:-1])
    assert_close(beta_tilde[2:], 1 / precision, rtol=1e-10, atol=0)
    assert (beta_tilde[1:] < schedule.beta[1:]).all()


def test_linear_schedule_is_a_straight_line_with_the_stated_ends():
    schedule = linear_schedule(7, 0.01, 0.13)
    assert_close(schedule.beta[1:], 0.01 + 0.02 * torch.arange(7).double(), **EXACT)
    assert linear_schedule().T == 1000
    assert linear_schedule(1, 0.03, 0.1).beta.tolist() == [0, 0.03]


@given(st.integers(2, 300), floats(0, 0.5))
def test_cosine_schedule_is_a_squared_cosine_until_the_clip(T, offset):
    """cos^2 a = (1 + cos 2a) / 2, with a = 90 degrees at t = T, where the clip bites."""
    schedule = cosine_schedule(T, offset)
    angle = math.pi * (np.arange(T + 1) / T + offset) / (1 + offset)
    expected = torch.from_numpy((1 + np.cos(angle)) / (1 + np.cos(angle[0])))
    clipped = schedule.beta >= 0.999
    assert clipped[-1] and schedule.beta.max() == 0.999
    kept = ~clipped
    assert_close(schedule.alpha_bar[kept], expected[kept], rtol=1e-9, atol=1e-12)


@given(st.integers(1, 50), floats(1e-4, 0.5))
def test_constant_schedule_is_a_power(T, beta):
    expected = [(1 - beta) ** t for t in range(T + 1)]
    assert_close(constant_schedule(T, beta).alpha_bar.tolist(), expected, **EXACT)


def test_schedule_is_frozen_and_owns_its_table():
    table = torch.tensor([0.0, 0.1, 0.2])
    schedule = NoiseSchedule(table)
    table[1] = 0.9
    assert schedule.beta.dtype == torch.float64 and schedule.beta[1] == torch.tensor(0.1).double()
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.beta = table
    assert repr(schedule) == "NoiseSchedule(T=2, alpha_bar_T=0.72)"


def test_schedules_are_on_the_cpu_whatever_the_default_device():
    """A model is built on the meta device before its weights are read: its schedule is numbers."""
    with torch.device("meta"):
        made = linear_schedule(9), cosine_schedule(9), constant_schedule(9, 0.1)
        fewer = [schedule.respaced(3) for schedule in made]
    for schedule in (*made, *fewer):
        for table in ("beta", "alpha", "alpha_bar", "snr", "beta_tilde"):
            assert getattr(schedule, table).device.type == "cpu"
            assert getattr(schedule, table).dtype == torch.float64


def test_a_copied_schedule_is_the_schedule():
    """As `training.train` copies the model around it."""
    schedule = linear_schedule(9)
    for copied in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        for table in ("beta", "alpha", "alpha_bar", "snr", "beta_tilde"):
            assert torch.equal(getattr(copied, table), getattr(schedule, table))


def test_huge_T_keeps_its_laws():
    schedule = linear_schedule(1_000_000, 1e-7, 2e-5)
    assert schedule.T == 1_000_000 and (schedule.alpha_bar.diff() < 0).all()
    # With small steps, log alpha_bar_T is minus the area under beta: T times its mean.
    assert_close(schedule.alpha_bar[-1].log().item(), -10.05, rtol=1e-4, atol=0)
    x = torch.zeros(1, dtype=torch.float64)
    assert at(schedule.alpha_bar, torch.tensor([1_000_000]), x) == schedule.alpha_bar[-1]
    assert timestep_grid(1_000_000, 1000).diff().tolist() == [-1000] * 1000


# alpha_bar between the integers


@given(schedules(), st.data())
def test_alpha_bar_at_is_exact_at_integers_and_log_linear_between(schedule, data):
    integers = torch.arange(schedule.T + 1)
    assert torch.equal(schedule.alpha_bar_at(integers), schedule.alpha_bar)
    assert torch.equal(schedule.alpha_bar_at(integers.float()), schedule.alpha_bar)
    lower, f = data.draw(st.integers(0, schedule.T - 1)), data.draw(floats(0, 1))
    between = schedule.alpha_bar_at(lower + f)
    # Log-linear: beta acts at a constant rate within a step, so alpha enters to the power f.
    expected = schedule.alpha_bar[lower] * schedule.alpha[lower + 1] ** f
    assert between.dtype == torch.float64 and between.shape == ()
    assert_close(between, expected, rtol=1e-10, atol=0)


@given(schedules(), st.data())
def test_time_at_is_the_inverse_of_alpha_bar_at(schedule, data):
    t = numbers(*data.draw(st.lists(floats(0, schedule.T), min_size=1, max_size=5)))
    assert_close(schedule.time_at(schedule.alpha_bar_at(t)), t, rtol=1e-9, atol=1e-9)
    every = torch.arange(schedule.T + 1).double()
    assert_close(schedule.time_at(schedule.alpha_bar), every, rtol=1e-9, atol=1e-9)


@given(schedules(), st.data())
def test_scales_are_the_two_factors_of_the_jump_at_any_t(schedule, data):
    real = numbers(*data.draw(st.lists(floats(1e-3, schedule.T), min_size=3, max_size=3)))
    for t in (real, real.ceil().long()):
        for like in (normal(3), normal(3, 2, 2)):
            signal, noise = scales(schedule, t, like)
            assert signal.shape == noise.shape == (3, *[1] * (like.ndim - 1))
            assert_close(signal.flatten() ** 2, schedule.alpha_bar_at(t), **EXACT)
            assert_close(signal**2 + noise**2, torch.ones_like(signal), **EXACT)
        assert scales(schedule, t, normal(3).float())[1].dtype == torch.float32
    whole = real.ceil()
    assert torch.equal(
        alpha_bar_like(schedule, whole, normal(3)),
        alpha_bar_like(schedule, whole.long(), normal(3)),
    )


@given(schedules(), st.data())
def test_respaced_schedule_is_on_the_same_alpha_bar_curve(schedule, data):
    steps = data.draw(st.integers(1, schedule.T))
    respaced = schedule.respaced(steps)
    times = timestep_grid(schedule.T, steps).flip(0)
    assert respaced.T == steps
    assert_close(respaced.alpha_bar, schedule.alpha_bar[times], **EXACT)
    assert_close(schedule.respaced(schedule.T).beta, schedule.beta, **EXACT)


# gathering


def test_at_gathers_per_sample_and_broadcasts_over_the_rest():
    table = torch.arange(5, dtype=torch.float64)
    t = torch.tensor([4, 0, 2])
    for shape in ((3,), (3, 1), (3, 2, 4, 4)):
        gathered = at(table, t, torch.zeros(shape))
        assert gathered.shape == (3, *[1] * (len(shape) - 1))
        assert gathered.flatten().tolist() == [4, 0, 2] and gathered.dtype == torch.float32
    strided = torch.tensor([4, 9, 0, 9, 2])[::2]
    assert at(table, strided, torch.zeros(3)).tolist() == [4, 0, 2]


def test_complement_before_the_cast_keeps_float32_exact_at_t_1():
    """The trap that `at` warns of is real, and taking the complement first avoids it."""
    schedule, t, x = linear_schedule(), torch.tensor([1]), torch.zeros(1)
    before, after = at(1 - schedule.alpha_bar, t, x), 1 - at(schedule.alpha_bar, t, x)
    assert abs(before.item() / 1e-4 - 1) < 1e-7 < 1e-4 < abs(after.item() / 1e-4 - 1)


# bad input

TABLE = linear_schedule(10).alpha_bar
X = normal(3)
T3 = torch.tensor([1, 2, 3])
BAD = [
    bad("beta list", lambda: NoiseSchedule([0.0, 0.1]), "beta must be a floating.*list", TypeError),
    bad("beta int", lambda: NoiseSchedule(torch.tensor([0, 1])), "beta .*torch.int64", TypeError),
    bad("beta empty", lambda: from_betas(), r"beta .*\[T \+ 1\].*got \[1\].*put a 0"),
    bad("beta 2-D", lambda: NoiseSchedule(torch.zeros(2, 2)), r"beta .*got \[2, 2\]"),
    bad("beta[0]", lambda: NoiseSchedule(torch.tensor([0.1, 0.1])), "0 .*got 0.1: put"),
    bad("beta 0", lambda: from_betas(0.1, 0.0), r"beta .*beta\[2\] = 0: clip"),
    bad("beta 1", lambda: from_betas(0.1, 1.0), r"beta .*beta\[2\] = 1: clip"),
    bad("beta < 0", lambda: from_betas(-0.1), r"beta .*beta\[1\] = -0.1: clip"),
    bad("beta NaN", lambda: from_betas(0.1, 0.1, math.nan), r"beta\[3\] = nan: clip"),
    bad("beta vanishes", lambda: from_betas(1e-18), "beta .*alpha_bar_1 = 1 .*raise be"),
    bad("alpha_bar 0", lambda: constant_schedule(999, 0.9), "alpha_bar_T = 0: .*lower b"),
    bad("linear T 0", lambda: linear_schedule(0), "T must be a whole number .*got 0"),
    bad("linear T 2.5", lambda: linear_schedule(2.5), "T must be a whole .*got 2.5"),
    bad("linear NaN", lambda: linear_schedule(9, math.nan), r"beta\[1\] = nan"),
    bad("linear > 1", lambda: linear_schedule(9, 0.1, 1.1), r"beta\[9\] = 1.1: clip"),
    bad("cosine T -1", lambda: cosine_schedule(-1), "T must be .*got -1"),
    bad("cosine offset", lambda: cosine_schedule(9, -0.1), "offset must .*got -0.1"),
    bad("cosine NaN", lambda: cosine_schedule(9, math.nan), "offset must .*got nan"),
    bad("constant T", lambda: constant_schedule("9", 0.1), "T must be .*got '9'"),
    bad("constant 0", lambda: constant_schedule(9, 0.0), r"beta\[1\] = 0: clip"),
    bad("respaced", lambda: linear_schedule(10).respaced(11), "steps .*T = 10, got 11"),
    bad("real t < 0", lambda: linear_schedule(10).alpha_bar_at(-0.1), r"t .*\[0, 10\].*-0.1"),
    bad("real t > T", lambda: linear_schedule(10).alpha_bar_at(10.1), "t .*got 10.1"),
    bad("real t NaN", lambda: linear_schedule(10).alpha_bar_at(math.nan), "t .*got nan"),
    bad("time_at > 1", lambda: linear_schedule(10).time_at(1.1), r"alpha_bar .*, 1\], got 1.1"),
    bad("time_at low", lambda: linear_schedule(10).time_at(0.1), r"alpha_bar must.*\[0.9.*got 0.1"),
    bad("time_at NaN", lambda: linear_schedule(10).time_at(math.nan), "alpha_bar .*got nan"),
    bad("scales 0.0", lambda: scales(linear_schedule(10), X - X, X), r"\(0, 10\], got 0 .*clean"),
    bad("scales > T", lambda: scales(linear_schedule(2), T3.double(), X), r"\(0, 2\].*1 to 3"),
    bad("scales NaN", lambda: scales(linear_schedule(2), X * math.nan, X), r"\(0, 2\], got nan"),
    bad("s < 0", lambda: scales(linear_schedule(9), X - 9, X, 0, "s"), r"s must lie in \[0, 9\]"),
    bad("scales int32", lambda: scales(linear_schedule(9), T3.int(), X), "t.long", TypeError),
    bad("scales int", lambda: scales(linear_schedule(9), T3, T3), "like must be", TypeError),
    bad("at list", lambda: at([0.0, 0.1], T3, X), "table must be a tensor .*got list", TypeError),
    bad("at 2-D", lambda: at(TABLE[:, None], T3, X), r"table must be .*got \[11, 1\]", TypeError),
    bad("at t -1", lambda: at(TABLE, T3 - 2, X), r"t must lie in 0\.\.10, got values from -1"),
    bad("at t 11", lambda: at(TABLE, T3 + 8, X), r"t must lie in 0\.\.10, got .* to 11"),
    bad("at like int", lambda: at(TABLE, T3, T3), "like must be a float.*like.float", TypeError),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
