"""MNIST, which travels with the package, and images as a source for training."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import check_labels, check_samples

# The four files of LeCun, Cortes and Burges, gzipped; SHA-256 of their unzipped content.
_FILES = {
    "train": (
        (
            "train-images-idx3-ubyte.gz",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    "test": (
        (
            "t10k-images-idx3-ubyte.gz",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}


class DataError(RuntimeError):
    """A file of the package that is missing or damaged: the message says what to do."""


@lru_cache(maxsize=2)
def _mnist(split: str) -> tuple[Tensor, Tensor]:
    (images, images_digest), (labels, labels_digest) = _FILES[split]
    return _idx(images, images_digest), _idx(labels, labels_digest).long()


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """The MNIST digits: images uint8 [N, 28, 28] (0 is background) and labels int64 [N].

    split: "train" (N = 60,000) or "test" (N = 10,000). The files come with the package: no
    network. LeCun, Bottou, Bengio and Haffner 1998; data by LeCun, Cortes and Burges,
    CC BY-SA 3.0. Raises ValueError for another split, DataError for a missing or damaged file.
    """
    if split not in _FILES:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    images, labels = _mnist(split)
    return images.clone(), labels.clone()


def to_unit(images: Tensor) -> Tensor:
    """Pixels 0..255 (uint8) to [-1, 1] (torch's default float dtype), the range the book uses."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 pixels 0..255, got {images.dtype}")
    return images.to(torch.get_default_dtype()) / 127.5 - 1


def to_bytes(x: Tensor) -> Tensor:
    """Images in [-1, 1] to the nearest pixels, uint8; beyond the ends, to the end."""
    check_samples(x=x)
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte()


def labelled(
    images: Tensor, labels: Tensor | None, dropout: float = 0.0, null: int = 10
) -> Callable[[int, torch.Generator], tuple[Tensor, ...]]:
    """A source for training: ``draw(n, generator)`` -> x_0 [n, C, H, W] in [-1, 1] and y [n].

    images: uint8 [N, H, W] or [N, C, H, W]; labels: int64 [N] in 0..null - 1, or None for a source
    of (x_0,) alone; both on the generator's device, where they stay as bytes. Drawn with
    replacement; a share ``dropout`` of the labels becomes ``null``, the label of none.
    """
    if images.dtype != torch.uint8 or images.ndim not in (3, 4) or not len(images):
        raise ValueError(
            "images must be uint8 [N, H, W] or [N, C, H, W] with N >= 1, got "
            f"{images.dtype} {list(images.shape)}"
        )
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout must lie in [0, 1], got {dropout}")
    if labels is not None:
        check_labels(labels, len(images), null, name="labels", look=True)

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        options: dict[str, Any] = {"generator": generator, "device": generator.device}
        chosen = torch.randint(len(images), (n,), **options)
        x_0 = to_unit(images[chosen])
        x_0 = x_0[:, None] if x_0.ndim == 3 else x_0
        if labels is None:
            return (x_0,)
        hidden = torch.rand(n, **options) < dropout
        return x_0, torch.where(hidden, null, labels[chosen])

    return draw


def _idx(name: str, digest: str) -> Tensor:
    """Read one gzipped IDX file: two zero bytes, a type, the axes, the shape, the data."""
    file = files("ddpm_lite") / "assets" / "mnist" / name
    repair = "reinstall ddpm_lite, or restore the file from the repository"
    try:
        content = gzip.decompress(file.read_bytes())
    except FileNotFoundError:
        raise DataError(f"MNIST file is missing: {file}; {repair}") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"MNIST file is damaged ({error}): {file}; {repair}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"MNIST file has the wrong content (SHA-256): {file}; {repair}")
    header = 4 + 4 * content[3]
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
