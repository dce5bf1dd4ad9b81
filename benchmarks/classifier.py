"""Train the classifier behind the book's measures of digits, and store it.

    python benchmarks/classifier.py [--epochs 10] [--seed 0] [--out FILE]

Trains the task "classifier" on 60,000 digits of the train split an epoch, each turned, scaled and
shifted a little. The test split is read once, after the last step, on the weights as they are
stored (averaged, float16). Stores ddpm_lite/assets/weights/classifier.safetensors. About 4 minutes
on 2 free cores.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from common import command, flags, short
from torch import Tensor, nn

from ddpm_lite.data import mnist
from ddpm_lite.metrics import accuracy
from ddpm_lite.tasks import PRESETS, load_pretrained
from ddpm_lite.training import Task, save_checkpoint, train
from ddpm_lite.training.checkpoint import WEIGHTS

TASK = PRESETS["classifier"]["book"]


def trained(task: Task, epochs: float, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a task of MNIST, in eval mode with averaged weights, and a checkpoint's facts.

    epochs: passes through as many digits as the train split has; the facts hold the mean loss of
    each (in whole steps).
    """
    count, batch = len(mnist("train")[0]), task.train.batch_size
    steps, each = max(1, round(epochs * count / batch)), -(-count // batch)
    config = replace(task.train, steps=steps, log_every=each, seed=seed)
    task = replace(task, train=config, save_every=each)
    torch.manual_seed(seed)
    model: Any = task.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    losses = []
    for log in train(model, *task.batches(torch.device("cpu")), config):
        losses.append(short(log.loss))
        print(f"{task.kind}, step {log.step}/{steps}: loss {log.loss:.4f}", flush=True)
    facts = {"kind": task.kind, "config": asdict(task), "data": "MNIST, train split"}
    return log.ema, facts | {"step": steps, "seed": seed, "epochs": epochs, "losses": losses}


def positive(text: str) -> float:
    """The type of a flag: a positive number."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return int(value) if value == int(value) else value


def halved(model: nn.Module) -> dict[str, Tensor]:
    """The weights with 16 bits where they are real, to be stored."""
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, WEIGHTS / "classifier.safetensors")
    parser.add_argument("--epochs", type=positive, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    model, facts = trained(TASK, args.epochs, args.seed)
    facts["command"] = command("classifier.py", arguments)
    save_checkpoint(args.out, halved(model), facts)
    facts["test_accuracy"] = accuracy(load_pretrained(args.out), *mnist("test"))
    save_checkpoint(args.out, halved(model), facts)
    print(f"test accuracy {facts['test_accuracy']:.4f}: {args.out}")


if __name__ == "__main__":
    main()
