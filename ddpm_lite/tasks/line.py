"""Points on the line: the network of chapter 10, and its exact measure."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..density import grid, sampled_density
from ..files import write_whole
from ..loss import Draw, Loss, denoising
from ..metrics import w1_density
from ..mixture import GaussianMixture, two_modes
from ..networks import MLP
from ..prediction import Model
from ..sampling import last, sample
from ..schedule import NoiseSchedule, linear_schedule
from ..training import Task, TrainConfig

BARS, LOW, HIGH = 160, -4.0, 4.0  # of a picture of points
CHUNK = 10_000  # points drawn at a time


@dataclass(frozen=True)
class Line(Task):
    """An `MLP` that learns eps of `two_modes` on the linear schedule of T = 1000."""

    kind: ClassVar[str] = "line"

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=1500, batch_size=512, lr=4e-3, ema_decay=0.995)
    )
    weight: float = 0.5  # of the left mode
    width: int = 128  # units of each hidden layer
    depth: int = 3  # hidden layers
    T: int = 1000  # steps of the schedule

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("width", 4096), ("depth", 100)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} must lie in 1..{most}, got {value}")

    @property
    def schedule(self) -> NoiseSchedule:
        """The linear schedule of T."""
        return linear_schedule(self.T)

    @property
    def data(self) -> GaussianMixture:
        """The law of x_0."""
        return two_modes(self.weight)

    def build(self) -> MLP:
        return MLP(width=self.width, depth=self.depth, T=self.T)

    def batches(self, device: torch.device) -> tuple[Draw, Loss]:
        data = self.data

        def draw(n: int, generator: torch.Generator) -> Tensor:
            own = generator if generator.device.type == "cpu" else _twin(generator)
            return data.sample(n, own).to(device)

        return denoising(draw, self.schedule)

    def preview(self, model: nn.Module, path: Path) -> None:
        """The histogram of 4,000 points, drawn in 50 steps."""
        points = self._points(model, 4000, min(50, self.T), 0)
        self.write(path.with_suffix(".png"), torch.cat(list(points)), None)

    def sample(self, model: nn.Module, how: Any, labels: Tensor | int) -> Iterator[Tensor]:
        n = labels if isinstance(labels, int) else len(labels)
        yield from self._points(model, n, min(how.steps, self.T), how.seed)

    def write(self, path: Path, samples: Tensor, labels: Tensor | None, columns: int = 10) -> None:
        """Points [N]: a histogram (.png), or the array ``points`` (.npz)."""
        content = io.BytesIO()
        if path.suffix.lower() == ".npz":
            np.savez_compressed(content, points=samples.numpy())
        else:
            _histogram(samples).save(content, "PNG")
        write_whole(path, content.getvalue())

    @torch.no_grad()
    def evaluate(self, model: nn.Module, asked: Any) -> dict[str, Any]:
        """W1 of the sampler's law to the data, without sampling noise: of the model, of the exact
        denoiser."""
        x, schedule = grid(), self.schedule
        truth, steps = self.data.log_prob(x).exp(), min(asked.how.steps, self.T)
        models: dict[str, Model] = {"value": model.cpu(), "exact": self.data.denoiser(schedule)}
        try:
            laws = {n: sampled_density(m, schedule, x, steps=steps) for n, m in models.items()}
        except ValueError as error:
            raise ValueError(
                f"its points lie nowhere near the data: train longer ({error})"
            ) from None
        w1 = {name: round(w1_density(x, law, truth), 6) for name, law in laws.items()}
        return {"steps": steps, "measures": {"w1": w1}}

    def _points(self, model: nn.Module, n: int, steps: int, seed: int) -> Iterator[Tensor]:
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        for start in range(0, n, CHUNK):
            shape = (min(CHUNK, n - start),)
            walk = sample(
                model, self.schedule, shape, steps=steps, generator=generator, device=device
            )
            yield last(walk).cpu()


def _twin(generator: torch.Generator) -> torch.Generator:
    """A generator on the CPU, seeded by the next number of this one."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))


def _histogram(points: Tensor, height: int = 120, zoom: int = 4) -> Image.Image:
    counts = torch.histc(points.float(), BARS, LOW, HIGH)
    bars = (counts / counts.max().clamp(min=1) * height).round()
    rows = torch.arange(height, 0, -1)[:, None]
    pixels = torch.where(rows <= bars, 31, 255).byte().numpy()
    return Image.fromarray(pixels).resize((BARS * zoom, height * 2), Image.Resampling.NEAREST)
