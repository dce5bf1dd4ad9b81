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
import hashlib
import json
import os
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from digits import CHUNK, DIGITS, PART, rounded
from torch import Tensor
from tqdm import tqdm

from ddpm_lite.data import to_bytes
from ddpm_lite.networks import Denoiser
from ddpm_lite.sampling import (
    Step,
    beta_variance,
    ddim_step,
    ddpm_step,
    dpm_solver_step,
    multistep,
    sample,
)
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.tasks.evaluation import Judge, check_size, machine
from ddpm_lite.times import leading_grid, quadratic_grid, timestep_grid
from ddpm_lite.training import load_checkpoint

RESULTS = DIGITS.parents[1] / "results" / "ddim.json"
GRIDS = {"even": timestep_grid, "quadratic": quadratic_grid, "leading": leading_grid}
LONG = 200  # steps from which on fewer digits are drawn


def samplers(clip: float | None) -> dict[str, Step]:
    """The table's columns."""
    return {
        **{f"eta = {eta:g}": partial(ddim_step, eta=eta, clip=clip) for eta in (0, 0.2, 0.5, 1)},
        "sigma_hat": partial(ddpm_step, variance=beta_variance, clip=clip),
        "DPM-Solver++": multistep(partial(dpm_solver_step, clip=clip)),
    }


@cache
def network(threads: int, device: str) -> Denoiser:
    torch.set_num_threads(threads)
    return load_pretrained("digits", device).to(memory_format=torch.channels_last)


def drawn(
    name: str,
    clip: float | None,
    times: Tensor,
    labels: Tensor,
    seed: int,
    threads: int,
    device: str,
) -> Tensor:
    """Digits of these labels: uint8 [N, 28, 28]. A seed has its starts, whatever the sampler."""
    model, step = network(threads, device), samplers(clip)[name]
    starts, noise = (torch.Generator(device).manual_seed(2 * seed + k) for k in (0, 1))
    parts = []
    for y in labels.to(device).split(CHUNK):
        shape, asked = (len(y), 1, 28, 28), partial(model, y=y)
        x_T = torch.randn(shape, generator=starts, device=device)
        *_, (_, x_0, _) = sample(asked, model.schedule, shape, step, times, noise, x_T, device)
        parts.append(to_bytes(x_0[:, 0]).cpu())
    return torch.cat(parts)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--long", type=int, default=1000, help=f"digits where S >= {LONG}")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50, 100, 1000])
    parser.add_argument("--samplers", nargs="+", default=list(samplers(None)))
    parser.add_argument("--grid", choices=GRIDS, default="even")
    parser.add_argument("--unclipped", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    unknown = set(args.samplers) - set(samplers(None))
    if unknown:
        parser.error(f"unknown samplers {sorted(unknown)}: choose of {list(samplers(None))}")
    try:
        for steps in args.steps:
            GRIDS[args.grid](1000, steps)
            check_size(args.long if steps >= LONG else args.n)
    except ValueError as error:
        parser.error(str(error))
    if min(args.workers, args.threads) < 1:
        parser.error("--workers and --threads must be at least 1")

    clip = None if args.unclipped else 1.0
    part = args.grid + (", unclipped" if args.unclipped else "")
    given = arguments if arguments is not None else sys.argv[1:]
    results: dict[str, Any] = {
        "commands": [],  # that made the cells, in the order of their runs
        "weights": hashlib.sha256(DIGITS.read_bytes()).hexdigest()[:16],
        "step": load_checkpoint(DIGITS).facts.get("step"),
        "seed": args.seed,
        "machine": machine(torch.device(args.device)),
        "floor": {},
        "tables": {},
    }
    if args.out.exists():
        before = json.loads(args.out.read_text(encoding="utf-8"))
        if any(before.get(key) != results[key] for key in ("weights", "seed")):
            parser.error(f"{args.out} holds other weights or another seed: give another --out")
        results |= {key: before[key] for key in ("commands", "floor", "tables")}
    command = shlex.join(["python", "benchmarks/ddim.py", *given])
    results["commands"] = [*(c for c in results["commands"] if c != command), command]
    table = results["tables"].setdefault(part, {})

    def store() -> None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = args.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        temporary.replace(args.out)

    torch.set_num_threads(args.workers * args.threads)
    judge = Judge(load_pretrained("classifier"))
    workers = 1 if args.device != "cpu" else args.workers
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    for steps in sorted(args.steps):
        n = args.long if steps >= LONG else args.n
        if str(n) not in results["floor"]:
            results["floor"][str(n)] = rounded(judge.floor(n, args.seed))
            store()
        labels, times = asked(n, args.seed), GRIDS[args.grid](1000, steps)
        for name in args.samplers:
            row = table.setdefault(name, {})
            if row.get(str(steps), {}).get("n") == n:
                continue
            start = time.perf_counter()
            options = {"threads": args.threads, "device": args.device}
            jobs = [
                pool.submit(drawn, name, clip, times, some, args.seed * 1000 + i, **options)
                for i, some in enumerate(labels.split(PART))
            ]
            bar = tqdm(jobs, desc=f"{name}, {steps} steps", unit="part")
            images = torch.cat([job.result() for job in bar])
            seconds = round(time.perf_counter() - start)
            measures = judge.against_test(images) | judge.alone(images, labels)
            row[str(steps)] = {"n": n, "seconds": seconds} | rounded(measures)
            store()
            print(f"{part}: {name}, {steps} steps: {row[str(steps)]}", flush=True)
    pool.shutdown()


if __name__ == "__main__":
    main()
