"""An index of the documents that deduplication has seen, so that later text can be deduplicated against them.

It holds signatures and ids, no text: Parquet files in the order of the documents, and `index.json`, written last.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caravan.core.errors import ArtifactError
from caravan.core.files import read_json, write_json
from caravan.core.stage import StageContext
from caravan.curate.signatures import SKETCH, SKETCHED, columns
from caravan.recipe.curate import CurateConfig
from caravan.recipe.duplicates import DuplicateConfig

FOLDER, SETTINGS = "index", "index.json"
VERSION = 1


def schema(config: DuplicateConfig) -> pa.Schema:
    """Of the files of an index; `id` is that of the document which stayed."""
    hashes = [pa.field(name, pa.uint64()) for name in columns(config)]
    return pa.schema([pa.field("id", pa.string()), *hashes, *([SKETCH] if config.near else [])])


def settings(config: CurateConfig, languages: Sequence[str]) -> dict[str, Any]:
    """What two runs must have in common for their signatures to be comparable."""
    return {
        "version": VERSION,
        "bands": len(columns(config.duplicates)) - 1,
        "rows": config.duplicates.rows,
        "sketch": SKETCHED,
        "shingles": {language: config.shingle(language) for language in sorted(languages)},
    }


def finish_index(config: CurateConfig, languages: Sequence[str], out: Path) -> None:
    """Write the settings of a corpus' index, which ends it."""
    write_json(out / FOLDER / SETTINGS, settings(config, languages))


def rows_of(batch: pa.RecordBatch, duplicate_of: pa.Array, names: list[str]) -> pa.RecordBatch:
    """What the index keeps of judged documents: of all that came as far as deduplication, copies too.

    A copy of a copy is found by it, as it would be in one run over both texts.
    """
    rows = {name: batch[name] for name in names} | {"id": pc.coalesce(duplicate_of, batch["id"])}
    return pa.RecordBatch.from_pydict(rows).filter(pc.is_null(batch["reason"])).select(names)


@dataclass(frozen=True)
class Index:
    """A finished index.

    Attributes:
        files: in the order of the documents.
        rows: of each file.
    """

    folder: Path
    files: tuple[Path, ...]
    rows: tuple[int, ...]

    @property
    def fingerprint(self) -> list[Any]:
        """What finished work that was compared with it depends on."""
        return [str(self.folder), list(self.rows), (self.folder / SETTINGS).stat().st_mtime_ns]


def find_indexes(config: CurateConfig, ctx: StageContext) -> list[Index]:
    """The indexes that the recipe wants text to be compared with, in its order.

    Raises:
        ArtifactError: no index there, an unfinished one, one of other settings, or a damaged one.
    """
    named = (ctx.matches(pattern) or [Path(ctx.located(pattern))] for pattern in config.duplicates.against)
    return [open_index(path, config, ctx.languages) for path in itertools.chain.from_iterable(named)]


def open_index(path: Path, config: CurateConfig, languages: Sequence[str]) -> Index:
    """Open the index in a corpus, or the folder of one."""
    folder = next((one for one in (path, path / FOLDER) if (one / SETTINGS).is_file()), None)
    if folder is None:
        raise ArtifactError(
            "there is no index of documents",
            where=str(path),
            expected=f"a corpus with a finished folder {FOLDER}, or that folder itself",
            got=f"nothing called {SETTINGS}",
            fix="name a finished corpus that was made with `curate.duplicates.index=true`",
        )
    _same_settings(folder / SETTINGS, settings(config, languages))
    files = sorted(folder.glob("*.parquet"))
    return Index(folder, tuple(files), tuple(_rows(file, schema(config.duplicates)) for file in files))


def _same_settings(file: Path, wanted: dict[str, Any]) -> None:
    try:
        there = {**read_json(file), **read_json(file)["shingles"]}
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(file, "settings of an index", error) from error
    names = ["version", "bands", "rows", "sketch", *(there.keys() & wanted["shingles"].keys())]
    wanted = wanted | wanted["shingles"]
    differing = sorted(name for name in names if there.get(name) != wanted[name])
    if differing:
        raise ArtifactError(
            "the index was made with other settings",
            where=str(file),
            expected=", ".join(f"{name} {wanted[name]}" for name in differing),
            got=", ".join(f"{name} {there.get(name)}" for name in differing),
            fix="give `curate.duplicates` (shingles by language: `unit`) the index's settings, or make the index again",
        )


def _rows(file: Path, wanted: pa.Schema) -> int:
    try:
        metadata = pq.read_metadata(file)
        if not metadata.schema.to_arrow_schema().equals(wanted):
            raise pa.ArrowInvalid(f"columns {', '.join(metadata.schema.names)}")
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, f"Parquet with columns {', '.join(wanted.names)}", error) from error
    return metadata.num_rows


def _damaged(file: Path, expected: str, error: Exception) -> ArtifactError:
    return ArtifactError(
        "a file of the index cannot be read",
        where=str(file),
        expected=expected,
        got=str(error).splitlines()[0],
        fix="make the index again: run the recipe that wrote it",
    )
