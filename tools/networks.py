"""Write the networks that pages run, ddpm_lite/assets/networks/, from the shipped checkpoints.

python tools/networks.py            all of them; after a checkpoint was trained anew
python tools/networks.py --check    exit code 1 unless they are up to date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ddpm_lite.page.shipped import NETWORKS, up_to_date, write


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    if parser.parse_args(arguments).check:
        old = [name for name in NETWORKS if not up_to_date(name)]
        print("\n".join(f"{name} is not up to date: python tools/networks.py" for name in old))
        return int(bool(old))
    for name in NETWORKS:
        for path in write(name):
            print(f"{path} ({path.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
