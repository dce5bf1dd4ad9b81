"""Processes that may be killed, or talk to each other, and start at once.

One process is spawned that imports torch, and computes nothing; the others are its forks. (A fork
of a process that has computed can hang: threads do not survive it.)
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import torch


def ready() -> None:
    """Do once what each fork would have to do again."""
    from ddpm_lite.data import mnist

    torch.set_num_threads(1)
    mnist("train")
    torch.optim.AdamW([torch.zeros(1)])  # imports half of torch


@cache
def _parent() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), ready)


def in_parent(call: Callable[..., Any], *args: object) -> Any:
    """What ``call`` returns or raises, in the process to fork from."""
    return _parent().submit(call, *args).result(timeout=300)


def fork(call: Callable[..., object], *args: object) -> int:
    """Start ``call`` in a fork of this process; returns its id."""
    if process := os.fork():
        return process
    try:
        call(*args)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def wait(*processes: int) -> list[int]:
    """Their exit codes: 0, 1 if it raised, -9 if it was killed."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
