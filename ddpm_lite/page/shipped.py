"""The networks that come with the package for pages: assets/networks/NAME.json and NAME.bin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..files import write_whole
from ..tasks import load_pretrained
from ..training import find
from ..training.checkpoint import WEIGHTS, checksum
from .export import export
from .program import Exported

FOLDER = WEIGHTS.parent / "networks"


class Shipped(NamedTuple):
    """part: of the checkpoint's model, the network that pages run; inputs: an example, [2, ...];
    output: what it returns, if the model does not say so.
    """

    checkpoint: str
    part: Callable[[Any], nn.Module]
    inputs: Callable[[Any], tuple[Tensor, ...]]
    output: str = ""


class Decoder(nn.Module):
    """The image of a code z [B, latent], as a network of its own."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.decoder = vae.decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z)


def _images(model: Any) -> tuple[Tensor, ...]:
    c = model.net.config
    labels = (torch.tensor([0, 1]),) if c.classes else ()
    return torch.zeros(2, c.channels, c.size, c.size), torch.tensor([1, 2]), *labels


def _points(model: Any) -> tuple[Tensor, ...]:
    return torch.zeros(2), torch.tensor([1, 2])


NETWORKS = {
    "digits": Shipped("digits", lambda model: model.net, _images),
    "line": Shipped("line", lambda model: model, _points, "eps"),
    "vae-plane": Shipped("vae-plane", Decoder, lambda vae: (torch.zeros(2, vae.latent),), "image"),
}


def network(name: str) -> tuple[nn.Module, tuple[Tensor, ...], str]:
    """The network itself, an example of its inputs, and what it returns ("v", "eps", "image")."""
    shipped = NETWORKS[name]
    model = load_pretrained(shipped.checkpoint)
    output = str(shipped.output or model.output)
    return shipped.part(model).eval(), shipped.inputs(model), output


def made(name: str) -> Exported:
    """The program and the weights, with ``about``: the checkpoint, its checksum, the output."""
    net, inputs, output = network(name)
    program, weights = export(net, inputs)
    checkpoint = NETWORKS[name].checkpoint
    about = {"checkpoint": checkpoint, "checksum": checksum(find(checkpoint)), "output": output}
    return Exported({"about": about, **program}, weights)


def write(name: str) -> tuple[Path, Path]:
    """Export the network of this name into the package; returns the two files."""
    program, weights = made(name)
    paths = FOLDER / f"{name}.json", FOLDER / f"{name}.bin"
    write_whole(paths[1], weights)
    write_whole(paths[0], json.dumps(program, separators=(",", ":")).encode() + b"\n")
    return paths


def stored(name: str) -> Exported:
    """What `write` wrote."""
    program = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Exported(program, (FOLDER / f"{name}.bin").read_bytes())


def up_to_date(name: str) -> bool:
    """Whether the two files are those that `write` would write now."""
    try:
        kept = stored(name)
    except (OSError, ValueError):
        return False
    return kept == made(name)
