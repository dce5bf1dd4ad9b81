"""Pictures of which a part is to be drawn, read from files."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Images, and which of their pixels are to be drawn; all others stay as they are."""

    images: Tensor  # uint8 [N, H, W] or [N, 3, H, W]; one for all, or as many as are drawn
    hidden: Tensor  # bool [N, H, W], True where it is drawn; one for all, or one an image
    resample: int = 1  # see `measurement.inpaint`

    def of(self, n: int) -> Part:
        """The same for n images; ValueError where there are more than one, but not n."""
        for name, given in (("images", self.images), ("masks", self.hidden)):
            if len(given) not in (1, n):
                raise ValueError(f"{len(given)} {name} to inpaint, but {n} to draw: --n is theirs")
        images, hidden = (v.expand(n, *v.shape[1:]) for v in (self.images, self.hidden))
        return Part(images, hidden, self.resample)


def read_part(image: Path, mask: Path, channels: int, size: int, resample: int = 1) -> Part:
    """What `ddpm-lite sample --inpaint IMAGE --mask MASK` asks for.

    Each is a picture (white in the mask: to be drawn) or a .npz file with an array "images", as
    `sample` writes it, or "mask" (not 0: to be drawn), or just one. Raises ValueError for what is
    not size x size, OSError for what cannot be read.
    """
    images, hidden = _read(image, "images", channels), _read(mask, "mask", 1) > 127
    for path, found in ((image, images), (mask, hidden)):
        if tuple(found.shape[-2:]) != (size, size):
            rows, columns = found.shape[-2:]
            raise ValueError(
                f"{path} must be {size} x {size} pixels, as the model draws, got {columns} x {rows}"
            )
    if not hidden.any():
        raise ValueError(f"{mask} leaves nothing to draw: make white what is to be drawn")
    return Part(images, hidden, resample)


def _read(path: Path, name: str, channels: int) -> Tensor:
    """uint8 [N, H, W] or, of three channels, [N, 3, H, W]; a mask's True is 255."""
    if path.suffix.lower() == ".npz":
        found = _array(path, name)
        fits = found.ndim == 3 + (channels == 3) and (channels == 1 or found.shape[1] == 3)
        if not fits or not len(found):
            shape = "[N, H, W]" if channels == 1 else "[N, 3, H, W]"
            raise ValueError(f"{path} must hold {name} {shape}, got {list(found.shape)}")
        return found
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is no picture: give a .png or a .npz file") from None
    found = torch.from_numpy(pixels)
    return found[None] if channels == 1 else found.permute(2, 0, 1)[None]


def _array(path: Path, name: str) -> Tensor:
    """The array of this name in a .npz file, or the only one; one image becomes a batch."""
    try:
        with np.load(path) as held:
            arrays = {key: held[key] for key in held.files}
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz file with arrays ({error})") from None
    if name not in arrays and len(arrays) != 1:
        raise ValueError(f"{path} must hold an array {name!r}, got {', '.join(arrays) or 'none'}")
    array = arrays[name] if name in arrays else next(iter(arrays.values()))
    if name == "mask":
        array = 255 * (array != 0).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"{path} must hold {name} of pixels 0..255 (uint8), got {array.dtype}")
    found = torch.from_numpy(array)
    return found[None] if found.ndim == 2 else found
