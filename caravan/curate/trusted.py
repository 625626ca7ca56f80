"""Trusted text, gathered by language from files of any kind: what filters learn from, and what they do not see."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from caravan import __version__
from caravan.core.artifact import Artifact, locked, make_artifact
from caravan.core.errors import DataError
from caravan.core.files import read_json, sha256_obj, write_json
from caravan.core.log import get_logger
from caravan.core.progress import track
from caravan.core.stage import StageContext
from caravan.curate.language import Identifier, LanguageStep
from caravan.curate.readers import read_documents
from caravan.curate.rows import BrokenFileError, Damage
from caravan.curate.settle import Writers
from caravan.curate.shards import MEGABYTE, Shard, cut_all, files_of, fingerprint
from caravan.curate.signatures import sign
from caravan.curate.steps import by_language, judge_all
from caravan.recipe.curate import CurateConfig, LanguageRule, TextSource
from caravan.recipe.learned import TrustedText

log = get_logger(__name__)
TRUSTED, JUNK = "trusted", "junk"
LEARNT, HELD_OUT = "learnt.parquet", "held_out.parquet"
GATHERED, FACTS = "gathered.json", "facts.json"
QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
# Of junk any guess at the language will do.
RULES = {TRUSTED: LanguageRule(), JUNK: LanguageRule(min_probability=0, contradiction_characters=1 << 40)}
WORDS = r"[\pL\pN]"
KILOBYTE = 1 << 10


@dataclass
class _Taken:
    """What is taken of a language so far; `seen` are the hashes of its texts."""

    bytes: int = 0
    documents: int = 0
    held_out: int = 0
    seen: set[int] = field(default_factory=set)


def shards_of(sources: Sequence[TextSource], languages: Sequence[str]) -> list[Shard]:
    """The pieces of all sources, whose paths start at the working folder.

    Raises:
        DataError: a source matches no file.
        StoreError: it lies elsewhere and cannot be reached.
    """
    context = StageContext(out=Path(), inputs={}, base=Path(), seed=0, languages=tuple(languages))
    size = CurateConfig().shard_mb * MEGABYTE
    return [piece for source in sources for piece in cut_all(files_of(source, context), size)]


def gather(
    shards: Sequence[Shard], languages: Sequence[str], config: TrustedText, folder: Path, rule: LanguageRule
) -> dict[str, int]:
    """Write the text of each language into LEARNT and HELD_OUT in a folder of its name, a text that comes twice once.

    Languages are identified where they are not known, and text that contradicts its language is left out, as in
    curation and by this rule. Files are read in shuffled order, until there is enough of every language.

    Returns:
        texts taken by language; what an earlier, killed attempt has gathered is not gathered again.

    Raises:
        DataError: a file cannot be read.
    """
    finished = folder / GATHERED
    if not finished.is_file():
        step = LanguageStep(Identifier(languages, rule))
        taken: dict[str, _Taken] = defaultdict(_Taken)
        shuffled = random.Random(len(shards)).sample(list(shards), len(shards))
        with contextlib.ExitStack() as stack, track("read", sum(s.size for s in shards) // KILOBYTE, "kB") as bar:
            writers = Writers(stack)
            for shard in shuffled:
                for language, rows in read_texts(
                    shard, step, [name for name in languages if _wants(taken[name], config)]
                ):
                    _take(rows, taken[language], config, folder / language, writers)
                bar.advance(shard.size // KILOBYTE)
        write_json(finished, {language: taken[language].documents for language in languages})
    counts: dict[str, int] = read_json(finished)
    return counts


def _wants(taken: _Taken, config: TrustedText) -> bool:
    return taken.bytes < config.megabytes * 1e6


def read_texts(shard: Shard, step: LanguageStep, wanted: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Texts in wanted languages with a letter or digit in them, by batch and language.

    Raises:
        DataError: the file cannot be read.
    """
    if not wanted or (shard.language and shard.language not in wanted):
        return
    try:
        for batch in read_documents(shard, Damage(shard.name)):
            judged = judge_all([step], batch)
            for language, rows in by_language(judged.filter(pc.is_null(judged["reason"]))):
                if language in wanted:
                    yield language, rows.select(["text"]).filter(pc.match_substring_regex(rows["text"], WORDS))
    except BrokenFileError as error:
        raise DataError(
            "the file cannot be read",
            where=shard.name,
            expected="whole Parquet, JSON lines, plain text in UTF-8 or a web archive",
            got=error,
            fix="repair or remove it",
        ) from error


