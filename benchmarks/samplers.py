"""How fast digits are drawn: our network and diffusers', in our loop and under their scheduler.

    python benchmarks/samplers.py [--device cpu] [--threads 2] [--digits 64] [--steps 50]
                                  [--rounds 5] [--out FILE]

64 digits in 50 DDIM steps (eta = 0, x_0_hat clipped). Ours is the network that comes with the
package, theirs a UNet2DModel of equal parameters with random weights (it costs what a trained one
costs), both in channels-last layout; the loops are `sampling.sample` and diffusers' DDIMScheduler.
The four take turns within a round, so a busy machine slows all of them alike, and what counts is
the ratio. From one start, our network draws the same digits in both loops: their largest difference
is stored too. Stores ddpm_lite/assets/results/samplers.json (or --out).
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import diffusers
import torch
from torch import Tensor, nn
from unet import Diffusers, flops, processor, seconds

from ddpm_lite.prediction import Model
from ddpm_lite.sampling import ddim_step, sample
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import load_pretrained

RESULTS = Path(__file__).parents[1] / "ddpm_lite" / "assets" / "results" / "samplers.json"


def our_loop(model: Model, x_T: Tensor, steps: int) -> Tensor:
    """x_0 by `sampling.sample`."""
    step = partial(ddim_step, eta=0.0, clip=1.0)
    walk = sample(model, linear_schedule(), x_T.shape, step, steps, x_T=x_T, device=x_T.device)
    *_, (_, x_0, _) = walk
    return x_0


@torch.no_grad()
def their_loop(model: Model, x_T: Tensor, steps: int) -> Tensor:
    """x_0 by diffusers' scheduler, whose t is ours minus 1."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, clip_sample=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps, device=x_T.device)
    x = x_T
    for t in scheduler.timesteps:
        eps_hat = model(x, (t + 1).expand(len(x)))
        x = scheduler.step(eps_hat, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
    return x


LOOPS: dict[str, Callable[[Model, Tensor, int], Tensor]] = {
    "our loop": our_loop,
    "their scheduler": their_loop,
}


def networks(device: str) -> dict[str, nn.Module]:
    made = {"our network": load_pretrained("digits"), "their network": Diffusers((24, 48, 48))}
    like = {"device": device, "memory_format": torch.channels_last}
    return {name: network.to(**like).eval() for name, network in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--digits", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x_T = torch.randn(args.digits, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x_T, y = x_T.to(args.device), (torch.arange(args.digits) % 10).to(args.device)
    nets = networks(args.device)
    runs = {
        f"{name}, {how}": partial(loop, partial(net, y=y), x_T, args.steps)
        for name, net in nets.items()
        for how, loop in LOOPS.items()
    }
    same = [runs[f"our network, {how}"]() for how in LOOPS]
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(1 + args.rounds):  # the first round warms up
        for name, run in runs.items():
            found = seconds(run, args.device)
            taken[name] += [found] if k else []
        print(f"round {k}/{args.rounds}", flush=True)
    ours = "our network, our loop"
    results = {
        "command": shlex.join(["python", "benchmarks/samplers.py", *sys.argv[1:]]),
        "machine": processor(),
        "device": args.device,
        "threads": args.threads,
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
        "digits": args.digits,
        "steps": args.steps,
        "rounds": args.rounds,
        "largest_difference": float((same[0] - same[1]).abs().max()),
        "networks": {
            name: {
                "parameters": sum(p.numel() for p in net.parameters()),
                "mflop": round(flops(net) / 1e6),
            }
            for name, net in nets.items()
        },
        "seconds": {name: round(statistics.median(times), 2) for name, times in taken.items()},
        # The median over the rounds of each round's ratio.
        "ratio": {
            name: round(
                statistics.median(a / b for a, b in zip(times, taken[ours], strict=True)), 2
            )
            for name, times in taken.items()
        },
    }
    print(json.dumps(results, indent=1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
