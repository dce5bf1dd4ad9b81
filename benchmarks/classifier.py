"""Train the classifier behind the book's measures of digits, and store it.

    python benchmarks/classifier.py [--epochs 10] [--seed 0] [--out FILE]

Plain training on the 60,000 digits of the train split, each turned, scaled and shifted a little
at each epoch. The test split is read once, after the last epoch, on the weights as they are
stored (float16). Stores ddpm_lite/assets/weights/classifier.safetensors. About 4 minutes on 2
free cores.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_lite.data import mnist, to_unit
from ddpm_lite.metrics import accuracy
from ddpm_lite.networks import Classifier
from ddpm_lite.training import load_checkpoint, save_checkpoint

WEIGHTS = Path(__file__).parents[1] / "ddpm_lite" / "assets" / "weights" / "classifier.safetensors"
COMMAND = "python benchmarks/classifier.py"
CONFIG = {"classes": 10, "width": 16, "features": 128}
BATCH, PEAK_LR = 256, 4e-3
TURN, SCALE, SHIFT = math.radians(10), 0.1, 2 / 14  # at most: 10 degrees, 10 %, 2 pixels


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [B, 1, 28, 28] turned, scaled and shifted by its own random amounts."""
    turn, size, right, down = 2 * torch.rand(4, len(x), generator=generator) - 1
    size = 1 + SCALE * size
    cos, sin = size * (TURN * turn).cos(), size * (TURN * turn).sin()
    rows = [cos, -sin, SHIFT * right], [sin, cos, SHIFT * down]
    maps = torch.stack([torch.stack(row, 1) for row in rows], 1)
    where = F.affine_grid(maps, list(x.shape), align_corners=False)
    # The border of a digit is background, which is -1: sample x + 1, where outside is 0.
    return F.grid_sample(x + 1, where, align_corners=False) - 1


def fit(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Train ``model`` in place: Adam, one cycle of the learning rate, cross entropy."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_LR, fused=True)
    steps = epochs * -(-len(images) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    model.train().to(memory_format=torch.channels_last)
    for epoch in range(1, epochs + 1):
        losses = []
        for some in torch.randperm(len(images), generator=generator).split(BATCH):
            x = moved(to_unit(images[some])[:, None], generator)
            loss = F.cross_entropy(model(x), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            losses.append(loss.detach())
        print(f"epoch {epoch}/{epochs}: loss {torch.stack(losses).mean():.4f}", flush=True)
    model.eval()


def stored(model: nn.Module) -> dict[str, Tensor]:
    """The weights with 16 bits where they are real."""
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def load(path: Path = WEIGHTS) -> Classifier:
    """The classifier in the file, in float32, ready to be asked."""
    tensors, facts = load_checkpoint(path)
    model = Classifier(**facts["config"])
    model.load_state_dict(tensors)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = Classifier(**CONFIG)
    fit(model, *mnist("train"), args.epochs, args.seed)
    facts: dict[str, object] = {
        "config": CONFIG,
        "data": "MNIST, train split",
        "seed": args.seed,
        "epochs": args.epochs,
        "command": f"{COMMAND} --epochs {args.epochs} --seed {args.seed}",
    }
    save_checkpoint(args.out, stored(model), facts)
    facts["test_accuracy"] = accuracy(load(args.out), *mnist("test"))
    save_checkpoint(args.out, stored(model), facts)
    print(f"test accuracy {facts['test_accuracy']:.4f}: {args.out}")


if __name__ == "__main__":
    main()
