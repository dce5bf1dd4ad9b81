"""Networks that pages run, each with an example of its inputs: what PyTorch's are compared by."""

import torch
from strategies import normal
from torch import nn

from ddpm_lite.networks import UNet, UNetConfig
from ddpm_lite.page import shipped

SMALL = UNetConfig(size=8, patch=1, width=16, multipliers=(1, 2), blocks=1, embedding=8, classes=3)


def seeded(build):
    torch.manual_seed(0)
    net = build()
    for parameter in net.parameters():  # the last layers begin at 0
        nn.init.normal_(parameter, 0, 1 / max(1, parameter[0].numel()) ** 0.5)
    return net.eval()


def digits():
    t, y = torch.tensor([1, 300, 1000]), torch.tensor([0, 7, 10])
    return shipped.network("digits")[0], {"x_t": normal(3, 1, 28, 28).float(), "t": t, "y": y}


def small():
    t, y = torch.tensor([3, 500]), torch.tensor([1, 3])
    return seeded(lambda: UNet(SMALL)), {"x_t": normal(2, 1, 8, 8).float(), "t": t, "y": y}


def plane():
    return shipped.network("vae-plane")[0], {"z": normal(3, 2).float()}


def line():
    return shipped.network("line")[0], {"x_t": normal(30).float(), "t": torch.arange(1, 31) * 33}


CASES = [digits, small, plane, line]
