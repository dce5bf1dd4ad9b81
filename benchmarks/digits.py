"""Chapter 16's tables: what the pretrained network draws, beside real digits, and its bound.

    python benchmarks/digits.py [--n 10000] [--variants 1000] [--images 128] [--more 1000]
                                [--strata 50] [--seed 0] [--workers 2] [--threads 1] [--out FILE]

Draws n digits with eta = 1 in 50 and in 20 steps, and ``variants`` digits with every other
sampler of the chapter; the labels are those of random training digits, the pixels rounded to 8
bits. Everything is measured against the test set, and so are as many digits of the training set:
the floor, which is the mean of three draws; and once with as many of each digit. Then the bound
on -log p(x_0 | y) in bits/dim: ``images`` test digits with every t, and ``more`` digits with one
t in each of ``strata`` strata.

Stores ddpm_lite/assets/results/digits.json (or --out) after each part and skips what it already
holds for the same weights and sizes. 1.2 million network images: about 20 minutes on 2 free cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lite.bound import Terms, bits_per_dim
from ddpm_lite.data import mnist, to_bytes
from ddpm_lite.networks import Denoiser
from ddpm_lite.sampling import beta_variance, ddim_step, ddpm_step, sample, zero_variance
from ddpm_lite.schedule import NoiseSchedule
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.tasks.evaluation import Judge, in_bits, machine, terms_of
from ddpm_lite.training import load_checkpoint
from ddpm_lite.training.checkpoint import WEIGHTS

RESULTS = Path(__file__).parents[1] / "ddpm_lite" / "assets" / "results" / "digits.json"
DIGITS = WEIGHTS / "digits.safetensors"
PART, BOUND_PART = 500, 32  # images that one process draws, or bounds, before it reports
CHUNK = 100  # images drawn at a time


# Each sampler's step and number of steps; the long ones last. The ancestral step with
# sigma^2 = beta_tilde is eta = 1.
SAMPLERS = {
    "sigma^2 = beta": (partial(ddpm_step, variance=beta_variance, clip=1.0), 50),
    "sigma^2 = 0": (partial(ddpm_step, variance=zero_variance, clip=1.0), 50),
    "eta = 0": (partial(ddim_step, eta=0.0, clip=1.0), 50),
    "eta = 1, no clipping": (partial(ddim_step, eta=1.0), 50),
    "eta = 1, 100 steps": (partial(ddim_step, eta=1.0, clip=1.0), 100),
    "eta = 1, 20 steps": (partial(ddim_step, eta=1.0, clip=1.0), 20),
    "eta = 1, 50 steps": (partial(ddim_step, eta=1.0, clip=1.0), 50),
}
FULL = ("eta = 1, 50 steps", "eta = 1, 20 steps")  # with n digits, and their first ``variants``


@cache
def network(threads: int) -> Denoiser:
    torch.set_num_threads(threads)
    return load_pretrained("digits").to(memory_format=torch.channels_last)


def drawn(name: str, labels: Tensor, seed: int, threads: int) -> Tensor:
    """Digits of these labels: uint8 [N, 28, 28]."""
    model, (step, steps) = network(threads), SAMPLERS[name]
    generator, parts = torch.Generator().manual_seed(seed), []
    for y in labels.split(CHUNK):
        shape, asked = (len(y), 1, 28, 28), partial(model, y=y)
        *_, (_, x_0, _) = sample(asked, model.schedule, shape, step, steps, generator)
        parts.append(to_bytes(x_0[:, 0]))
    return torch.cat(parts)


def bounded(rows: Tensor, times: int | None, seed: int, threads: int) -> Terms:
    """The terms of the bound of these test images, told their digits."""
    return terms_of(network(threads), rows, times, torch.Generator().manual_seed(seed))


def with_factor(terms: Terms, factor: Tensor, dims: int) -> Terms:
    """Terms for sigma^2 = factor beta_tilde, from those for beta_tilde, with the same draws.

    factor: positive, [B, K] or [K]. There the KL is only |mu_tilde - mu_theta|^2 / 2 beta_tilde.
    """
    mismatch = dims * (1 / factor - 1 + factor.log()) / 2
    return terms._replace(middle=mismatch + terms.middle / factor)


def best_factor(terms: Terms, dims: int) -> Tensor:
    """The factor of each t (or stratum) with the least mean bound, [K] (eq-best-variance)."""
    return 1 + 2 * terms.middle.mean(0) / dims


def bound(terms: Terms, schedule: NoiseSchedule) -> dict[str, Any]:
    """Bits/dim of each term for three variances (eq-bound-terms), and of the middle over t."""
    dims = 28 * 28
    ratio = (schedule.beta[2:] / schedule.beta_tilde[2:])[terms.times - 2]
    choices = {
        "beta_tilde": terms,
        "beta": with_factor(terms, ratio, dims),
        "best": with_factor(terms, best_factor(terms, dims), dims),
    }
    per_t: dict[str, list[float]] = {"t": [short(t) for t in terms.times.double().mean(0)]}
    for name, some in choices.items():
        per_t[name] = [float(f"{b:.4g}") for b in bits_per_dim(some.middle.mean(0), dims)]
    totals = {name: rounded(in_bits(some)) for name, some in choices.items()}
    return {"images": len(terms.prior), "bits_per_dim": totals, "per_t": per_t}


def even(n: int, seed: int) -> Tensor:
    """n / 10 random training digits of each class: uint8 [n, 28, 28]."""
    images, labels = mnist("train")
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([rows[labels[rows] == digit][: n // 10] for digit in range(10)])
    return images[chosen]


def short(value: Tensor | float) -> float:
    return float(f"{float(value):.6g}")


def rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: short(value) for name, value in found.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--more", type=int, default=1000)
    parser.add_argument("--strata", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)

    schedule = network(args.workers * args.threads).schedule
    results: dict[str, Any] = {
        "command": " ".join(["python benchmarks/digits.py", *sys.argv[1:]]),
        "weights": hashlib.sha256(DIGITS.read_bytes()).hexdigest()[:16],
        "step": load_checkpoint(DIGITS).facts.get("step"),
        "seed": args.seed,
        "sigma_1^2": short(schedule.beta_tilde[2]),
        "machine": machine(torch.device("cpu")),
        "real": {},
        "floor": {},
        "full": {},
        "variants": {},
        "bound": {},
    }
    if args.out.exists():
        before = json.loads(args.out.read_text(encoding="utf-8"))
        if all(before.get(key) == results[key] for key in ("weights", "seed", "sigma_1^2")):
            results |= {key: before[key] for key in ("real", "floor", "full", "variants", "bound")}

    def keep(part: str, name: str, found: dict[str, Any]) -> None:
        results[part][name] = found
        args.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = args.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        temporary.replace(args.out)
        print(f"{part}: {name}", flush=True)

    def known(part: str, name: str, size: str, n: int) -> bool:
        return results[part].get(name, {}).get(size) == n

    judge = Judge(load_pretrained("classifier"))
    if not known("real", "test", "n", len(judge.seen)):
        keep("real", "test", {"n": len(judge.seen)} | rounded(judge.alone(*judge.test)))
    for part, n in (("full", args.n), ("variants", args.variants)):
        if not known("floor", part, "n", n):
            keep("floor", part, {"n": n} | rounded(judge.floor(n, args.seed, draws=3)))
    if not known("floor", "even", "n", args.n):
        keep("floor", "even", {"n": args.n} | rounded(judge.against_test(even(args.n, args.seed))))
    pool = ProcessPoolExecutor(args.workers, mp_context=get_context("spawn"))
    chosen = torch.randperm(10_000, generator=torch.Generator().manual_seed(args.seed))
    for name, n, times in (("every t", args.images, None), ("strata", args.more, args.strata)):
        if n < 2 or known("bound", name, "images", n):
            continue
        start = time.perf_counter()
        jobs = [
            pool.submit(bounded, rows, times, args.seed * 1000 + i, args.threads)
            for i, rows in enumerate(chosen[:n].split(BOUND_PART))
        ]
        bar = tqdm(jobs, desc=f"bound, {name}", unit="part")
        terms = Terms(*map(torch.cat, zip(*(job.result() for job in bar), strict=True)))
        seconds = round(time.perf_counter() - start)
        keep("bound", name, bound(terms, schedule) | {"seconds": seconds})

    for name, (_, steps) in SAMPLERS.items():
        sizes = {"variants": args.variants} | ({"full": args.n} if name in FULL else {})
        if all(known(part, name, "n", size) for part, size in sizes.items()):
            continue
        start = time.perf_counter()
        labels = asked(max(sizes.values()), args.seed)
        jobs = [
            pool.submit(drawn, name, some, args.seed * 1000 + i, args.threads)
            for i, some in enumerate(labels.split(PART))
        ]
        images = torch.cat([job.result() for job in tqdm(jobs, desc=name, unit="part")])
        found = {"steps": steps, "seconds": round(time.perf_counter() - start)}
        for part, n in sizes.items():
            measures = judge.against_test(images[:n]) | judge.alone(images[:n], labels[:n])
            keep(part, name, {"n": n} | found | rounded(measures))
    pool.shutdown()


if __name__ == "__main__":
    main()
