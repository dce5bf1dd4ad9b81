"""A small convolutional network that reads images; its features are what `metrics` compares."""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """The class of an image [B, channels, size, size] in [-1, 1], as logits [B, classes].

    width: channels of the first level; features: units of the last hidden layer. Three levels
    (28, 14, 7 rows) of 3 x 3 convolutions, batch normalisation and ReLU, after LeCun et al. 1998.
    """

    def __init__(
        self,
        classes: int = 10,
        width: int = 16,
        features: int = 128,
        size: int = 28,
        channels: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"classes": classes, "width": width, "features": features, "channels": channels}
        for name, value in {**sizes, "size": size}.items():
            least = 4 if name == "size" else 1
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.shape = channels, size, size
        self.body = nn.Sequential(
            *_conv(channels, width),
            nn.MaxPool2d(2),
            *_conv(width, 2 * width),
            *_conv(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_conv(2 * width, 4 * width),
            *_conv(4 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * (size // 4) ** 2, features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer reads: [B, features], none of them negative."""
        if x.shape[1:] != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(f"x must be images [B, {shape}], got {list(x.shape)}")
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _conv(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )
