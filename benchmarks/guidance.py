"""Chapter 18's curve: digits by the scale of guidance.

    python benchmarks/guidance.py [--n 10000] [--scales 0 0.3 1 2 ...] [--ways classifier-free ...]
                                  [--steps 20] [--seed 0] [--workers 2] [--threads 1]
                                  [--device cpu] [--out FILE]

For each way and each scale n digits are drawn in so many steps (DDIM with eta = 1) for the labels
of random training digits: classifier-free; by the package's classifier of noisy digits, from the
model that is told no label; classifier-free in an interval of t (300 to 700), the conditional model
elsewhere. All is measured against the test set by the package's classifier of clean digits, and so
are as many training digits: the floor.

Stores ddpm_lite/assets/results/guidance.json (or --out) after each row and skips the rows that it
already holds for the same weights, steps and seed, and this n.
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
)
from torch import Tensor

from ddpm_lite.data import to_bytes
from ddpm_lite.guidance import classifier_free, classifier_guided, within
from ddpm_lite.prediction import Model, clipped
from ddpm_lite.sampling import ddim_step, last, sample
from ddpm_lite.tasks import CHUNK, load_pretrained
from ddpm_lite.tasks.evaluation import Judge, check_size, machine, random_labels
from ddpm_lite.training import find
from ddpm_lite.training.checkpoint import checksum

INTERVAL = 300, 700  # of t


def by_classifier(model: Model, y: Tensor, scale: float) -> Model:
    device = str(y.device)
    reader = load_pretrained("noisy-classifier", device)
    return classifier_guided(model, network("digits", device).schedule, reader, y, scale)


def in_interval(model: Model, y: Tensor, scale: float) -> Model:
    return within(classifier_free(model, y, scale), classifier_free(model, y), *INTERVAL)


WAYS: dict[str, Callable[[Model, Tensor, float], Model]] = {
    "classifier-free": classifier_free,
    "classifier": by_classifier,
    "interval": in_interval,
}


def drawn(labels: Tensor, seed: int, way: str, scale: float, steps: int, device: str) -> Tensor:
    """Digits of these labels: uint8 [N, 28, 28]. A seed has its noise, whatever the way."""
    model, generator = network("digits", device), torch.Generator(device).manual_seed(seed)
    step, parts = partial(ddim_step, eta=1.0), []
    for y in labels.to(device).split(CHUNK):
        guided = clipped(WAYS[way](model, y, scale), model.schedule, 1.0)
        shape = (len(y), 1, 28, 28)
        walk = sample(guided, model.schedule, shape, step, steps, generator, device=device)
        parts.append(to_bytes(last(walk)[:, 0]).cpu())
    return torch.cat(parts)


def keep_row(
    results: Results, judge: Judge, share: Share, way: str, scale: float, args: argparse.Namespace
) -> None:
    """Draw and measure what one way makes at one scale, unless it is known."""
    if not results.holds("floor", str(args.n)):
        results.keep(rounded(judge.floor(args.n, args.seed)), "floor", str(args.n))
    if results.holds("ways", way, f"{scale:g}", n=args.n):
        return
    labels = random_labels(args.n, args.seed)
    call = partial(drawn, way=way, scale=scale, steps=args.steps, device=args.device)
    start = time.perf_counter()
    parts = in_parts(share, call, labels, args.seed, f"{way}, {scale:g}", PART)
    images, seconds = torch.cat(parts), round(time.perf_counter() - start)
    measures = judge.against_test(images) | judge.alone(images, labels)
    found = {"n": args.n, "seconds": seconds} | rounded(measures)
    results.keep(found, "ways", way, f"{scale:g}")


def parsed(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Results]:
    """The flags, and the file of results, which must be of the same weights, steps and seed."""
    parser = flags(__doc__, RESULTS / "guidance.json")
    parser.add_argument("--n", type=int, default=10_000)
    scales = [0, 0.3, 0.6, 1, 1.5, 2, 3, 5]
    parser.add_argument("--scales", type=float, nargs="+", default=scales)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    add_workers(parser)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    args.workers = args.workers if args.device == "cpu" else 1
    about = {
        "commands": [],  # that made the rows, in the order of their runs
        "weights": [checksum(find(name)) for name in ("digits", "noisy-classifier")],
        "steps": args.steps,
        "interval": list(INTERVAL),
        "seed": args.seed,
        "machine": machine(torch.device(args.device)),
    }
    same, line = ("weights", "steps", "interval", "seed"), command("guidance.py", arguments)
    with refusing(parser):
        check_size(args.n)
        results = Results(args.out, about, same, ("floor", "ways", "commands"))
    before = [c for c in results.at("commands") if c != line]
    results.values["commands"] = [*before, line]
    return args, results


def main(arguments: Sequence[str] | None = None) -> None:
    args, results = parsed(arguments)
    judge = Judge(load_pretrained("classifier"))
    with crew(args.workers, args.threads) as share:
        for scale in args.scales:
            for way in args.ways:
                keep_row(results, judge, share, way, scale, args)


if __name__ == "__main__":
    main()
