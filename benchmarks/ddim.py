"""Chapter 17's table: digits by the number of steps and by the noise that is put back.

    python benchmarks/ddim.py [--n 10000] [--long 1000] [--steps 5 10 20 50 100 1000]
                              [--samplers "eta = 0" ...] [--grid even] [--unclipped]
                              [--seed 0] [--workers 2] [--threads 1] [--device cpu] [--out FILE]

For each number of steps S and each sampler: DDIM with eta = 0, 0.2, 0.5 and 1, sigma_hat (sigma^2 =
beta in the ancestral step) and DPM-Solver++(2M), n digits are drawn (``long`` of them where S >=
200), from the same starts; labels are those of random training digits, pixels are rounded to 8
bits. All is measured against the test set by the package's classifier, and so are as many training
digits: the floor.

--grid says where the S steps lie: even (from T), quadratic (dense where t is small) or leading (the
DDIM paper's, which starts below T). --unclipped leaves x_0_hat as it is.

Stores ddpm_lite/assets/results/ddim.json (or --out) after each cell and skips the cells that it
already holds for the same weights, seed and size; the shortest come first. One cell costs n S
network images, at the default sizes 17 million in all: 4 hours on 2 free cores, so begin with --n
1000 --long 100, or use a GPU (--device cuda).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from common import (
    PART,
    RESULTS,
    Results,
    Share,
    add_workers,
    command,
    crew,
    flags,
    in_parts,
    network,
    refusing,
    rounded,
    walked,
)
from torch import Tensor

from ddpm_lite.prediction import Model
from ddpm_lite.sampling import Step, Walk, beta_variance, ddim_step, ddpm_step, sample
from ddpm_lite.schedule import NoiseSchedule
from ddpm_lite.solvers import dpm_solver
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.tasks.evaluation import Judge, check_size, machine, random_labels
from ddpm_lite.times import leading_grid, quadratic_grid, timestep_grid
from ddpm_lite.training import find, load_checkpoint
from ddpm_lite.training.checkpoint import checksum

GRIDS = {"even": timestep_grid, "quadratic": quadratic_grid, "leading": leading_grid}
LONG = 200  # steps from which on fewer digits are drawn

Sampler = Callable[[Model, NoiseSchedule, Tensor, Tensor, torch.Generator], Walk]
"""(model, schedule, x_T, times, generator of the noise) -> a walk."""


def by_steps(step: Step) -> Sampler:
    """The walk of `sampling.sample` with this step."""

    def walk(
        model: Model, schedule: NoiseSchedule, x_T: Tensor, times: Tensor, noise: torch.Generator
    ) -> Walk:
        return sample(model, schedule, x_T.shape, step, times, noise, x_T, x_T.device)

    return walk


def by_solver(
    model: Model, schedule: NoiseSchedule, x_T: Tensor, times: Tensor, noise: torch.Generator
) -> Walk:
    """The walk of DPM-Solver++, which needs no noise."""
    return dpm_solver(model, schedule, x_T, times)


SAMPLERS: dict[str, Sampler] = {
    **{f"eta = {eta:g}": by_steps(partial(ddim_step, eta=eta)) for eta in (0, 0.2, 0.5, 1)},
    "sigma_hat": by_steps(partial(ddpm_step, variance=beta_variance)),
    "DPM-Solver++": by_solver,
}


def drawn(
    labels: Tensor, seed: int, name: str, times: Tensor, limit: float | None, device: str
) -> Tensor:
    """Digits of these labels: uint8 [N, 28, 28]. A seed has its starts, whatever the sampler."""
    model = network("digits", device)
    starts, noise = (torch.Generator(device).manual_seed(2 * seed + k) for k in (0, 1))

    def walk(asked: Model, shape: tuple[int, ...]) -> Walk:
        x_T = torch.randn(shape, generator=starts, device=device)
        return SAMPLERS[name](asked, model.schedule, x_T, times, noise)

    return walked(model, labels, walk, limit)


def keep_cell(
    results: Results, judge: Judge, share: Share, steps: int, name: str, args: argparse.Namespace
) -> None:
    """Draw and measure what one sampler makes in so many steps, unless it is known."""
    n, table = digits_of(steps, args), args.grid + (", unclipped" if args.unclipped else "")
    if not results.holds("floor", str(n)):
        results.keep(rounded(judge.floor(n, args.seed)), "floor", str(n))
    if results.holds("tables", table, name, str(steps), n=n):
        return
    labels, times = random_labels(n, args.seed), GRIDS[args.grid](1000, steps)
    limit = None if args.unclipped else 1.0
    call = partial(drawn, name=name, times=times, limit=limit, device=args.device)
    start = time.perf_counter()
    parts = in_parts(share, call, labels, args.seed, f"{name}, {steps} steps", PART)
    images, seconds = torch.cat(parts), round(time.perf_counter() - start)
    measures = judge.against_test(images) | judge.alone(images, labels)
    found = {"n": n, "seconds": seconds} | rounded(measures)
    results.keep(found, "tables", table, name, str(steps))


def digits_of(steps: int, args: argparse.Namespace) -> int:
    """How many digits are drawn in so many steps."""
    return args.long if steps >= LONG else args.n


def parsed(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Results]:
    """The flags, and the file of results, which must be of the same weights and seed."""
    parser = flags(__doc__, RESULTS / "ddim.json")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--long", type=int, default=1000, help=f"digits where S >= {LONG}")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50, 100, 1000])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--grid", choices=GRIDS, default="even")
    parser.add_argument("--unclipped", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    add_workers(parser)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    args.workers = args.workers if args.device == "cpu" else 1
    torch.set_num_threads(args.workers * args.threads)
    path, line = find("digits"), command("ddim.py", arguments)
    about = {
        "commands": [],  # that made the cells, in the order of their runs
        "weights": checksum(path),
        "step": load_checkpoint(path).facts.get("step"),
        "seed": args.seed,
        "machine": machine(torch.device(args.device)),
    }
    with refusing(parser):
        for steps in args.steps:
            GRIDS[args.grid](1000, steps)
            check_size(digits_of(steps, args))
        results = Results(args.out, about, ("weights", "seed"), ("floor", "tables", "commands"))
    before = [c for c in results.at("commands") if c != line]
    results.values["commands"] = [*before, line]
    return args, results


def main(arguments: Sequence[str] | None = None) -> None:
    args, results = parsed(arguments)
    judge = Judge(load_pretrained("classifier"))
    with crew(args.workers, args.threads) as share:
        for steps in sorted(args.steps):
            for name in args.samplers:
                keep_cell(results, judge, share, steps, name, args)


if __name__ == "__main__":
    main()
