"""Chapter 15's files: a long run on MNIST with snapshots, and what its snapshots are worth.

    python benchmarks/training.py run FOLDER [--steps 12000] [--resume] [--device cpu]
    torchrun --nproc-per-node 2 benchmarks/training.py run FOLDER
    python benchmarks/training.py compare FOLDER [--steps 400]
    python benchmarks/training.py speed [--device cpu] [--ways fp32 compiled ...] [--rounds 5]
    python benchmarks/training.py measure FOLDER [--images 200] [--n 500] [--steps 20]

`run` trains the preset "book" in FOLDER (70 minutes on 2 free cores) and keeps the trained and the
averaged weights of some steps in FOLDER/snap. `compare` trains two networks, on the same batches,
that differ in what they return and in the weight of its error: eps with weight 1, v with
1 / alpha_bar (4 minutes each). `speed` times training steps in float32, in bfloat16 and each of
them compiled (some minutes). `measure` reads FOLDER: for each snapshot the loss at some t, and how
good its digits are, also where an early and the last snapshot share the t among them (3 minutes).
All is stored in ddpm_lite/assets/results/training.json (or --out); some digits beside it, in
training-samples.npz.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, Quality, Results, at_least, flags, refusing, short
from timing import in_rounds, medians, processor, seconds
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_lite import metrics
from ddpm_lite.data import mnist, to_unit
from ddpm_lite.files import write_whole
from ddpm_lite.forward import q_sample
from ddpm_lite.networks import Denoiser
from ddpm_lite.tasks import DIGITS, Drawing, draw, from_facts, in_turn
from ddpm_lite.training import denoising, load_checkpoint, run, save_checkpoint, train
from ddpm_lite.training.distributed import chief, join, leave
from ddpm_lite.training.precision import memory_format

TASK = DIGITS["book"]
SNAPSHOTS = (100, 200, 400, 800, 1500, 3000, 6000, 9000)  # and the last step
TIMES = (1, 2, 5, 10, 20, 40, 70, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1000)
SHOWN = 20  # digits of each snapshot that are stored
EARLY, CUTS = 400, (100, 300)  # the step and the times at which networks are swapped
OUTPUTS = {"eps": 0.0, "v": -1.0}  # the weight is this power of alpha_bar
WAYS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "compiled": {"precision": "fp32", "compile": True},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}
EACH = 2  # training steps that are timed together


def long_run(args: argparse.Namespace, results: Results) -> None:
    """Train in the folder, and keep snapshots of both sets of weights, in float16."""
    device = join(torch.device(args.device))
    task = replace(TASK, train=replace(TASK.train, steps=args.steps or TASK.train.steps))
    for log, spent in run(args.folder, task, device, args.resume):
        if not chief():
            continue
        print(f"step {log.step}: loss {log.loss:.4f}, {spent:.0f} s", flush=True)
        if log.step in SNAPSHOTS or log.step == task.train.steps:
            state = log.state()
            both = {k: v.half() for k, v in state.items() if k.startswith(("ema.", "model."))}
            facts = {"kind": task.kind, "config": asdict(task), "step": log.step, "seconds": spent}
            save_checkpoint(args.folder / "snap" / f"{log.step:07d}.safetensors", both, facts)
    leave()


def compare(args: argparse.Namespace, results: Results) -> None:
    """Train one network for each of `OUTPUTS`, from the same seed, on the same batches."""
    config = replace(
        TASK.train,
        steps=args.steps or 400,
        warmup=30,
        ema_decay=0.98,
        precision="fp32",
        seed=0,
    )
    source = TASK.source(torch.device("cpu"))
    for output, power in OUTPUTS.items():
        task = replace(TASK, output=output, train=config)
        weight = task.schedule.alpha_bar**power
        torch.manual_seed(config.seed)
        model = task.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        pair = denoising(source, task.schedule, weight, task.stratified)
        for log in train(model, *pair, config):
            print(f"{output}, step {log.step}: loss {log.loss:.4f}", flush=True)
        averaged = {f"ema.{k}": v.half() for k, v in log.ema.state_dict().items()}
        facts = {"kind": task.kind, "config": asdict(task), "step": log.step}
        save_checkpoint(args.folder / f"compare-{output}.safetensors", averaged, facts)


def speed(args: argparse.Namespace, results: Results) -> None:
    """Images a second in training: the ways take turns, so a busy machine slows all alike."""
    device, measures = torch.device(args.device), {}
    pair = TASK.batches(device)
    for name in args.ways:
        config = replace(TASK.train, log_every=EACH, **WAYS[name])
        layout = memory_format(device, config.precision)
        model = TASK.build().to(device, memory_format=layout)  # type: ignore[call-overload]
        measures[name] = _rate(train(model, *pair, config), config.batch_size, args.device)
    found = {name: round(rate) for name, rate in medians(in_rounds(measures, args.rounds)).items()}
    about = {
        "machine": processor(args.device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    results.keep(about | {"device": args.device, "images_per_s": found}, "speed")
    print(found)


def _rate(walk: Any, batch_size: int, device: str) -> Callable[[], float]:
    """A measure: images a second in the next steps of a training."""
    return lambda: EACH * batch_size / seconds(lambda: next(walk), device)


def measure(args: argparse.Namespace, results: Results) -> None:
    """Everything that the chapter shows of the files in the folder."""
    quality, steps = Quality(args.device), args.steps or 20
    rows, digits, models = of_snapshots(args, steps, quality)
    facts = load_checkpoint(snapshots(args.folder)[-1]).facts
    log = [json.loads(line) for line in (args.folder / "log.jsonl").read_text().splitlines()]
    compared = {
        output: losses(
            restore(args.folder / f"compare-{output}.safetensors", "ema", args.device), args.images
        )
        for output in OUTPUTS
    }
    results.values |= {
        "command": "python benchmarks/training.py measure FOLDER",
        "config": facts["config"],
        "log": {key: [line[key] for line in log] for key in ("step", "loss")},
        "minutes": round(log[-1]["seconds"] / 60),
        "images": args.images,
        "digits": {"n": args.n, "steps": steps, "eta": 1, "seed": 0},
        "t": TIMES,
        "snapshots": rows,
        "swaps": {"early": EARLY, "each": of_swaps(args, steps, quality, models)},
        "real": of_real(args.n, quality),
        "compare": compared,
    }
    results.write()
    content, arrays = io.BytesIO(), {k: torch.stack(v).numpy() for k, v in digits.items()}
    np.savez_compressed(content, step=[row["step"] for row in rows], **arrays)  # type: ignore[arg-type]
    write_whole(args.out.with_name("training-samples.npz"), content.getvalue())


def of_snapshots(
    args: argparse.Namespace, steps: int, quality: Quality
) -> tuple[list[dict[str, Any]], dict[str, list[Tensor]], dict[int, Denoiser]]:
    """The table's rows, some digits of each set of weights, and the averaged networks by step."""
    rows: list[dict[str, Any]] = []
    averaged: dict[int, Denoiser] = {}
    digits: dict[str, list[Tensor]] = {"ema": [], "model": []}
    labels = in_turn("0123456789", args.n)
    for path in tqdm(snapshots(args.folder)):
        row: dict[str, Any] = {"step": load_checkpoint(path).facts["step"]}
        for weights in digits:
            model = restore(path, weights, args.device)
            row[weights] = losses(model, args.images)
            digits[weights].append(drawn(model, labels[:SHOWN], steps))
            if weights == "ema":
                averaged[row["step"]] = model
                row["quality"] = _short(quality(drawn(model, labels, steps), labels))
        rows.append(row)
    return rows, digits, averaged


