"""Networks: those that predict eps from x_t and t, those that code digits, and the classifier."""

from .classifier import Classifier
from .denoiser import Denoiser
from .mlp import MLP
from .unet import UNETS, UNet, UNetConfig
from .vae import VAE, Autoencoder, Elbo, reparameterise

__all__ = [
    "MLP",
    "UNETS",
    "VAE",
    "Autoencoder",
    "Classifier",
    "Denoiser",
    "Elbo",
    "UNet",
    "UNetConfig",
    "reparameterise",
]
