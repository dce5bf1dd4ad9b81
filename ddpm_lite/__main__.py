"""``python -m ddpm_lite`` and ``torchrun -m ddpm_lite`` are the command ddpm-lite."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
