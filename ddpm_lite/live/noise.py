"""Normal numbers that Python and the page can both make, from a seed that is stated.

A counter goes through the integer hash of C. Wellons (2018) and comes out as two uniform numbers,
of which Box and Muller (1958) make a normal one. The JavaScript has this formula too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddpm_lite.live.checks import Array, number

MOST_SEED = 2**32 - 1


def normals(seed: int, shape: Sequence[int] | int, stream: int = 0) -> Array:
    """Standard normal numbers of this shape, float64; another stream is another noise."""
    number("normals", "seed", seed, 0, MOST_SEED, int)
    number("normals", "stream", stream, 0, MOST_SEED, int)
    count = math.prod(shape) if isinstance(shape, Sequence) else shape
    start = _mixed(_mixed(np.array([seed], np.uint32)) + np.array([stream], np.uint32))
    counter = start + np.arange(2 * count).astype(np.uint32)
    u, v = ((_mixed(counter) + 0.5) / 2.0**32).reshape(-1, 2).T
    return (np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).reshape(shape)


def _mixed(n: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A hash of 32 bits to 32 bits, one to one."""
    n = (n ^ (n >> np.uint32(16))) * np.uint32(0x7FEB352D)
    n = (n ^ (n >> np.uint32(15))) * np.uint32(0x846CA68B)
    return n ^ (n >> np.uint32(16))
