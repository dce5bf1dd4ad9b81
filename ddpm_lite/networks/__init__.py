"""Networks: those that predict eps from x_t and t, those that code digits, and the classifier."""

from .classifier import Classifier
from .mlp import MLP
from .reading import Reading
from .unet import UNETS, UNet, UNetConfig
from .vae import VAE, Autoencoder, Elbo, reparameterise

__all__ = [
    "MLP",
    "UNETS",
    "VAE",
    "Autoencoder",
    "Classifier",
    "Elbo",
    "Reading",
    "UNet",
    "UNetConfig",
    "reparameterise",
]