def of_swaps(
    args: argparse.Namespace, steps: int, quality: Quality, averaged: dict[int, Denoiser]
) -> list[dict[str, Any]]:
    """How good digits are where the early network and the last one share the times."""
    labels, early, late = in_turn("0123456789", args.n), averaged[EARLY], averaged[max(averaged)]
    swaps = []
    for cut in CUTS:
        pairs = {"late_above": (late, early), "late_below": (early, late)}
        each = {name: drawn(Mixed(*pair, cut), labels, steps) for name, pair in pairs.items()}
        swaps.append({"cut": cut} | {k: _short(quality(v, labels)) for k, v in each.items()})
    return swaps


def of_real(n: int, quality: Quality) -> dict[str, float]:
    """What n training digits reach; the classifier has seen them, so it reads the test set."""
    images, labels = mnist("train")
    some = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    found = _short(quality(images[some], labels[some]))
    return found | {"accuracy": metrics.accuracy(quality.classifier, *mnist("test"))}


def drawn(model: nn.Module, labels: Tensor, steps: int) -> Tensor:
    return torch.cat(list(draw(model, labels, Drawing(steps=steps))))


def restore(path: Path, weights: str, device: str) -> Denoiser:
    """The network of a snapshot, with its "ema" or its trained ("model") weights, in float32."""
    tensors, facts = load_checkpoint(path)
    model: Any = from_facts(facts).build()
    kept = {k: v for k, v in tensors.items() if k.startswith(f"{weights}.")}
    model.load_state_dict({k.removeprefix(f"{weights}."): v for k, v in kept.items()})
    return model.to(device, memory_format=torch.channels_last).eval()


