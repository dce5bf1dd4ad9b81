"""Networks that predict eps from x_t and t."""

from .mlp import MLP

__all__ = ["MLP"]
