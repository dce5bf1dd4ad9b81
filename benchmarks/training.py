"""Chapter 15's files: a long run on MNIST with snapshots, and what its snapshots are worth.

    python benchmarks/training.py run FOLDER [--steps 12000] [--resume] [--device cpu]
    torchrun --nproc-per-node 2 benchmarks/training.py run FOLDER
    python benchmarks/training.py compare FOLDER [--steps 400]
    python benchmarks/training.py speed [--device cpu]
    python benchmarks/training.py measure FOLDER [--images 200] [--n 500] [--steps 20]

`run` trains the preset "book" in FOLDER (70 minutes on 2 free cores) and keeps the trained and the
averaged weights of some steps in FOLDER/snap. `compare` trains two networks, on the same batches,
that differ in what they return and in the weight of its error: eps with weight 1, v with
1 / alpha_bar (4 minutes each). `speed` times training steps in float32, in bfloat16 and compiled
(a minute or two). `measure` reads FOLDER: for each snapshot the loss at some t, and how good its
digits are, also where an early and the last snapshot share the t among them (3 minutes). All is
stored in ddpm_lite/assets/results/training.json; some digits beside it, in training-samples.npz.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_lite import metrics
from ddpm_lite.data import labelled, mnist, to_unit
from ddpm_lite.forward import q_sample
from ddpm_lite.networks import Denoiser
from ddpm_lite.tasks import PRESETS, Digits, Drawing, build, draw, in_turn, load_pretrained
from ddpm_lite.training import load_checkpoint, run, save_checkpoint, train

RESULTS = Path(__file__).parents[1] / "ddpm_lite" / "assets" / "results" / "training.json"
SAMPLES = RESULTS.with_name("training-samples.npz")
SNAPSHOTS = (100, 200, 400, 800, 1500, 3000, 6000, 9000)  # and the last step
TIMES = (1, 2, 5, 10, 20, 40, 70, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1000)
SHOWN = 20  # digits of each snapshot that are stored
EARLY, CUTS = 400, (100, 300)  # the step and the times at which networks are swapped
OUTPUTS = {"eps": 0.0, "v": -1.0}  # the weight is this power of alpha_bar


def long_run(args: argparse.Namespace) -> None:
    """Train in the folder, and keep snapshots of both sets of weights, in float16."""
    if dist.is_torchelastic_launched():
        dist.init_process_group("nccl" if args.device == "cuda" else "gloo")
    config = PRESETS["book"]
    config = replace(config, train=replace(config.train, steps=args.steps or config.train.steps))
    chief = os.environ.get("RANK", "0") == "0"
    for log, seconds in run(args.folder, config, args.device, args.resume):
        if not chief:
            continue
        print(f"step {log.step}: loss {log.loss:.4f}, {seconds:.0f} s", flush=True)
        if log.step in SNAPSHOTS or log.step == config.train.steps:
            state = log.state()
            both = {k: v.half() for k, v in state.items() if k.startswith(("ema.", "model."))}
            facts = {"step": log.step, "seconds": seconds, "config": asdict(config)}
            save_checkpoint(args.folder / "snap" / f"{log.step:07d}.safetensors", both, facts)


def compare(args: argparse.Namespace) -> None:
    """Train one network for each of `OUTPUTS`, from the same seed, on the same batches."""
    short = replace(
        PRESETS["book"].train,
        steps=args.steps or 400,
        warmup=30,
        ema_decay=0.98,
        precision="fp32",
        seed=0,
    )
    for output, power in OUTPUTS.items():
        config = replace(PRESETS["book"], output=output, train=short)
        draws = labelled(*mnist("train"), config.label_dropout)
        torch.manual_seed(short.seed)
        model = build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for log in train(model, config.schedule, draws, short, config.schedule.alpha_bar**power):
            print(f"{output}, step {log.step}: loss {log.loss:.4f}", flush=True)
        averaged = {f"ema.{k}": v.half() for k, v in log.ema.state_dict().items()}
        facts = {"step": log.step, "config": asdict(config)}
        save_checkpoint(args.folder / f"compare-{output}.safetensors", averaged, facts)


def speed(args: argparse.Namespace) -> None:
    """Images a second in training: the ways take turns, so a busy machine slows all alike."""
    from unet import processor  # here, because it imports diffusers

    config = PRESETS["book"]
    images, labels = mnist("train")
    draws = labelled(images.to(args.device), labels.to(args.device))
    ways = {
        "fp32": {"precision": "fp32"},
        "bf16": {"precision": "bf16"},
        "compiled": {"precision": "fp32", "compile": True},
    }
    walks, taken = {}, {name: [] for name in ways}
    for name, way in ways.items():
        model = build(config).to(args.device)
        if not (args.device == "cpu" and name == "bf16"):  # as `run` does
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        steps = replace(config.train, log_every=2, **way)
        walks[name] = train(model, config.schedule, draws, steps)
    for turn in range(1 + args.rounds):  # the first warms up, and compiles
        for name, walk in walks.items():
            start = time.perf_counter()
            next(walk)
            if turn:
                taken[name].append(2 * config.train.batch_size / (time.perf_counter() - start))
    found = {name: round(statistics.median(speeds)) for name, speeds in taken.items()}
    about = {"machine": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    store({"speed": about | {"device": args.device, "images_per_s": found}})
    print(found)


def measure(args: argparse.Namespace) -> None:
    """Everything that the chapter shows of the files in the folder."""
    classifier = load_pretrained("classifier", args.device)
    quality = partial(_quality, classifier, metrics.features(classifier, mnist("test")[0]))
    per_t = partial(losses, images=args.images)
    steps = args.steps or 20

    def drawn(model: nn.Module, labels: Tensor) -> Tensor:
        return torch.cat(list(draw(model, labels, Drawing(steps=steps))))

    labels = in_turn("0123456789", args.n)
    rows: list[dict[str, Any]] = []
    averaged: dict[int, Denoiser] = {}
    digits: dict[str, list[Tensor]] = {"ema": [], "model": []}
    for path in tqdm(sorted((args.folder / "snap").glob("*.safetensors"))):
        row: dict[str, Any] = {"step": load_checkpoint(path).facts["step"]}
        for weights in digits:
            model = restore(path, weights, args.device)
            row[weights] = per_t(model)
            digits[weights].append(drawn(model, labels[:SHOWN]))
            if weights == "ema":
                averaged[row["step"]] = model
                row["quality"] = quality(drawn(model, labels), labels)
        rows.append(row)
    early, late = averaged[EARLY], averaged[rows[-1]["step"]]
    swaps = []
    for cut in CUTS:
        pairs = {"late_above": (late, early), "late_below": (early, late)}
        each = {name: drawn(Mixed(*pair, cut), labels) for name, pair in pairs.items()}
        swaps.append({"cut": cut} | {k: quality(v, labels) for k, v in each.items()})
    some = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))[: args.n]
    images, labels = mnist("train")
    real = quality(images[some], labels[some])
    real["accuracy"] = metrics.accuracy(classifier, *mnist("test"))  # it has seen the training set
    facts = load_checkpoint(path).facts
    log = [json.loads(line) for line in (args.folder / "log.jsonl").read_text().splitlines()]
    compared = {
        output: per_t(restore(args.folder / f"compare-{output}.safetensors", "ema", args.device))
        for output in OUTPUTS
    }
    store(
        {
            "command": "python benchmarks/training.py measure FOLDER",
            "config": facts["config"],
            "log": {key: [line[key] for line in log] for key in ("step", "loss")},
            "minutes": round(log[-1]["seconds"] / 60),
            "images": args.images,
            "digits": {"n": args.n, "steps": steps, "eta": 1, "seed": 0},
            "t": TIMES,
            "snapshots": rows,
            "swaps": {"early": EARLY, "each": swaps},
            "real": real,
            "compare": compared,
        }
    )
    arrays = {name: torch.stack(images).numpy() for name, images in digits.items()}
    temporary = SAMPLES.with_name(".samples.npz")
    np.savez_compressed(temporary, step=[row["step"] for row in rows], **arrays)
    temporary.replace(SAMPLES)


def restore(path: Path, weights: str, device: str) -> Denoiser:
    """The network of a snapshot, with its "ema" or its trained ("model") weights, in float32."""
    tensors, facts = load_checkpoint(path)
    model = build(Digits.from_facts(facts["config"]))
    kept = {k: v for k, v in tensors.items() if k.startswith(f"{weights}.")}
    model.load_state_dict({k.removeprefix(f"{weights}."): v for k, v in kept.items()})
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


class Mixed(nn.Module):
    """One network for t above the cut, another for the rest."""

    def __init__(self, above: Denoiser, below: Denoiser, cut: int) -> None:
        super().__init__()
        self.above, self.below, self.cut, self.schedule = above, below, cut, above.schedule

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return (self.above if t[0] > self.cut else self.below)(x_t, t, y)


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
    return {"mean": short(each.mean(1)), "spread": short(each.std(1))}


def _quality(
    classifier: nn.Module, real: Tensor, images: Tensor, labels: Tensor
) -> dict[str, float]:
    """How often the classifier reads the asked digit, and the distance to the test set."""
    distance = metrics.frechet(metrics.features(classifier, images), real)
    read = metrics.accuracy(classifier, images, labels)
    return {"accuracy": round(read, 4), "frechet": float(f"{distance:.4g}")}


def short(values: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


def store(found: dict[str, Any]) -> None:
    """Add to the results, or replace there; the file is written whole or not at all."""
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(old | found) + "\n", encoding="utf-8")
    temporary.replace(RESULTS)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": long_run,
    "compare": compare,
    "speed": speed,
    "measure": measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/book"))
    parser.add_argument("--steps", type=int, help="of training, or of drawing a digit")
    parser.add_argument("--images", type=int, default=200, help="test digits for the loss")
    parser.add_argument("--n", type=int, default=500, help="digits drawn from each snapshot")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