class Mixed(Denoiser):
    """One network for t above the cut, another for the rest."""

    def __init__(self, above: Denoiser, below: Denoiser, cut: int) -> None:
        super().__init__(above.net, above.schedule, above.output)
        self.below, self.cut = below, cut

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(x_t, t, y) if t[0] > self.cut else self.below(x_t, t, y)


@torch.no_grad()
def losses(model: Denoiser, images: int, batch: int = 256) -> dict[str, list[float]]:
    """(eps_hat - eps)^2 at each of `TIMES`: its mean, and its standard deviation over the images.

    images: how many, of the test set; each has the same noise at all t and for all models.
    """
    device = next(model.parameters()).device
    pixels, labels = (v[:images].to(device) for v in mnist("test"))
    x_0 = to_unit(pixels)[:, None]
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)).to(device)
    found = []
    for t in TIMES:
        parts = []
        for x, noise, y in zip(*(v.split(batch) for v in (x_0, eps, labels)), strict=True):
            now = torch.full((len(x),), t, device=device)
            error = model(q_sample(model.schedule, x, now, noise), now, y) - noise
            parts.append(error.square().flatten(1).mean(1))
        found.append(torch.cat(parts))
    each = torch.stack(found)
    return {
        k: [short(v, 5) for v in row]
        for k, row in (("mean", each.mean(1)), ("spread", each.std(1)))
    }


def _short(found: dict[str, float]) -> dict[str, float]:
    """The two measures, with the digits that count."""
    return {"accuracy": round(found["accuracy"], 4), "frechet": short(found["frechet"], 4)}


def snapshots(folder: Path) -> list[Path]:
    """The files that `long_run` kept. Raises ValueError where there are none."""
    found = sorted((folder / "snap").glob("*.safetensors"))
    if not found:
        raise ValueError(f"no snapshots in {folder}: train there first, with the command run")
    return found


COMMANDS = {"run": long_run, "compare": compare, "speed": speed, "measure": measure}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS / "training.json")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/book"))
    parser.add_argument("--steps", type=at_least(1), help="of training, or of drawing a digit")
    parser.add_argument("--images", type=at_least(2), default=200, help="test digits for the loss")
    parser.add_argument("--n", type=at_least(20), default=500, help="digits drawn, of a snapshot")
    parser.add_argument("--rounds", type=at_least(1), default=5, help="of timing")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    with refusing(parser):
        results = Results(args.out, indent=None)
        if args.command == "measure":
            snapshots(args.folder)
    COMMANDS[args.command](args, results)


if __name__ == "__main__":
    main()
