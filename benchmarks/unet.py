"""How fast the U-Net trains and samples: ours, diffusers' at equal parameters, and equal topology.

    python benchmarks/unet.py [--device cpu] [--threads 2] [--precision fp32] [--compile]
                              [--batch 128] [--digits 64] [--steps 50] [--rounds 5] [--out FILE]

One training step is `training.train`'s on the simple loss, with a batch of 128; sampling is 64
digits in 50 DDIM steps. --compile adds ours through torch.compile. The contestants take turns
within a round, so a busy machine slows all of them alike, and what counts is the ratio. Efficiency
is counted FLOPs (forward, three times that for training) over the peak of `gemm.py`, measured in
the same rounds. Stores ddpm_lite/assets/results/speed.json (or --out) with the machine's name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from common import RESULTS, Results, at_least, flags, refusing
from diffusers import UNet2DModel
from gemm import PRECISIONS, gemm_peak
from timing import add_timing, in_rounds, medians, seconds, timed_by
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lite.loss import denoising
from ddpm_lite.networks import UNETS, UNet, UNetConfig
from ddpm_lite.prediction import clipped
from ddpm_lite.sampling import ddim_step, last, sample
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks.drawing import in_precision
from ddpm_lite.training import TrainConfig, train
from ddpm_lite.training.precision import memory_format

EACH = 3  # training steps that are timed together


class Diffusers(nn.Module):
    """diffusers' UNet2DModel without patches: 28, 14 rows (and 7), attention in the middle."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        levels = len(widths)
        self.net = UNet2DModel(
            sample_size=28,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=widths,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            norm_num_groups=8,
            attention_head_dim=widths[-1],
            resnet_time_scale_shift="scale_shift",
            num_class_embeds=11,
        )

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.net(x_t, t, class_labels=y).sample


def contestants() -> dict[str, Callable[[], nn.Module]]:
    """The three networks; diffusers' widths are chosen for (nearly) equal parameters."""
    topology = UNetConfig(patch=1, width=24, multipliers=(1, 2, 2), embedding=96)
    return {
        "ours": lambda: UNet(UNETS["book"]),
        "diffusers": lambda: Diffusers((24, 48, 48)),
        "ours, their topology": lambda: UNet(topology),
    }


def training_rate(
    net: nn.Module, precision: str, compiled: bool, batch: int, device: str
) -> Callable[[], float]:
    """A measure: images a second of `training.train` on the simple loss, whatever the images."""
    x_0 = torch.randn(batch, 1, 28, 28, device=device)
    y = torch.randint(0, 10, (batch,), device=device)
    pair = denoising(lambda n, generator: (x_0, y), linear_schedule())
    config = TrainConfig(
        steps=10**9, batch_size=batch, precision=precision, compile=compiled, log_every=EACH
    )
    walk = train(net, *pair, config)
    return lambda: EACH * batch / seconds(lambda: next(walk), device)


def sampling_time(
    net: nn.Module, precision: str, digits: int, steps: int, device: str
) -> Callable[[], float]:
    """A measure: the seconds in which so many digits are drawn."""
    y, schedule = torch.arange(digits, device=device) % 10, linear_schedule()
    model = clipped(in_precision(partial(net, y=y), torch.device(device), precision), schedule)
    step, shape = partial(ddim_step, eta=1.0), (digits, 1, 28, 28)
    return lambda: seconds(
        lambda: last(sample(model, schedule, shape, step, steps, device=device)), device
    )


def peak(precision: str, device: str) -> Callable[[], float]:
    """A measure: FLOP/s of a matrix product."""
    return lambda: gemm_peak(PRECISIONS[precision], device)[1]


def of_precisions(args: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Per precision: the peak, and images/s of training ours."""
    ways = {"train_images_per_s": False} | ({"compiled_images_per_s": True} if args.compile else {})
    measures: dict[tuple[str, str], Callable[[], float]] = {}
    for precision in PRECISIONS:
        measures[precision, "gemm_gflops"] = peak(precision, args.device)
        for way, compiled in ways.items():
            net = laid_out(UNet(UNETS["book"]), precision, args.device)
            rate = training_rate(net, precision, compiled, args.batch, args.device)
            measures[precision, way] = rate
    found: dict[str, dict[str, int]] = {precision: {} for precision in PRECISIONS}
    for (precision, what), value in medians(in_rounds(measures, args.rounds)).items():
        found[precision][what] = round(value / 1e9 if what == "gemm_gflops" else value)
    return found


def of_networks(args: argparse.Namespace) -> tuple[float, dict[str, dict[str, Any]]]:
    """The peak in FLOP/s, and what each contestant does beside it."""
    nets = {n: laid_out(make(), args.precision, args.device) for n, make in contestants().items()}
    counts = {name: flops(net) for name, net in nets.items()}
    if args.compile:
        nets["ours, compiled"] = laid_out(UNet(UNETS["book"]), args.precision, args.device)
        counts["ours, compiled"] = counts["ours"]
    measures: dict[Any, Callable[[], float]] = {"peak": peak(args.precision, args.device)}
    for name, net in nets.items():
        compiled = name.endswith("compiled")
        forward: Any = torch.compile(net, dynamic=False) if compiled else net
        how = args.precision, compiled, args.batch, args.device
        measures[name, "train"] = training_rate(net, *how)
        measures[name, "sample"] = sampling_time(
            forward, args.precision, args.digits, args.steps, args.device
        )
    found = medians(in_rounds(measures, args.rounds))
    rows = {}
    for name, net in nets.items():
        rate, time, count = found[name, "train"], found[name, "sample"], counts[name]
        rows[name] = {
            "parameters": sum(p.numel() for p in net.parameters()),
            "mflop": round(count / 1e6),
            "train_images_per_s": round(rate),
            "train_share_of_peak": round(3 * count * rate / found["peak"], 3),
            "sample_seconds": round(time, 2),
            "sample_share_of_peak": round(
                count * args.digits * args.steps / time / found["peak"], 3
            ),
        }
    return found["peak"], rows


def laid_out(net: nn.Module, precision: str, device: str) -> nn.Module:
    """The network on the device, in the layout of `training.runs`."""
    return net.to(device, memory_format=memory_format(device, precision))  # type: ignore[call-overload]


def flops(model: nn.Module) -> int:
    """Of one image's forward pass, counted by torch (a multiplication and an addition are two)."""
    like = next(model.parameters())
    x, t = torch.randn(1, 1, 28, 28, device=like.device), torch.ones(1, device=like.device).long()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, t, t)
    return counter.get_total_flops()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS / "speed.json")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch", type=at_least(1), default=128)
    add_timing(parser)
    args = parser.parse_args(arguments)
    with refusing(parser):
        results = Results(args.out)
    torch.set_num_threads(args.threads)
    precisions = of_precisions(args)
    flop_s, networks = of_networks(args)
    results.values = {
        "precisions": precisions,
        **timed_by("unet.py", arguments, args),
        "precision": args.precision,
        "gemm_gflops": round(flop_s / 1e9),
        "batch": args.batch,
        "networks": networks,
    }
    results.write()
    print(json.dumps(results.values, indent=1))


if __name__ == "__main__":
    main()
