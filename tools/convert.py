"""Bring a checkpoint of ddpm_lite 0.1 to the form of today: its kind, its config, a checksum.

    python tools/convert.py FILE.safetensors [...]

Each file is replaced, whole or not at all; its tensors stay as they are, bit for bit. A file that
names its kind already only gets its checksum. Version 0.1 did not name the kind, so it is told from
the keys of the config. A run goes on from its converted checkpoints: `ddpm-lite train --resume`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from ddpm_lite.tasks import from_facts
from ddpm_lite.training import CheckpointError, load_checkpoint, save_checkpoint
from ddpm_lite.training.checkpoint import WRONG, check_fits, part_of


def converted(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of today, of those of version 0.1."""
    if "kind" not in facts:
        kind, config = _told(dict(facts["config"]))
        facts = facts | {"kind": kind, "config": config}
    task = from_facts(facts)
    if "train" in facts["config"]:  # of a run: what it does not say is as it was
        facts = facts | {"config": json.loads(json.dumps(asdict(task)))}
    return facts


def _told(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of a config of version 0.1, and the config of today."""
    for kind in ("vae", "autoencoder"):
        if kind in config:
            return kind, config[kind]
    if "network" not in config:
        return "classifier", config
    if "train" in config:
        train = dict(config["train"])
        config |= {"stratified": train.pop("stratified", False), "train": train}
    return "digits", config


def convert(path: str) -> str:
    """Convert one file; returns its kind. Raises CheckpointError."""
    tensors, facts = load_checkpoint(path)
    try:
        facts = converted(facts)
        check_fits(from_facts(facts).build, part_of(tensors, "ema.") or tensors)
    except (CheckpointError, *WRONG) as error:
        raise CheckpointError(f"{path} is no checkpoint of version 0.1: {error}") from None
    save_checkpoint(path, tensors, facts)
    return facts["kind"]


def main(paths: list[str]) -> int:
    """Convert all files; 1 where one could not be, 2 where there is none."""
    if not paths or paths[0][:1] == "-":
        print(__doc__)
        return 2
    failed = 0
    for path in paths:
        try:
            print(f"{path}: {convert(path)}")
        except CheckpointError as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
