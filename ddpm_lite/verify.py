"""A formula checked in the page, by numbers that come from somewhere else."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np
import torch


class VerificationError(AssertionError):
    """A formula and its check disagree; ``label`` names the equation."""

    def __init__(self, label: str, message: str) -> None:
        super().__init__(f"{label}: {message}")
        self.label = label


class Verified:
    """What `verify` returns: one line that says how an equation was checked."""

    def __init__(self, label: str, route: str, count: int, tolerance: str) -> None:
        values = "1 value agrees" if count == 1 else f"{count:,} values agree"
        self.label, self.route, self.result = label, route, f"{values} to {tolerance}"

    def __repr__(self) -> str:
        return f"verified {self.label}: {self.route}; {self.result}"

    def _repr_html_(self) -> str:
        route, result = html.escape(self.route), html.escape(self.result)
        link = f'<a href="ledger.html#{html.escape(self.label)}">verified</a>'
        return f'<p class="verified">✓ {link} by {route}: {result}</p>'


def verify(
    label: str, lhs: object, rhs: object, *, atol: float = 0.0, rtol: float = 0.0, route: str
) -> Verified:
    """Assert that two independent computations agree: |lhs - rhs| <= atol + rtol |rhs|.

    label: of the equation in the page ("eq-forward-closed"); lhs, rhs: real or complex numbers or
    tensors that broadcast; route: how rhs was obtained, to be read after "verified by". Put it last
    in a cell. Raises VerificationError (an AssertionError) if they differ, or are NaN, or
    ValueError if nothing is compared.
    """
    if not (0 <= atol < math.inf and 0 <= rtol < math.inf and atol + rtol > 0):
        raise ValueError(
            f"verify needs a positive, finite atol or rtol, got {atol} and {rtol}: "
            "how close must the two sides be?"
        )
    a, b = np.broadcast_arrays(_numbers(lhs), _numbers(rhs))
    if a.size == 0:
        raise ValueError(f"{label}: nothing to compare, both sides are empty")
    error, allowed = np.abs(a - b), atol + rtol * np.abs(b)
    agree = np.isfinite(error) & (error <= allowed)  # NaN and infinity agree with nothing
    if not agree.all():
        excess = np.where(np.isfinite(error), error - allowed, np.inf)
        i = np.unravel_index(np.argmax(excess), a.shape)
        raise VerificationError(
            label, f"{a[i]:.6g} against {b[i]:.6g} by {route} (allowed {allowed[i]:.1e})"
        )
    small = np.format_float_scientific(atol, precision=1, trim="-", exp_digits=1)
    tolerances = [small if atol < 1e-3 else f"{atol:.2g}"] if atol else []
    tolerances += [f"{100 * rtol:.3g} %"] if rtol else []
    return Verified(label, route, a.size, " + ".join(tolerances))


def _numbers(x: Any) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu().to(torch.complex128 if x.is_complex() else torch.float64)
        return x.resolve_conj().resolve_neg().numpy()
    # a complex number made real would lose what may be wrong
    return np.asarray(x, dtype=np.complex128 if np.iscomplexobj(x) else np.float64)
