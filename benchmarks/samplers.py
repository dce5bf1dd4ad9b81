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

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import diffusers
import torch
from common import RESULTS, Results, flags, refusing
from timing import add_timing, in_rounds, medians, seconds, timed_by
from torch import Tensor, nn
from unet import Diffusers, flops

from ddpm_lite.prediction import Model, clipped
from ddpm_lite.sampling import ddim_step, last, sample
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import load_pretrained

OURS = "our network, our loop"


def our_loop(model: Model, x_T: Tensor, steps: int) -> Tensor:
    """x_0 by `sampling.sample`."""
    schedule = linear_schedule()
    asked = clipped(model, schedule, 1.0)
    return last(sample(asked, schedule, x_T.shape, ddim_step, steps, x_T=x_T, device=x_T.device))


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
    like: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
    return {name: network.to(**like).eval() for name, network in made.items()}


def about(nets: dict[str, nn.Module]) -> dict[str, dict[str, int]]:
    """How large each network is."""
    return {
        name: {
            "parameters": sum(p.numel() for p in net.parameters()),
            "mflop": round(flops(net) / 1e6),
        }
        for name, net in nets.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS / "samplers.json")
    add_timing(parser)
    args = parser.parse_args(arguments)
    with refusing(parser):
        results = Results(args.out)
    torch.set_num_threads(args.threads)
    x_T = torch.randn(args.digits, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x_T, y = x_T.to(args.device), (torch.arange(args.digits) % 10).to(args.device)
    nets = networks(args.device)
    runs = {
        f"{name}, {how}": partial(loop, partial(net, y=y), x_T, args.steps)
        for name, net in nets.items()
        for how, loop in LOOPS.items()
    }
    ours, theirs = (runs[f"our network, {how}"]() for how in LOOPS)
    measures = {name: partial(seconds, run, args.device) for name, run in runs.items()}
    taken = in_rounds(measures, args.rounds)
    ratios = {  # the median of each round's
        name: statistics.median(a / b for a, b in zip(times, taken[OURS], strict=True))
        for name, times in taken.items()
    }
    results.values = {
        **timed_by("samplers.py", arguments, args),
        "diffusers": diffusers.__version__,
        "rounds": args.rounds,
        "largest_difference": float((ours - theirs).abs().max()),
        "networks": about(nets),
        "seconds": {name: round(value, 2) for name, value in medians(taken).items()},
        "ratio": {
            name: round(value, 2) for name, value in ratios.items()
        },  # median of each round's
    }
    results.write()
    print(json.dumps(results.values, indent=1))


if __name__ == "__main__":
    main()
