"""Shards one by one through the steps: each gives a file with its text, verdicts and signatures, written atomically.

A shard whose file is there is finished. A kill loses only the shards in hand, and nothing comes twice.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed as completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caravan.core.errors import DataError, StoreError
from caravan.core.files import atomic_path
from caravan.core.progress import track
from caravan.curate import evaluation_sets, repeats
from caravan.curate.chinese import ChineseStep
from caravan.curate.decontamination import DecontaminationStep
from caravan.curate.language import Identifier, LanguageStep
from caravan.curate.pair_readers import read_pairs
from caravan.curate.pairs import SIDES, PairStep
from caravan.curate.perplexity import PerplexityStep
from caravan.curate.privacy import PrivacyStep
from caravan.curate.quality import QualityStep
from caravan.curate.readers import read_documents
from caravan.curate.repairs import RepairStep
from caravan.curate.rows import Broken, BrokenFileError, Damage
from caravan.curate.rules import RuleStep
from caravan.curate.shards import DOCUMENT_SCHEMA, PAIR_SCHEMA, REPEATING, Shard
from caravan.curate.signatures import SKETCH, columns, sign, sketches
from caravan.curate.steps import MASKED, NOTES, VERDICT_FIELDS, Step, judge_all, with_notes
from caravan.curate.toxicity import ToxicityStep
from caravan.recipe.curate import CurateConfig

DAMAGE = b"damage"
KILOBYTE = 1 << 10


def step_names(config: CurateConfig) -> list[str]:
    """The steps that can drop documents, in their order."""
    always = [LanguageStep.name, ChineseStep.name, RuleStep.name, RepairStep.name]
    asked = {
        ToxicityStep.name: config.toxicity,
        PerplexityStep.name: config.perplexity,
        QualityStep.name: config.quality,
        DecontaminationStep.name: config.decontamination,
    }
    return [*always, *(name for name, section in asked.items() if section)]


@dataclass(frozen=True)
class Judge:
    """What a process needs to judge shards; it is built once in each."""

    config: CurateConfig
    languages: tuple[str, ...]
    document_steps: Sequence[Step]
    pair_steps: Sequence[Step]

    @classmethod
    def build(cls, config: CurateConfig, languages: tuple[str, ...], evaluation: Path) -> Judge:
        """The steps in their order: a new filter is added here.

        Args:
            evaluation: folder of what is prepared of evaluation sets, where the recipe names some.
        """
        identifier = Identifier(languages, config.language)
        sides = [f"{side}_text" for side in SIDES]

        def decontamination(*columns: str) -> list[Step]:
            wanted = config.decontamination
            return [DecontaminationStep(wanted, evaluation, columns)] if wanted else []

        return cls(
            config,
            languages,
            document_steps=[
                LanguageStep(identifier),
                ChineseStep(config.language),
                RuleStep(config),
                RepairStep(config),
                *([ToxicityStep(config.toxicity, languages)] if config.toxicity else []),
                *([PerplexityStep(config.perplexity)] if config.perplexity else []),
                *([QualityStep(config.quality)] if config.quality else []),
                *decontamination("text"),
                PrivacyStep(config.privacy, {"text": "language"}),
            ],
            pair_steps=[
                PairStep(config.pairs, identifier),
                *decontamination(*sides),
                PrivacyStep(config.privacy, {f"{side}_text": f"{side}_language" for side in SIDES}),
            ],
        )

    @property
    def notes(self) -> tuple[pa.Field, ...]:
        """What the steps write down of documents."""
        asked = ((PerplexityStep, self.config.perplexity), (QualityStep, self.config.quality))
        removed = (repeats.REMOVED,) if self.config.duplicates.parts else ()
        return (*NOTES, *(note for step, section in asked if section for note in step.notes), *removed)

    def schema(self, shard: Shard) -> pa.Schema:
        """Of the file that a shard gives."""
        if shard.holds_pairs:
            return pa.schema([*PAIR_SCHEMA, MASKED, *VERDICT_FIELDS])
        return pa.schema([*DOCUMENT_SCHEMA, *self.notes, *VERDICT_FIELDS, *self.signature])

    @property
    def signature(self) -> list[pa.Field]:
        """What deduplication compares of each document."""
        duplicates = self.config.duplicates
        hashes = [pa.field(name, pa.uint64()) for name in columns(duplicates)]
        sketch = [SKETCH] if duplicates.index and duplicates.near else []
        return [*hashes, *sketch, *repeats.columns(self.config)]

    def judge(self, shard: Shard, target: Path) -> Broken | None:
        """Read a shard, judge every row and write them all; returns the file if it is broken.

        A broken file is not written where the recipe says `broken: fail`, so that a mended one is read again.
        """
        damage = Damage(shard.name)
        schema = self.schema(shard)
        # Read again once and then removed: fast to write rather than small.
        kind = {"compression": "lz4", "use_dictionary": REPEATING}
        with atomic_path(target) as temporary, pq.ParquetWriter(temporary, schema, **kind) as writer:
            problem = self._fill(writer, shard, damage)
            broken = Broken(shard.name, None, problem) if problem else None
            if broken and self.config.broken == "fail":
                raise _unreadable(broken)
            listed = [*damage.listed, *([broken] if broken else [])]
            writer.add_key_value_metadata({DAMAGE: json.dumps([shard.name, damage.rows, listed])})
        return broken

    def _fill(self, writer: pq.ParquetWriter, shard: Shard, damage: Damage) -> str | None:
        """Write the rows of a shard, judged; returns why the file, or the rest of it, cannot be read."""
        good = 0
        try:
            for batch in self._judged(shard, damage):
                good += batch.num_rows
                writer.write_batch(batch)
        except BrokenFileError as error:
            return f"{error} ({good:,} good rows)" if good else str(error)
        except DataError as error:
            # That a store does not answer says nothing of the file.
            if self.config.broken == "fail" or isinstance(error, StoreError):
                raise
            return f"{error.problem}, but {error.got}"
        if not good and damage.rows:
            return f"no row can be read; row {damage.listed[0].row}: {damage.listed[0].problem}"
        return None

    def _judged(self, shard: Shard, damage: Damage) -> Iterator[pa.RecordBatch]:
        if shard.holds_pairs:
            for batch in read_pairs(shard, damage, self.languages):
                yield judge_all(self.pair_steps, with_notes(batch, MASKED))
        else:
            for batch in read_documents(shard, damage):
                yield self._signed(judge_all(self.document_steps, with_notes(batch, *self.notes)))

    def _signed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Append what deduplication compares; null for rows that were dropped."""
        duplicates = self.config.duplicates
        alive = pc.is_null(batch["reason"])
        kept = batch.filter(alive)
        languages = kept["language"].to_pylist()
        shingle = {language: self.config.shingle(language) for language in set(languages)}
        shingles = [shingle[language] for language in languages]
        bands = len(columns(duplicates)) - 1
        exact, keys = sign(kept["text"], languages, shingles, bands=bands, rows=duplicates.rows)
        found = [pa.array(exact), *map(pa.array, keys)]
        if SKETCH in self.signature:
            found.append(sketches(kept["text"], shingles))
        found += repeats.part_columns(kept["text"], languages, self.config)
        places = pc.if_else(alive, pc.subtract(pc.cumulative_sum(alive.cast(pa.int64())), 1), None)
        for field, values in zip(self.signature, found, strict=True):
            batch = batch.append_column(field, values.take(places))
        return batch


