"""Networks: those that predict eps from x_t and t, and the classifier that measures digits."""

from .classifier import Classifier
from .mlp import MLP
from .reading import Reading
from .unet import UNETS, UNet, UNetConfig

__all__ = ["MLP", "UNETS", "Classifier", "Reading", "UNet", "UNetConfig"]
