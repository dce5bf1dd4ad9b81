"""Train chapter 5's autoencoder and its two VAEs, store them, and measure what they draw.

    python benchmarks/vae.py [--epochs 10] [--short 5] [--n 10000] [--seed 0] [--keep] [--out DIR]

Plain training on the 60,000 digits of the train split. Stores DIR/weights/vae.safetensors (16
latent numbers), vae-plane.safetensors (2) and autoencoder.safetensors (16), in float16, and what
it measures in DIR/results/vae.json; DIR is ddpm_lite/assets. With --keep networks that are stored
already are not trained again. Further VAEs of 16 numbers are trained for ``short`` epochs with
sigma^2 fixed, and only measured. All distances are to the test set, of as many samples as n, by
the classifier and the measures of chapter 16. About 10 minutes on 2 free cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lite.bound import bits_per_dim, discretised_gaussian
from ddpm_lite.data import mnist, to_bytes, to_unit
from ddpm_lite.gaussian import kl
from ddpm_lite.metrics import accuracy, class_score, probabilities
from ddpm_lite.networks import VAE, Autoencoder, reparameterise
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.tasks.evaluation import Judge, machine
from ddpm_lite.training import save_checkpoint

ASSETS = Path(__file__).parents[1] / "ddpm_lite" / "assets"
CONFIGS = {
    "vae": {"vae": {"latent": 16, "width": 8, "hidden": 256}},
    "vae-plane": {"vae": {"latent": 2, "width": 8, "hidden": 256}},
    "autoencoder": {"autoencoder": {"latent": 16, "width": 8, "hidden": 256}},
}
# sigma^2 held fixed. 1/2: the loss is |x - mean|^2 + KL; 392: with the mean over 784 pixels.
FIXED = (0.15, 0.5, 5.0, 392.0)
BATCH, PEAK_LR, CHUNK = 128, 2e-3, 500


def loss_of(model: Autoencoder | VAE, x: Tensor, generator: torch.Generator) -> Tensor:
    """Of a VAE minus the bound, else the squared error; nats, or squares, an image."""
    if isinstance(model, VAE):
        eps = torch.randn(len(x), model.latent, generator=generator)
        return -model.elbo(x, eps).total.mean()
    return (model(x) - x).square().sum((1, 2, 3)).mean()


def fit(model: Autoencoder | VAE, images: Tensor, epochs: int, seed: int) -> list[float]:
    """Train ``model`` in place: Adam, one cycle of the learning rate. The loss of each epoch."""
    generator, start = torch.Generator().manual_seed(seed), time.thread_time()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=PEAK_LR, fused=True)
    steps = epochs * -(-len(images) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    model.train()
    found = []
    for epoch in range(1, epochs + 1):
        losses = []
        for some in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = loss_of(model, to_unit(images[some])[:, None], generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            losses.append(loss.detach())
        found.append(float(torch.stack(losses).mean()))
        spent = time.thread_time() - start
        print(f"epoch {epoch}/{epochs}: loss {found[-1]:.2f}, {spent:.0f} s", flush=True)
    model.eval()
    return found


@torch.no_grad()
def settle(model: VAE, images: Tensor, seed: int) -> None:
    """Give sigma^2 its best value, the mean squared error of a pixel (eq-vae-noise).

    One draw of the code an image. In a short training the parameter lags behind.
    """
    x = to_unit(images)[:, None]
    z = reparameterise(*through(model.encode, x), normal(len(x), model.latent, seed))
    model.log_sigma2.copy_((x - through(model.decode, z)).square().mean().log())


def stored(model: nn.Module) -> dict[str, Tensor]:
    """The weights with 16 bits."""
    return {name: value.half() for name, value in model.state_dict().items()}


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


def short(value: Tensor | float) -> float:
    return float(f"{value.item() if isinstance(value, Tensor) else value:.6g}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--short", type=int, default=5)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # of each of two threads
    images, test = mnist("train")[0], mnist("test")
    given = sys.argv[1:] if arguments is None else arguments
    results: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/vae.py", *given]),
        "seed": args.seed,
        "n": args.n,
        "machine": machine(torch.device("cpu")),
        "weights": {},
        "bound": {},
        "sets": {},
        "fixed": {},
    }

    def keep(part: str, name: str, found: Any) -> None:
        results[part][name] = found
        path = args.out / "results" / "vae.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{part}: {name}", flush=True)

    pool = ThreadPoolExecutor(2)

    def training(
        config: dict[str, dict[str, int]], epochs: int, sigma2: float | None = None
    ) -> Any:
        """A network, and the losses of its epochs as they will be."""
        torch.manual_seed(args.seed)
        model = untrained(config)
        if sigma2 is not None:
            model.log_sigma2.requires_grad_(False).fill_(math.log(sigma2))
        return model, pool.submit(fit, model, images, epochs, args.seed)

    paths = {name: args.out / "weights" / f"{name}.safetensors" for name in CONFIGS}
    new = {
        name: training(config, args.epochs)
        for name, config in CONFIGS.items()
        if not (args.keep and paths[name].exists())
    }
    fixed = {sigma2: training(CONFIGS["vae"], args.short, sigma2) for sigma2 in FIXED}
    models: dict[str, Any] = {}
    for name, path in paths.items():
        if name in new:
            model, losses = new[name]
            losses = losses.result()
            if isinstance(model, VAE):
                settle(model, images, args.seed)
            facts = {
                "config": CONFIGS[name],
                "data": "MNIST, train split",
                "seed": args.seed,
                "epochs": args.epochs,
                "losses": [short(loss) for loss in losses],
                "command": results["command"],
            }
            save_checkpoint(path, stored(model), facts)
        models[name] = load_pretrained(path)
        keep("weights", name, hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        if isinstance(models[name], VAE):
            keep("bound", name, bound(models[name], test[0], args.seed))

    judge = Judge(load_pretrained("classifier"))

    def measured(x: Tensor) -> dict[str, float]:
        seen = probabilities(judge.classifier, to_bytes(x[:, 0]))
        found = judge.against_test(to_bytes(x[:, 0])) | {"class_score": class_score(seen)}
        return {key: short(value) for key, value in found.items()}

    vae, plane, plain = (models[name] for name in CONFIGS)
    mixed = torch.randperm(len(images), generator=torch.Generator().manual_seed(args.seed))
    some = mixed[: args.n]
    shown, tested = (to_unit(part)[:, None] for part in (images[some], test[0]))
    z, flat = normal(args.n, 16, args.seed), normal(args.n, 2, args.seed)
    drawn, codes = through(vae.decode, z), through(plain.encode, shown)
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(args.seed))
    sets: dict[str, Callable[[], Tensor]] = {
        "real": lambda: shown,
        "vae, samples": lambda: drawn,
        "vae, samples with noise": lambda: drawn + vae.sigma2.detach().sqrt() * noise,
        "vae, reconstructions": lambda: through(vae, shown),
        "vae, fitted normal": lambda: through(
            vae.decode, fitted(through(vae.encode, shown)[0], args.n, args.seed)
        ),
        "vae-plane, samples": lambda: through(plane.decode, flat),
        "vae-plane, reconstructions": lambda: through(plane, shown),
        "autoencoder, standard normal": lambda: through(plain.decode, z),
        "autoencoder, independent normals": lambda: through(
            plain.decode, codes.mean(0) + z * codes.std(0)
        ),
        "autoencoder, fitted normal": lambda: through(
            plain.decode, fitted(codes, args.n, args.seed)
        ),
        "autoencoder, reconstructions": lambda: through(plain, shown),
    }
    for name, make in sets.items():
        keep("sets", name, measured(make()))
    for name, model in models.items():
        read = accuracy(judge.classifier, to_bytes(through(model, tested)[:, 0]), test[1])
        results["sets"][f"{name}, reconstructions"]["accuracy"] = short(read)

    for sigma2, (model, losses) in fixed.items():
        losses.result()
        found = bound(model, test[0], args.seed)
        keep("fixed", f"{sigma2:g}", found | measured(through(model.decode, z)))
    pool.shutdown()


if __name__ == "__main__":
    main()
