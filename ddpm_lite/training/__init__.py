"""Training: one loop for every model, its checkpoints, and runs in a folder."""

from ..loss import denoising
from .checkpoint import Checkpoint, CheckpointError, find, load_checkpoint, save_checkpoint
from .config import TrainConfig
from .loop import Log, fastest_precision, train
from .run import newest, run
from .task import Task

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Log",
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
