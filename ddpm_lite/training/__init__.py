"""Training: one loop for every model, its checkpoints, and runs in a folder."""

from ..loss import denoising
from .checkpoint import Checkpoint, CheckpointError, find, load_checkpoint, save_checkpoint
from .config import TrainConfig
from .folder import newest
from .loop import Log, Players, fastest_precision, train
from .runs import run
from .task import Task

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Log",
    "Players",
    "Task",
    "TrainConfig",
    "denoising",
    "fastest_precision",
    "find",
    "load_checkpoint",
    "newest",
    "run",
    "save_checkpoint",
    "train",
]
