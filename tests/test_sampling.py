"""Steps and the loop: laws between DDPM, DDIM and the posterior, and diffusers' two schedulers."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import bad, cases, check_bad, earlier, floats, normal, numbers, schedules
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.metrics import ks, mixture_cdf
from ddpm_lite.oracle import two_modes
from ddpm_lite.posterior import posterior
from ddpm_lite.prediction import from_v, predict_x_0, to_v
from ddpm_lite.sampling import (
    beta_tilde_variance,
    beta_variance,
    ddim_step,
    ddpm_step,
    sample,
)
from ddpm_lite.schedule import cosine_schedule, linear_schedule, timestep_grid

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}

ddpm_small = partial(ddpm_step, variance=beta_tilde_variance)


# one step


@given(cases(), st.data())
def test_ddpm_step_is_the_posterior_at_x_0_hat_plus_noise(case, data):
    schedule, x_t, t, eps_hat = case.schedule, case.x_t, case.t, case.eps
    s = data.draw(earlier(case))
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    mean, beta_tilde = posterior(schedule, x_0_hat, x_t, t, s)
    # The variance of the forward steps from s to t, by walking them.
    beta = torch.zeros_like(beta_tilde)
    for b in range(len(t)):
        for step_beta in schedule.beta[s[b] + 1 : t[b] + 1].tolist():
            beta[b] = (1 - step_beta) * beta[b] + step_beta
    assert_close(beta_variance(schedule, t, s, x_t), beta, rtol=1e-10, atol=1e-13)
    assert_close(beta_tilde_variance(schedule, t, s, x_t), beta_tilde, **EXACT)
    noisy = (s > 0).reshape(beta.shape)
    for step, var in ((ddpm_step, beta), (ddpm_small, beta_tilde)):
        x_s = step(schedule, x_t, t, s, eps_hat, case.z)
        assert_close(x_s, mean + noisy * var.sqrt() * case.z, **CLOSE)


@given(cases())
def test_ddpm_step_is_algorithm_2(case):
    """x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) + sigma_t z."""
    schedule, t, x_t = case.schedule, case.t, case.x_t
    column = (len(t), *[1] * (x_t.ndim - 1))
    beta, alpha_bar = schedule.beta[t].reshape(column), schedule.alpha_bar[t].reshape(column)
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * case.eps) / (1 - beta).sqrt()
    sigma = torch.where(t > 1, schedule.beta[t].sqrt(), 0.0).reshape(column)
    assert_close(
        ddpm_step(schedule, x_t, t, t - 1, case.eps, case.z), mean + sigma * case.z, **CLOSE
    )


@given(cases(), st.data())
def test_ddim_at_eta_1_is_the_posterior(case, data):
    """On neighbouring steps it is the DDPM step with beta_tilde; on longer ones too."""
    args = (case.schedule, case.x_t, case.t)
    for s in (case.t - 1, data.draw(earlier(case))):
        ddim = ddim_step(*args, s, case.eps, case.z, eta=1.0)
        assert_close(ddim, ddpm_small(*args, s, case.eps, case.z), **CLOSE)


@given(cases(), st.data())
def test_ddim_at_eta_0_carries_x_0_and_eps_along(case, data):
    """With the true eps, x_t becomes x_s of the same x_0 and eps; z has no part in it."""
    schedule, s = case.schedule, data.draw(earlier(case))
    x_t = q_sample(schedule, case.x_0, case.t, case.eps)
    x_s = ddim_step(schedule, x_t, case.t, s, case.eps, case.z)
    assert torch.equal(x_s, ddim_step(schedule, x_t, case.t, s, case.eps, 0 * case.z))
    later = s > 0
    if later.any():
        kept = q_sample(schedule, case.x_0[later], s[later], case.eps[later])
        assert_close(x_s[later], kept, **CLOSE)
    assert_close(x_s[~later], case.x_0[~later], **CLOSE)


@given(cases(), st.data(), floats(0, 1))
def test_ddim_keeps_the_marginals_at_every_eta(case, data, eta):
    """eps and z are independent: the squares of their factors add up to 1 - alpha_bar_s."""
    schedule, s = case.schedule, data.draw(earlier(case))

    def x_s(eps, z):
        x_t = q_sample(schedule, case.x_0, case.t, eps)
        return ddim_step(schedule, x_t, case.t, s, eps, z, eta)

    one, zero = torch.ones_like(case.z), torch.zeros_like(case.z)
    mean = x_s(zero, zero)
    column = mean.new_ones(len(s), *[1] * (mean.ndim - 1))
    alpha_bar = schedule.alpha_bar[s].reshape(column.shape)
    assert_close(mean, alpha_bar.sqrt() * case.x_0, **CLOSE)
    var = (x_s(one, zero) - mean) ** 2 + (x_s(zero, one) - mean) ** 2
    assert_close(var, (1 - alpha_bar).expand_as(var), **CLOSE)
    assert_close(
        ((x_s(zero, one) - mean) ** 2),
        (eta**2 * beta_tilde_variance(schedule, case.t, s, mean)).expand_as(var),
        rtol=1e-6,
        atol=1e-12,
    )


STEPS = [ddpm_step, ddpm_small, ddim_step, partial(ddim_step, eta=0.5), partial(ddim_step, eta=1.0)]


@given(cases(), st.sampled_from(STEPS), st.sampled_from([None, 0.5]))
def test_the_last_step_returns_x_0_hat(case, step, clip):
    s = torch.zeros_like(case.t)
    x_0_hat = predict_x_0(case.schedule, case.x_t, case.t, case.eps)
    x_0_hat = x_0_hat if clip is None else x_0_hat.clamp(-clip, clip)
    x_s = step(case.schedule, case.x_t, case.t, s, case.eps, case.z, clip=clip)
    assert torch.equal(x_s, x_0_hat)


@given(cases(), st.data(), st.sampled_from(STEPS))
def test_clipping_is_the_step_of_the_model_whose_x_0_hat_is_clipped(case, data, step):
    schedule, x_t, t, s = case.schedule, case.x_t, case.t, data.draw(earlier(case))
    clipped = step(schedule, x_t, t, s, case.eps, case.z, clip=0.5)
    x_0_hat = predict_x_0(schedule, x_t, t, case.eps).clamp(-0.5, 0.5)
    column = (len(t), *[1] * (x_t.ndim - 1))
    alpha_bar = schedule.alpha_bar[t].reshape(column)
    eps_hat = (x_t - alpha_bar.sqrt() * x_0_hat) / (1 - alpha_bar).sqrt()
    assert_close(clipped, step(schedule, x_t, t, s, eps_hat, case.z), rtol=1e-8, atol=1e-8)
    wide = step(schedule, x_t, t, s, case.eps, case.z, clip=1e9)
    assert_close(wide, step(schedule, x_t, t, s, case.eps, case.z), **CLOSE)


@given(schedules(), st.data(), st.sampled_from(STEPS))
def test_a_jump_is_a_step_of_the_respaced_schedule(schedule, data, step):
    steps = data.draw(st.integers(1, schedule.T))
    times = timestep_grid(schedule.T, steps).flip(0)
    k = torch.arange(1, steps + 1)
    x, eps, z = normal(3, steps)
    jump = step(schedule, x, times[1:], times[:-1], eps, z)
    assert_close(jump, step(schedule.respaced(steps), x, k, k - 1, eps, z), rtol=1e-7, atol=1e-7)


def test_steps_keep_dtype_layout_and_gradients():
    schedule, t, s = linear_schedule(), torch.tensor([2, 500, 1000]), torch.tensor([1, 0, 900])
    x, eps, z = (normal(2, 3, seed=i).T for i in range(3))
    for step in STEPS:
        exact = step(schedule, x, t, s, eps, z)
        same = step(schedule, x.contiguous(), t, s, eps.contiguous(), z.contiguous())
        assert torch.equal(exact, same)
        rounded = step(schedule, x.float(), t, s, eps.float(), z.float())
        assert rounded.dtype == torch.float32
        assert_close(rounded.double(), exact, rtol=1e-4, atol=1e-5)
        assert (
            step(schedule, x.bfloat16(), t, s, eps.bfloat16(), z.bfloat16()).dtype == torch.bfloat16
        )
        leaf = x.clone().requires_grad_()
        step(schedule, leaf, t, s, eps, z).sum().backward()
        assert leaf.grad.abs().min() > 0


# the loop


def test_sample_walks_the_grid_and_ends_at_x_0_hat():
    schedule, seen = cosine_schedule(10), []

    def model(x, t):
        seen.append(t.tolist())
        return 0.1 * x

    walk = list(sample(model, schedule, (3, 2), steps=4))
    times = timestep_grid(10, 4).tolist()
    assert seen == [[t] * 3 for t in times[:-1]]
    assert [s for s, _, _ in walk] == times[1:]
    for _, x_s, x_0_hat in walk:
        assert x_s.shape == x_0_hat.shape == (3, 2) and x_s.dtype == torch.float32
    assert torch.equal(walk[-1][1], walk[-1][2])


@given(schedules(8), st.sampled_from(STEPS))
def test_sample_is_the_step_repeated(schedule, step):
    def model(x, t):
        return torch.tanh(x) + t[:, None] / 10

    x = x_T = normal(4, 2)
    ours = sample(
        model, schedule, (4, 2), step, generator=torch.Generator().manual_seed(1), x_T=x_T
    )
    generator = torch.Generator().manual_seed(1)
    for t, (s, x_s, x_0_hat) in zip(range(schedule.T, 0, -1), ours, strict=True):
        now = torch.full((4,), t)
        eps_hat, z = model(x, now), torch.randn(4, 2, generator=generator, dtype=torch.float64)
        assert torch.equal(x_0_hat, predict_x_0(schedule, x, now, eps_hat))
        x = step(schedule, x, now, now - 1, eps_hat, z)
        assert s == t - 1 and torch.equal(x_s, x)
    assert torch.equal(x_T, normal(4, 2))  # the start is left as it was


def test_a_seed_is_a_sample_and_the_start_comes_from_it_too():
    schedule, model = linear_schedule(5), two_modes().denoiser(linear_schedule(5))

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        *_, (_, x_0, _) = sample(model, schedule, (100,), generator=generator)
        return x_0

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))


def test_sample_needs_no_gradient_and_leaves_the_callers_mode_alone():
    weight = torch.ones(1, requires_grad=True)
    for _, x, x_0_hat in sample(lambda x, t: weight * x, linear_schedule(3), (2,)):
        assert not x.requires_grad and not x_0_hat.requires_grad and torch.is_grad_enabled()


def test_sample_can_be_left_early():
    calls = []
    for s, _, _ in sample(lambda x, t: calls.append(t) or x, linear_schedule(1000), (1,)):
        if s < 998:
            break
    assert len(calls) == 3


@pytest.mark.parametrize(("T", "steps"), [(1, None), (1, 1), (7, 7), (7, 1)])
def test_shortest_and_fullest_walks(T, steps):
    schedule = linear_schedule(T)
    walk = list(sample(two_modes().denoiser(schedule), schedule, (4,), steps=steps))
    assert len(walk) == (steps or T) and walk[-1][0] == 0 and walk[-1][1].isfinite().all()


@pytest.mark.parametrize("step", [ddpm_step, ddpm_small, ddim_step])
def test_exact_denoiser_samples_the_mixture(step):
    """80 small steps: what remains of the error is too small for 2,000 points to see."""
    schedule, mixture = cosine_schedule(80), two_modes(0.3)
    generator = torch.Generator().manual_seed(0)
    *_, (_, x_0, _) = sample(mixture.denoiser(schedule), schedule, (2000,), step, None, generator)
    assert ks(x_0, mixture_cdf(mixture))[1] > 0.01


# diffusers: their t is ours minus 1, and they are given our tables in float64


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def upgraded(scheduler, schedule):
    """Their tables are float32: put ours in their place, so that steps compare to 1e-12."""
    scheduler.betas, scheduler.alphas = schedule.beta[1:], schedule.alpha[1:]
    scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    scheduler.final_alpha_cumprod = numbers(1)
    return scheduler


def wavy(x, t):
    """Any function will do for a model: what is compared is the step."""
    return torch.sin(2 * x) + 0.1 * x + t[:, None] / 100


def final(walk):
    *_, (_, x_0, _) = walk
    return x_0


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
    ours = sample(
        wavy,
        schedule,
        (5, 3),
        partial(step, clip=clip),
        steps,
        torch.Generator().manual_seed(1),
        x_T=x_T,
    )
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
    ours = final(sample(wavy, schedule, (5, 3), partial(ddim_step, clip=1.5), steps, x_T=x_T))
    assert_close(ours, x, rtol=1e-9, atol=1e-9)


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


# bad input

S, X, T3 = linear_schedule(10), normal(3), torch.tensor([1, 5, 10])


def walk(**options):
    arguments = {"model": lambda x, t: x, "schedule": S, "shape": (3,)} | options
    return list(sample(**arguments))


BAD = [
    row
    for f in (ddpm_step, ddim_step)
    for row in (
        bad(
            "t 0", lambda f=f: f(S, X, T3 - 1, T3 - 1, X, X), r"t must lie in 1\.\.10, got .*clean"
        ),
        bad("t int", lambda f=f: f(S, X, 3, T3 - 1, X, X), r"t .*int: use torch\.full", TypeError),
        bad("t int32", lambda f=f: f(S, X, T3.int(), T3 - 1, X, X), r"t .*t\.long", TypeError),
        bad("s int", lambda f=f: f(S, X, T3, 0, X, X), r"s .*int: use torch\.full", TypeError),
        bad("s -1", lambda f=f: f(S, X, T3, T3 - 2, X, X), r"s must lie in 0\.\.10, got .* -1"),
        bad("s = t", lambda f=f: f(S, X, T3, T3, X, X), "s must be smaller than t, got s = 1 with"),
        bad(
            "eps", lambda f=f: f(S, X, T3, T3 - 1, X[:2], X), r"eps_hat .*of x_t, \[3\], got \[2\]"
        ),
        bad(
            "z", lambda f=f: f(S, X, T3, T3 - 1, X, X[:, None]), r"z .*of x_t, \[3\], got \[3, 1\]"
        ),
        bad("x NaN", lambda f=f: f(S, X * math.nan, T3, T3 - 1, X, X), "x_t must be finite"),
        bad("eps NaN", lambda f=f: f(S, X, T3, T3 - 1, X / 0, X), "eps_hat must be finite"),
        bad("empty", lambda f=f: f(S, X[:0], T3[:0], T3[:0], X[:0], X[:0]), "the batch is empty"),
        bad(
            "clip", lambda f=f: f(S, X, T3, T3 - 1, X, X, clip=-1), "clip must be positive, got -1"
        ),
        bad("clip 0", lambda f=f: f(S, X, T3, T3 - 1, X, X, clip=0.0), "clip .*got 0.*None"),
    )
] + [
    bad(
        "eta", lambda: ddim_step(S, X, T3, T3 - 1, X, X, 1.1), r"eta must lie in \[0, 1\], got 1.1"
    ),
    bad("eta < 0", lambda: ddim_step(S, X, T3, T3 - 1, X, X, -0.1), r"eta must .*got -0.1"),
    bad("eta NaN", lambda: ddim_step(S, X, T3, T3 - 1, X, X, math.nan), r"eta must .*got nan"),
    bad("steps > T", lambda: walk(steps=11), r"steps .*1\.\.T = 10, got 11: no step may stand"),
    bad("steps 0", lambda: walk(steps=0), r"steps .*1\.\.T = 10, got 0"),
    bad("steps 1.5", lambda: walk(steps=1.5), "steps must be a whole number .*got 1.5"),
    bad(
        "shape empty", lambda: walk(shape=()), r"shape must be \(B, \.\.\.\) with B >= 1, got \(\)"
    ),
    bad("shape B 0", lambda: walk(shape=(0, 2)), r"shape must .* B >= 1, got \(0, 2\)"),
    bad("shape int", lambda: walk(shape=5), r"shape must be \(B, \.\.\.\) .*got 5"),
    bad("x_T shape", lambda: walk(x_T=X[:2]), r"x_T must have the given shape \(3,\), got \(2,\)"),
    bad("x_T NaN", lambda: walk(x_T=X * math.nan), "x_t must be finite, got NaN"),
    bad("x_T int", lambda: walk(x_T=T3), "x_t must be a floating.*torch.int64", TypeError),
    bad("model shape", lambda: walk(model=lambda x, t: x[:1]), r"eps must have the shape .*\[1\]"),
    bad("model NaN", lambda: walk(model=lambda x, t: x / 0), "eps must be finite, got NaN"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
