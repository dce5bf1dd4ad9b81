"""How to train: the numbers of a run, and the rules of its learning rate and its average."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """How to train; a number out of range is a ValueError."""

    steps: int = 1500  # updates
    batch_size: int = 512  # of all processes together
    lr: float = 2e-3  # peak, reached after warmup; then falls to 0 along a half cosine
    warmup: int = 0  # steps over which lr rises in a straight line
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam
    clip: float | None = None  # the gradient's norm is cut to this
    ema_decay: float = 0.99  # of the averaged weights, in [0, 1); reached after a warm-up
    precision: str = "fp32"  # fp32, bf16 (autocast), or auto: the faster of the two
    compile: bool = False  # torch.compile: pays on a GPU
    log_every: int = 100  # steps from one log to the next
    seed: int = 0  # of all that is random

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("log_every", 1), ("warmup", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
        if not isinstance(self.seed, int) or not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed must be a whole number of 64 bits, got {self.seed}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip} (None: no clipping)")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.precision not in ("fp32", "bf16", "auto"):
            raise ValueError(f"precision must be fp32, bf16 or auto, got {self.precision!r}")


def rate(config: TrainConfig, step: int) -> float:
    """The learning rate's factor after ``step`` updates: up in a line, down along a cosine."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def kept(config: TrainConfig, n: int) -> float:
    """What the averaged weights keep of themselves when they are updated once more after n times.

    At most (1 + n) / (10 + n), so that they forget the random start; at first nothing.
    """
    return min(config.ema_decay, (1 + n) / (10 + n)) if n else 0.0
