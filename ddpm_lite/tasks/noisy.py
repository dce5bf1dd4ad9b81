"""The classifier of noisy digits, which guides a model that has no labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import labelled, mnist, to_unit
from ..forward import q_sample
from ..loss import Draw, Loss, denoising
from ..networks import NoisyClassifier
from ..schedule import NoiseSchedule, linear_schedule
from ..training import Task, TrainConfig

READ_AT = (1, 50, *range(100, 1001, 100))  # where `evaluate` measures, of T = 1000


@dataclass(frozen=True)
class ClassifyNoisy(Task):
    """A `NoisyClassifier` of MNIST's digits at every t of the linear schedule of T = 1000."""

    kind: ClassVar[str] = "noisy-classifier"

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=2500, batch_size=128, lr=3e-3, warmup=100, clip=1.0, ema_decay=0.995
        )
    )
    width: int = 16  # channels of the first level
    embedding: int = 64  # units of the embedding of t

    @property
    def schedule(self) -> NoiseSchedule:
        """That of the digits' model, which it is to guide."""
        return linear_schedule(T=1000)

    def build(self) -> NoisyClassifier:
        return NoisyClassifier(10, self.width, self.embedding)

    def batches(self, device: torch.device) -> tuple[Draw, Loss]:
        images, labels = mnist("train")
        still, schedule = labelled(images.to(device), labels.to(device)), self.schedule
        draw, _ = denoising(still, schedule, stratified=True)

        def loss(model: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
            """The mean of -log p(y | x_t) over t, x_0 and eps (def-noisy-classifier-loss)."""
            return F.cross_entropy(model(q_sample(schedule, x_0, t, eps), t), y)

        return draw, loss

    @torch.no_grad()
    def evaluate(self, model: nn.Module, asked: Any) -> dict[str, Any]:
        """The share of MNIST's test digits that is read right at some t, each with one noise of its
        own; beside it, that of the package's ``clean`` classifier, which never saw noise."""
        from . import load_pretrained

        device = next(model.parameters()).device
        clean = load_pretrained("classifier", device)
        images, labels = mnist("test")
        x_0, generator = to_unit(images)[:, None], torch.Generator().manual_seed(asked.how.seed)
        measures = {}
        for t in READ_AT:
            right = {"value": 0, "clean": 0}
            for x, y in zip(x_0.split(500), labels.split(500), strict=True):
                now = torch.full((len(x),), t)
                eps = torch.randn(x.shape, generator=generator, dtype=x.dtype)
                x_t = q_sample(self.schedule, x, now, eps).to(device)
                found = {"value": model(x_t, now.to(device)), "clean": clean(x_t)}
                for name, logits in found.items():
                    right[name] += int((logits.argmax(1).cpu() == y).sum())
            measures[f"accuracy_{t}"] = {k: v / len(labels) for k, v in right.items()}
        return {"measures": measures}
