"""What a figure's fields may be, checked where the author's own line stands in the traceback.

Every function takes the owner ("Curve"), the name of its field and the value; it returns the value
as plain Python, or raises a ValueError that names all three. So no NaN, no infinity and no object
that JSON does not know gets into a page.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_lite.live.palette import PALETTE

Array = NDArray[np.float64]

LARGEST = 1e300  # differences and margins of what is drawn stay finite
SMALLEST = 1e-280  # a range below it counts as none
NARROWEST = 1e-12  # as does one that is a smaller share of its own numbers: rounding noise


def plain(value: Any) -> Any:
    """A NumPy or torch scalar as Python's own; anything else as it is."""
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


def text(owner: str, name: str, value: Any) -> str:
    """Text that a page can hold."""
    if not isinstance(value, str):
        raise ValueError(f'{owner}: {name} must be text ("" for none), got {value!r}')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{owner}: {name} is no valid Unicode ({error})") from None
    return str(value)


def texts(owner: str, name: str, values: Any, count: int, what: str) -> list[str]:
    """`count` texts; numbers among them are written out."""
    listed = None if isinstance(values, str) else items(values)
    if listed is None or len(listed) != count:
        got = repr(values) if listed is None else len(listed)
        raise ValueError(
            f"{owner}: {name} must be {count} texts, one for each of the {what}, got {got}"
        )
    return [text(owner, name, str(value)) for value in listed]


def items(values: Any) -> list[Any] | None:
    """What a list or an array holds; None for what holds nothing."""
    try:
        return list(values)
    except TypeError:
        return None


def flag(owner: str, name: str, value: Any) -> bool:
    """True or False."""
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"{owner}: {name} must be True or False, got {value!r}")
    return value


def flag_or_none(owner: str, name: str, value: Any) -> bool | None:
    """True, False, or None: as the figure sees fit."""
    return None if value is None else flag(owner, name, value)


def number(
    owner: str,
    name: str,
    value: Any,
    low: float = -LARGEST,
    high: float = LARGEST,
    kinds: Any = int | float,
) -> Any:
    """A finite number from low to high."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if kinds is int else "a number"
        raise ValueError(f"{owner}: {name} must be {what} from {low:g} to {high:g}, got {value!r}")
    return value


def limits(owner: str, name: str, value: Any, log: bool) -> tuple[float, float]:
    """(low, high): finite, rising, further apart than rounding, positive on a log scale."""
    pair = items(value) or []
    low, high = (number(owner, name, v) for v in pair) if len(pair) == 2 else (0, 0)
    if not low < high:
        raise ValueError(f"{owner}: {name} must be (low, high) with low < high, got {value!r}")
    if log and low <= 0:
        raise ValueError(f"{owner}: {name} must be positive on a log scale, got {value!r}")
    if too_narrow(low, high):
        raise ValueError(
            f"{owner}: {name} is too narrow to draw, got {value!r}: subtract what its numbers share"
        )
    return low, high


def too_narrow(low: float, high: float, scale: float = 0.0) -> bool:
    """Whether low and high differ by no more than rounding does (at `scale`, if that is larger)."""
    return high - low <= max(SMALLEST, NARROWEST * max(abs(low), abs(high), scale))


def role(owner: str, name: str, value: Any) -> str:
    """A role of the palette."""
    if not isinstance(value, str) or value not in PALETTE:
        raise ValueError(f"{owner}: role must be one of {', '.join(PALETTE)}, got {value!r}")
    return value


def scale(owner: str, name: str, value: Any) -> str:
    """The scale of an axis."""
    if not isinstance(value, str) or value not in ("linear", "log"):
        raise ValueError(f'{owner}: {name} must be "linear" or "log", got {value!r}')
    return value


def play(owner: str, name: str, value: Any) -> bool | str:
    """Whether a slider can run: True, False or "bounce"."""
    value = plain(value)
    if not isinstance(value, bool) and not (isinstance(value, str) and value == "bounce"):
        raise ValueError(f'{owner}: play must be True, False or "bounce", got {value!r}')
    return value


def numbers(owner: str, name: str, value: Any, *ndims: int) -> Array:
    """A copy of real numbers with one of the given numbers of axes, as float64."""
    try:
        found = np.asarray(value)
        if found.dtype.kind not in "biufO":  # text and dates would become numbers, complex real
            raise TypeError(f"got {found.dtype}")
        found = found.astype(np.float64)  # a copy: authors draw frame after frame into one array
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{owner}: {name} must be numbers ({error})") from None
    far = np.isfinite(found) & (np.abs(found) > LARGEST)
    if far.any():
        most = np.abs(found[far]).max()
        raise ValueError(f"{owner}: {name} must be within {LARGEST:g}, got numbers up to {most:g}")
    if ndims and found.ndim not in ndims:
        wanted = " or ".join(str(n) for n in ndims)
        raise ValueError(f"{owner}: {name} must have {wanted} axes, got shape {found.shape}")
    return found


# A name means the same in every control, panel and mark.
FIELDS: dict[str, Callable[[str, str, Any], Any]] = {
    **dict.fromkeys(("label", "unit", "format", "title", "xlabel", "ylabel"), text),
    **dict.fromkeys(("fill", "equal", "diverging"), flag),
    **dict.fromkeys(("xscale", "yscale"), scale),
    **dict.fromkeys(("vmin", "vmax"), number),
    **dict.fromkeys(("width", "size"), partial(number, low=0.01, high=100)),
    "role": role,
    "dash": flag_or_none,
    "play": play,
    "seconds": partial(number, low=0.1, high=3600),
    "height": partial(number, low=80, high=2000),
    "gap": partial(number, low=0, high=20, kinds=int),
    "digits": partial(number, low=0, high=15, kinds=int),
    "seed": partial(number, low=0, high=2**31, kinds=int),
    "step": partial(number, low=1e-9, high=LARGEST),
}


def fields(thing: Any) -> None:
    """Check every field of a control, a panel or a mark that is text or style."""
    owner = type(thing).__name__
    for name in thing.__dataclass_fields__:
        if check := FIELDS.get(name):
            value = check(owner, name, getattr(thing, name))
            object.__setattr__(thing, name, value)  # controls and panels are frozen
