"""What bfloat16 costs in quality: digits drawn in float32 and in bfloat16 from the same seeds.

    python benchmarks/precision.py [--n 10000] [--steps 50] [--seed 0] [--workers 2] [--threads 1]
                                   [--device cpu] [--out FILE]

The same starts, the same noise (eta = 1) and the labels of random training digits; only the network
computes in another precision. For each: the Frechet distance to the test set, the share of digits
that the classifier reads as asked, and the seconds of all processes together. Beside them the
floor, which is the distance of as many training digits, and by how many of 255 levels a pixel of
the two differs, on average. They are drawn one after the other: their seconds can be compared on a
free machine only.

Stores ddpm_lite/assets/results/precision.json (or --out), and draws nothing where that holds it
already for the same weights, seed, n and steps. A million network images at the default sizes: half
an hour on 2 free cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Literal

import torch
from common import (
    RESULTS,
    Quality,
    Results,
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

from ddpm_lite.data import mnist
from ddpm_lite.tasks import Drawing
from ddpm_lite.tasks.evaluation import check_size, machine, random_labels
from ddpm_lite.training import find
from ddpm_lite.training.checkpoint import checksum

PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")


def compare(results: Results, args: argparse.Namespace) -> None:
    """Draw, measure and store."""
    labels, quality = random_labels(args.n, args.seed), Quality(args.device)
    train, _ = mnist("train")
    real = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(args.seed))]
    sizes, images = {"n": args.n, "steps": args.steps}, {}
    results.values["floor"] = {"n": args.n, "frechet": short(quality.frechet(real[: args.n]))}
    with crew(args.workers, args.threads) as share:
        for precision in PRECISIONS:
            how = Drawing(eta=1.0, steps=args.steps, seed=args.seed, precision=precision)
            images[precision], spent = all_drawn(share, labels, how, "digits", args.device)
            found = rounded(quality(images[precision], labels)) | {"seconds": round(spent, 1)}
            results.values["precisions"][precision] = sizes | found
            print(precision, found, flush=True)
    gap = (images["fp32"].int() - images["bf16"].int()).abs()
    results.keep(short(gap.float().mean()), "pixel_levels")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS / "precision.json")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--steps", type=at_least(1), default=50)
    parser.add_argument("--seed", type=int, default=0)
    add_workers(parser)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    args.workers = args.workers if args.device == "cpu" else 1
    torch.set_num_threads(args.workers * args.threads)
    about = {
        "command": command("precision.py", arguments),
        "weights": checksum(find("digits")),
        "seed": args.seed,
        "machine": machine(torch.device(args.device)),
    }
    with refusing(parser):
        check_size(args.n)
        results = Results(args.out, about, ("weights", "seed"), ("precisions",))
    sizes = {"n": args.n, "steps": args.steps}
    if not all(results.holds("precisions", precision, **sizes) for precision in PRECISIONS):
        compare(results, args)


if __name__ == "__main__":
    main()
