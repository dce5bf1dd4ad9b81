"""How good a checkpoint of the digits is: what it draws, beside real digits, and its bound.

    python benchmarks/candidate.py CHECKPOINT [--n 10000] [--steps 50 20] [--seeds 0 1]
                                   [--sampler ddim] [--shift S] [--bound 1000] [--strata 50]
                                   [--workers 2] [--threads 1]
                                   [--out runs/candidates.json]

CHECKPOINT is a .safetensors file, the folder of a run, or a name that comes with the package. For
each number of steps and each seed, n digits are drawn with eta = 1 by a sampler of
`tasks.Drawing`, on even times or on those of `times.shifted_grid`, with the labels of random
training digits: their Frechet distance to the test set over the floor (that of n training digits,
the mean of three sets), the share that the classifier reads as asked, and their variety over that
of the test set. For each seed, too, the bound in bits/dim on as many random test digits as --bound
says (0: none), with one t in each of ``strata`` strata. Prints one table, with the means over the
seeds.

All is added to --out, by the checksum of the weights; what it holds already is not made again. At
the default sizes 1.5 million network images: 25 minutes on 2 free cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import torch
from common import (
    Quality,
    Results,
    Share,
    add_workers,
    all_drawn,
    at_least,
    command,
    crew,
    flags,
    refusing,
    rounded,
    short,
)
from digits import all_bounded

from ddpm_lite.data import mnist
from ddpm_lite.metrics import variety
from ddpm_lite.networks import Denoiser
from ddpm_lite.tasks import Digits, Drawing, load_task
from ddpm_lite.tasks.drawing import Sampler
from ddpm_lite.tasks.evaluation import check_size, in_bits, machine, random_labels
from ddpm_lite.times import timestep_grid
from ddpm_lite.training import CheckpointError, find, load_checkpoint
from ddpm_lite.training.checkpoint import WEIGHTS, checksum

FLOORS = 3  # sets of training digits
COLUMNS = ("Frechet / floor", "accuracy", "variety / real", "bits/dim")


def keep_real(results: Results, quality: Quality, n: int) -> None:
    """The floor, and the variety of real digits."""
    if not results.holds("real"):
        results.keep({"variety": short(variety(*mnist("test")))}, "real")
    if str(n) in results.at("floor"):
        return
    images, _ = mnist("train")
    generator = torch.Generator().manual_seed(0)
    sets = [images[torch.randperm(len(images), generator=generator)[:n]] for _ in range(FLOORS)]
    results.keep(short(mean(map(quality.frechet, sets))), "floor", str(n))


def keep_drawn(
    results: Results, quality: Quality, share: Share, steps: int, seed: int, args: Any
) -> None:
    """What it draws with one seed."""
    how = drawn_by(args, steps, seed)
    where = ("candidates", args.weights, "digits", drawing(args.n, how))
    if results.holds(*where):
        return
    labels = random_labels(args.n, seed)
    images, spent = all_drawn(share, labels, how, args.path, "cpu")
    found = quality(images, labels) | {"variety": variety(images, labels), "seconds": spent}
    results.keep(rounded(found), *where)


def keep_bound(results: Results, share: Share, seed: int, args: Any) -> None:
    """Its bound with one seed: other test digits, other noise."""
    where = ("candidates", args.weights, "bound", bounding(args.bound, args.strata, seed))
    if args.bound and not results.holds(*where):
        terms = all_bounded(share, args.bound, args.strata, seed, args.path)
        results.keep(rounded(in_bits(terms)), *where)


def drawn_by(args: Any, steps: int, seed: int) -> Drawing:
    return Drawing(args.sampler, 1.0, steps, args.shift, seed)


def drawing(n: int, how: Drawing) -> str:
    other = "" if how.sampler == "ddim" else f"{how.sampler}, "
    other += "" if how.shift is None else f"shift {how.shift:g}, "
    return f"n = {n}, {other}{how.steps} steps, seed {how.seed}"


def bounding(n: int, strata: int, seed: int) -> str:
    return f"n = {n}, {strata} strata, seed {seed}"


def table(results: Results, args: argparse.Namespace) -> str:
    """One row for each number of steps and seed, and their means."""
    found = results.at("candidates", args.weights)
    floor, real = results.at("floor", str(args.n)), results.at("real", "variety")
    columns = COLUMNS if args.bound else COLUMNS[:-1]
    lines = [f"{'steps':>5}{'seed':>6}" + "".join(f"{name:>17}" for name in columns)]
    for steps in args.steps:
        rows = []
        for seed in args.seeds:
            one = found["digits"][drawing(args.n, drawn_by(args, steps, seed))]
            row = [one["frechet"] / floor, one["accuracy"], one["variety"] / real]
            if args.bound:
                row.append(found["bound"][bounding(args.bound, args.strata, seed)]["total"])
            rows.append(row)
            lines.append(_line(steps, str(seed), row))
        lines.append(_line(steps, "mean", list(map(mean, zip(*rows, strict=True)))))
    return "\n".join(lines)


def _line(steps: int, seed: str, row: list[float]) -> str:
    return f"{steps:>5}{seed:>6}" + "".join(f"{value:>17.4f}" for value in row)


def parsed(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Results]:
    """The flags, the checkpoint's path and checksum among them; and the file of results."""
    parser = flags(__doc__, Path("runs/candidates.json"))
    parser.add_argument("checkpoint")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--steps", type=at_least(1), nargs="+", default=[50, 20])
    parser.add_argument("--seeds", type=at_least(0), nargs="+", default=[0, 1])
    parser.add_argument("--sampler", choices=get_args(Sampler), default="ddim")
    parser.add_argument("--shift", type=float, help="of the times; left out: even in t")
    parser.add_argument("--bound", type=int, default=1000, help="test digits; 0: leave it out")
    parser.add_argument("--strata", type=at_least(1), default=50)
    add_workers(parser, workers=2)
    args = parser.parse_args(arguments)
    try:
        task, model = load_task(args.checkpoint)
    except CheckpointError as error:
        parser.error(str(error))
    with refusing(parser):
        check_size(args.n)
        if not isinstance(task, Digits) or not isinstance(model, Denoiser):
            raise ValueError(f"{args.checkpoint} is of kind {task.kind}: give one of kind digits")
        for steps in args.steps:
            timestep_grid(model.schedule.T, steps)
            drawn_by(args, steps, 0)
        if args.bound == 1 or not 0 <= args.bound <= len(mnist("test")[0]):
            raise ValueError(f"--bound needs 2..10000 test digits, or 0, got {args.bound}")
        if args.strata >= model.schedule.T:
            raise ValueError(f"--strata must be below T = {model.schedule.T}, got {args.strata}")
        about = {"classifier": checksum(WEIGHTS / "classifier.safetensors")}
        results = Results(args.out, about, ("classifier",), ("real", "floor", "candidates"))
    args.path = str(find(args.checkpoint))
    args.weights = checksum(args.path)
    return args, results


def main(arguments: Sequence[str] | None = None) -> None:
    args, results = parsed(arguments)
    with crew(args.workers, args.threads) as share:
        about = {
            "checkpoint": args.checkpoint,
            "step": load_checkpoint(args.path).facts.get("step"),
            "command": command("candidate.py", arguments),
            "machine": machine(torch.device("cpu")),
        }
        known = results.at("candidates", args.weights)
        results.values["candidates"][args.weights] = known | about
        quality = Quality()
        keep_real(results, quality, args.n)
        for seed in args.seeds:
            keep_bound(results, share, seed, args)
            for steps in args.steps:
                keep_drawn(results, quality, share, steps, seed, args)
    print(table(results, args))


if __name__ == "__main__":
    main()
