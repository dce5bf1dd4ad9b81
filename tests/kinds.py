"""One small task of each kind, and one of two players: what every law of training is tried on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_lite.data.digits import mnist
from ddpm_lite.mixture import two_modes
from ddpm_lite.networks import MLP, UNetConfig
from ddpm_lite.tasks import Classify, ClassifyNoisy, Digits, Line
from ddpm_lite.tasks.codes import AutoencoderTask, VAETask
from ddpm_lite.training import Task, TrainConfig


class Pair(nn.Module):
    """A generator of points on the line, and the critic that tells them from the data."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.generator, self.critic = (
            nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)) for _ in range(2)
        )


def told_apart(model: Pair, x: Tensor, z: Tensor) -> Tensor:
    made = model.generator(z).detach()
    return (F.softplus(-model.critic(x)) + F.softplus(model.critic(made))).mean()


def passed_off(model: Pair, x: Tensor, z: Tensor) -> Tensor:
    return F.softplus(-model.critic(model.generator(z))).mean()


@dataclass(frozen=True)
class Adversaries(Task):
    """Two players: the data are one bell at 2, the generator begins near 0."""

    kind: ClassVar[str] = "adversaries"

    def build(self) -> Pair:
        return Pair()

    def batches(self, device):
        def draw(n, generator):
            x, z = torch.randn(2, n, 1, generator=generator, device=generator.device)
            return 2 + 0.5 * x, z

        return draw, {"critic": told_apart, "generator": passed_off}


QUICK = TrainConfig(steps=6, batch_size=8, lr=2e-3, clip=1.0, warmup=2, log_every=1)
KINDS: dict[str, Task] = {
    "line": Line(QUICK, save_every=2, width=8, depth=1),
    "digits": Digits(QUICK, save_every=2, network=UNetConfig(width=8, blocks=1, embedding=16)),
    "vae": VAETask(QUICK, save_every=2, latent=2, width=2, hidden=8),
    "autoencoder": AutoencoderTask(QUICK, save_every=2, latent=2, width=2, hidden=8),
    "classifier": Classify(QUICK, save_every=2, width=2, features=8),
    "noisy-classifier": ClassifyNoisy(QUICK, save_every=2, width=8, embedding=16),
    "adversaries": Adversaries(QUICK, save_every=2),
}


def with_train(task: Task, **changes) -> Task:
    """The task, trained otherwise."""
    train = replace(task.train, **changes)
    return replace(task, train=train, save_every=max(2, train.log_every))


def built(task: Task, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    return task.build().to(dtype)


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a
    )


SCHEDULE_T, MIXTURE = 100, two_modes()


def network(seed: int = 0) -> MLP:
    """A small network for points on the line, T = 100."""
    torch.manual_seed(seed)
    return MLP(width=32, depth=2, T=SCHEDULE_T)


def small_mnist(split: str) -> tuple[Tensor, Tensor]:
    """The first 300 digits of a split."""
    images, labels = mnist(split)
    return images[:300], labels[:300]
