"""One picture, whatever it is, as pixels of the size and the colours that a network takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

GREY = ("1", "L", "LA", "La")  # Pillow's modes without colour; those of 16 bits begin with I
ORIENTATION = 0x0112  # the number of an EXIF entry; 1: as it is


class Fit:
    """Makes pictures uint8 [channels, size, size], and remembers what was done to them."""

    def __init__(self, size: int, channels: int) -> None:
        self.size, self.channels = size, channels
        self.done: Counter[str] = Counter()
        self.sizes: set[tuple[int, int]] = set()

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 [channels, size, size]. Pillow raises of all kinds where the picture is broken."""
        done, before, side = Counter[str](), image.size, self.size
        grey = image.mode in GREY or image.mode.startswith("I")
        done["smaller, and enlarged"] = min(before) < side
        done["coloured, and made grey"] = self.channels == 1 and not grey
        done["grey, and made coloured"] = self.channels == 3 and grey
        done["of several frames, and the first is taken"] = getattr(image, "is_animated", False)
        image.draft(None, (2 * side, 2 * side))  # large JPEGs: faster
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
            done["turned as their EXIF asks"] = 1
        if image.mode.startswith("I"):
            image = _eight_bits(image)
            done["of 16 bits, and 8 are kept"] = 1
        if "A" in image.getbands() or "transparency" in image.info:
            image, clear = _on_white(image)
            done["transparent, and put on white"] = clear
        image = image.convert("L" if self.channels == 1 else "RGB")
        image = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
        pixels = np.array(image).reshape(side, side, self.channels)
        self.sizes.add(before)
        self.done += done
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def ready(self, rows: np.ndarray) -> Tensor | None:
        """Arrays [N, H, W] or [N, H, W, 3] as pixels, if nothing is to be done to them."""
        if rows.shape[1:] != (self.size, self.size, 3)[: 2 + (self.channels == 3)]:
            return None
        self.sizes.add((self.size, self.size))
        return torch.from_numpy(rows.reshape(*rows.shape[:3], -1)).permute(0, 3, 1, 2).contiguous()

    def said(self) -> Iterator[str]:
        """What was done, in sentences."""
        if self.sizes == {(self.size, self.size)}:
            yield f"all are {self.size} x {self.size} pixels, as the network takes them"
        else:
            area = {width * height: f"{width} x {height}" for width, height in self.sizes}
            sizes = " to ".join(area[a] for a in sorted({min(area), max(area)}))
            yield (
                f"they are {sizes} pixels: resized so that the shorter side is {self.size}, and the"
                " middle cut out"
            )
        if self.done:
            yield "some are " + "; ".join(f"{what} ({n})" for what, n in self.done.items())


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have more than 16 bits")
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """The picture, and whether white is seen through it."""
    image = image.convert("RGBA")
    least, _ = image.getchannel("A").getextrema()
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB"), least != 255
