"""How fast the U-Net trains and samples: ours, diffusers' at equal parameters, and equal topology.

    python benchmarks/unet.py [--device cpu] [--threads 2] [--precision fp32] [--rounds 5]

One training step is forward, backward and AdamW on a batch of 128; sampling is 64 digits in 50
DDIM steps. The contestants take turns within a round, so a busy machine slows all of them alike,
and what counts is the ratio. Efficiency is counted FLOPs (forward, three times that for training)
over the peak of `gemm.py`, measured in the same run. Stores
ddpm_lite/assets/results/speed.json with the machine's name.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DModel
from gemm import PRECISIONS, gemm_peak
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lite.networks import UNETS, UNet, UNetConfig
from ddpm_lite.sampling import ddim_step, sample
from ddpm_lite.schedule import linear_schedule

RESULTS = Path(__file__).parents[1] / "ddpm_lite" / "assets" / "results" / "speed.json"
BATCH, DIGITS, STEPS = 128, 64, 50


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


def training_step(model: nn.Module, autocast: Callable[[], AbstractContextManager]) -> Callable:
    """A function that makes one step, on fixed data: the time does not depend on it."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    like = next(model.parameters())
    x, eps = (torch.randn(BATCH, 1, 28, 28, device=like.device) for _ in range(2))
    t = torch.randint(1, 1001, (BATCH,), device=like.device)
    y = torch.randint(0, 10, (BATCH,), device=like.device)

    def step() -> None:
        with autocast():
            loss = ((model(x, t, y) - eps) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def sampling_run(model: nn.Module, autocast: Callable[[], AbstractContextManager]) -> Callable:
    """A function that samples ``DIGITS`` digits in ``STEPS`` steps."""
    device = next(model.parameters()).device
    y = torch.arange(DIGITS, device=device) % 10
    step = partial(ddim_step, eta=1.0, clip=1.0)

    def run() -> None:
        with autocast():
            walk = sample(
                partial(model, y=y),
                linear_schedule(),
                (DIGITS, 1, 28, 28),
                step,
                STEPS,
                device=device,
                dtype=torch.float32,
            )
            list(walk)

    return run


def precisions(device: str) -> dict[str, dict[str, int]]:
    """Per precision: the peak, and images/s of training ours."""
    found = {}
    for name, dtype in PRECISIONS.items():
        autocast = partial(
            torch.autocast, device.split(":")[0], torch.bfloat16, enabled=name == "bf16"
        )
        model = UNet(UNETS["book"]).to(device, memory_format=memory_format(device, name))
        step = training_step(model, autocast)
        best = min(seconds(step, device) for _ in range(6))
        peak = gemm_peak(dtype, device)[1]
        found[name] = {"gemm_gflops": round(peak / 1e9), "train_images_per_s": round(BATCH / best)}
    return found


def memory_format(device: str, precision: str) -> torch.memory_format:
    """The layout of `ddpm_lite.run`, for all: channels_last, but for bf16 on a CPU."""
    slow = device == "cpu" and precision == "bf16"
    return torch.contiguous_format if slow else torch.channels_last


def seconds(run: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def flops(model: nn.Module) -> int:
    """Of one image's forward pass, counted by torch (a multiplication and an addition are two)."""
    like = next(model.parameters())
    x, t = torch.randn(1, 1, 28, 28, device=like.device), torch.ones(1, device=like.device).long()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, t, t)
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    autocast = partial(
        torch.autocast,
        args.device.split(":")[0],
        torch.bfloat16,
        enabled=args.precision == "bf16",
    )
    layout = {"memory_format": memory_format(args.device, args.precision)}
    models = {n: make().to(args.device, **layout) for n, make in contestants().items()}
    train = {name: training_step(model, autocast) for name, model in models.items()}
    draw = {name: sampling_run(model, autocast) for name, model in models.items()}
    taken: dict[str, dict[str, list[float]]] = {n: {"train": [], "sample": []} for n in models}
    peaks = []
    for k in range(1 + args.rounds):  # the first round warms up
        peak = gemm_peak(PRECISIONS[args.precision], args.device)[1]
        for name in models:
            found = {
                "train": min(seconds(train[name], args.device) for _ in range(3)),
                "sample": seconds(draw[name], args.device),
            }
            if k:
                for kind, value in found.items():
                    taken[name][kind].append(value)
        peaks += [peak] if k else []
        print(f"round {k}/{args.rounds}: peak {peak / 1e9:.0f} GFLOP/s", flush=True)
    peak = statistics.median(peaks)
    results = {}
    for name, model in models.items():
        step, walk = (statistics.median(taken[name][kind]) for kind in ("train", "sample"))
        count = flops(model)
        results[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "mflop": round(count / 1e6),
            "train_images_per_s": round(BATCH / step),
            "train_share_of_peak": round(3 * count * BATCH / step / peak, 3),
            "sample_seconds": round(walk, 2),
            "sample_share_of_peak": round(count * DIGITS * STEPS / walk / peak, 3),
        }
        print(name, json.dumps(results[name]))
    about = {
        "precisions": precisions(args.device),
        "command": "python benchmarks/unet.py",
        "machine": processor(),
        "threads": args.threads,
        "device": args.device,
        "precision": args.precision,
        "torch": torch.__version__,
        "gemm_gflops": round(peak / 1e9),
        "batch": BATCH,
        "digits": DIGITS,
        "steps": STEPS,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        json.dumps({**about, "networks": results}, indent=1) + "\n", encoding="utf-8"
    )


def processor() -> str:
    """The CPU's name and the instructions that decide how fast bf16 is; or the GPU's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = info.split("model name\t: ", 1)[1].split("\n", 1)[0]
        has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in info]
        return f"{name} ({', '.join(has)})"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
