"""For tests of commands that read MNIST: they see ten digits of each class, and are done soon."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_lite.data import mnist

ALONE = ["--workers", "1"]  # for a benchmark: in this process, which sees the few
ALL = {split: mnist(split) for split in ("train", "test")}


def some(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = ALL[split]
    rows = torch.cat([(labels == digit).nonzero()[:10, 0] for digit in range(10)])
    return images[rows], labels[rows]


FEW = {split: some(split) for split in ALL}


def see_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `mnist` has a hundred digits in each split."""
    monkeypatch.setattr(sys.modules["ddpm_lite.data.digits"], "_mnist", FEW.get)


def never(*_: object, **__: object) -> None:
    """Put it where nothing is to be made again."""
    raise AssertionError("this is stored already")


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
