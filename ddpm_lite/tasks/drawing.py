"""Images drawn by a trained network, as pixels and as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from ..data import to_bytes, to_unit
from ..files import write_whole
from ..guidance import check_scale, classifier_free
from ..measurement import inpaint
from ..networks import Denoiser, UNet
from ..prediction import Model, clipped
from ..sampling import Step, Walk, ddim_step, ddpm_step, last, sample
from ..schedule import NoiseSchedule
from ..solvers import dpm_solver
from ..times import Times, shifted_grid
from ..training.precision import autocast, fastest
from .inpainting import Part

CHUNK = 100  # images drawn at a time: enough for speed, and few MB
GAP = 2  # pixels between the images of a picture
MOST_BYTES, MOST_PIXELS = 2**30, 80_000_000  # of a .npz; of a .png, as image viewers take it
Sampler = Literal["ddim", "ddpm", "dpm"]


@dataclass(frozen=True)
class Drawing:
    """How images are drawn; x_0_hat is clipped to [-1, 1], the range of images."""

    sampler: Sampler = "ddim"  # ddpm: sigma^2 = beta; dpm: DPM-Solver++(2M)
    eta: float = 1.0  # ddim, dpm: 0 adds no noise, 1 the posterior's
    steps: int = 50  # network calls an image
    shift: float | None = None  # None: times even in t; else those of `times.shifted_grid`
    seed: int = 0  # of the noise
    precision: Literal["fp32", "bf16", "auto"] = "fp32"  # auto: the faster of the two
    guidance: float = 1.0  # of the label: 0 forgets it, 1: as trained

    def __post_init__(self) -> None:
        if self.sampler not in get_args(Sampler):
            raise ValueError(f"sampler must be ddim, ddpm or dpm, got {self.sampler!r}")
        if self.precision not in ("fp32", "bf16", "auto"):
            raise ValueError(f"precision must be fp32, bf16 or auto, got {self.precision!r}")
        check_scale(self.guidance)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {self.steps}")
        if self.shift is not None and not 0 < self.shift < math.inf:
            raise ValueError(f"shift must be positive, got {self.shift} (None: times even in t)")

    def walk(
        self,
        model: Model,
        schedule: NoiseSchedule,
        shape: tuple[int, ...],
        generator: torch.Generator,
    ) -> Walk:
        """From noise [B, *D] to images, all of it drawn by the generator."""
        options: dict[str, Any] = {"generator": generator, "device": generator.device}
        if self.sampler == "dpm":
            x_T, times = torch.randn(shape, **options), self.times(schedule)
            return dpm_solver(model, schedule, x_T, times, eta=self.eta, generator=generator)
        return sample(model, schedule, shape, self.step(), self.times(schedule), **options)

    def step(self) -> Step:
        """The step of ddim or ddpm; ValueError for dpm, which is no step but a walk."""
        if self.sampler == "dpm":
            raise ValueError("sampler must be ddim or ddpm here, dpm remembers its steps")
        return partial(ddim_step, eta=self.eta) if self.sampler == "ddim" else ddpm_step

    def times(self, schedule: NoiseSchedule) -> Times:
        """The times of the walk."""
        if self.shift is None:
            return self.steps
        return shifted_grid(schedule, self.steps, self.shift)


@dataclass(frozen=True)
class Asked:
    """What an evaluation is to do."""

    how: Drawing = Drawing()
    n: int = 10_000  # how many samples to draw and measure
    bound_images: int = 1000  # test digits for the bound on their likelihood; 0: leave it out
    bound_times: int = 100  # network calls for each of them, at most T - 1
    images: Path | None = None  # keep the samples too, in this .npz
    data: Path | None = None  # where one's own pictures are, if not where they were
    classifier: str | None = None  # of one's own pictures, to compare its features (a checkpoint)


def gathered(parts: Iterator[Tensor], total: int, unit: str) -> Tensor:
    """All parts as one tensor; a bar shows the progress of many."""
    found = []
    with tqdm(total=total, unit=unit, disable=total <= CHUNK) as bar:
        for part in parts:
            found.append(part)
            bar.update(len(part))
    return torch.cat(found)


def in_turn(classes: str | list[int], n: int) -> Tensor:
    """n labels, int64 [n]: the classes ("0123456789", or some numbers) in turn, again and again."""
    if not classes or not all(str(c).isdecimal() for c in classes):
        raise ValueError(f"classes must be some of 0123456789, or numbers, got {classes!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return torch.tensor([int(c) for c in classes])[torch.arange(n) % len(classes)]


def draw(
    model: nn.Module, labels: Tensor | int, how: Drawing = Drawing(), part: Part | None = None
) -> Iterator[Tensor]:
    """Images of the asked labels, `CHUNK` at a time: uint8 on the CPU, [B, H, W] or [B, 3, H, W].

    labels: int64 [N], or how many images where there are no classes; part: images of which only a
    part is drawn, see `inpainting.Part`. All noise comes from one generator on the model's device:
    seed, N, precision and device decide it, and no other random state moves. A full chunk is the
    same whatever follows it.
    """
    if not isinstance(model, Denoiser):
        raise TypeError(f"model must be a Denoiser around a UNet, got a {type(model).__name__}")
    size, device = image_shape(model), next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(how.seed)
    total = labels if isinstance(labels, int) else len(labels)
    precision = settled(how, model, total).precision
    for start in range(0, total, CHUNK):
        some = slice(start, min(start + CHUNK, total))
        asked = in_precision(_asked(model, labels, some, how.guidance), device, precision)
        asked = clipped(asked, model.schedule, 1.0)
        if part is None:
            shape = (some.stop - start, *size)
            walk = how.walk(asked, model.schedule, shape, generator)
        else:
            walk = _completed(asked, model.schedule, part, some, how, generator)
        images = to_bytes(last(walk)).cpu()
        yield images[:, 0] if size[0] == 1 else images


def _asked(model: Denoiser, labels: Tensor | int, some: slice, guidance: float) -> Model:
    """The model for these of the labels, guided."""
    if not isinstance(labels, int):
        return classifier_free(model, labels[some].to(next(model.parameters()).device), guidance)
    if guidance != 1:
        raise ValueError(f"guidance needs labels, got {guidance} and no label: leave it out")
    return model


def _completed(
    model: Model,
    schedule: NoiseSchedule,
    part: Part,
    some: slice,
    how: Drawing,
    generator: torch.Generator,
) -> Walk:
    """The walk that draws the hidden part of these images."""
    images, hidden = part.images[some], part.hidden[some]
    x_0 = to_unit(images if images.ndim == 4 else images[:, None]).to(generator.device)
    hidden = hidden[:, None].expand(x_0.shape)
    times = how.times(schedule)
    return inpaint(model, schedule, x_0, hidden, how.step(), times, generator, part.resample)


def image_shape(model: Denoiser) -> tuple[int, int, int]:
    """Channels, rows and columns of what a `Denoiser` around a `UNet` draws."""
    if not isinstance(model.net, UNet):
        raise TypeError(f"model must hold a UNet, got a {type(model.net).__name__}")
    config = model.net.config
    return config.channels, config.size, config.size


def in_precision(model: Model, device: torch.device, precision: str) -> Model:
    """The model whose network computes in this precision; x_t and eps_hat keep theirs."""
    if precision == "fp32":
        return model

    def cast(x_t: Tensor, t: Tensor) -> Tensor:
        with autocast(device, precision):
            return model(x_t, t).to(x_t.dtype)

    return cast


def settled(how: Drawing, model: Denoiser, n: int = CHUNK) -> Drawing:
    """``how`` with its precision chosen: "auto" becomes the faster of the two, for n images."""
    if how.precision != "auto":
        return how
    device = next(model.parameters()).device
    x = torch.zeros(min(CHUNK, n), *image_shape(model), device=device)
    t = torch.ones(len(x), dtype=torch.long, device=device)
    with torch.no_grad():
        found = fastest(lambda: model(x, t), device)
    return replace(how, precision="bf16" if found == "bf16" else "fp32")


def most_images(path: Path, channels: int, size: int) -> int:
    """How many images [channels, size, size] `write_images` puts in one file of this name."""
    if path.suffix.lower() == ".npz":
        return MOST_BYTES // (channels * size * size)
    return MOST_PIXELS // ((size + GAP) * zoom_of(size)) ** 2


def zoom_of(size: int) -> int:
    """How many pixels of a picture, along each side, one pixel of an image becomes."""
    return max(1, 96 // size)


def grid(images: Tensor, columns: int, gap: int = GAP, zoom: int = 3) -> Image.Image:
    """A picture of images (uint8 [N, H, W], or [N, 3, H, W] in colour), row by row.

    Each pixel becomes zoom x zoom.
    """
    if columns < 1 or len(images) < 1:
        raise ValueError(f"a grid needs an image and a column, got {len(images)} and {columns}")
    colour = images if images.ndim == 4 else images[:, None]
    rows, (_, channels, height, width) = math.ceil(len(images) / columns), colour.shape
    page = torch.zeros(rows * columns, channels, height + gap, width + gap, dtype=torch.uint8)
    page[: len(images), :, :height, :width] = colour
    page = page.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    pixels = page[: -gap or None, : -gap or None].squeeze(2).numpy()
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def write_images(path: Path, images: Tensor, labels: Tensor | None, columns: int = 10) -> None:
    """Write a PNG grid or, where the name ends in .npz, the arrays ``images`` and ``labels``.

    images: uint8 [N, H, W] or [N, 3, H, W]; labels: int64 [N], or None. Written whole or not at
    all; raises OSError when the disk refuses.
    """
    content = io.BytesIO()
    if path.suffix.lower() == ".npz":
        arrays = {"images": images} if labels is None else {"images": images, "labels": labels}
        np.savez_compressed(content, **{name: v.numpy() for name, v in arrays.items()})  # type: ignore[arg-type]
    else:
        grid(images, columns, zoom=zoom_of(images.shape[-1])).save(content, "PNG")
    write_whole(path, content.getvalue())
