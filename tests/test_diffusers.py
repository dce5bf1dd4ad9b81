"""diffusers' schedulers, given our tables in float64: their t is ours minus 1."""

from functools import partial

import pytest
import torch
from strategies import ddpm_small, normal, numbers, wavy
from torch.testing import assert_close

from ddpm_lite.mixture import two_modes
from ddpm_lite.prediction import clipped, from_v, to_v
from ddpm_lite.sampling import ddim_step, ddpm_step, last, sample
from ddpm_lite.schedule import cosine_schedule, linear_schedule
from ddpm_lite.solvers import ddim_invert, dpm_solver
from ddpm_lite.times import leading_grid, timestep_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def upgraded(scheduler, schedule):
    """Their tables are float32: put ours in their place, so that steps compare to 1e-12."""
    scheduler.betas, scheduler.alphas = schedule.beta[1:], schedule.alpha[1:]
    scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    scheduler.final_alpha_cumprod = numbers(1)
    return scheduler


@pytest.mark.parametrize("steps", [1, 2, 10, 40])
@pytest.mark.parametrize(
    ("variance_type", "step"), [("fixed_large", ddpm_step), ("fixed_small", ddpm_small)]
)
@pytest.mark.parametrize("clip", [None, 1.5])
def test_ancestral_walk_is_diffusers(diffusers, variance_type, step, steps, clip):
    schedule = linear_schedule(40, 0.001, 0.1)
    theirs = diffusers.DDPMScheduler(
        num_train_timesteps=40,
        variance_type=variance_type,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        timestep_spacing="trailing",
    )
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(steps)
    x = x_T = normal(5, 3)
    generator = torch.Generator().manual_seed(1)
    model = wavy if clip is None else clipped(wavy, schedule, clip)
    ours = sample(model, schedule, (5, 3), step, steps, torch.Generator().manual_seed(1), x_T)
    for t, (s, x_s, _) in zip(theirs.timesteps, ours, strict=True):
        assert s == theirs.previous_timestep(t) + 1
        eps_hat = wavy(x, (t + 1).expand(5))
        step_out = theirs.step(eps_hat, t, x, generator=generator)
        # Their last jump, where it is longer than one step, still adds noise: ours never does.
        x = step_out.prev_sample if s > 0 else step_out.pred_original_sample
        assert_close(x_s, x, rtol=1e-10, atol=1e-10)
    if steps == 40:
        assert torch.equal(step_out.prev_sample, step_out.pred_original_sample)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 4, 10, 40])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_are_diffusers(diffusers, eta, steps, spacing):
    schedule = cosine_schedule(40)
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=40, clip_sample=False, timestep_spacing=spacing
    )
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(steps)
    x = normal(5, 3)
    for i, t in enumerate(theirs.timesteps.tolist()):
        z, now = normal(5, 3, seed=i), torch.full((5,), t + 1)
        s = torch.full((5,), max(t - 40 // steps + 1, 0))
        eps_hat = wavy(x, now)
        ours = ddim_step(schedule, x, now, s, eps_hat, z, eta)
        x = theirs.step(eps_hat, t, x, eta=eta, variance_noise=z).prev_sample
        assert_close(ours, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_ddim_walk_on_our_grid_is_diffusers(diffusers, steps):
    schedule = linear_schedule(100, 0.001, 0.1)
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=100,
        clip_sample=True,
        clip_sample_range=1.5,
        timestep_spacing="trailing",
    )
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(steps)
    x = x_T = normal(5, 3)
    for t in theirs.timesteps:
        eps_hat = wavy(x, (t + 1).expand(5))
        x = theirs.step(eps_hat, t, x, use_clipped_model_output=True).prev_sample
    ours = last(sample(clipped(wavy, schedule, 1.5), schedule, (5, 3), ddim_step, steps, x_T=x_T))
    assert_close(ours, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("spacing", "times"), [("leading", leading_grid), ("trailing", None)])
def test_whole_trajectory_of_ddim_is_diffusers(diffusers, eta, spacing, times):
    schedule = linear_schedule()
    model, times = two_modes(0.2).denoiser(schedule), (times or timestep_grid)(1000, 20)
    theirs = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing=spacing)
    theirs = upgraded(theirs, schedule)
    theirs.set_timesteps(20)
    x = x_T = normal(50)
    generator, same = (torch.Generator().manual_seed(1) for _ in range(2))
    ours = sample(model, schedule, (50,), partial(ddim_step, eta=eta), times, generator, x_T)
    for t, (_, x_s, x_0_hat) in zip(theirs.timesteps, ours, strict=True):
        z = torch.randn(50, generator=same, dtype=torch.float64)
        step = theirs.step(model(x, (t + 1).expand(50)), t, x, eta=eta, variance_noise=z)
        x = step.prev_sample
        assert_close(x_s, x, rtol=1e-9, atol=1e-9)
        assert_close(x_0_hat, step.pred_original_sample, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50])
def test_whole_trajectory_of_dpm_solver_is_diffusers(diffusers, steps):
    """Theirs computes in float32; first order in its first step and in its last, as ours."""
    schedule = linear_schedule()
    model = two_modes(0.2).denoiser(schedule)
    theirs = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", lower_order_final=False
    )
    theirs.set_timesteps(steps)
    x = x_T = normal(50)
    ours = dpm_solver(model, schedule, x_T, steps)
    for t, (s, x_s, _) in zip(theirs.timesteps, ours, strict=True):
        x = theirs.step(model(x.double(), (t + 1).expand(50)), t, x).prev_sample
        assert_close(x_s, x.double(), rtol=1e-5, atol=1e-5, msg=lambda m, s=s: f"s = {s}: {m}")


@pytest.mark.parametrize("steps", [4, 20])
def test_inversion_is_diffusers(diffusers, steps):
    schedule = linear_schedule(40, 0.001, 0.1)
    theirs = diffusers.DDIMInverseScheduler(
        num_train_timesteps=40, clip_sample=False, timestep_spacing="trailing"
    )
    theirs = upgraded(theirs, schedule)
    theirs.initial_alpha_cumprod = numbers(1)
    theirs.set_timesteps(steps)
    x = x_0 = normal(5, 3)
    for t, (now, x_t, _) in zip(
        theirs.timesteps, ddim_invert(wavy, schedule, x_0, steps), strict=True
    ):
        x = theirs.step(wavy(x, (t + 1).expand(5)), t, x).prev_sample
        assert now == t + 1
        assert_close(x_t, x, rtol=1e-9, atol=1e-9)


def test_v_is_diffusers_velocity(diffusers):
    schedule = cosine_schedule(30)
    theirs = diffusers.DDPMScheduler(
        num_train_timesteps=30,
        prediction_type="v_prediction",
        variance_type="fixed_small",
        clip_sample=False,
    )
    theirs = upgraded(theirs, schedule)
    t, (x_0, eps) = torch.arange(1, 31), normal(2, 30, 3)
    assert_close(to_v(schedule, x_0, t, eps), theirs.get_velocity(x_0, eps, t - 1), **EXACT)
    for now in (1, 2, 17, 30):
        x_t, v, t = normal(4, 3, seed=1), normal(4, 3, seed=2), torch.full((4,), now)
        step = theirs.step(v, now - 1, x_t, generator=torch.Generator().manual_seed(3))
        x_0, eps_hat = from_v(schedule, x_t, t, v)
        assert_close(x_0, step.pred_original_sample, **EXACT)
        z = normal(4, 3, seed=3)
        x_s = ddpm_small(schedule, x_t, t, t - 1, eps_hat, z)
        assert_close(x_s, step.prev_sample, **CLOSE)
