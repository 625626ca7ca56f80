"""Checkpoints that a kill cannot tear: a marker is written when everything else is on the disk."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from caravan.core.files import sync, write_json

MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was saved, -1 for any other folder."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def seal(checkpoint: Path) -> None:
    """Flush a checkpoint to the disk, mark it complete, then remove the others beside it."""
    for file in checkpoint.rglob("*"):
        sync(file)
    sync(checkpoint)
    write_json(checkpoint / MARKER, {"step": step_of(checkpoint)})
    for other in checkpoint.parent.iterdir():
        if other != checkpoint:
            shutil.rmtree(other)


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder; half-written ones are removed."""
    if not folder.is_dir():
        return None
    for torn in [each for each in folder.iterdir() if not (each / MARKER).is_file()]:
        shutil.rmtree(torn)
    return max(folder.iterdir(), key=step_of, default=None)
