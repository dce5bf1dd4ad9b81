"""Chapter 9's table: what the network returns, and what its error is multiplied by, on the toy.

    python benchmarks/targets.py [--seeds 3] [--steps 3000] [--workers 2] [--threads 1] [--out FILE]

Trains a small MLP for every output (x_0, eps, v), every weight on its error and every seed, and
measures each against the exact denoiser, on grids: no number here has sampling noise. Stores
ddpm_lite/assets/results/targets.json (or --out) after each run and skips the runs that it already
holds. About 8 minutes on 2 free cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from common import RESULTS, Results, add_workers, at_least, command, crew, flags, refusing
from torch import Tensor

from ddpm_lite.density import grid, sampled_density
from ddpm_lite.forward import q_sample
from ddpm_lite.loss import Draw, Loss, denoising, eps_weight
from ddpm_lite.metrics import w1_density
from ddpm_lite.mixture import two_modes
from ddpm_lite.networks import MLP, Denoiser
from ddpm_lite.prediction import Model
from ddpm_lite.schedule import NoiseSchedule, linear_schedule
from ddpm_lite.training import TrainConfig, train

WIDTH = 64
BANDS = ((1, 10), (11, 100), (101, 400), (401, 1000))


def weights(schedule: NoiseSchedule) -> dict[str, Tensor]:
    """Tables [T + 1] on |eps - eps_hat|^2, of mean 1 over t = 1..T.

    "x_0", "eps" and "v" are the plain squared error of that quantity; "vlb" is the bound with
    sigma^2 = beta_tilde, where the decoder's sigma_1^2 is beta_tilde_2, and "vlb_drawn" the same,
    for times that are not uniform (`important`); "min_snr" is that of Hang et al. 2023 for eps.
    """
    variance = schedule.beta_tilde.clone()
    variance[1] = variance[2]
    vlb = eps_weight(schedule, variance)
    vlb[1] = schedule.beta[1] / (2 * variance[1] * schedule.alpha[1])
    tables = {
        "x_0": 1 / schedule.snr,
        "eps": torch.ones_like(schedule.beta),
        "v": 1 / schedule.alpha_bar,
        "vlb": vlb,
        "vlb_drawn": vlb,
        "min_snr": schedule.snr.clamp(max=5) / schedule.snr,
    }
    return {name: table / table[1:].mean() for name, table in tables.items()}


def important(schedule: NoiseSchedule, weight: Tensor) -> Tensor:
    """The probability of each t = 1..T at which the loss of the exact denoiser varies least: [T].

    p_t is in proportion to the root mean square of weight_t (eps* - eps)^2 (Nichol and Dhariwal
    2021, section 3.3), here from 1,000 pairs at each t.
    """
    generator, squares = torch.Generator().manual_seed(1), []
    for t in torch.arange(1, schedule.T + 1):
        x_0, eps = two_modes().sample(1000, generator), torch.randn(1000, generator=generator)
        now = t.expand(1000)
        eps_star = two_modes().eps(schedule, q_sample(schedule, x_0, now, eps), now)
        squares.append(((eps_star - eps) ** 4).mean())
    p = weight[1:] * torch.stack(squares).sqrt()
    return p / p.sum()


def batches(schedule: NoiseSchedule, weight: str) -> tuple[Draw, Loss]:
    """What `train` asks for: batches with uniform times or, for "vlb_drawn", important ones."""
    table = weights(schedule)[weight]
    if weight != "vlb_drawn":
        return denoising(two_modes().sample, schedule, table)
    p = important(schedule, table)
    table[1:] /= schedule.T * p  # so that the mean of the loss is that of "vlb"
    uniform, loss = denoising(two_modes().sample, schedule, table)

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        x_0, _, eps = uniform(n, generator)
        t = 1 + torch.multinomial(p, n, replacement=True, generator=generator)
        return x_0, t, eps

    return draw, loss


@torch.no_grad()
def squared_errors(model: Model, schedule: NoiseSchedule) -> Tensor:
    """E (eps_hat - eps*)^2 over q(x_t) at each t = 1..T, by quadrature: [T]."""
    data, x = two_modes(), grid(-5, 5, 128)
    errors = []
    for t in torch.arange(1, schedule.T + 1).split(50):
        x_t, now = x.repeat(len(t)), t.repeat_interleave(len(x))
        error = (model(x_t, now) - data.eps(schedule, x_t, now)) ** 2
        density = torch.stack([data.diffused(schedule, int(k)).log_prob(x).exp() for k in t])
        errors.append((error.reshape(density.shape) * density).sum(1) * (x[1] - x[0]))
    return torch.cat(errors)


def measure(model: Model, schedule: NoiseSchedule) -> dict[str, object]:
    """W1 of the sampled density, the error in eps by band of t, and what it adds to the bound."""
    x = grid(-16, 16, 1024)  # a bad network throws mass far out
    w1 = w1_density(x, sampled_density(model, schedule, x), two_modes().log_prob(x).exp())
    squares = squared_errors(model, schedule)
    nats = (eps_weight(schedule, schedule.beta_tilde)[1:] * squares).sum()
    rms = {f"{a}-{b}": squares[a - 1 : b].mean().sqrt().item() for a, b in BANDS}
    return {"w1": w1, "eps_error": rms, "extra_nats": nats.item()}


def run(key: tuple[str, str, int], config: TrainConfig) -> dict[str, object]:
    """Train one network and measure it."""
    torch.set_default_dtype(torch.float64)
    (output, weight, seed), schedule = key, linear_schedule()
    torch.manual_seed(seed)
    model = Denoiser(MLP(width=WIDTH), schedule, output)
    *_, last = train(model, *batches(schedule, weight), replace(config, seed=seed))
    found = measure(last.ema, schedule)
    return {"output": output, "weight": weight, "seed": seed, **found}


def key_of(run: dict[str, Any]) -> tuple[str, str, int]:
    return run["output"], run["weight"], run["seed"]


def parsed(
    arguments: Sequence[str] | None,
) -> tuple[argparse.Namespace, TrainConfig, Results]:
    """The flags, how each network is trained, and the file of results, which must be of that."""
    parser = flags(__doc__, RESULTS / "targets.json")
    parser.add_argument("--seeds", type=at_least(1), default=3)
    parser.add_argument("--steps", type=at_least(1), default=3000)
    add_workers(parser)
    args = parser.parse_args(arguments)
    config = TrainConfig(steps=args.steps, batch_size=512)
    shown = ("steps", "batch_size", "lr", "ema_decay")
    about = {
        "command": command("targets.py", arguments),
        "config": {"width": WIDTH} | {name: getattr(config, name) for name in shown},
    }
    with refusing(parser):
        return args, config, Results(args.out, about, ("config",))


def main(arguments: Sequence[str] | None = None) -> None:
    args, config, results = parsed(arguments)
    torch.set_default_dtype(torch.float64)
    schedule = linear_schedule()
    results.values["exact_w1"] = measure(two_modes().denoiser(schedule), schedule)["w1"]
    pairs = list(product(("x_0", "eps", "v"), weights(schedule)))
    pairs = [pair for pair in pairs if pair not in (("x_0", "vlb_drawn"), ("x_0", "min_snr"))]
    wanted = [(*pair, seed) for seed in range(args.seeds) for pair in pairs]
    done = {key_of(run): run for run in results.at("runs")}
    missing = [key for key in wanted if key not in done]
    with crew(args.workers, args.threads) as share:
        for found in share(partial(run, config=config), missing):
            done[key_of(found)] = found
            in_order = sorted(done, key=lambda key: (key[2], pairs.index(key[:2])))
            results.values["runs"] = [done[key] for key in in_order]
            results.write()
            print(*list(found.values())[:4], flush=True)


if __name__ == "__main__":
    main()
