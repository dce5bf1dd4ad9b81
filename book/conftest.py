"""How ``pytest --nbval book`` runs the notebooks and compares what they store with what comes out.

Text and tables must come out identical. Pictures may differ as two rasterisers do, and the numbers
of a live figure as two processors do in the last place; what counts as the same is said here. A new
output that is the same by this measure is replaced by the stored one; nbval compares strictly.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections import defaultdict
from typing import Any

import numpy as np
from nbval.plugin import IPyNbCell, IPyNbFile
from PIL import Image

# Kernels inherit these: the same as in tools/notebooks.py.
ENV = {
    "CUDA_VISIBLE_DEVICES": "",
    "DDPM_LITE_SIZE": "book",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}

# Pictures: on average, for nearly every pixel, and in each small tile (a curve is thin: all of it
# may be less than 0.5 % of the pixels).
MEAN_DIFFERENCE = 1 / 255
PIXEL_DIFFERENCE, CLOSE_PIXELS = 8 / 255, 0.995
TILE, TILE_DIFFERENCE = 16, 16 / 255

# Live figures: the largest difference of a number, as a share of its field's range, by bits stored.
# 8 bits: one level of grey; 16: six steps; 32 and 64: floats with digits to spare.
RANGE_DIFFERENCE = {8: 1.01 / 254, 16: 1e-4, 32: 1e-4, 64: 1e-4}
SPEC_DIFFERENCE = 1e-4  # relative, of limits and tick positions

STILL = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
STATE = re.compile(
    r'(<script type="application/json" class="lf-state">)(.*?)(</script>)',
    re.DOTALL,
)


def picture(png: str) -> np.ndarray:
    """Decode base64 PNG: RGBA in [0, 1], colours multiplied by opacity, [H, W, 4]."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    pixels = np.asarray(image, dtype=np.float64) / 255
    return np.concatenate(
        [pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=-1
    )


def picture_difference(stored: str, new: str) -> str:
    """Why two base64 PNGs are not the same picture, or ''."""
    a, b = picture(stored), picture(new)
    if a.shape != b.shape:
        return f"size {a.shape[1::-1]} against {b.shape[1::-1]}"
    difference = np.abs(a - b)
    if difference.mean() > MEAN_DIFFERENCE:
        return f"mean difference {255 * difference.mean():.2f}/255"
    close = (difference.max(axis=-1) <= PIXEL_DIFFERENCE).mean()
    if close < CLOSE_PIXELS:
        return f"only {100 * close:.2f} % of the pixels agree"
    height, width = (n - n % TILE for n in a.shape[:2])
    tiles = difference[:height, :width].reshape(
        height // TILE, TILE, width // TILE, TILE, 4
    )
    tiles = tiles.mean(axis=(1, 3)).max(axis=-1)
    if tiles.size and tiles.max() > TILE_DIFFERENCE:
        row, column = np.unravel_index(tiles.argmax(), tiles.shape)
        return f"differs around pixel ({column * TILE}, {row * TILE})"
    return ""


def field_difference(
    stored: dict[str, Any], new: dict[str, Any], sizes: list[int]
) -> str:
    """Why two packed fields of a live figure do not hold the same numbers, or ''."""
    from ddpm_lite.live.packing import unpack_field

    if (stored["bits"], stored["shape"]) != (new["bits"], new["shape"]):
        return "stored in another form"

    def frames(packed: dict[str, Any]) -> np.ndarray:
        dropped = tuple(a for a in range(len(sizes)) if a not in packed["axes"])
        values = np.expand_dims(unpack_field(packed, sizes), dropped)
        return np.broadcast_to(values, (*sizes, *packed["shape"]))

    a, b = frames(stored), frames(new)
    if a.size == 0:
        return ""
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "gaps (NaN) elsewhere"
    span = (
        stored["hi"] - stored["lo"]
        if "hi" in stored
        else np.nanmax(np.abs(a), initial=1e-30)
    )
    difference = np.nan_to_num(np.abs(a - b))
    if difference.max() <= RANGE_DIFFERENCE[stored["bits"]] * span:
        return ""
    frame = np.unravel_index(difference.argmax(), difference.shape)[: len(sizes)]
    return f"off by {difference.max():.3g} in frame {tuple(int(i) for i in frame)}"


def spec_difference(
    stored: Any, new: Any, sizes: list[int], where: str = "spec"
) -> str:
    """Why two specifications of a live figure are not the same, or ''."""
    if isinstance(stored, dict) and isinstance(new, dict):
        if set(stored) != set(new):
            return f"{where}: other keys {sorted(set(stored) ^ set(new))}"
        if "data" in stored and "bits" in stored:
            found = field_difference(stored, new, sizes)
            return f"{where}: {found}" if found else ""
        parts = ((stored[k], new[k], f"{where}.{k}") for k in stored)
    elif (
        isinstance(stored, list)
        and isinstance(new, list)
        and len(stored) == len(new)
    ):
        parts = (
            (a, b, f"{where}[{i}]")
            for i, (a, b) in enumerate(zip(stored, new, strict=True))
        )
    elif type(stored) in (int, float) and type(new) in (int, float):
        close = np.isclose(stored, new, rtol=SPEC_DIFFERENCE, atol=1e-9)
        return "" if close else f"{where}: {stored!r} against {new!r}"
    else:
        same = type(stored) is type(new) and stored == new
        return "" if same else f"{where}: {stored!r:.60} against {new!r:.60}"
    return next(
        (
            found
            for part in parts
            if (found := spec_difference(*part[:2], sizes, part[2]))
        ),
        "",
    )


def html_difference(stored: str, new: str) -> str:
    """Why two HTML outputs are not the same, or '': live figures and pictures by their content."""
    from ddpm_lite.live.packing import state_of

    if STATE.search(stored) and STATE.search(new):
        a, b = state_of(stored), state_of(new)
        sizes = [len(control["values"]) for control in a["spec"]["controls"]]
        # the controls first: the numbers are laid out by them
        for part in (lambda s: s["spec"]["controls"], lambda s: s):
            if found := spec_difference(part(a), part(b), sizes):
                return f"live figure, {found}"
    stills = STILL.findall(stored), STILL.findall(new)
    if len(stills[0]) != len(stills[1]):
        return "another number of pictures"
    for a, b in zip(*stills, strict=True):
        if found := picture_difference(a, b):
            return f"still picture: {found}"
    rest = [STILL.sub("", STATE.sub(r"\1\3", text)) for text in (stored, new)]
    return "" if rest[0] == rest[1] else "the text around the figure differs"


COMPARISONS = {"image/png": picture_difference, "text/html": html_difference}


def by_type(outputs: list[dict]) -> dict[str, list[dict]]:
    """The data of the outputs that each comparison looks at, in order."""
    found = defaultdict(list)
    for output in outputs:
        for mime in COMPARISONS:
            if mime in output.get("data", {}):
                found[mime].append(output["data"])
    return found


def compare_outputs(
    cell: IPyNbCell, test: list, ref: list, skip_compare=None
) -> bool:
    """nbval's comparison, after equal figures were made equal and unequal ones were explained."""
    new, stored = by_type(test), by_type(ref)
    for mime, difference in COMPARISONS.items():
        for a, b in zip(stored[mime], new[mime], strict=False):  # nbval counts them
            if a[mime] == b[mime]:
                continue
            found = difference(a[mime], b[mime])
            figure = mime == "image/png" or STATE.search(a[mime])
            if not found:
                b[mime] = a[mime]
            elif figure:
                b[mime] = f"another figure: {found}"
    return strict_comparison(cell, test, ref, skip_compare)


strict_comparison = IPyNbCell.compare_outputs
IPyNbCell.compare_outputs = compare_outputs


def pytest_configure():
    os.environ.update(ENV)


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        compared = set(COMPARISONS)
        collector.skip_compare = (
            *(k for k in collector.skip_compare if k not in compared),
            "stderr",
        )
