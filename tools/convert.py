"""Bring a checkpoint of ddpm_lite 0.1 to the form of today: its kind, its config, a checksum.

    python tools/convert.py FILE.safetensors [...]

Each file is replaced, whole or not at all; its tensors stay as they are, bit for bit. A file that
names its kind already only gets its checksum. Version 0.1 did not name the kind, so it is told from
the keys of the config.
"""

from __future__ import annotations

import sys
from typing import Any

from ddpm_lite.tasks import from_facts
from ddpm_lite.training import CheckpointError, load_checkpoint, save_checkpoint


def converted(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of today, of those of version 0.1."""
    if "kind" in facts:
        return facts
    config = dict(facts["config"])
    others = {key: value for key, value in facts.items() if key != "config"}
    for kind in ("vae", "autoencoder"):
        if kind in config:
            return {"kind": kind, "config": config[kind], **others}
    if "network" not in config:
        return {"kind": "classifier", "config": config, **others}
    if "train" in config:
        train = dict(config["train"])
        config |= {"stratified": train.pop("stratified"), "train": train}
    return {"kind": "digits", "config": config, **others}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1][:1] == "-":
        print(__doc__)
        return 2
    for path in sys.argv[1:]:
        try:
            tensors, facts = load_checkpoint(path)
            facts = converted(facts)
            from_facts(facts)
            save_checkpoint(path, tensors, facts)
        except (CheckpointError, KeyError, TypeError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
        print(f"{path}: {facts['kind']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
