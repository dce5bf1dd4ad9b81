"""Chapter 9's table: what the network returns, and what its error is multiplied by, on the toy.

    python benchmarks/targets.py [--seeds 3] [--workers 2]

Trains a small MLP for every output (x_0, eps, v), every weight on its error and every seed, and
measures each against the exact denoiser, on grids: no number here has sampling noise. Stores
ddpm_lite/assets/results/targets.json after each run and skips the runs that it already holds.
About 5 minutes on 2 free cores.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from ddpm_lite.density import grid, sampled_density
from ddpm_lite.loss import eps_weight
from ddpm_lite.metrics import w1_density
from ddpm_lite.mixture import two_modes
from ddpm_lite.networks import MLP, Denoiser
from ddpm_lite.prediction import Model
from ddpm_lite.schedule import NoiseSchedule, linear_schedule
from ddpm_lite.training import TrainConfig, train

RESULTS = Path(__file__).parents[1] / "ddpm_lite" / "assets" / "results" / "targets.json"
WIDTH, STEPS, BATCH = 64, 3000, 512
BANDS = ((1, 10), (11, 100), (101, 400), (401, 1000))


def weights(schedule: NoiseSchedule) -> dict[str, Tensor]:
    """Tables [T + 1] on |eps - eps_hat|^2, of mean 1 over t = 1..T.

    "x_0", "eps" and "v" are the plain squared error of that quantity; "vlb" is the bound with
    sigma^2 = beta_tilde, where the decoder's sigma_1^2 is beta_tilde_2.
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
    }
    return {name: table / table[1:].mean() for name, table in tables.items()}


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


def run(output: str, weight: str, seed: int) -> dict[str, object]:
    """Train one network and measure it."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    schedule = linear_schedule()
    torch.manual_seed(seed)
    model = Denoiser(MLP(width=WIDTH), schedule, output)
    config = TrainConfig(steps=STEPS, batch_size=BATCH, seed=seed)
    *_, last = train(model, schedule, two_modes().sample, config, weights(schedule)[weight])
    found = measure(last.ema, schedule)
    return {"output": output, "weight": weight, "seed": seed, **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    config = {"width": WIDTH} | asdict(TrainConfig(steps=STEPS, batch_size=BATCH))
    del config["seed"], config["log_every"]
    done: dict[tuple, dict] = {}
    if RESULTS.exists():
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))
        if stored["config"] == config:
            done = {(r["output"], r["weight"], r["seed"]): r for r in stored["runs"]}
    torch.set_default_dtype(torch.float64)
    schedule = linear_schedule()
    exact = measure(two_modes().denoiser(schedule), schedule)["w1"]
    about = {"command": "python benchmarks/targets.py", "config": config, "exact_w1": exact}
    seeds = range(args.seeds)
    wanted = [(o, w, seed) for seed, o, w in product(seeds, ("x_0", "eps", "v"), weights(schedule))]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run, *key) for key in wanted if key not in done]
        for future in as_completed(futures):
            result = future.result()
            done[result["output"], result["weight"], result["seed"]] = result
            runs = [done[key] for key in wanted if key in done]
            store(about | {"runs": runs})
            print(f"{len(runs)}/{len(wanted)}", *list(result.values())[:4], flush=True)


def store(results: dict[str, object]) -> None:
    """Write the results whole or not at all."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    temporary.replace(RESULTS)


if __name__ == "__main__":
    main()
