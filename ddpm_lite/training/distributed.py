"""Several processes that train one model: who does which share, and how they agree.

Outside torch.distributed all is as for one process alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def share(batch_size: int) -> tuple[int, int]:
    """This process's rank and their number; (0, 1) outside torch.distributed.

    Raises ValueError where the batch cannot be dealt in equal parts.
    """
    if not dist.is_initialized():
        return 0, 1
    rank, world = dist.get_rank(), dist.get_world_size()
    if batch_size % world:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes, {world}, got {batch_size}"
        )
    return rank, world


def average(tensors: Iterable[Tensor | None]) -> None:
    """Replace each tensor, in place, by its mean over the processes; all in one message."""
    if not dist.is_initialized() or not (present := [v for v in tensors if v is not None]):
        return
    flat = torch.cat([v.reshape(-1).to(present[0].dtype) for v in present])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for v, part in zip(present, flat.split([v.numel() for v in present]), strict=True):
        v.copy_(part.view_as(v))


def agree(choice: bool, device: torch.device) -> bool:
    """The choice of process 0, for all."""
    if not dist.is_initialized():
        return choice
    flag = torch.tensor(choice, device=device, dtype=torch.uint8)
    dist.broadcast(flag, src=0)
    return bool(flag)


def chief() -> bool:
    """Whether this process writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0" if not dist.is_initialized() else not dist.get_rank()


def join(device: torch.device) -> torch.device:
    """Under torchrun, meet the other processes; returns this one's own device."""
    if not dist.is_torchelastic_launched():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
