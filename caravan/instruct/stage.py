"""The instruct stage: sources to shards of dialogues, each row exactly once whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from caravan.core.errors import CaravanError, DataError
from caravan.core.files import read_json, write_json, write_text
from caravan.core.log import get_logger
from caravan.core.progress import track
from caravan.core.stage import StageContext
from caravan.instruct.rows import Dropped, faults_of
from caravan.instruct.speech_report import add, markdown
from caravan.recipe.instruct import (
    DataSource,
    InstructConfig,
    PictureSource,
    SampleSource,
    Source,
    SpeechSource,
    SpokenPictureSource,
)
from caravan.recipe.translate import EndpointTranslator

log = get_logger(__name__)
CHECKED = 20
CHECKED_ROWS = 200  # of them only the headers of the media are looked at
LISTED = 1_000
WORK = "work"


def name_of(number: int, source: Source) -> str:
    """A source's name in ids, files and reports, such as `01-pictures`."""
    kind = next(iter(type(source).model_fields))
    return f"{number:02d}-{kind}"


def items(source: Source, ctx: StageContext, name: str) -> Iterator[Any]:
    """The dialogues of a source, always in the same order, and the errors of rows that cannot be used.

    Raises:
        DataError: no file, a file that cannot be read, or one without the named columns.
    """
    from caravan.instruct import formats, pictures, samples, speech

    match source:
        case SampleSource():
            return samples.read(source, ctx, name)
        case PictureSource():
            return pictures.read(source, ctx, name)
        case SpeechSource():
            return speech.read(source, ctx, name)
        case SpokenPictureSource():
            return speech.read_spoken_pictures(source, ctx, name)
        case DataSource():
            return _changed(formats.read(source, ctx, name), source, ctx, name)


def _changed(found: Iterator[Any], source: DataSource, ctx: StageContext, name: str) -> Iterator[Any]:
    """What is read, translated and then spoken if the recipe says so; what that costs is kept until the run is done."""
    if source.translate is None and source.speak is None:
        yield from found
        return
    from caravan.core.cache import Cache
    from caravan.instruct.spoken import spoken
    from caravan.instruct.translated import translated

    with contextlib.closing(Cache(ctx.out / WORK / f"{name}.db")) as cache:
        if source.translate:
            found = translated(found, source.translate, cache)
        yield from spoken(found, source.speak, ctx, cache) if source.speak else found


