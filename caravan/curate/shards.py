"""The pieces of input that are worked on one at a time, and the sample world written out as such pieces."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.errors import DataError
from caravan.core.files import write_json, write_table
from caravan.core.progress import track
from caravan.core.stage import StageContext
from caravan.curate.stores import find, is_url, open_file, suffixes
from caravan.recipe.curate import CurateConfig, SampleText, TextColumns, TextSource
from caravan.recipe.pairs import LANGUAGE_MARK, PairSource
from caravan.recipe.samples import SamplesConfig

SPOOL_ROWS = 50_000
FOOTERS_AT_ONCE = 16
MEGABYTE = 1 << 20
LONGEST = 1 << 30  # bytes of a row of what this stage wrote itself
Format = Literal["parquet", "jsonl", "text", "warc", "tsv", "tmx", "moses"]
TABLES: dict[str, Format] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
TEXTS: dict[str, Format] = {**TABLES, ".txt": "text", ".text": "text", ".warc": "warc", ".wet": "warc"}
PAIRS: dict[str, Format] = {**TABLES, ".tsv": "tsv", ".tmx": "tmx"}

DOCUMENT_SCHEMA = pa.schema([
    ("key", pa.int64()), ("id", pa.string()), ("text", pa.string()), ("language", pa.string()), ("source", pa.string()),
])  # fmt: skip
PAIR_SCHEMA = pa.schema([
    ("key", pa.int64()), ("id", pa.string()), ("source_language", pa.string()), ("target_language", pa.string()),
    ("source_text", pa.string()), ("target_text", pa.string()), ("source", pa.string()),
])  # fmt: skip
# Columns whose values come again and again: Parquet looks for repeats in all of them unless it is told.
REPEATING = ["language", "source_language", "target_language", "source", "step", "reason", "variant", "repairs",
             "masked", "bucket", "removed"]  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """A file, or some row groups of a Parquet file.

    Attributes:
        path: of this machine, or a URL.
        name: the file as people know it, for ids and messages.
        source: how to read it; None for parallel pairs of the sample world, which are written in PAIR_SCHEMA.
        language: language of all of it, where known.
        groups: row groups of a Parquet file, None for the whole file.
        first_row: rows of the file before this shard.
        size: bytes on disk; `version`: another one when the file has changed, empty for what this stage wrote itself.
        sides: of parallel text in Moses' format, the file of each language; the first is `path`.
        number: position in the plan; with the row it makes the key of a document, and so the order of all documents.
    """

    path: str
    name: str
    source: TextSource | PairSource | None
    language: str | None = None
    groups: tuple[int, ...] | None = None
    first_row: int = 0
    size: int = 0
    version: str = ""
    sides: tuple[tuple[str, str], ...] = ()
    number: int = -1

    @property
    def options(self) -> dict[str, Any]:
        """What fsspec is to know of the store that it lies in."""
        return self.source.storage_options if self.source else {}

    @property
    def longest(self) -> int:
        """Bytes of the longest row that is read."""
        return self.source.longest if self.source else LONGEST

    @property
    def holds_pairs(self) -> bool:
        return not isinstance(self.source, TextSource)

    @property
    def file(self) -> str:
        """Name of what comes of it."""
        return f"{self.number:05d}.parquet"


def plan(config: CurateConfig, ctx: StageContext, work: Path) -> list[Shard]:
    """All shards of all sources, in the order of the recipe, then of the files' names.

    Raises:
        DataError: a source matches no file.
    """
    shards: list[Shard] = []
    for index, source in enumerate(config.sources):
        if isinstance(source, SampleText):
            shards += spool_samples(source.samples, ctx, work / f"samples-{index}")
        else:
            shards += cut_all(files_of(source, ctx), config.shard_mb * MEGABYTE)
    return [replace(shard, number=number) for number, shard in enumerate(shards)]


def files_of(source: TextSource | PairSource, ctx: StageContext) -> list[Shard]:
    """Files of a source, each with its language where the source tells it.

    Raises:
        DataError: no file matches.
        StoreError: they lie elsewhere and cannot be reached.
    """
    pattern = source.pattern
    patterns = [(pattern, source.language if isinstance(source, TextSource) else None)]
    # A run has languages that one source lacks; only a source without any file is a mistake.
    if LANGUAGE_MARK in pattern:
        wanted = (source.languages if isinstance(source, PairSource) else None) or ctx.languages
        patterns = [(pattern.replace(LANGUAGE_MARK, name), name) for name in wanted]
    found = [
        Shard(file.path, file.name, source, language, size=file.size, version=file.version)
        for one, language in patterns
        for file in find(one, ctx, source.storage_options)
    ]
    where = pattern if is_url(pattern) else ctx.full(pattern)
    if not found:
        raise DataError(
            "no file matches",
            where=where,
            expected="at least one file",
            got="none",
            fix="correct owner/name and path; a private data set needs `hf auth login`"
            if source.hub
            else "correct the path, or give the data folder on the command line: data=FOLDER",
        )
    aligned = isinstance(source, PairSource) and LANGUAGE_MARK in pattern
    return _aligned(found, where, ctx) if aligned else found


def _name(stem: str, ctx: StageContext) -> str:
    return stem if is_url(stem) else stem.removeprefix(f"{ctx.base}{os.sep}")


def _aligned(files: list[Shard], pattern: str, ctx: StageContext) -> list[Shard]:
    """Files whose names differ in the language alone, together.

    Raises:
        DataError: a file stands alone.
    """
    groups: dict[str, list[Shard]] = {}
    for file in files:
        path, name = file.path, str(file.language)
        places = [found.start() for found in re.finditer(re.escape(name), path)]
        stems = [path[:place] + LANGUAGE_MARK + path[place + len(name) :] for place in reversed(places)]
        stem = next((stem for stem in stems if fnmatchcase(stem, pattern)), stems[0])
        groups.setdefault(stem, []).append(file)
    for stem, group in groups.items():
        if len(group) == 1:
            raise DataError(
                "a file of one language without its other side",
                where=group[0].name,
                expected=f"{stem} for two languages of the run at least",
                got=f"{group[0].language} alone",
                fix="add the other file, or correct the path; `languages` of the run or of this source say which count",
            )
    return [
        replace(
            group[0],
            name=_name(stem, ctx),
            language=None,
            size=sum(file.size for file in group),
            version=" ".join(file.version for file in group),
            sides=tuple((str(file.language), file.path) for file in group),
        )
        for stem, group in sorted(groups.items())
    ]


def format_of(path: str, source: TextSource | PairSource | None) -> Format:
    """How a file is read: as the source says, else by its suffix."""
    if source is None:
        return "parquet"
    if isinstance(source, PairSource) and LANGUAGE_MARK in source.pairs:
        return "moses"
    known = TEXTS if isinstance(source, TextSource) else PAIRS
    suffix = suffixes(path)[0]
    kind = source.format or known.get(suffix)
    if kind is None:
        raise DataError(
            "the file's format is not known",
            where=path,
            expected=f"a suffix of {' '.join(known)}, or `format` in the recipe",
            got=suffix or "no suffix",
            fix=f"add `format: {' | '.join(dict.fromkeys(known.values()))}` to this source",
        )
    return kind


def cut_all(files: list[Shard], size: int) -> list[Shard]:
    """All files in pieces, in their order; several are looked at together, as stores take their time to answer."""
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        return [piece for pieces in pool.map(lambda file: list(cut(file, size)), files) for piece in pieces]


def cut(whole: Shard, size: int) -> Iterator[Shard]:
    """A Parquet file in pieces of about `size` bytes of whole row groups; other files, and broken ones, as they are."""
    if format_of(whole.path, whole.source) != "parquet" or whole.size <= size:
        yield whole
        return
    try:
        with open_file(whole.path, whole.options) as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        yield whole
        return
    groups: list[int] = []
    first = rows = held = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        groups.append(index)
        rows += group.num_rows
        held += sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        if held >= size or index == metadata.num_row_groups - 1:
            yield replace(whole, groups=tuple(groups), first_row=first, size=held)
            groups, first, held = [], rows, 0


def spool_samples(samples: SamplesConfig, ctx: StageContext, folder: Path) -> list[Shard]:
    """Write the sample world's documents and pairs as files, so that they take the road of any other text."""
    from caravan.samples import documents, pairs

    named = {} if samples.languages else {"languages": list(ctx.languages)}
    config = samples.model_copy(update=named)
    finished = folder / "finished.json"
    if not finished.is_file():
        text_rows = ((d.id, d.text, d.language, d.source) for d in documents(config, ctx.seed))
        spool(folder / "documents", text_rows, ("id", "text", "language", "source"), samples.documents)
        pair_rows = (
            (p.id, p.source_language, p.target_language, p.source_text, p.target_text, "samples")
            for p in pairs(config, ctx.seed)
        )
        spool(folder / "pairs", pair_rows, tuple(PAIR_SCHEMA.names[1:]), samples.pairs)
        write_json(finished, {"documents": samples.documents, "pairs": samples.pairs})
    columns = TextColumns(id="id", language="language", source="source")
    text = TextSource(path="samples", columns=columns)
    return [
        Shard(str(path), f"samples/{kind}/{path.name}", source, size=path.stat().st_size)
        for kind, source in (("documents", text), ("pairs", None))
        for path in sorted((folder / kind).glob("*.parquet"))
    ]


def spool(folder: Path, rows: Iterable[tuple[Any, ...]], columns: tuple[str, ...], total: int) -> None:
    """Write rows of strings as Parquet files of SPOOL_ROWS rows."""
    iterator = iter(rows)
    schema = pa.schema([(name, pa.string()) for name in columns])
    with track(f"sample {folder.name}", total, "row") as bar:
        for number in itertools.count():
            part = list(itertools.islice(iterator, SPOOL_ROWS))
            if not part:
                return
            arrays = [pa.array(values, pa.string()) for values in zip(*part, strict=True)]
            write_table(folder / f"{number:05d}.parquet", pa.table(arrays, schema=schema))
            bar.advance(len(part))


def fingerprint(shards: list[Shard]) -> list[list[Any]]:
    """What finished work of an earlier, killed attempt depends on: the pieces, their order, their age."""
    return [[shard.name, list(shard.groups or ()), shard.size, shard.version] for shard in shards]
