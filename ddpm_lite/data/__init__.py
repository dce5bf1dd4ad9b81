"""Data: the digits of MNIST, which travel with the package, and the reader's own pictures."""

from .digits import labelled, mnist, to_bytes, to_unit
from .images import Pictures, pictures

__all__ = ["Pictures", "labelled", "mnist", "pictures", "to_bytes", "to_unit"]
