"""Bits per dimension of a checkpoint on test images, term by term.

    python benchmarks/bound.py [digits|CHECKPOINT] [--n 256] [--strata K] [--seed 0] [--device cpu]
                               [--batch 64] [--unlabelled] [--clip 1] [--out FILE]

n images of the test set, drawn by the seed, and every t of each: n T calls of the network for one
image, 256,000 by default. With --strata K each image has one t in each of K strata, narrow at small
t: n (K + 1) calls. Images differ far more than the t within a stratum, so that K = 50 has the same
error for a twentieth of the calls: --n 4000 --strata 50 has a quarter of it for less. The network
is told each image's digit, so that the bound is on -log p(x_0 | y), unless --unlabelled.

One run serves three choices of sigma^2, as one term gives the other with the same draws:
beta_tilde, beta, and beta_tilde times the best factor for each t or stratum (Bao et al. 2022;
fitted to the same images). sigma_1^2 = beta_tilde_2 in all of them.

Stores ddpm_lite/assets/results/bound.json (or --out).
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lite.checkpoint import load_pretrained
from ddpm_lite.data import mnist, to_unit
from ddpm_lite.objective import Terms, bits_per_dim, vlb_terms
from ddpm_lite.schedule import NoiseSchedule

RESULTS = Path(__file__).parents[1] / "ddpm_lite" / "assets" / "results" / "bound.json"


def with_factor(terms: Terms, factor: Tensor, dims: int) -> Terms:
    """Terms for sigma^2 = factor beta_tilde, from those for beta_tilde, with the same draws.

    factor: positive, [B, K] or [K]. There the KL is only |mu_tilde - mu_theta|^2 / 2 beta_tilde.
    """
    mismatch = dims * (1 / factor - 1 + factor.log()) / 2
    return terms._replace(middle=mismatch + terms.middle / factor)


def best_factor(terms: Terms, dims: int) -> Tensor:
    """The factor of each t (or stratum) with the least mean bound, [K] (eq-best-variance)."""
    return 1 + 2 * terms.middle.mean(0) / dims


def terms_of(
    model: Callable[..., Tensor],
    schedule: NoiseSchedule,
    x_0: Tensor,
    y: Tensor | None,
    batch: int,
    generator: torch.Generator,
    **options,
) -> Terms:
    """`vlb_terms` of all images in batches, with a bar that counts network calls."""
    strata = options.get("times") or schedule.T - 1
    bar = tqdm(total=len(x_0) * (strata + 1), unit="image", unit_scale=True)

    def counted(x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        bar.update(len(x_t))
        return model(x_t, t, y=y)

    parts = []
    for rows in torch.arange(len(x_0)).split(batch):
        told = partial(counted, y=None if y is None else y[rows])
        parts.append(vlb_terms(told, schedule, x_0[rows], generator=generator, **options))
    bar.close()
    return Terms(*map(torch.cat, zip(*parts, strict=True)))


def summary(terms: Terms, dims: int) -> dict[str, float]:
    """Means over the images in bits/dim, and the standard error of the total."""
    nats = {
        "total": terms.total.mean(),
        "standard_error": terms.standard_error,
        "prior": terms.prior.mean(),
        "middle": (terms.sizes * terms.middle).sum(1).mean(),
        "decoder": terms.decoder.mean(),
    }
    return {name: short(bits_per_dim(value, dims)) for name, value in nats.items()}


def short(value: Tensor | float) -> float:
    return float(f"{float(value):.6g}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", default="digits")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--strata", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--unlabelled", action="store_true")
    parser.add_argument("--clip", type=float)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(given)

    model = load_pretrained(args.checkpoint, args.device)
    schedule = model.schedule
    images, labels = mnist("test")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(args.seed))
    chosen = chosen[: args.n]
    x_0 = to_unit(images[chosen])[:, None].to(args.device)
    y = None if args.unlabelled else labels[chosen].to(args.device)
    dims = x_0[0].numel()
    generator = torch.Generator(args.device).manual_seed(args.seed)

    start = time.perf_counter()
    terms = terms_of(
        model, schedule, x_0, y, args.batch, generator, times=args.strata, clip=args.clip
    )
    seconds = time.perf_counter() - start
    terms = Terms(*(value.cpu() for value in terms))

    bits = bits_per_dim(terms.middle, dims)
    ratio = schedule.beta[2:] / schedule.beta_tilde[2:]  # at t = 2..T
    results = {
        "command": shlex.join(["python", "benchmarks/bound.py", *given]),
        "checkpoint": str(args.checkpoint),
        "images": f"{len(x_0)} of the MNIST test set, drawn with the seed",
        "n": len(x_0),
        "seed": args.seed,
        "times": "every t" if args.strata is None else f"one t in each of {args.strata} strata",
        "T": schedule.T,
        "labels": y is not None,
        "clip": args.clip,
        "sigma_1^2": short(schedule.beta_tilde[2]),
        "device": args.device,
        "seconds": round(seconds),
        "network_calls": terms.times.numel() + len(x_0),
        "bits_per_dim": {
            "beta_tilde": summary(terms, dims),
            "beta": summary(with_factor(terms, ratio[terms.times - 2], dims), dims),
            "best": summary(with_factor(terms, best_factor(terms, dims), dims), dims),
        },
        "per_t": {
            "t": [short(t) for t in terms.times.double().mean(0)],
            "size": terms.sizes[0].tolist(),
            "mean": [short(v) for v in bits.mean(0)],
            "standard_error": [short(v) for v in bits.std(0) / math.sqrt(len(bits))],
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    temporary.replace(args.out)
    for name, row in results["bits_per_dim"].items():
        print(name, *(f"{key} {value:.4f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
