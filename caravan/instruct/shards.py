"""Files of dialogues, written in small row groups, each whole or not there."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from caravan.core.files import atomic_path
from caravan.records import DIALOGUE_SCHEMA, Dialogue, dialogues_to_table

# A reader of one row decodes its group: with media in the rows, groups are small.
GROUP_ROWS = 64


class Shards:
    """Writes the rows of one source and split to files of `shard_rows` rows, `PREFIX-00000.parquet` and so on.

    Rows come in the same order in every attempt; those of files that an earlier attempt finished are passed over, so
    that every row is written exactly once.
    """

    def __init__(self, folder: Path, prefix: str, shard_rows: int) -> None:
        self.folder, self.prefix, self.shard_rows = folder, prefix, shard_rows
        self.rows = 0
        self._group: list[Dialogue] = []
        self._open = contextlib.ExitStack()
        self._writer: Any = None

    def path(self, shard: int) -> Path:
        return self.folder / f"{self.prefix}-{shard:05d}.parquet"

    def add(self, dialogue: Dialogue) -> None:
        """Append a row; a full file is closed and takes its name.

        Raises:
            DiskFullError: no space left; finished files stay.
        """
        shard, place = divmod(self.rows, self.shard_rows)
        self.rows += 1
        if place == 0 and not self.path(shard).exists():
            temporary = self._open.enter_context(atomic_path(self.path(shard)))
            writer = pq.ParquetWriter(temporary, DIALOGUE_SCHEMA, compression="zstd")
            self._writer = self._open.enter_context(writer)
        if self._writer is None:
            return
        self._group.append(dialogue)
        if len(self._group) == GROUP_ROWS:
            self._flush()
        if place == self.shard_rows - 1:
            self.finish()

    def _flush(self) -> None:
        if self._group:
            self._writer.write_table(dialogues_to_table(self._group))
            self._group = []

    def finish(self) -> None:
        """Close the last file."""
        if self._writer is not None:
            self._flush()
            self._writer = None
            self._open.close()

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Close the last file; after an error it is left without a name."""
        if error is None:
            self.finish()
        else:
            self._open.__exit__(kind, error, trace)
