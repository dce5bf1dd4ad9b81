"""Grids of times, and the times of a walk in every form that they come in."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, check_bad, floats, numbers, schedules

from ddpm_lite.schedule import linear_schedule
from ddpm_lite.times import (
    given_times,
    leading_grid,
    paused,
    quadratic_grid,
    shifted_grid,
    timestep_grid,
    walk_times,
)

SCHEDULE = linear_schedule(20)


@given(st.integers(1, 2000), st.data())
def test_timestep_grid_falls_from_T_to_0_as_evenly_as_integers_can(T, data):
    steps = data.draw(st.integers(1, T))
    times = timestep_grid(T, steps)
    assert times.dtype == torch.int64 and len(times) == steps + 1
    assert times[0] == T and times[-1] == 0
    jumps = -times.diff()
    assert jumps.min() >= 1 and jumps.max() <= math.ceil(T / steps) + 1
    assert (times - torch.linspace(T, 0, steps + 1, dtype=torch.float64)).abs().max() <= 0.5


@given(st.integers(1, 2000), st.data())
def test_quadratic_grid_falls_from_T_to_0_along_squares(T, data):
    steps = data.draw(st.integers(1, T))
    times = quadratic_grid(T, steps)
    assert times.dtype == torch.int64 and len(times) == steps + 1
    assert times[0] == T and times[-1] == 0 and times.diff().max() <= -1
    squares = T * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** 2
    apart = squares >= torch.arange(steps, -1, -1)  # elsewhere the squares are too close
    assert (times - squares)[apart].abs().max() <= 0.5 + 1e-9


@given(st.integers(1, 2000), st.data())
def test_leading_grid_falls_by_one_stride_to_1_and_then_to_0(T, data):
    steps = data.draw(st.integers(1, T))
    times = leading_grid(T, steps)
    assert times.dtype == torch.int64 and len(times) == steps + 1
    assert times[-2:].tolist() == [1, 0] and times[0] <= T
    assert (times[:-1].diff() == -(T // steps)).all()


@given(schedules(), st.data(), floats(0.01, 100))
def test_shifted_grid_falls_from_T_to_0_by_one_at_least(schedule, data, shift):
    steps = data.draw(st.integers(1, schedule.T))
    times = shifted_grid(schedule, steps, shift)
    assert times.dtype == torch.int64 and len(times) == steps + 1
    assert times[0] == schedule.T and times[-1] == 0 and times.diff().max() <= -1


def test_shifted_grid_is_even_in_the_share_of_the_noise():
    """On a schedule so fine that whole times are near the real ones."""
    schedule = linear_schedule(100_000, 1e-6, 2e-4)
    for shift in (0.5, 1.0, 3.0):
        times = shifted_grid(schedule, 8, shift)
        noise, signal = (1 - schedule.alpha_bar[times]).sqrt(), schedule.alpha_bar[times].sqrt()
        share = noise / (noise + shift * signal)
        assert (share + share[0] * numbers(*range(-8, 1)) / 8).abs().max() < 1e-3


def test_grids_of_ten_steps():
    assert timestep_grid(1000, 10).tolist() == list(range(1000, -1, -100))
    assert leading_grid(1000, 10).tolist() == [*range(901, 0, -100), 0]
    assert quadratic_grid(1000, 10).tolist() == [10 * k**2 for k in range(10, -1, -1)]


def shifted(T, steps):
    return shifted_grid(linear_schedule(T), steps, 2.0)


@pytest.mark.parametrize("grid", [timestep_grid, leading_grid, quadratic_grid, shifted])
def test_a_grid_is_on_the_cpu_whatever_the_default_device_and_takes_a_whole_float(grid):
    with torch.device("meta"):
        assert torch.equal(grid(20, 4), grid(20, 4.0)) and grid(20, 4).device.type == "cpu"


# the times of a walk


def test_a_walk_has_all_times_or_so_many_or_those_given():
    assert walk_times(SCHEDULE, None).tolist() == list(range(20, -1, -1))
    assert torch.equal(walk_times(SCHEDULE, 4), timestep_grid(20, 4))
    for times in ([20, 7, 7, 3], [0, 0], [20, 0]):
        assert walk_times(SCHEDULE, times).tolist() == times
    real = walk_times(SCHEDULE, [19.5, 2.25, 0.1])
    assert real.dtype == torch.float64 and real.tolist() == [19.5, 2.25, 0.1]  # not float32's 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.float16, np.float32])
def test_times_become_int64_or_float64(dtype):
    """Out of arrays and tensors of any dtype; and they are a copy."""
    times = np.array([9, 5, 0], dtype=dtype)
    for source in (times, torch.from_numpy(times)):
        found = given_times(source)
        whole = np.issubdtype(dtype, np.integer)
        assert found.dtype == (torch.int64 if whole else torch.float64)
        source[0] = 7
        assert found.tolist() == [9, 5, 0]
        source[0] = 9


def test_paused_times():
    times = torch.tensor([9, 6, 3, 0])
    assert paused(times, 2).tolist() == [9, 6, 6, 6, 3, 3, 3, 0]
    assert torch.equal(paused(times, 0), times) and torch.equal(paused(times[:2]), times[:2])
    assert paused([9, 6, 0]).tolist() == paused(np.array([9, 6, 0])).tolist() == [9, 6, 6, 0]


T3 = torch.tensor([1, 2, 3])
BAD = [
    row
    for grid in (timestep_grid, leading_grid, quadratic_grid)
    for row in (
        bad("steps 0", lambda f=grid: f(10, 0), r"steps .*1\.\.T = 10, got 0: no step may stand"),
        bad("steps > T", lambda f=grid: f(10, 11), r"steps .*got 11: no step may stand"),
        bad("steps 2.5", lambda f=grid: f(10, 2.5), "steps .*whole number.*got 2.5"),
        bad("steps NaN", lambda f=grid: f(10, math.nan), "steps .*got nan"),
        bad("T 10.5", lambda f=grid: f(10.5, 3), "T must be a whole number .*got 10.5"),
        bad("T 0", lambda f=grid: f(0, 1), "T must be a whole number of at least 1, got 0"),
    )
] + [
    bad("shift 0", lambda: shifted_grid(SCHEDULE, 3, 0), "shift must be positive, got 0"),
    bad("shift NaN", lambda: shifted_grid(SCHEDULE, 3, math.nan), "shift must be positive"),
    bad("shifted steps", lambda: shifted_grid(SCHEDULE, 21), r"steps .*1\.\.T = 20, got 21"),
    bad("word", lambda: walk_times(SCHEDULE, "ddim"), "numbers, in .*got 'ddim'", TypeError),
    bad("set", lambda: given_times({9, 0}), "times must be numbers, in a sequence", TypeError),
    bad("complex", lambda: given_times([1j, 0]), "whole or real .*complex", TypeError),
    bad("bool", lambda: given_times([True, False]), "whole or real .*torch.bool", TypeError),
    bad("one", lambda: given_times([9]), r"times must be \[n\] with n >= 2, got \[1\]"),
    bad("2-D", lambda: given_times([[9, 0]]), r"times must be \[n\] with n >= 2, got \[1, 2\]"),
    bad("rise", lambda: walk_times(SCHEDULE, T3), "times must never rise on the way to data: flip"),
    bad("> T", lambda: walk_times(SCHEDULE, [21, 0]), r"times must lie in 0\.\.20, got .* to 21"),
    bad("NaN", lambda: walk_times(SCHEDULE, numbers(9, math.nan)), r"times must lie in \[0, 20\]"),
    bad("a number 2.5", lambda: walk_times(SCHEDULE, np.float32(2.5)), "whole number.* got 2.5"),
    bad("paused one", lambda: paused(T3[:1]), r"times must be \[n\] with n >= 2, got \[1\]"),
    bad("pauses", lambda: paused(T3, -1), "pauses must be a whole number of at least 0, got -1"),
    bad("pauses 0.5", lambda: paused(T3, 0.5), "pauses must be a whole number .* got 0.5"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
