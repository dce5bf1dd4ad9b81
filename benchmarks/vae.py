"""Train chapter 5's autoencoder and its two VAEs, store them, and measure what they draw.

    python benchmarks/vae.py [--epochs 10] [--short 5] [--n 10000] [--seed 0] [--keep]
                             [--workers 2] [--threads 1] [--out DIR]

Trains the tasks "vae" and "autoencoder" on 60,000 digits of the train split an epoch. Stores
DIR/weights/vae.safetensors (16 latent numbers), vae-plane.safetensors (2) and
autoencoder.safetensors (16), averaged and in float16, and what it measures in
DIR/results/vae.json; DIR is ddpm_lite/assets. With --keep networks that are stored already are not
trained again. Further VAEs of 16 numbers are trained for ``short`` epochs with sigma^2 fixed, and
only measured. All distances are to the test set, of as many samples as n, by the classifier and the
measures of chapter 16. About 10 minutes on 2 free cores.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from classifier import halved, positive, trained
from common import RESULTS, Results, Share, add_workers, command, crew, flags, refusing, short
from torch import Tensor, nn

from ddpm_lite.bound import bits_per_dim, discretised_gaussian
from ddpm_lite.data import mnist, to_bytes, to_unit
from ddpm_lite.gaussian import kl
from ddpm_lite.metrics import accuracy, class_score, probabilities
from ddpm_lite.networks import VAE, reparameterise
from ddpm_lite.tasks import PRESETS, load_pretrained
from ddpm_lite.tasks.codes import VAETask
from ddpm_lite.tasks.evaluation import Judge, machine
from ddpm_lite.training import Task, save_checkpoint
from ddpm_lite.training.checkpoint import checksum

TASKS: dict[str, Task] = {
    "vae": PRESETS["vae"]["book"],
    "vae-plane": PRESETS["vae"]["plane"],
    "autoencoder": PRESETS["autoencoder"]["book"],
}
# sigma^2 held fixed. 1/2: the loss is |x - mean|^2 + KL; 392: with the mean over 784 pixels.
FIXED = (0.15, 0.5, 5.0, 392.0)
CHUNK = 500


@dataclass(frozen=True)
class FixedNoise(VAETask):
    """A `VAE` whose sigma^2 is not trained."""

    sigma2: float = 1.0

    def build(self) -> VAE:
        model = super().build()
        model.log_sigma2.requires_grad_(False).fill_(math.log(self.sigma2))
        return model


def fit(task: Task, epochs: float, seed: int) -> tuple[Any, dict[str, Any]]:
    """The trained network and its facts; a sigma^2 that was trained is settled."""
    model: Any
    model, facts = trained(task, epochs, seed)
    if isinstance(model, VAE) and model.log_sigma2.requires_grad:
        settle(model, mnist("train")[0], seed)
    return model, facts


@torch.no_grad()
def settle(model: VAE, images: Tensor, seed: int) -> None:
    """Give sigma^2 its best value, the mean squared error of a pixel (eq-vae-noise).

    One draw of the code an image. In a short training the parameter lags behind.
    """
    x = to_unit(images)[:, None]
    z = reparameterise(*through(model.encode, x), normal(len(x), model.latent, seed))
    model.log_sigma2.copy_((x - through(model.decode, z)).square().mean().log())


@torch.no_grad()
def through(function: Callable[..., Any], *rows: Tensor) -> Any:
    """function(*rows), some rows at a time; a tuple where the function returns one."""
    parts = [function(*some) for some in zip(*(x.split(CHUNK) for x in rows), strict=True)]
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))
    return torch.cat(parts)


def normal(n: int, latent: int, seed: int) -> Tensor:
    return torch.randn(n, latent, generator=torch.Generator().manual_seed(seed))


def fitted(codes: Tensor, n: int, seed: int) -> Tensor:
    """n codes of the normal law that has the mean and the covariance of these, [N, latent]."""
    root = torch.linalg.cholesky(codes.T.cov())
    return codes.mean(0) + normal(n, codes.shape[1], seed) @ root.T


def bound(model: VAE, images: Tensor, seed: int) -> dict[str, Any]:
    """The bound on log p(x) of images, in nats; and in bits/dim of their 8-bit pixels."""
    x, eps = to_unit(images)[:, None], normal(len(images), model.latent, seed)
    reconstruction, spent = through(model.elbo, x, eps)
    binned, _ = through(partial(model.elbo, decoder=discretised_gaussian), x, eps)
    mean, var = through(model.encode, x)
    per_latent = kl(mean, var, torch.zeros_like(mean), torch.ones_like(var)).mean(0)
    squares = (through(model, x) - x).square().mean()
    return {
        "images": len(images),
        "reconstruction": short(reconstruction.mean()),
        "kl": short(spent.mean()),
        "elbo": short((reconstruction - spent).mean()),
        "bits_per_dim": short(bits_per_dim((spent - binned).mean(), 784)),
        "bits_of_kl": short(bits_per_dim(spent.mean(), 784)),
        "kl_per_latent": [short(k) for k in per_latent.sort(descending=True).values],
        "variance_of_means": [short(v) for v in mean.var(0).sort(descending=True).values],
        "sigma2": short(model.sigma2),
        "squared_error": short(squares),
    }


def measured(judge: Judge, x: Tensor) -> dict[str, float]:
    """How far images [N, 1, 28, 28] in [-1, 1] are from the test set, and how readable."""
    images = to_bytes(x[:, 0])
    score = class_score(probabilities(judge.classifier, images))
    found = judge.against_test(images) | {"class_score": score}
    return {key: short(value) for key, value in found.items()}


def sets(models: dict[str, Any], n: int, seed: int) -> dict[str, Callable[[], Tensor]]:
    """What is measured, by name: n images each."""
    vae, plane, plain = (models[name] for name in TASKS)
    images = mnist("train")[0]
    mixed = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    shown = to_unit(images[mixed[:n]])[:, None]
    z, flat = normal(n, vae.latent, seed), normal(n, plane.latent, seed)
    drawn, codes = through(vae.decode, z), through(plain.encode, shown)
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(seed))

    def refitted(model: Any, known: Tensor) -> Tensor:
        return through(model.decode, fitted(known, n, seed))

    return {
        "real": lambda: shown,
        "vae, samples": lambda: drawn,
        "vae, samples with noise": lambda: drawn + vae.sigma2.detach().sqrt() * noise,
        "vae, reconstructions": lambda: through(vae, shown),
        "vae, fitted normal": lambda: refitted(vae, through(vae.encode, shown)[0]),
        "vae-plane, samples": lambda: through(plane.decode, flat),
        "vae-plane, reconstructions": lambda: through(plane, shown),
        "autoencoder, standard normal": lambda: through(plain.decode, z),
        "autoencoder, independent normals": lambda: through(
            plain.decode, codes.mean(0) + z * codes.std(0)
        ),
        "autoencoder, fitted normal": lambda: refitted(plain, codes),
        "autoencoder, reconstructions": lambda: through(plain, shown),
    }


def keep_networks(
    results: Results, fits: Iterator[tuple[Any, Any]], new: list[str], args: argparse.Namespace
) -> dict[str, nn.Module]:
    """Store the new networks, and return all as they are stored; with the bound of the VAEs."""
    models = {}
    for name in TASKS:
        path = args.out / "weights" / f"{name}.safetensors"
        if name in new:
            model, facts = next(fits)
            facts["command"] = results.at("command")
            save_checkpoint(path, halved(model), facts)
        models[name] = load_pretrained(path)
        results.keep(checksum(path), "weights", name)
        if isinstance(models[name], VAE):
            results.keep(bound(models[name], mnist("test")[0], args.seed), "bound", name)
    return models


def keep_sets(
    results: Results, judge: Judge, models: dict[str, Any], args: argparse.Namespace
) -> None:
    """What the networks draw and reconstruct."""
    for name, make in sets(models, args.n, args.seed).items():
        results.keep(measured(judge, make()), "sets", name)
    images, labels = mnist("test")
    for name, model in models.items():
        seen = to_bytes(through(model, to_unit(images)[:, None])[:, 0])
        read = short(accuracy(judge.classifier, seen, labels))
        results.keep(read, "sets", f"{name}, reconstructions", "accuracy")


def keep_all(results: Results, share: Share, args: argparse.Namespace) -> None:
    """Train, store and measure; the networks train beside one another."""
    files = {name: args.out / "weights" / f"{name}.safetensors" for name in TASKS}
    new = [name for name, path in files.items() if not (args.keep and path.exists())]
    tasks = [TASKS[name] for name in new] + [FixedNoise(sigma2=sigma2) for sigma2 in FIXED]
    lengths = [args.epochs] * len(new) + [args.short] * len(FIXED)
    fits = iter(share(partial(fit, seed=args.seed), tasks, lengths))
    models = keep_networks(results, fits, new, args)
    judge = Judge(load_pretrained("classifier"))
    keep_sets(results, judge, models, args)
    for sigma2, (model, _) in zip(FIXED, fits, strict=True):
        found = bound(model, mnist("test")[0], args.seed)
        drawn = through(model.decode, normal(args.n, model.latent, args.seed))
        results.keep(found | measured(judge, drawn), "fixed", f"{sigma2:g}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS.parent)
    parser.add_argument("--epochs", type=positive, default=10)
    parser.add_argument("--short", type=positive, default=5)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    add_workers(parser)
    args = parser.parse_args(arguments)
    about: dict[str, Any] = {
        "command": command("vae.py", arguments),
        "seed": args.seed,
        "n": args.n,
        "machine": machine(torch.device("cpu")),
    }
    with refusing(parser):
        results = Results(args.out / "results" / "vae.json", about)
    results.values = about | {part: {} for part in ("weights", "bound", "sets", "fixed")}
    with crew(args.workers, args.threads) as share:
        keep_all(results, share, args)


if __name__ == "__main__":
    main()
