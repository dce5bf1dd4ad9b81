"""A walk from noise to data as a table: what the page does with each answer of the network."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..networks.denoiser import READ
from ..prediction import Model, predict_eps, predict_x_0
from ..sampling import Walk, ddim_step, ddpm_step, sample
from ..schedule import NoiseSchedule
from ..solvers import dpm_solver
from ..times import Times, walk_times

SOLVERS = ("ddpm", "ddim", "dpm")
PROBES = 16  # random walks, of which the coefficients are read off


@torch.no_grad()
def walk_table(
    schedule: NoiseSchedule,
    solver: str = "ddim",
    steps: Times = 20,
    eta: float = 0.0,
    output: str = "eps",
) -> list[dict[str, float]]:
    """One row for each call of the network, which the page's `walk` goes through:

        x0 = clip(p x + q out);  x = a x + b x0 + c x0_before + s z

    with out = network(x, t, y). solver: "ddpm", "ddim" or "dpm"; steps: as in `sampling.sample`;
    eta: of ddim and dpm; output: what the network returns, as of `networks.Denoiser`. Each row
    also has ``signal`` and ``noise``, sqrt(alpha_bar) and sqrt(1 - alpha_bar) after the step.

    No formula stands here: the package's own walk is taken with random answers, and a, b, c, s are
    the numbers that explain where it went.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if output not in READ:
        raise ValueError(f"output must be one of {', '.join(READ)}, got {output!r}")
    times = walk_times(schedule, steps)
    generator = torch.Generator().manual_seed(0)
    asked: list[tuple[Tensor, Tensor]] = []  # of each call: x_t and the random x_0_hat

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        x_0_hat = torch.randn(PROBES, dtype=torch.float64, generator=answers)
        asked.append((x_t, x_0_hat))
        return predict_eps(schedule, x_t, t, x_0_hat)

    answers = torch.Generator().manual_seed(1)
    x_T = torch.randn(PROBES, dtype=torch.float64, generator=generator)
    same = generator.clone_state()
    stops = [x for _, x, _ in _walk(model, schedule, solver, times, eta, x_T, generator)]
    rows, before = [], torch.zeros(PROBES, dtype=torch.float64)
    for (x, x_0), after, t, s in zip(asked, stops, times[:-1], times[1:], strict=True):
        z = torch.randn(PROBES, dtype=torch.float64, generator=same)
        noisy = solver == "ddpm" or eta > 0
        columns = torch.stack([x, x_0, before, z if noisy else 0 * z], dim=1)
        found = torch.linalg.lstsq(columns, after[:, None], driver="gelsd").solution[:, 0]
        a, b, c, sigma = found.where(found.abs() > 1e-12, 0).tolist()
        row = {"t": float(t), **_reading(schedule, t, output), "a": a, "b": b, "c": c, "s": sigma}
        alpha_bar = schedule.alpha_bar_at(s)
        rows.append(
            row | {"signal": float(alpha_bar.sqrt()), "noise": float((1 - alpha_bar).sqrt())}
        )
        before = x_0
    return rows


def _walk(
    model: Model,
    schedule: NoiseSchedule,
    solver: str,
    times: Tensor,
    eta: float,
    x_T: Tensor,
    generator: torch.Generator,
) -> Walk:
    """The package's own walk."""
    if solver == "dpm":
        return dpm_solver(model, schedule, x_T, times, eta=eta, generator=generator)
    step = partial(ddim_step, eta=eta) if solver == "ddim" else ddpm_step
    return sample(model, schedule, x_T.shape, step, times, generator, x_T)


def _reading(schedule: NoiseSchedule, t: Tensor, output: str) -> dict[str, float]:
    """p and q of x_0_hat = p x_t + q out: what it is at (1, 0) and at (0, 1)."""
    x, out = torch.eye(2, dtype=torch.float64)
    both = t.expand(2)
    x_0_hat = predict_x_0(schedule, x, both, READ[output](schedule, x, both, out))
    return dict(zip("pq", x_0_hat.tolist(), strict=True))
