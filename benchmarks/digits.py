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
holds for the same sizes. 1.2 million network images: about 20 minutes on 2 free cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from common import (
    PART,
    RESULTS,
    Results,
    Share,
    add_workers,
    at_least,
    command,
    crew,
    flags,
    in_parts,
    network,
    refusing,
    rounded,
    short,
    walked,
)
from torch import Tensor

from ddpm_lite.bound import Terms, bits_per_dim
from ddpm_lite.data import mnist
from ddpm_lite.sampling import beta_variance, ddim_step, ddpm_step, sample, zero_variance
from ddpm_lite.schedule import NoiseSchedule
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.tasks.evaluation import (
    Judge,
    check_size,
    in_bits,
    machine,
    random_labels,
    terms_of,
)
from ddpm_lite.training import find, load_checkpoint
from ddpm_lite.training.checkpoint import checksum

BOUND_PART = 32  # images that one process bounds before it reports
ETA_1 = partial(ddim_step, eta=1.0)

# Each sampler's step, its number of steps, and where x_0_hat is clipped; the long ones last. The
# ancestral step with sigma^2 = beta_tilde is eta = 1.
SAMPLERS = {
    "sigma^2 = beta": (partial(ddpm_step, variance=beta_variance), 50, 1.0),
    "sigma^2 = 0": (partial(ddpm_step, variance=zero_variance), 50, 1.0),
    "eta = 0": (partial(ddim_step, eta=0.0), 50, 1.0),
    "eta = 1, no clipping": (ETA_1, 50, None),
    "eta = 1, 100 steps": (ETA_1, 100, 1.0),
    "eta = 1, 20 steps": (ETA_1, 20, 1.0),
    "eta = 1, 50 steps": (ETA_1, 50, 1.0),
}
FULL = ("eta = 1, 50 steps", "eta = 1, 20 steps")  # with n digits, and their first ``variants``


def drawn(labels: Tensor, seed: int, name: str) -> Tensor:
    """Digits of these labels by that sampler: uint8 [N, 28, 28]."""
    model, (step, steps, limit) = network(), SAMPLERS[name]
    generator = torch.Generator().manual_seed(seed)
    walk = partial(sample, schedule=model.schedule, step=step, steps=steps, generator=generator)
    return walked(model, labels, lambda asked, shape: walk(asked, shape=shape), limit)


def bounded(rows: Tensor, seed: int, times: int | None, checkpoint: str = "digits") -> Terms:
    """The terms of the bound of these test images, told their digits."""
    return terms_of(network(checkpoint), rows, times, torch.Generator().manual_seed(seed))


def all_bounded(
    share: Share, n: int, times: int | None, seed: int, checkpoint: str = "digits"
) -> Terms:
    """The terms of n random test images."""
    rows = torch.randperm(len(mnist("test")[0]), generator=torch.Generator().manual_seed(seed))[:n]
    call = partial(bounded, times=times, checkpoint=checkpoint)
    parts = in_parts(share, call, rows, seed, f"bound of {n}", BOUND_PART)
    return Terms(*map(torch.cat, zip(*parts, strict=True)))


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
        per_t[name] = [short(b, 4) for b in bits_per_dim(some.middle.mean(0), dims)]
    totals = {name: rounded(in_bits(some)) for name, some in choices.items()}
    return {"images": len(terms.prior), "bits_per_dim": totals, "per_t": per_t}


def even(n: int, seed: int) -> Tensor:
    """n / 10 random training digits of each class: uint8 [n, 28, 28]."""
    images, labels = mnist("train")
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([rows[labels[rows] == digit][: n // 10] for digit in range(10)])
    return images[chosen]


def keep_real(results: Results, judge: Judge, args: argparse.Namespace) -> None:
    """What real digits reach."""
    if not results.holds("real", "test", n=len(judge.seen)):
        found = {"n": len(judge.seen)} | rounded(judge.alone(*judge.test))
        results.keep(found, "real", "test")
    for part, n in (("full", args.n), ("variants", args.variants)):
        if not results.holds("floor", part, n=n):
            found = {"n": n} | rounded(judge.floor(n, args.seed, draws=3))
            results.keep(found, "floor", part)
    if not results.holds("floor", "even", n=args.n):
        found = {"n": args.n} | rounded(judge.against_test(even(args.n, args.seed)))
        results.keep(found, "floor", "even")


def keep_bounds(results: Results, share: Share, args: argparse.Namespace) -> None:
    """The bound, with every t and in strata."""
    T = network().schedule.T
    for name, n, times in (("every t", args.images, None), ("strata", args.more, args.strata)):
        drawn_t = len(results.at("bound", name, "per_t", "t"))
        if n < 2 or results.holds("bound", name, images=n) and drawn_t == (times or T - 1):
            continue
        start = time.perf_counter()
        found = bound(all_bounded(share, n, times, args.seed), network().schedule)
        found["seconds"] = round(time.perf_counter() - start)
        results.keep(found, "bound", name)


def keep_drawn(
    results: Results, judge: Judge, share: Share, name: str, args: argparse.Namespace
) -> None:
    """What one sampler draws."""
    sizes = {"variants": args.variants} | ({"full": args.n} if name in FULL else {})
    if all(results.holds(part, name, n=n) for part, n in sizes.items()):
        return
    start = time.perf_counter()
    labels = random_labels(max(sizes.values()), args.seed)
    images = torch.cat(in_parts(share, partial(drawn, name=name), labels, args.seed, name, PART))
    about = {"steps": SAMPLERS[name][1], "seconds": round(time.perf_counter() - start)}
    for part, n in sizes.items():
        measures = judge.against_test(images[:n]) | judge.alone(images[:n], labels[:n])
        results.keep({"n": n} | about | rounded(measures), part, name)


def parsed(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Results]:
    """The flags, and the file of results, which must be of the same weights and seed."""
    parser = flags(__doc__, RESULTS / "digits.json")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--more", type=int, default=1000)
    parser.add_argument("--strata", type=at_least(1), default=50)
    parser.add_argument("--seed", type=int, default=0)
    add_workers(parser)
    args = parser.parse_args(arguments)
    path = find("digits")
    torch.set_num_threads(args.workers * args.threads)
    about = {
        "command": command("digits.py", arguments),
        "weights": checksum(path),
        "step": load_checkpoint(path).facts.get("step"),
        "seed": args.seed,
        "sigma_1^2": short(network().schedule.beta_tilde[2]),
        "machine": machine(torch.device("cpu")),
    }
    parts = ("real", "floor", "full", "variants", "bound")
    with refusing(parser):
        check_size(min(args.n, args.variants))
        return args, Results(args.out, about, ("weights", "seed", "sigma_1^2"), parts)


def main(arguments: Sequence[str] | None = None) -> None:
    args, results = parsed(arguments)
    judge = Judge(load_pretrained("classifier"))
    keep_real(results, judge, args)
    with crew(args.workers, args.threads) as share:
        keep_bounds(results, share, args)
        for name in SAMPLERS:
            keep_drawn(results, judge, share, name, args)


if __name__ == "__main__":
    main()
