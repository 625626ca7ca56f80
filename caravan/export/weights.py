"""Weights of a Hugging Face folder, one tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from caravan.core.errors import ExportError
from caravan.core.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Weights:
    """Names, shapes and values in a folder's safetensors files, sharded or not; nothing is kept in memory.

    Raises:
        ExportError: the folder has no safetensors, or a tensor that is asked for is not in them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / INDEX).is_file():
            shards = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        elif (folder / SINGLE).is_file():
            shards = [SINGLE]
        else:
            raise ExportError(
                "no weights to export",
                where=str(folder),
                expected=f"{SINGLE} or {INDEX}",
                got="neither",
                fix="save the model with `save_pretrained`",
            )
        # The framework is torch's, since numpy has no bfloat16; opening only maps the file.
        self._shards: dict[str, Any] = {}
        for shard in shards:
            opened: Any = safe_open(folder / shard, framework="pt")
            self._shards |= dict.fromkeys(opened.keys(), opened)

    def __contains__(self, name: str) -> bool:
        return name in self._shards

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._shard(name).get_slice(name).get_shape())

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor in float32."""
        return self._shard(name).get_tensor(name).float().numpy()

    def _shard(self, name: str) -> Any:
        if name not in self._shards:
            raise ExportError(
                "a weight is missing",
                where=str(self.folder),
                expected=name,
                got=f"{len(self._shards)} other tensors",
                fix="export a model of a known architecture, saved whole",
            )
        return self._shards[name]
