"""How far samples are from the truth: points on the line, and images."""

from .images import (
    accuracy,
    class_score,
    features,
    frechet,
    kid,
    neighbours,
    precision_recall,
    probabilities,
    variety,
)
from .line import ks, mixture_cdf, quantiles, w1, w1_density

__all__ = [
    "accuracy",
    "class_score",
    "features",
    "frechet",
    "kid",
    "ks",
    "mixture_cdf",
    "neighbours",
    "precision_recall",
    "probabilities",
    "quantiles",
    "variety",
    "w1",
    "w1_density",
]
