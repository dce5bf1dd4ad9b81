"""What the benchmarks share: their flags, their results, work in parts, digits."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lite import metrics
from ddpm_lite.data import mnist, to_bytes
from ddpm_lite.files import check_writable, write_whole
from ddpm_lite.networks import Denoiser
from ddpm_lite.prediction import Model, clipped
from ddpm_lite.sampling import Walk, last
from ddpm_lite.tasks import CHUNK, Drawing, draw, load_pretrained
from ddpm_lite.training.checkpoint import WEIGHTS
from ddpm_lite.training.precision import memory_format

RESULTS = WEIGHTS.parent / "results"
PART = 500  # images that one process draws before it reports
Share = Callable[..., Iterator[Any]]
"""``map``, in this process or shared among several."""


# ---- flags ---------------------------------------------------------------------------------------


def flags(doc: str | None, out: Path) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring, with --out."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=out)
    return parser


def add_workers(parser: argparse.ArgumentParser, workers: int | None = os.cpu_count()) -> None:
    """--workers and --threads, for `crew`."""
    parser.add_argument("--workers", type=at_least(1), default=workers)
    parser.add_argument("--threads", type=at_least(1), default=1, help="of each worker")


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag: a whole number that is not below ``least``."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return int(text)

    return number


@contextmanager
def refusing(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Within it a ValueError is the end: usage, message, exit code 2."""
    try:
        yield
    except ValueError as error:
        parser.error(str(error))


def command(script: str, arguments: Sequence[str] | None) -> str:
    """The line that was typed; arguments: those given to ``main``, None for those of the shell."""
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["python", f"benchmarks/{script}", *given])


# ---- results -------------------------------------------------------------------------------------


class Results:
    """A JSON file of results, written whole or not at all each time that something is kept."""

    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any] | None = None,
        same: Sequence[str] = (),
        parts: Sequence[str] = (),
        indent: int | None = 1,
    ) -> None:
        """about: how results are made now; same: those of its entries that the file must share;
        parts: the tables that go on from those of the file. Else the file stays as it is, but for
        the entries of ``about``. Raises ValueError for a file that does not fit."""
        check_writable(path)
        self.path, self.indent, before = path, indent, _read(path)
        about = dict(about or {})
        if other := [name for name in same if before and before.get(name) != about[name]]:
            raise ValueError(
                f"{path} holds results of another {' and '.join(other)}: give another --out, or "
                "remove it"
            )
        tables = {part: before.get(part, {}) for part in parts}
        self.values: dict[str, Any] = about | tables if parts else before | about

    def at(self, *where: str) -> Any:
        """What is kept there: {} if nothing is."""
        found = self.values
        for name in where:
            found = found.get(name, {})
        return found

    def holds(self, *where: str, **sizes: Any) -> bool:
        """Whether something is kept there that was made with these sizes."""
        found = self.at(*where)
        return bool(found) and all(found.get(name) == size for name, size in sizes.items())

    def keep(self, found: Any, *where: str) -> None:
        """Put ``found`` there, and write the file."""
        *above, name = where
        table = self.values
        for part in above:
            table = table.setdefault(part, {})
        table[name] = found
        self.write()
        print(": ".join(where), flush=True)

    def write(self) -> None:
        text = json.dumps(self.values, indent=self.indent) + "\n"
        write_whole(self.path, text.encode())


def _read(path: Path) -> dict[str, Any]:
    """What the file holds; {} where there is none."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError):
        raise ValueError(f"{path} is no file of results: give another --out") from None


def short(value: Tensor | float, digits: int = 6) -> float:
    """Rounded to so many digits that count."""
    number = value.item() if isinstance(value, Tensor) else value
    return float(f"{number:.{digits}g}")


def rounded(found: Mapping[str, float]) -> dict[str, float]:
    return {name: short(value) for name, value in found.items()}


# ---- work in parts -------------------------------------------------------------------------------


@contextmanager
def crew(workers: int, threads: int = 1) -> Iterator[Share]:
    """A ``map`` whose calls are shared among processes of so many threads each.

    One worker is this process itself, which has the threads of all.
    """
    torch.set_num_threads(workers * threads)
    if workers == 1:
        yield map
        return
    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (threads,)) as pool:
        yield pool.map


def in_parts(
    share: Share, call: Callable[[Tensor, int], Any], rows: Tensor, seed: int, name: str, size: int
) -> list[Any]:
    """call(rows, seed) of each part of so many rows, in order; each part has a seed of its own."""
    parts = rows.split(size)
    seeds = [seed * 1000 + i for i in range(len(parts))]
    return list(tqdm(share(call, parts, seeds), desc=name, total=len(parts), unit="part"))


# ---- digits --------------------------------------------------------------------------------------


@cache
def network(
    checkpoint: str | Path = "digits", device: str = "cpu", precision: str = "fp32"
) -> Denoiser:
    """The network of a checkpoint, laid out for this precision; loaded once in a process."""
    model: Any = load_pretrained(checkpoint, device)
    return model.to(memory_format=memory_format(device, precision))


def drawn(
    labels: Tensor, seed: int, how: Drawing, checkpoint: str | Path = "digits", device: str = "cpu"
) -> tuple[Tensor, float]:
    """Digits of these labels by `tasks.draw`, uint8 [N, 28, 28]; and the seconds that it took."""
    model = network(checkpoint, device, how.precision)
    start = time.perf_counter()
    images = torch.cat(list(draw(model, labels, replace(how, seed=seed))))
    return images, time.perf_counter() - start


def all_drawn(
    share: Share, labels: Tensor, how: Drawing, checkpoint: str | Path, device: str
) -> tuple[Tensor, float]:
    """The same, in parts; the seconds are those of all processes together."""
    call = partial(drawn, how=how, checkpoint=checkpoint, device=device)
    parts = in_parts(share, call, labels, how.seed, f"{how.steps} steps, {how.precision}", PART)
    images, seconds = zip(*parts, strict=True)
    return torch.cat(images), sum(seconds)


def walked(
    model: Denoiser,
    labels: Tensor,
    walk: Callable[[Model, tuple[int, ...]], Walk],
    limit: float | None = 1.0,
) -> Tensor:
    """Digits of these labels at the ends of walks, `CHUNK` at a time: uint8 [N, 28, 28].

    walk(model, shape) -> a walk as of `sampling.sample`; limit: of x_0_hat, None to leave it.
    """
    parts = []
    for y in labels.to(next(model.parameters()).device).split(CHUNK):
        asked: Model = partial(model, y=y)
        asked = asked if limit is None else clipped(asked, model.schedule, limit)
        parts.append(to_bytes(last(walk(asked, (len(y), 1, 28, 28)))[:, 0]).cpu())
    return torch.cat(parts)


class Quality:
    """How far digits are from the test set, and how often the classifier reads the asked one."""

    def __init__(self, device: str = "cpu") -> None:
        self.classifier = load_pretrained("classifier", device)
        self.seen = metrics.features(self.classifier, mnist("test")[0])

    def frechet(self, images: Tensor) -> float:
        return metrics.frechet(metrics.features(self.classifier, images), self.seen)

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """images: uint8 [N, 28, 28], of these labels [N]."""
        return {
            "frechet": self.frechet(images),
            "accuracy": metrics.accuracy(self.classifier, images, labels),
        }
