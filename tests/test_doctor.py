"""The bug lab: each wrong twin is found by its name, and right programs of any convention pass."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from ddpm_lite import bugs
from ddpm_lite.data import mnist
from ddpm_lite.doctor import Program, diagnose
from ddpm_lite.doctor.__main__ import main
from ddpm_lite.sampling import beta_tilde_variance, ddim_step, ddpm_step
from ddpm_lite.schedule import cosine_schedule, linear_schedule
from ddpm_lite.tasks import load_pretrained


def names(program):
    return [finding.name for finding in diagnose(program)]


@pytest.mark.parametrize("name", bugs.BUGS)
def test_a_bug_ends_at_its_own_name(name):
    (finding,) = diagnose(bugs.BUGS[name]())
    assert finding.name == name and len(finding.says) > 30


@pytest.fixture(scope="module")
def of_digits():
    images, labels = mnist("test")
    return bugs.of_digits(load_pretrained("digits"), images[:500], labels[:500])


@pytest.mark.parametrize("name", ["no t", "training mode", "another output"])
def test_a_bug_of_a_network_ends_at_its_own_name(of_digits, name):
    assert names(of_digits[name]) == [name]


@pytest.mark.parametrize("name", ["half range", "shuffled labels"])
def test_a_bug_of_the_data_ends_at_its_own_name(of_digits, name):
    assert names(of_digits[name]) == [name]


def test_the_shipped_network_passes(of_digits):
    assert names(of_digits[""]) == []


# ---- right programs, which must pass -------------------------------------------------------------

LINEAR = linear_schedule()
SAMPLERS = {
    "ddpm, 1000 steps": {"steps": None},
    "ddpm, 20 steps": {"steps": 20},
    "ddpm, not clipped": {"limit": None},
    "ddim": {"step": ddim_step},
    "ddim, eta = 1": {"step": partial(ddim_step, eta=1.0)},
    "ddim, 5 steps": {"step": ddim_step, "steps": 5},
    "beta tilde": {"step": partial(ddpm_step, variance=beta_tilde_variance)},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_right_samplers_pass(name):
    limit = SAMPLERS[name].get("limit", 1.0)
    assert names(bugs.right(sample=bugs.sampler_of(LINEAR, **SAMPLERS[name]), limit=limit)) == []


@pytest.mark.parametrize("schedule", [cosine_schedule(), linear_schedule(4000, 2.5e-5, 5e-3)])
def test_right_schedules_pass(schedule):
    assert names(bugs.right(schedule)) == []


@pytest.mark.parametrize("seed", range(3))
def test_right_parts_pass_by_chance_too(seed):
    """The tests draw from a fixed seed; here the program draws on before."""

    def later(model, n):
        torch.manual_seed(100 + seed)
        return bugs.sampler_of(LINEAR)(model, n)

    program = bugs.right()
    unlucky = [
        names(
            bugs.right(sample=lambda m, n, k=k: (torch.randn(k), bugs.sampler_of(LINEAR)(m, n))[1])
        )
        for k in (seed, seed + 10)
    ]
    assert unlucky == [[], []] and program.loss is not None


def counted_from_0(**parts):
    """The tables and the times of diffusers: 0..T - 1, alpha_bar [T]."""
    alpha_bar = LINEAR.alpha_bar[1:]

    def loss(model, x_0):
        t, eps = torch.randint(0, 1000, (len(x_0),)), torch.randn_like(x_0)
        a = alpha_bar[t].to(x_0).reshape(-1, *[1] * (x_0.ndim - 1))
        return ((model(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t) - eps) ** 2).mean()

    return Program(
        lambda t: (alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()),
        torch.arange(1000),
        loss=loss,
        **parts,
    )


def by_diffusers(scheduler, steps=50):
    """The walk of a scheduler of diffusers."""

    def sample(model, n):
        scheduler.set_timesteps(steps)
        x = torch.randn(n, 1, 1, 1)
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t.expand(n)), t, x).prev_sample
        return x

    return sample


OPTIONS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": True}


@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_diffusers_passes_on_the_trailing_grid_and_not_on_the_leading_one(kind):
    for spacing, found in (("trailing", []), ("leading", ["leading grid"])):
        sample = by_diffusers(kind(timestep_spacing=spacing, **OPTIONS))
        assert names(counted_from_0(sample=sample, limit=1.0)) == found


def by_sigma(output="eps"):
    """x_t = x_0 + sigma eps, the model told sigma; times and solver of Karras et al. 2022."""
    i = torch.arange(50, dtype=torch.float64) / 49
    sigmas = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7

    def slope(model, x, sigma):
        out = model(x, torch.full((len(x),), float(sigma), dtype=torch.float64))
        return out if output == "eps" else (x - out) / sigma

    def sample(model, n):
        x = 80 * torch.randn(n, dtype=torch.float64)
        for now, then in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            d = slope(model, x, now)
            ahead = x + (then - now) * d
            x = x + (then - now) * (d + slope(model, ahead, then)) / 2 if then > 0 else ahead
        return x

    def loss(model, x_0):
        sigma = (1.2 * torch.randn(len(x_0), dtype=torch.float64) - 1.2).exp()
        s = sigma.reshape(-1, *[1] * (x_0.ndim - 1)).to(x_0)
        eps = torch.randn_like(x_0)
        target = eps if output == "eps" else x_0
        return ((model(x_0 + s * eps, sigma) - target) ** 2).mean()

    return Program(
        lambda sigma: (torch.ones_like(sigma), sigma),
        sigmas.flip(0),
        output=output,
        loss=loss,
        sample=sample,
    )


@pytest.mark.parametrize("output", ["eps", "x_0"])
def test_the_sigma_of_karras_passes(output):
    assert names(by_sigma(output)) == []


def test_a_network_of_v_passes():
    def loss(model, x_0):
        t, eps = torch.randint(1, 1001, (len(x_0),)), torch.randn_like(x_0)
        a = LINEAR.alpha_bar[t].to(x_0).reshape(-1, *[1] * (x_0.ndim - 1))
        v = a.sqrt() * eps - (1 - a).sqrt() * x_0
        return ((model(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t) - v) ** 2).mean()

    def sample(model, n):
        def eps_of(x_t, t):
            a = LINEAR.alpha_bar[t].to(x_t)
            return (1 - a).sqrt() * x_t + a.sqrt() * model(x_t, t)

        return bugs.sampler_of(LINEAR)(eps_of, n)

    assert names(bugs.right(output="v", loss=loss, sample=sample)) == []


# ---- what cannot be tested, and the command ------------------------------------------------------

BAD = [
    (3, TypeError, "must be a doctor.Program, got int"),
    (bugs.right(output="noise"), ValueError, "output must be .*got 'noise'"),
    (bugs.right(times=torch.tensor(3)), ValueError, "times must be a tensor"),
    (bugs.right(scales=lambda t: 1), ValueError, "scales must take t"),
    (bugs.right(network=lambda x, t: x), ValueError, "images must be given beside network"),
]


@pytest.mark.parametrize(("program", "error", "message"), BAD)
def test_what_cannot_be_tested_is_told(program, error, message):
    with pytest.raises(error, match=message):
        diagnose(program)


def test_the_generator_is_left_as_it_was():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    diagnose(bugs.right())
    assert torch.equal(torch.randn(3), expected)


def test_the_command(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("from ddpm_lite import bugs\nprogram = bugs.BUGS['noisy end']()\n")
    assert main([str(file)]) == 1
    assert "noisy end: asked for a single point" in capsys.readouterr().out
    file.write_text("from ddpm_lite import bugs\nprogram = bugs.right()\n")
    assert main([str(file)]) == 0
    assert (
        capsys.readouterr().out == "looked at: times, loss, sample, guided, hide\nnothing found\n"
    )
    file.write_text("model = 3\n")
    assert main([str(file)]) == 2 == main(["nowhere"]) == main(["classifier"]) == main([])
    assert "must name its Program" in capsys.readouterr().err


def test_the_command_runs_on_a_checkpoint():
    command = [sys.executable, "-m", "ddpm_lite.doctor", "digits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "looked at: times, network, images\nnothing found\n"
