"""What each bug of chapter 23 does to digits: ten of them, and measures of forty.

    python benchmarks/bugs.py [--steps 250] [--names "no root" ...] [--out FILE]

Bugs of training: the shipped network is trained so many steps more (batches of 64, lr 5e-4) with
the bug, and then sampled rightly; "right, trained" is the same with no bug. Bugs of sampling: the
shipped network is sampled with the bug. 50 steps with sigma^2 = beta, x_0_hat clipped. "loss": its
mean and deviation over 40 batches; "grain": the root mean square in the outer two pixels, above
black; "ink": the mean pixel. The digits go beside FILE as .npz. Goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, Results, at_least, command, flags, rounded
from torch import Tensor

from ddpm_lite import bugs, metrics
from ddpm_lite.data import mnist, to_bytes
from ddpm_lite.files import write_whole
from ddpm_lite.forward import q_sample
from ddpm_lite.guidance import classifier_free
from ddpm_lite.networks import Denoiser
from ddpm_lite.prediction import Model, clipped, from_v
from ddpm_lite.sampling import ddim_step, ddpm_step, last, sample
from ddpm_lite.schedule import NoiseSchedule
from ddpm_lite.tasks import load_pretrained
from ddpm_lite.times import leading_grid
from ddpm_lite.training import TrainConfig, find, train
from ddpm_lite.training.checkpoint import checksum

LABELS, BATCHES = torch.arange(40) % 10, 40
TRAINED: dict[str, dict[str, Any]] = {  # what is put in the place of what
    "right, trained": {},
    "no root": {"noised": bugs.q_sample_no_root},
    "one step": {"noised": bugs.q_sample_one_step},
    "late noise": {"noised": bugs.q_sample_late},
    "fresh noise": {"error": bugs.error_to_fresh_noise},
    "all pairs": {"error": bugs.error_of_all_pairs},
    "one t": {"times": bugs.one_time},
    "no t": {"blind": True},
    "half range": {"prepared": bugs.to_half},
    "no label hidden": {"hide": bugs.never_hidden},
    "null is a class": {"hide": bugs.hidden_as_a_class},
    "shuffled labels": {"arranged": bugs.shuffled},
}


def to_range(images: Tensor) -> Tensor:
    """The right range: bytes to [-1, 1]."""
    return images.float() / 127.5 - 1


def blind_to_t(model: Denoiser) -> Callable[..., Tensor]:
    """The denoiser whose network is told t = 500 whatever it is."""

    def eps_of(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        out = model.net(x_t, torch.full_like(t, 500), y)
        return from_v(model.schedule, x_t, t, out)[1]

    return eps_of


def parts(
    model: Denoiser,
    noised: Callable[..., Tensor] = q_sample,
    error: Callable[..., Tensor] = bugs.squared_error,
    times: Callable[..., Tensor] = bugs.random_times,
    hide: Callable[[Tensor], Tensor] = bugs.hidden,
    prepared: Callable[[Tensor], Tensor] = to_range,
    arranged: Callable[[Tensor], Tensor] = lambda x: x,
    blind: bool = False,
) -> tuple[Callable[..., Any], Callable[..., Tensor], Callable[..., Tensor]]:
    """draw and loss for `train`, and the denoiser to sample with."""
    images, labels = mnist("train")
    images = arranged(images)

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        rows = torch.randint(len(images), (n,), generator=generator)
        x_0 = prepared(images[rows])[:, None]
        eps = torch.randn(x_0.shape, generator=generator)
        return x_0, times(n, model.schedule.T), eps, hide(labels[rows])

    def loss(net: Denoiser, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        eps_of = blind_to_t(net) if blind else net
        return error(eps_of(noised(net.schedule, x_0, t, eps), t, y), eps)

    return draw, loss, blind_to_t(model) if blind else model


def trained(name: str, steps: int) -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """The denoiser of a bug of training, and its loss over 40 batches."""
    torch.manual_seed(0)
    model = load_pretrained("digits").train()
    if name == "no label hidden":  # the shipped one has learned "not told": as if it never had
        with torch.no_grad():
            model.net.embedding.label.weight[10].normal_()
    draw, loss, _ = parts(model, **TRAINED[name])
    config = TrainConfig(steps, 64, lr=5e-4, clip=1.0, ema_decay=0.98, log_every=steps)
    *_, log = train(model, draw, loss, config)
    ema = log.ema.eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        losses = torch.stack([loss(ema, *draw(64, generator)) for _ in range(BATCHES)])
    measured = {"loss": float(losses.mean()), "loss_deviation": float(losses.std())}
    return parts(ema, **TRAINED[name])[2], measured


def on_other_times(model: Denoiser, schedule: NoiseSchedule) -> Callable[..., Tensor]:
    """The network for another schedule: asked at the time with the same alpha_bar."""

    def eps_of(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return model(x_t, model.schedule.time_at(schedule.alpha_bar[t]), y)

    return eps_of


def walks(model: Denoiser) -> dict[str, Callable[[], Tensor]]:
    """How each bug of sampling draws its forty digits."""
    schedule, asked = model.schedule, partial(model, y=LABELS)
    short = bugs.short_schedule()
    other = partial(on_other_times(model, short), y=LABELS)
    draw = partial(drawn, schedule=schedule)
    return {
        "right": lambda: draw(asked),
        "short schedule": lambda: drawn(other, short),
        "noisy end": lambda: draw(asked, step=bugs.step_noisy_end),
        "wrong sign": lambda: draw(asked, step=bugs.step_wrong_sign, limit=None),
        "variance for width": lambda: draw(asked, step=bugs.step_variance_for_width),
        "one z": lambda: draw(asked, step=bugs.step_one_z),
        "clipped x_t": lambda: draw(asked, step=bugs.step_clips_x_t),
        "no clip": lambda: draw(asked, limit=None),
        "early t": lambda: draw(bugs.told_s(asked)),
        "leading grid": lambda: draw(asked, step=ddim_step, steps=leading_grid(1000, 10)),
        "training mode": lambda: draw(bugs.in_training_mode(asked)),
        "another output": lambda: draw(bugs.as_x_0(asked, schedule)),
        "guided by 2": lambda: draw(classifier_free(model, LABELS, 2.0)),
        "other scale": lambda: draw(bugs.guided_from_label(model, LABELS, 2.0)),
    }


def drawn(
    model: Model,
    schedule: NoiseSchedule,
    step: Callable[..., Tensor] = ddpm_step,
    steps: Any = 50,
    limit: float | None = 1.0,
) -> Tensor:
    """Forty digits, [40, 28, 28]."""
    model = clipped(model, schedule, limit) if limit else model
    generator = torch.Generator().manual_seed(0)
    walk = sample(model, schedule, (len(LABELS), 1, 28, 28), step, steps, generator)
    return last(walk)[:, 0]


def measures(x: Tensor) -> dict[str, float]:
    """Of forty digits, drawn in [-1, 1]."""
    inside = x.nan_to_num(0, 1, -1).clamp(-1, 1)
    outer = torch.ones(28, 28, dtype=torch.bool)
    outer[2:-2, 2:-2] = False
    images = to_bytes(inside)
    return {
        "accuracy": metrics.accuracy(load_pretrained("classifier"), images, LABELS),
        "variety": metrics.variety(images, LABELS),
        "grain": float((inside[:, outer] + 1).square().mean().sqrt()),
        "ink": float(inside.mean()),
        "spread": float(x.std()),
    }


def keep_digits(path: Path, name: str, x: Tensor) -> None:
    """Ten digits as bytes, beside those that are there."""
    there = dict(np.load(path)) if path.exists() else {}
    there[name] = to_bytes(x[:10].nan_to_num(0, 1, -1).clamp(-1, 1)).numpy()
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **dict(sorted(there.items())))
    write_whole(path, temporary.read_bytes())
    temporary.unlink()


def all_of(model: Denoiser, steps: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each name, and what draws its digits and says its loss."""
    for name, walk in walks(model).items():
        yield name, lambda walk=walk: (walk(), {})
    for name in TRAINED:

        def taught(name: str = name) -> tuple[Tensor, dict[str, Any]]:
            denoiser, loss = trained(name, steps)
            asked = partial(denoiser, y=LABELS)
            if name == "no label hidden":  # it shows where "not told" is asked for
                asked = classifier_free(denoiser, LABELS, 2.0)
            return drawn(asked, model.schedule), loss

        yield name, taught


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags(__doc__, RESULTS / "bugs.json")
    parser.add_argument("--steps", type=at_least(1), default=250)
    parser.add_argument("--names", nargs="*", default=[])
    args = parser.parse_args(arguments)
    about = {
        "command": command("bugs.py", arguments),
        "weights": checksum(find("digits")),
        "steps": args.steps,
    }
    results = Results(args.out, about, same=("weights", "steps"), parts=("bugs",))
    for name, make in all_of(load_pretrained("digits"), args.steps):
        if (args.names and name not in args.names) or results.holds("bugs", name):
            continue
        with torch.no_grad() if name not in TRAINED else torch.enable_grad():
            x, loss = make()
        keep_digits(args.out.with_suffix(".npz"), name, x)
        results.keep(rounded(measures(x) | loss), "bugs", name)


if __name__ == "__main__":
    main()