def run(config: InstructConfig, ctx: StageContext) -> dict[str, Any]:
    """Write `train/*.parquet` and `test/*.parquet` of DIALOGUE_SCHEMA, and `broken.json`.

    A source that an earlier attempt finished has its summary on disk and is passed over; one that it began is read
    again from its start, which is deterministic, and only files that are not there yet are written.

    Returns:
        rows by split and by task, and how many rows could not be used.

    Raises:
        DataError: a source cannot be read or gives no dialogue, or a broken row where `broken` says stop.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for number, source in enumerate(config.sources):
        name = name_of(number, source)
        summary = ctx.out / "sources" / f"{name}.json"
        if not summary.exists():
            write_json(summary, _write_source(source, name, config, ctx))
        summaries[name] = read_json(summary)
    every = list(summaries.values())
    write_json(ctx.out / "broken.json", [fault for summary in every for fault in summary["broken"]])
    if any(summary["spoken"] for summary in every):
        write_text(ctx.out / "spoken.md", markdown(summaries))
    shutil.rmtree(ctx.out / WORK, ignore_errors=True)
    return {
        "train": sum(summary["train"] for summary in every),
        "test": sum(summary["test"] for summary in every),
        "broken": sum(summary["broken_rows"] for summary in every),
        "tasks": _summed(summary["tasks"] for summary in every),
        "left out": _summed(summary["dropped"] for summary in every),
        "spoken": {
            language: _summed(summary["spoken"].get(language, {}) for summary in every)
            for language in sorted({language for summary in every for language in summary["spoken"]})
        },
    }


def _summed(counts: Iterable[dict[str, float]]) -> dict[str, Any]:
    """The sums of counts by name."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _write_source(source: Source, name: str, config: InstructConfig, ctx: StageContext) -> dict[str, Any]:
    from caravan.instruct.shards import Shards

    tasks: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    speeches: dict[str, dict[str, float]] = {}
    broken: list[dict[str, Any]] = []
    broken_rows = 0
    with (
        Shards(ctx.out / "train", name, config.shard_rows) as train,
        Shards(ctx.out / "test", name, config.shard_rows) as test,
        track(f"instruct {name}", None, "dialogue") as bar,
    ):
        shards = {"train": train, "test": test}
        for item in items(source, ctx, name):
            if isinstance(item, DataError):
                if config.broken == "stop":
                    raise item
                broken_rows += 1
                broken += [_entry(fault) for fault in faults_of(item)] if len(broken) < LISTED else []
                continue
            if isinstance(item, Dropped):
                dropped[item.reason] += 1
                continue
            split, dialogue = item
            shards[split].add(dialogue)
            tasks[f"{split} {dialogue.task}"] += 1
            if isinstance(source, DataSource) and source.speak and dialogue.audios:
                add(speeches, dialogue)
            bar.advance()
    rows = {split: writer.rows for split, writer in shards.items()}
    if not any(rows.values()):
        raise _nothing(name, broken, broken_rows, dropped, ctx)
    if broken_rows:
        log.warning("%s: %d rows cannot be used and are set aside, see broken.json", name, broken_rows)
    more = {"dropped": dict(dropped), "spoken": speeches}
    return {**rows, "tasks": dict(tasks), "broken_rows": broken_rows, "broken": broken, **more}


def _entry(error: DataError) -> dict[str, Any]:
    return {"where": error.where, "problem": error.problem, "expected": error.expected, "got": error.got}


def _nothing(
    name: str, broken: list[dict[str, Any]], broken_rows: int, dropped: Counter[str], ctx: StageContext
) -> DataError:
    left = "".join(f"; {count} left out: {reason}" for reason, count in dropped.most_common(5))
    first = f"; the first: {broken[0]['where']}: {broken[0]['problem']}" if broken else ""
    return DataError(
        "a source gives no dialogue",
        where=f"instruct source {name}",
        expected=f"rows in one of {', '.join(ctx.languages)}",
        got=f"{broken_rows} rows that cannot be used{first}{left}",
        fix="correct the files, the columns or the languages of the recipe",
    )


def check(config: InstructConfig, ctx: StageContext) -> list[CaravanError]:
    """Faults in the first rows of every source; the sample world needs no look."""
    from caravan.instruct.validate import examine

    faults: list[CaravanError] = []
    for number, source in enumerate(config.sources):
        if isinstance(source, SampleSource):
            continue
        if isinstance(source, DataSource):
            faults += examine(source, ctx, limit=LISTED, rows=CHECKED_ROWS).faults + _unready(source)
            continue
        try:
            first = itertools.islice(items(source, ctx, name_of(number, source)), CHECKED)
            faults += [fault for item in first if isinstance(item, DataError) for fault in faults_of(item)]
        except CaravanError as error:
            faults.append(error)
    return faults


def _unready(source: DataSource) -> list[CaravanError]:
    """Keys and packages that the services of a source lack; none of them is asked anything."""
    from caravan.instruct.recognise import Listener
    from caravan.instruct.synthesis import open_synthesiser
    from caravan.instruct.translators import ByEndpoint

    opened: list[Callable[[], object]] = []
    if source.speak:
        opened.append(partial(open_synthesiser, source.speak))
        if source.speak.check:
            opened.append(partial(Listener, source.speak.check))
    if source.translate and isinstance(source.translate.by, EndpointTranslator):
        opened.append(partial(ByEndpoint, source.translate.by))
    faults: list[CaravanError] = []
    for each in opened:
        try:
            each()
        except CaravanError as error:
            faults.append(error)
    return faults
