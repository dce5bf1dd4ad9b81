"""Data: the digits of MNIST, which travel with the package, and the reader's own images."""

from .mnist import labelled, mnist, to_bytes, to_unit

__all__ = ["labelled", "mnist", "to_bytes", "to_unit"]
