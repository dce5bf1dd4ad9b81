"""What holds for every walk back from noise: its memory is its own, and its yield the caller's."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch
from strategies import CLOCKED, SOLVERS, STEPS, WALKS, each, normal, sampled, wavy
from torch.testing import assert_close

from ddpm_lite import sampling, score, sde, solvers
from ddpm_lite.prediction import clipped
from ddpm_lite.sampling import last, sample
from ddpm_lite.schedule import cosine_schedule, linear_schedule
from ddpm_lite.solvers import ddim_invert
from ddpm_lite.times import paused, quadratic_grid

SCHEDULE = linear_schedule()
WAYS = WALKS | {"up": ddim_invert, "up, refined": partial(ddim_invert, refine=2)}
A, B = normal(4, 2), normal(4, 2, seed=1)


def same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])


@each(WAYS)
def test_two_interleaved_walks_are_two_walks(name):
    """Of one solver, or one step; from other points, on other times, with other models."""
    uneven, tame = quadratic_grid(1000, 6), lambda x, t: 0.3 * x
    ways = (
        lambda: WAYS[name](wavy, SCHEDULE, A, 6),
        lambda: WAYS[name](tame, SCHEDULE, B, uneven),
    )
    mixed = zip(*(way() for way in ways), strict=True)
    for ours, way in zip(zip(*mixed, strict=True), ways, strict=True):
        same(ours, way())


@each(WAYS)
def test_a_wrapped_model_is_the_model(name):
    """Each tensor that it gets or returns is a new object: nothing is known by what it is."""

    def wrapped(x, t):
        return wavy(x.clone(), t.clone()).clone()

    walk = WAYS[name]
    same(walk(wrapped, SCHEDULE, A, 6), list(walk(wavy, SCHEDULE, A, 6)))


@each(WAYS)
def test_what_is_yielded_may_be_changed(name):
    plain, start, seen = list(WAYS[name](wavy, SCHEDULE, A, 6)), A.clone(), []
    for s, x, x_0_hat in WAYS[name](wavy, SCHEDULE, start, 6):
        seen.append((s, x.clone(), x_0_hat.clone()))
        x.zero_(), x_0_hat.fill_(torch.nan)
    same(seen, plain)
    assert torch.equal(start, A)


def test_a_step_that_returns_what_it_got_is_safe_too():
    for s, x, _ in sample(wavy, SCHEDULE, A.shape, lambda schedule, x, *rest: x, 3, x_T=A):
        assert torch.equal(x, A), s
        x.zero_()
    assert torch.equal(A, normal(4, 2))


@each(WAYS)
def test_times_come_in_any_form(name):
    schedule, walk = linear_schedule(20), WAYS[name]
    plain = list(walk(wavy, schedule, A, torch.tensor([18, 7, 3, 0])))
    times = [18, 7, 3, 0]
    for form in (
        times,
        tuple(times),
        np.array(times),
        np.array(times, dtype=np.uint8),
        torch.tensor(times, dtype=torch.int32),
        [torch.tensor(t) for t in times],
    ):
        same(walk(wavy, schedule, A, form), plain)
    for form in (np.array(times, dtype=np.float32), [18.0, 7, 3, 0], torch.tensor(times).float()):
        for ours, (s, x, x_0_hat) in zip(walk(wavy, schedule, A, form), plain, strict=True):
            assert isinstance(ours[0], float) and ours[0] == s
            assert_close(ours[1:], (x, x_0_hat), rtol=1e-12, atol=1e-12)
    for number in (4, 4.0, np.int64(4), np.float32(4), torch.tensor(4)):
        same(walk(wavy, schedule, A, number), list(walk(wavy, schedule, A, 4)))


@each(WALKS)
def test_given_times_end_at_0_or_where_until_says(name):
    walk = WALKS[name]
    for times, until in (([9, 5, 2], 2), ([9, 5.5, 2.25], 2.25), (np.float32([9, 0.1]), 0.1)):
        *_, (s, _, _) = walk(wavy, SCHEDULE, A, times, until=until)
        assert s == pytest.approx(until)
        for other in (0, 1, 9):
            with pytest.raises(
                ValueError, match=f"must end at {other}, got {until}: append {other}"
            ):
                walk(wavy, SCHEDULE, A, times, until=other)
    with pytest.raises(ValueError, match="must end at 5, got 0"):
        walk(wavy, SCHEDULE, A, 4, until=5)


def test_times_may_change_once_they_are_given():
    times = np.array([9, 5, 0])
    walk = sample(wavy, SCHEDULE, A.shape, steps=times, x_T=A)
    times[:] = 1
    assert [s for s, _, _ in walk] == [5, 0]


@each(WAYS)
def test_last_is_the_x_at_the_end_and_needs_no_memory_of_the_way(name):
    *_, (_, x, _) = WAYS[name](wavy, SCHEDULE, A, 6)
    walk = WAYS[name](wavy, SCHEDULE, A, 6)
    assert torch.equal(last(walk), x)
    with pytest.raises(ValueError, match="the walk has ended already.*used once"):
        last(walk)


@each([*STEPS, "ddim heun", "dpm-solver++"])
def test_a_walk_to_0_ends_in_its_last_x_0_hat(name):
    *_, (s, x, x_0_hat) = WALKS[name](wavy, SCHEDULE, A, 6)
    assert s == 0
    assert_close(x, x_0_hat, rtol=1e-12, atol=1e-12)


@each(WAYS)
def test_gradients_are_off_within_and_as_they_were_without(name):
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    for _, x, x_0_hat in WAYS[name](lambda x, t: weight * x, SCHEDULE, A, 3):
        assert not x.requires_grad and not x_0_hat.requires_grad and torch.is_grad_enabled()


@each(WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_walk_keeps_the_dtype_of_its_start(name, dtype):
    """And is the walk in float64, to the rounding of its numbers."""
    model, times = (lambda x, t: 0.4 * x), [300, 200, 100, 0]
    exact = list(WAYS[name](model, SCHEDULE, A.to(dtype).double(), times))
    walked = WAYS[name](model, SCHEDULE, A.to(dtype), times)
    for (_, x, x_0_hat), (_, exact_x, _) in zip(walked, exact, strict=True):
        assert x.dtype == x_0_hat.dtype == dtype
        if name in SOLVERS or name.startswith("up"):  # without noise, which is drawn in the dtype
            tolerance = 20 * torch.finfo(dtype).eps
            assert_close(x.double(), exact_x, rtol=tolerance, atol=4 * tolerance)


# a model in range


def shouting(x, t):
    """Large, and of either sign."""
    return 1e4 * torch.where((7 * x).sin() > 0, 1.0, -1.0).to(x.dtype)


@each(WALKS)
@pytest.mark.parametrize(
    "schedule", [linear_schedule(), cosine_schedule(50)], ids=["linear", "cos"]
)
def test_the_x_0_hat_that_a_clipped_walk_yields_is_clipped(name, schedule):
    """To rounding, which 1 / sqrt(alpha_bar) magnifies; unclipped it is thousands."""
    for dtype in (torch.float64, torch.float32):
        for limit in (1.0, 0.25):
            before, model = schedule.T, clipped(shouting, schedule, limit)
            x = 3 * A.to(dtype)
            for s, x_s, x_0_hat in WALKS[name](model, schedule, x, min(50, schedule.T)):
                size = limit + x.abs().max() / schedule.alpha_bar_at(before).sqrt()
                assert (x_0_hat.abs() <= limit + 4 * torch.finfo(dtype).eps * size).all(), s
                x, before = x_s, s
    _, _, loud = next(WALKS[name](shouting, schedule, A, min(50, schedule.T)))
    assert loud.abs().max() > 1e3


# one model


def test_a_solver_has_no_second_model_and_a_step_none():
    """What changes a model is a function from model to model: a walk asks the one it was given."""
    for module in (sampling, solvers, sde, score):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                names = list(inspect.signature(function).parameters)
                assert "clip" not in names and names.count("model") <= 1, name
                assert ("model" in names) <= (names[:1] == ["model"]), name
                assert not (name.endswith("_step") and "model" in names), name


def test_every_step_and_solver_of_the_package_is_walked_here():
    known = {getattr(step, "func", step) for step in (STEPS | CLOCKED).values()}
    known |= set(SOLVERS.values()) | {ddim_invert, sde.forward_sde_step, score.langevin_step}
    for module in (sampling, solvers, sde, score):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            own = function.__module__ == module.__name__ and not name.startswith("_")
            walks = name.endswith("_step") or "Walk" in str(inspect.signature(function))
            assert not (own and walks) or function in known | {sample, sampling.last}, name


def test_a_walk_that_pauses_corrects_where_it_stands_still():
    """Predictor and corrector of Song et al. 2021, one after the other, on the same noise."""
    times = paused([900, 600, 0], 2)
    walked = list(sampled(CLOCKED["corrected"])(wavy, SCHEDULE, A, times))
    assert [s for s, _, _ in walked] == [600, 600, 600, 0]
    for which, part in (("sde", times[:2]), ("langevin", times[1:4])):
        assert part.tolist() == ([900, 600] if which == "sde" else [600] * 3)
    generator, x = torch.Generator().manual_seed(1), A
    for (t, s), (_, x_s, _) in zip(zip(times, times[1:], strict=False), walked, strict=True):
        now, then = t.expand(4), s.expand(4)
        z = torch.randn(4, 2, generator=generator, dtype=torch.float64)
        step = sde.reverse_sde_step if s < t else score.annealed_langevin_step
        x = step(SCHEDULE, x, now, then, wavy(x, now), z)
        assert torch.equal(x, x_s)
