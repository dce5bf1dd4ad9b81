"""A walk in the page, from the same noise, ends where the package's own does."""

from functools import partial

import pytest
import torch
from strategies import normal
from torch.testing import assert_close
from v8 import RUNNER, Network, rounded

from ddpm_lite.data import to_bytes
from ddpm_lite.page import shipped, walk_table
from ddpm_lite.prediction import clipped
from ddpm_lite.sampling import ddim_step, ddpm_step, last, sample
from ddpm_lite.schedule import cosine_schedule, linear_schedule
from ddpm_lite.solvers import dpm_solver
from ddpm_lite.tasks import load_pretrained

WALKS = [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0), ("dpm", 0.0), ("dpm", 1.0)]
STEPS, LABELS = 6, torch.tensor([0, 7, 10])


@pytest.fixture(scope="module")
def denoiser():
    model = load_pretrained("digits")
    rounded(model.net)
    return model


@pytest.fixture(scope="module")
def page():
    return Network(*shipped.stored("digits"))


def noise():
    """x_T, the noise of each step, and a generator that will draw the same."""
    generator, shape = torch.Generator().manual_seed(3), (3, 1, 28, 28)
    x_T = torch.randn(shape, generator=generator)
    same = generator.clone_state()
    return x_T, [torch.randn(shape, generator=same) for _ in range(STEPS)], generator


def walked(model, schedule, solver, eta, x_T, generator):
    """The end of the package's own walk."""
    if solver == "dpm":
        return last(dpm_solver(model, schedule, x_T, STEPS, eta=eta, generator=generator))
    step = partial(ddim_step, eta=eta) if solver == "ddim" else ddpm_step
    return last(sample(model, schedule, x_T.shape, step, STEPS, generator, x_T))


def apart(found, expected):
    """The most grey levels between two batches of images."""
    levels = [to_bytes(x.reshape(-1, 28, 28)).int() for x in (found, expected)]
    return int((levels[0] - levels[1]).abs().max())


@pytest.mark.parametrize("solver, eta", WALKS)
def test_a_walk_is_python_s_to_a_grey_level(denoiser, page, solver, eta):
    x_T, z, generator = noise()
    model = clipped(partial(denoiser, y=LABELS), denoiser.schedule)
    expected = walked(model, denoiser.schedule, solver, eta, x_T, generator)
    table = walk_table(denoiser.schedule, solver, STEPS, eta, denoiser.output)
    assert apart(page.walk(table, z, x=x_T, y=LABELS), expected) <= 1


def test_a_walk_on_the_line_is_not_clipped():
    """Its points lie beyond 1, where the walk of images would hold them."""
    model, schedule = rounded(load_pretrained("line")), linear_schedule()
    generator = torch.Generator().manual_seed(3)
    x_T = torch.randn(50, generator=generator)
    same = generator.clone_state()
    z = [torch.randn(50, generator=same) for _ in range(STEPS)]
    expected = walked(model, schedule, "ddpm", 0.0, x_T, generator)
    table, page = walk_table(schedule, "ddpm", STEPS), Network(*shipped.stored("line"))
    assert_close(page.walk(table, z, x=x_T, clip=1e3), expected, rtol=0, atol=1e-4)
    assert expected.abs().max() > 2 and page.walk(table, z, x=x_T).abs().max() <= 1


@pytest.mark.parametrize("name", ["p", "q", "a", "b", "c", "s"])
def test_a_wrong_coefficient_is_seen(denoiser, page, name):
    x_T, z, generator = noise()
    model = clipped(partial(denoiser, y=LABELS), denoiser.schedule)
    expected = walked(model, denoiser.schedule, "dpm", 1.0, x_T, generator)
    table = walk_table(denoiser.schedule, "dpm", STEPS, 1.0, denoiser.output)
    table[-2][name] *= 0.9
    assert apart(page.walk(table, z, x=x_T, y=LABELS), expected) > 1


@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_guidance_is_that_of_eps(denoiser, page, scale):
    def model(x_t, t):
        free = denoiser(x_t, t, torch.full_like(t, 10))
        return free + scale * (denoiser(x_t, t, LABELS) - free)

    x_T, z, generator = noise()
    expected = walked(
        clipped(model, denoiser.schedule), denoiser.schedule, "ddim", 1.0, x_T, generator
    )
    table = walk_table(denoiser.schedule, "ddim", STEPS, 1.0, denoiser.output)
    assert apart(page.walk(table, z, x=x_T, y=LABELS, scale=scale), expected) <= 1


def test_a_drawing_is_completed(denoiser, page):
    x_T, z, _ = noise()
    known, mask = normal(28, 28).float().clamp(-1, 1), torch.zeros(28, 28)
    mask[:14] = 1
    table = walk_table(denoiser.schedule, "ddim", STEPS, 1.0, denoiser.output)
    end = page.walk(table, z, x=x_T, y=LABELS, known=known, mask=mask).reshape(3, 28, 28)
    assert torch.equal(end[:, :14], known[:14].expand(3, 14, 28))
    free = page.walk(table, z, x=x_T, y=LABELS).reshape(3, 28, 28)
    assert not torch.equal(end[:, 14:], free[:, 14:])


@pytest.mark.parametrize("schedule", [linear_schedule(), cosine_schedule(50)])
@pytest.mark.parametrize("solver, eta", WALKS)
def test_the_table_s_rows_are_the_solver_s_steps(schedule, solver, eta):
    table = walk_table(schedule, solver, STEPS, eta)
    x_T = normal(8).double()
    generator = torch.Generator().manual_seed(5)
    same = generator.clone_state()
    z = [torch.randn(8, generator=same, dtype=torch.float64) for _ in range(STEPS)]
    x, before = x_T, torch.zeros(8)
    for row, fresh in zip(table, z, strict=True):
        x_0 = row["p"] * x + row["q"] * torch.tanh(x)
        x = row["a"] * x + row["b"] * x_0 + row["c"] * before + row["s"] * fresh
        before = x_0
    expected = walked(lambda x, t: torch.tanh(x), schedule, solver, eta, x_T, generator)
    assert_close(x, expected, rtol=1e-9, atol=1e-9)
    assert [row["t"] for row in table] == [
        float(t) for t in torch.linspace(schedule.T, 0, STEPS + 1).round()[:-1]
    ]
    assert (table[-1]["signal"], table[-1]["noise"]) == (1.0, 0.0)


def test_wrong_names_are_told():
    with pytest.raises(ValueError, match="solver must be one of ddpm, ddim, dpm, got 'heun'"):
        walk_table(linear_schedule(), "heun")
    with pytest.raises(ValueError, match="output must be one of x_0, eps, v, got 'image'"):
        walk_table(linear_schedule(), output="image")


def test_the_walk_s_own_formula_matters(denoiser):
    wrong = RUNNER.replace("c * before[i]", "b * before[i]")
    assert wrong != RUNNER
    x_T, z, generator = noise()
    model = clipped(partial(denoiser, y=LABELS), denoiser.schedule)
    expected = walked(model, denoiser.schedule, "dpm", 0.0, x_T, generator)
    table = walk_table(denoiser.schedule, "dpm", STEPS, 0.0, denoiser.output)
    page = Network(*shipped.stored("digits"), runner=wrong)
    assert apart(page.walk(table, z, x=x_T, y=LABELS), expected) > 1