def _unreadable(broken: Broken) -> DataError:
    return DataError(
        "the file cannot be read",
        where=broken.file,
        expected="whole Parquet, or JSON lines or plain text in UTF-8",
        got=broken.problem,
        fix="repair or remove it; `curate.broken=skip` lists such files and goes on without them",
    )


def read_damage(files: Iterable[Path]) -> tuple[Counter[str], list[Broken]]:
    """Number of broken rows of each file of input that has some, and those that are listed."""
    rows: Counter[str] = Counter()
    listed: list[Broken] = []
    for file in files:
        name, many, entries = json.loads(pq.read_metadata(file).metadata[DAMAGE])
        rows[name] += many
        listed += [Broken(*entry) for entry in entries]
    return +rows, listed


def judge_shards(shards: Sequence[Shard], config: CurateConfig, languages: tuple[str, ...], folder: Path) -> None:
    """Judge every shard that has no file in `folder` yet.

    Raises:
        DataError: a file is broken and the recipe says `broken: fail`, or a column is missing.
    """
    todo = [shard for shard in shards if not (folder / shard.file).is_file()]
    if not todo:
        return
    if config.engine == "ray":
        from caravan.curate.cluster import judge_on_ray as judged
    else:
        judged = _judge_on_this_machine
    with track("curate", sum(shard.size for shard in todo) // KILOBYTE, "kB") as bar:
        for shard in judged(todo, config, languages, folder):
            bar.advance(shard.size // KILOBYTE)


def _judge_on_this_machine(
    todo: Sequence[Shard], config: CurateConfig, languages: tuple[str, ...], folder: Path
) -> Iterator[Shard]:
    parts = config, languages, folder.with_name(evaluation_sets.FOLDER)
    judge = compiled(*parts)
    workers = min(config.processes(), len(todo))
    if workers <= 1:
        for shard in todo:
            judge.judge(shard, folder / shard.file)
            yield shard
        return
    with open_pool(workers, *parts) as pool:
        futures = {pool.submit(judge_here, shard, folder / shard.file): shard for shard in todo}
        try:
            for future in completed(futures):
                future.result()
                yield futures[future]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def compiled(config: CurateConfig, languages: tuple[str, ...], evaluation: Path) -> Judge:
    """A judge whose kernels have been compiled into numba's cache, where the processes of a pool find them."""
    judge = Judge.build(config, languages, evaluation)
    rows = [{"key": 0, "id": "", "text": ".", "language": name, "source": ""} for name in judge.languages]
    batch = pa.RecordBatch.from_pylist(rows, pa.schema([*DOCUMENT_SCHEMA, *judge.notes]))
    for step in judge.document_steps:
        step.judge(batch)
    sign(batch["text"], judge.languages, [1] * len(rows), bands=1, rows=1)
    return judge


def open_pool(workers: int, config: CurateConfig, languages: tuple[str, ...], evaluation: Path) -> ProcessPoolExecutor:
    """Processes that can do `judge_here`."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, _start, (config, languages, evaluation))


_here: list[Judge] = []


def _start(config: CurateConfig, languages: tuple[str, ...], evaluation: Path) -> None:
    """Prepare a process of the pool; an interrupt is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    pa.set_cpu_count(1)
    _here.append(Judge.build(config, languages, evaluation))


def _die_with_parent() -> None:
    """A killed parent must not leave processes behind that go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def judge_here(shard: Shard, target: Path) -> None:
    """Judge a shard in a process of a pool."""
    _here[0].judge(shard, target)