def _take(rows: pa.RecordBatch, taken: _Taken, config: TrustedText, folder: Path, writers: Writers) -> None:
    """Write what of these texts is new and still wanted; every k-th is held out."""
    hashes, _ = sign(rows["text"], [""] * rows.num_rows, [1] * rows.num_rows, bands=0, rows=0)
    _, first = np.unique(hashes, return_index=True)
    fresh = [index for index in sorted(first.tolist()) if int(hashes[index]) not in taken.seen]
    rows = rows.take(pa.array(fresh, pa.int64()))
    size = np.cumsum(pc.binary_length(rows["text"]).to_numpy(zero_copy_only=False))
    rows = rows.slice(0, int((taken.bytes + size <= config.megabytes * 1e6).sum()))
    numbers = taken.documents + np.arange(rows.num_rows)
    held = numbers % round(1 / config.held_out) == 0
    held &= taken.held_out + np.cumsum(held) <= config.most_held_out
    for name, chosen in ((LEARNT, ~held), (HELD_OUT, held)):
        if chosen.any():
            writers.write(folder / name, rows.filter(pa.array(chosen)))
    taken.seen.update(hashes[fresh].tolist())
    taken.documents += rows.num_rows
    taken.held_out += int(held.sum())
    taken.bytes += int(size[rows.num_rows - 1]) if rows.num_rows else 0


Texts = Mapping[str, Mapping[str, Path]]  # of each language, the folder of each kind of text


def make_from_text(
    sources: Mapping[str, Sequence[TextSource]],
    languages: Sequence[str],
    config: TrustedText,
    out: Path,
    *,
    kind: str,
    command: str,
    make: Callable[[Texts, Path], dict[str, Any]],
    also_read: Sequence[tuple[str, int, int]] = (),
) -> Artifact:
    """Gather text and make an artifact of it; what is up to date is not made again, what was killed is gone on from.

    Args:
        sources: of TRUSTED text and, where it is needed, of JUNK.
        make: is given the languages with enough text of each kind, and the folder to work in; returns the counts.
        also_read: path, size and version of other files that the artifact is made of.

    Raises:
        DataError: a file cannot be read, or there is too little text in every language.
        LockedError: another process is making it.
    """
    shards = {name: shards_of(some, languages) for name, some in sources.items()}
    section = config.model_dump(mode="json")
    named = {name: [source.model_dump(mode="json") for source in some] for name, some in sources.items()}
    basis = {"sources": named, "languages": list(languages)}
    read = {name: fingerprint(some) for name, some in shards.items()}
    input_files = {**read, "also": [list(one) for one in also_read]} if also_read else read
    key = sha256_obj({"command": command, "version": __version__, "input": input_files, **basis, **section})

    def work(folder: Path) -> dict[str, Any]:
        texts = folder / "work"
        found = {name: gather(some, languages, config, texts / name, RULES[name]) for name, some in shards.items()}
        counts = {language: {name: many[language] for name, many in found.items()} for language in languages}
        enough = [language for language in languages if min(counts[language].values()) >= config.min_documents]
        left_out = {language: counts[language] for language in languages if language not in enough}
        if not enough:
            raise DataError(
                "there is too little text to learn from",
                expected=f"{config.min_documents} documents of each kind in a language",
                got=_told(left_out) or "no text in any of the languages",
                fix="name more text, or the right column and languages",
            )
        if told := _told(left_out):
            log.warning("fewer than %d documents, and so no model: %s", config.min_documents, told)
        made = make({language: {name: texts / name / language for name in shards} for language in enough}, folder)
        shutil.rmtree(texts)
        return made | {"left_out": left_out}

    with locked(out.parent, f".{out.name}.lock"):
        artifact, _ = make_artifact(
            out, key, kind=kind, stage=command, parents={}, recipe={**basis, command: section}, make=work
        )  # fmt: skip
    return artifact


def _told(counts: Mapping[str, Mapping[str, int]]) -> str:
    """How many texts of each kind some languages have, those that have any."""
    return "; ".join(
        f"{language} {', '.join(f'{count} {kind}' for kind, count in own.items())}"
        for language, own in counts.items()
        if any(own.values())
    )


def train_each(texts: Texts, work: Path, train: Callable[[Mapping[str, Path], Path], dict[str, Any]]) -> dict[str, Any]:
    """Train a model of each language in a folder of its name, but for those that an earlier attempt has finished.

    Args:
        train: is given the folder of each kind of text, and that of the model; returns what the manifest says of it.
    """
    facts = {}
    with track("train", len(texts), "language") as bar:
        for language, folders in texts.items():
            if not (work / language / FACTS).is_file():
                write_json(work / language / FACTS, train(folders, work / language))
            facts[language] = read_json(work / language / FACTS)
            bar.advance()
    return facts


def quantiles_of(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """What a manifest says of a figure of held-out text."""
    return dict(zip(map(str, QUANTILES), np.quantile(values, QUANTILES).round(3).tolist(), strict=True))
