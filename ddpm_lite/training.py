"""Algorithm 1 of Ho et al. 2020: training as a generator of logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .objective import simple_loss
from .schedule import NoiseSchedule


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Raises ValueError where a number is out of range."""

    steps: int = 1500
    batch_size: int = 512
    lr: float = 2e-3  # peak; falls to 0 along a half cosine
    ema_decay: float = 0.99  # of the averaged weights, in [0, 1); reached after a warm-up
    log_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True)
class Log:
    """After ``step`` updates: the mean ``loss`` since the last log, and ``ema``, the model with
    averaged weights, to sample from. It is one object that goes on changing: copy it to keep it."""

    step: int
    loss: float
    ema: nn.Module


def train(
    model: nn.Module,
    schedule: NoiseSchedule,
    draw: Callable[[int, torch.Generator], Tensor],
    config: TrainConfig = TrainConfig(),
    weight: Tensor | None = None,
    loss: Callable[..., Tensor] = simple_loss,
) -> Iterator[Log]:
    """Train ``model`` in place (Algorithm 1), yielding a `Log` every ``log_every`` steps.

    draw(n, generator): n fresh samples x_0 [n, *D]; weight: a table [T + 1] on the loss, or None.
    t, eps and draw's generator start from ``config.seed``, on the CPU; x_0 moves to the device
    and dtype of the model. Raises FloatingPointError when the loss is no longer finite.
    """
    generator = torch.Generator().manual_seed(config.seed)
    like = next(model.parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    ema = AveragedModel(model, avg_fn=_ema(config.ema_decay), use_buffers=True)
    losses = []
    for step in range(1, config.steps + 1):
        x_0 = draw(config.batch_size, generator)
        t = torch.randint(1, schedule.T + 1, (len(x_0),), generator=generator)
        eps = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
        value = loss(model, schedule, x_0.to(like), t.to(like.device), eps.to(like), weight)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        cosine.step()
        ema.update_parameters(model)
        losses.append(value.detach())
        if step % config.log_every == 0 or step == config.steps:
            mean = torch.stack(losses).mean().item()
            if not torch.isfinite(torch.tensor(mean)):
                raise FloatingPointError(
                    f"the loss is {mean} at step {step}: lower lr (now {config.lr}), "
                    "and look for NaN in the data"
                )
            losses.clear()
            yield Log(step, mean, ema.module)


def _ema(decay: float) -> Callable[..., Tensor]:
    """An average that forgets the random start: its decay is at most (1 + n) / (10 + n)."""

    def update(average: Tensor, new: Tensor, n: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(n)) / (10 + int(n)))
        return average + (1 - kept) * (new - average)

    return update
