"""Networks: those that predict eps from x_t and t, those that code digits, and the classifiers."""

from .classifier import Classifier, NoisyClassifier
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
    "NoisyClassifier",
    "UNet",
    "UNetConfig",
    "reparameterise",
]
