"""Pictures to try things on."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddpm_lite.data import Pictures
from ddpm_lite.networks import UNetConfig
from ddpm_lite.tasks import Images
from ddpm_lite.training import TrainConfig, load_checkpoint, run

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREYS = COLOURS[..., 0]


def image(colour=RED, width: int = 8, height: int = 8, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), colour)


def save(path: Path, picture: Image.Image | np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    made.save(path, **options)
    return path


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def album(folder: Path, n: int = 60, classes: tuple[str, ...] = ("blue", "red")) -> Path:
    """n pictures of 8 x 8 in each class, all different, in the class's colour."""
    noise = np.random.default_rng(0).integers(0, 60, (len(classes), n, 8, 8, 3), dtype=np.uint8)
    for name, own, colour in zip(classes, noise, (BLUE, RED, GREEN), strict=False):
        for i, pixels in enumerate(own):
            save(folder / name / f"{i}.png", np.where(np.array(colour) > 0, 255 - pixels, pixels))
    return folder


SMALL = UNetConfig(0, 0, width=8, blocks=1, classes=0, embedding=16)
QUICK = TrainConfig(steps=4, batch_size=8, log_every=2, precision="fp32")


def small(data="", **options) -> Images:
    given = {"network": SMALL, "train": QUICK, "save_every": 2, "T": 10, "size": 8} | options
    return Images(data=str(data), **given)


def having(images, labels=None, held=(), names=("a", "b"), **options) -> Images:
    """A task that has read these pictures already, and holds some out."""
    task = small("x", names=names if labels is not None else (), **options)
    kept = torch.zeros(len(images), dtype=torch.bool)
    kept[list(held)] = True
    vars(task).update(pictures=Pictures(images, labels, task.names, ()), held=kept)
    return task


def noise(n: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)


def finished(folder, task):
    for _ in run(folder, task):
        pass
    return load_checkpoint(folder / "model.safetensors")
