"""What the laws are tested over: schedules, batches, mixtures, walks; and tables of bad input."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from ddpm_lite.mixture import GaussianMixture
from ddpm_lite.prediction import Model, predict_eps
from ddpm_lite.sampling import (
    Step,
    Walk,
    beta_tilde_variance,
    ddim_step,
    ddpm_step,
    sample,
    zero_variance,
)
from ddpm_lite.schedule import (
    NoiseSchedule,
    at,
    constant_schedule,
    cosine_schedule,
    linear_schedule,
)
from ddpm_lite.score import annealed_langevin_step
from ddpm_lite.sde import euler_step, predictor_corrector_step, reverse_sde_step
from ddpm_lite.solvers import ddim_heun, dpm_solver, heun

seeds = st.integers(0, 2**32 - 1)


class Case(NamedTuple):
    """A schedule, times t [B] in 1..T, and samples x_0, x_t, eps, z that share one shape."""

    schedule: NoiseSchedule
    t: Tensor
    x_0: Tensor
    x_t: Tensor
    eps: Tensor
    z: Tensor


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


def from_betas(*betas: float) -> NoiseSchedule:
    return NoiseSchedule(numbers(0, *betas))


def schedules(max_T: int = 30) -> st.SearchStrategy[NoiseSchedule]:
    """Any table of betas, and the three named schedules with any parameters; T from 1 on."""
    steps = st.integers(1, max_T)
    tables = st.lists(floats(1e-4, 0.2), min_size=1, max_size=max_T)
    return st.one_of(
        tables.map(lambda betas: from_betas(*betas)),
        st.builds(linear_schedule, steps, floats(1e-5, 1e-2), floats(1e-3, 0.1)),
        st.builds(cosine_schedule, steps, floats(1e-3, 0.5)),
        st.builds(constant_schedule, steps, floats(1e-4, 0.2)),
    )


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """[B], [B, 1], [B, D] and [B, C, H, W]."""
    batch, size = st.integers(1, 5), st.integers(1, 4)
    return st.one_of(
        st.tuples(batch),
        st.tuples(batch, st.just(1)),
        st.tuples(batch, size),
        st.tuples(batch, st.integers(1, 3), size, size),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    schedule, shape = draw(schedules()), draw(shapes())
    t = draw(st.lists(st.integers(1, schedule.T), min_size=shape[0], max_size=shape[0]))
    x_0, x_t, eps, z = 3 * normal(4, *shape, seed=draw(seeds))
    return Case(schedule, torch.tensor(t), x_0, x_t, eps, z)


@st.composite
def earlier(draw: st.DrawFn, case: Case) -> Tensor:
    """Times s with 0 <= s < t, one for each t of the case."""
    return torch.tensor([draw(st.integers(0, t - 1)) for t in case.t.tolist()])


@st.composite
def mixtures(draw: st.DrawFn) -> GaussianMixture:
    """One to four components on the line."""
    n = draw(st.integers(1, 4))

    def values(low: float, high: float) -> list[float]:
        return draw(st.lists(floats(low, high), min_size=n, max_size=n))

    return GaussianMixture(values(0.1, 1), values(-3, 3), values(0.2, 1.5))


def knowing(schedule: NoiseSchedule, x_0: Tensor, error: Tensor | None = None) -> Model:
    """A model that knows the clean data, and errs in eps by a table [T + 1]."""
    error = torch.zeros_like(schedule.beta) if error is None else error
    return lambda x_t, t: predict_eps(schedule, x_t, t, x_0) + at(error, t, x_t)


# Every way back from noise, called alike: ``walk(model, schedule, x_T, steps=None, until=0)``

ddpm_small = partial(ddpm_step, variance=beta_tilde_variance)
STEPS: dict[str, Step] = {  # which end in x_0_hat
    "beta": ddpm_step,
    "beta_tilde": ddpm_small,
    "zero": partial(ddpm_step, variance=zero_variance),
    "ddim 0": ddim_step,
    "ddim 0.5": partial(ddim_step, eta=0.5),
    "ddim 1": partial(ddim_step, eta=1.0),
}
CLOCKED: dict[str, Step] = {  # those on the clock of the SDE, which do not
    "sde": reverse_sde_step,
    "corrected": predictor_corrector_step,
    "langevin": partial(annealed_langevin_step, size=0.01),
    "euler": euler_step,
}
SOLVERS = {"ddim heun": ddim_heun, "heun": heun, "dpm-solver++": dpm_solver}


def sampled(step: Step) -> Callable[..., Walk]:
    """`sample` with this step, called as a solver is; its noise is that of one seed."""

    def walk(model, schedule, x_T: Tensor, steps=None, until=0) -> Walk:
        return sample(model, schedule, x_T.shape, step, steps, generator(1), x_T, until=until)

    return walk


WALKS = {name: sampled(step) for name, step in (STEPS | CLOCKED).items()} | SOLVERS


def each(table: dict[str, object]) -> pytest.MarkDecorator:
    """A test for each of the table, as ``name``."""
    return pytest.mark.parametrize("name", table)


def wavy(x, t):
    """Any function will do for a model where what is compared is the step."""
    return (2 * x).sin() + 0.1 * x + t.to(x).reshape(-1, *[1] * (x.ndim - 1)) / 100


def bad(name: str, call: Callable, message: str, error: type[Exception] = ValueError):
    """A row of a table of bad input: ``call`` raises ``error`` with a message that matches."""
    return pytest.param(call, message, error, id=name)


def check_bad(call: Callable, message: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=message):
        call()
