"""The command ddpm-lite, also as ``python -m ddpm_lite`` and ``torchrun -m ddpm_lite``."""

import os
import signal
import sys


def main() -> int:
    """Import the rest, which takes seconds, and run: see `cli.main`. Ctrl-C ends it with 130."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # in the middle of an import there is nothing to save
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from .cli import main as command

    signal.signal(signal.SIGINT, before)
    return command()


if __name__ == "__main__":
    sys.exit(main())
