"""Grids of times, and the times of a walk in every form that they come in."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, check_bad, normal

from ddpm_lite.times import leading_grid, quadratic_grid, timestep_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}

# fewer steps on the same curve


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


def test_grids_of_ten_steps():
    assert timestep_grid(1000, 10).tolist() == list(range(1000, -1, -100))
    assert leading_grid(1000, 10).tolist() == [*range(901, 0, -100), 0]
    assert quadratic_grid(1000, 10).tolist() == [10 * k**2 for k in range(10, -1, -1)]


X = normal(3)
T3 = torch.tensor([1, 2, 3])
BAD = [
    bad("steps 0", lambda: timestep_grid(10, 0), r"steps .*1\.\.T = 10, got 0"),
    bad("steps > T", lambda: timestep_grid(10, 11), r"steps .*got 11: no step may stand"),
    bad("steps 2.5", lambda: timestep_grid(10, 2.5), "steps .*whole number.*got 2.5"),
    bad("steps NaN", lambda: timestep_grid(10, math.nan), "steps .*got nan"),
    bad("quadratic", lambda: quadratic_grid(10, 11), r"steps .*got 11: no step may stand"),
    bad("leading 0", lambda: leading_grid(10, 0), r"steps .*1\.\.T = 10, got 0"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
