"""The command line as the tests call it, with a small run of digits."""

from pathlib import Path

from ddpm_lite import cli
from ddpm_lite.networks import UNetConfig
from ddpm_lite.tasks import Digits
from ddpm_lite.training import TrainConfig

TINY = Digits(
    TrainConfig(steps=10, batch_size=8, warmup=2, log_every=2, precision="fp32"),
    save_every=4,
    network=UNetConfig(width=8, blocks=1, embedding=16),
    T=12,
)
FLAGS = """--network.width 8 --network.blocks 1 --network.embedding 16 --T 12 --save-every 4
    --train.batch-size 8 --train.warmup 2 --train.log-every 2 --train.precision fp32
    --train.betas 0.9 0.999 --train.clip None --train.ema-decay 0.99 --train.lr 2e-3""".split()
FEW = ("--steps", "3")


def train(folder: Path, *more: str, steps: int = 10) -> int:
    return cli.main(["train", *FLAGS, "--train.steps", str(steps), "--out", str(folder), *more])


def sample(folder: Path | str, out: Path, *more: str) -> Path:
    """Draw with the model of this run, or checkpoint."""
    assert cli.main(["sample", "--checkpoint", str(folder), "--out", str(out), *more]) == 0
    return out


def one_line(said: str) -> str:
    """What was said, without tyro's box."""
    return " ".join(said.replace("│", " ").split())
