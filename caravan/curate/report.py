"""What curation did, in figures: survivors by step, stage and language, reasons, spreads, and samples of what went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from caravan.curate.corpus import SAMPLE, create_tables, rows_of
from caravan.curate.distributions import binned, spread
from caravan.curate.duplicates import connect, room
from caravan.curate.evaluation_sets import FOLDER, read_sets
from caravan.curate.rows import Broken
from caravan.recipe.curate import CurateConfig

SAMPLES = 3
REMOVED_PARTS = "removed"
SAMPLE_CHARACTERS = 300
# Steps that are told of together, as PolyLM tells of them (arXiv 2307.06018).
STAGES = {
    "identification": ("language", "chinese"),
    "rules": ("rules", "repairs", "toxicity"),
    "learned filters": ("perplexity", "quality"),
    "duplicates": ("duplicates",),
}
FILTERS = "rules and learned filters"
PAIR_STEPS = ("pair", "decontamination", "duplicates")

Rows = Sequence[Mapping[str, Any]]


def summarise(
    out: Path,
    config: CurateConfig,
    steps: Sequence[str],
    languages: Sequence[str],
    broken_rows: Mapping[str, int],
    broken: Sequence[Broken],
) -> dict[str, Any]:
    """The report of a finished corpus, made within the memory of the duplicates step.

    Args:
        out: folder with `kept`, `rejected`, `pairs` and `rejected_pairs`.
        steps: the steps of documents in their order.
        languages: of the run.
        broken_rows: number of rows that could not be read, by file; `broken`: the first of them, and broken files.

    Raises:
        DiskFullError: neither memory nor disk has room.
    """
    memory, spill = config.duplicates.memory, out / "work" / "spill"
    with room(memory, spill), connect(memory, config.processes(), spill) as connection:
        create_tables(connection, out)
        documents, pairs = (rows_of(connection.execute(_counted(table))) for table in ("documents", "pairs"))
        samples = {table: rows_of(connection.execute(_sampled(table))) for table in ("documents", "pairs")}
        masked = {table: rows_of(connection.execute(_masked(table))) for table in ("documents", "pairs")}
        repaired = rows_of(connection.execute(REPAIRED))
        scored = rows_of(connection.execute(SCORED))
        buckets = rows_of(connection.execute(BUCKETS))
        quality = rows_of(connection.execute(QUALITY))
        found = {row["language"] for row in documents}
        notes = [f"no text in {language}" for language in languages if documents and language not in found]
        notes += [note for step in LEARNED if step in steps for note in _without_model(connection, step)]
        removed = _removed(connection, out)
    pair_steps = [step for step in PAIR_STEPS if step in ("pair", *steps)]
    return {
        "notes": notes,
        "documents": _view(documents, steps) | {"table": stage_table(documents, steps, languages)},
        "languages": _languages(documents, steps),
        "lengths": _spreads([
            {**row, "read": row["documents"], "kept": 0 if row["reason"] else row["documents"]} for row in documents
        ]),
        "perplexity": _spreads(scored),
        "buckets": buckets,
        "quality": quality,
        "pairs": _view(pairs, pair_steps) | {"languages": _languages(pairs, pair_steps), "samples": samples["pairs"]},
        "repaired": repaired,
        "masked": masked,
        "removed": removed,
        "evaluation_sets": read_sets(out / "work" / FOLDER),
        "samples": samples["documents"],
        "broken": {
            "rows": sum(broken_rows.values()),
            "files": sum(entry.row is None for entry in broken),
            "rows_by_file": dict(broken_rows),
        },
    }  # fmt: skip


def _counted(table: str) -> str:
    """Documents and bytes by language, verdict and length."""
    return f"""
        SELECT language, step, reason, {binned("length(text)")} AS bin, count(*) AS documents,
               sum(bytes)::BIGINT AS bytes
        FROM {table} GROUP BY ALL ORDER BY ALL
    """


def _sampled(table: str) -> str:
    row = f"{{id: id, language: language, value: value, text: left(text, {SAMPLE_CHARACTERS}), copy_of: duplicate_of}}"
    return f"""
        FROM (
            SELECT step, reason, {SAMPLE.format(row=row, count=SAMPLES)} FROM {table}
            WHERE reason IS NOT NULL GROUP BY step, reason
        ) ORDER BY step, reason, hash(id)
    """


def _masked(table: str) -> str:
    """Placeholders in what was kept, by kind, and documents that have some."""
    return f"""
        SELECT split_part(entry, ' ', 1) AS kind, count(*) AS documents,
               sum(split_part(entry, ' ', 2)::BIGINT)::BIGINT AS places
        FROM (SELECT unnest(string_split(masked, ', ')) AS entry FROM {table} WHERE reason IS NULL)
        GROUP BY ALL ORDER BY places DESC, kind
    """


REPAIRED = r"""
    SELECT regexp_extract(entry, '^(.*) (-?\d+)$', 1) AS repair, count(*) AS documents,
           sum(regexp_extract(entry, '(-?\d+)$')::BIGINT)::BIGINT AS characters
    FROM (SELECT unnest(string_split(repairs, ', ')) AS entry FROM documents WHERE reason IS NULL)
    GROUP BY ALL ORDER BY documents DESC, repair
"""
BUCKETS = """
    SELECT language, bucket, count(*) AS documents, sum(bytes)::BIGINT AS bytes FROM documents
    WHERE reason IS NULL AND bucket IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
# Documents of each language that a classifier was asked about, and its mean answer: of all, and of those that stay.
QUALITY = """
    SELECT language, count(*) AS read, count(*) FILTER (reason IS NULL) AS kept, round(avg(quality), 4) AS mean_read,
           round(avg(quality) FILTER (reason IS NULL), 4) AS mean_kept
    FROM documents WHERE quality IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
# The column that a filter with models fills in, and what a model of it is called.
LEARNED = {"perplexity": ("perplexity", "n-gram model"), "quality": ("quality", "classifier")}
# What had gone before it was scored is not in it.
SCORED = f"""
    SELECT language, {binned("perplexity")} AS bin, count(*) AS read, count(*) FILTER (reason IS NULL) AS kept
    FROM documents WHERE perplexity IS NOT NULL GROUP BY ALL ORDER BY ALL
"""


def _without_model(connection: duckdb.DuckDBPyConnection, step: str) -> list[str]:
    """What is said of languages that a filter had no model of."""
    column, model = LEARNED[step]
    found = connection.execute(f"""
        SELECT language, count(*) FROM documents WHERE reason IS NULL
        GROUP BY language HAVING count({column}) = 0 ORDER BY language
    """).fetchall()
    return [f"no {model} for {language}: {count:,} documents passed without" for language, count in found]


def _removed(connection: duckdb.DuckDBPyConnection, out: Path) -> list[dict[str, Any]]:
    """Lines and paragraphs that were taken out of documents which stay: how many, of how many documents."""
    if not (out / REMOVED_PARTS).is_dir():
        return []
    files = [str(file) for file in sorted((out / REMOVED_PARTS).glob("*.parquet"))]
    query = f"""
        SELECT reason, count(*) AS parts, count(DISTINCT id) AS documents, sum(strlen(text))::BIGINT AS bytes
        FROM read_parquet({files}) GROUP BY reason ORDER BY parts DESC, reason
    """
    return rows_of(connection.execute(query))


def _sum(rows: Rows) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in ("documents", "bytes")}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def stage_of(step: str) -> str:
    """The stage that a step belongs to; one that belongs to none stands for itself."""
    return next((stage for stage, steps in STAGES.items() if step in steps), step)


def survivors(rows: Rows, steps: Sequence[str]) -> list[dict[str, Any]]:
    """What is left after each step: documents and bytes, their share of all that was read, and the share that went.

    Args:
        rows: documents and bytes by step and reason.
    """
    read = left = _sum(rows)
    entries: list[dict[str, Any]] = [{"step": "read", "stage": "", **read, "kept": 1.0, "dropped": None}]
    for step in steps:
        gone = _sum([row for row in rows if row["step"] == step])
        share = _share(gone["documents"], left["documents"])
        left = {name: left[name] - gone[name] for name in left}
        kept = _share(left["documents"], read["documents"])
        entries.append({"step": step, "stage": stage_of(step), **left, "kept": kept, "dropped": share})
    return entries


def stage_table(rows: Rows, steps: Sequence[str], languages: Collection[str]) -> list[dict[str, Any]]:
    """PolyLM's table: documents left after each stage, of all languages, and of English and the run's other ones.

    Returns:
        for each stage `stage` and, by group of languages, `documents`, `kept` (of what was read) and `dropped` (of what
        came into the stage); then the rules and the learned filters as one.
    """
    english = [row for row in rows if row["language"] == "en"]
    others = [row for row in rows if row["language"] in languages and row["language"] != "en"]
    groups = {"all": rows, "English": english, "other languages": others} if english and others else {"all": rows}
    left = {name: survivors(own, steps) for name, own in groups.items()}
    named = list(dict.fromkeys(map(stage_of, steps)))
    spans = {stage: [i for i, step in enumerate(steps, 1) if stage_of(step) == stage] for stage in named}
    if "rules" in spans and "learned filters" in spans:
        spans[FILTERS] = spans["rules"] + spans["learned filters"]
    return [
        {"stage": stage} | {name: _through(entries, min(span), max(span)) for name, entries in left.items()}
        for stage, span in spans.items()
    ]


def _through(entries: Rows, first: int, last: int) -> dict[str, Any]:
    """What some steps, from the first to the last, did together."""
    came, stayed = entries[first - 1]["documents"], entries[last]["documents"]
    return {"documents": stayed, "kept": entries[last]["kept"], "dropped": _share(came - stayed, came)}


def _view(rows: Rows, steps: Sequence[str]) -> dict[str, Any]:
    """Totals, what is left after each step, and how many went for each reason, by language too."""
    left = survivors(rows, steps)
    reasons = []
    for step, reason in {(row["step"], row["reason"]) for row in rows if row["reason"]}:
        own = [row for row in rows if (row["step"], row["reason"]) == (step, reason)]
        languages: Counter[str] = Counter()
        for row in own:
            languages[row["language"]] += row["documents"]
        reasons.append({"step": step, "reason": reason, **_sum(own), "languages": dict(languages.most_common())})
    reasons.sort(key=lambda entry: (-entry["documents"], entry["step"], entry["reason"]))
    return {
        "read": left[0]["documents"],
        "kept": left[-1]["documents"],
        "bytes": left[-1]["bytes"],
        "stages": left,
        "reasons": reasons,
    }


def _languages(rows: Rows, steps: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each language documents read and kept, kept bytes, and documents left after each step; most bytes first."""
    found = {}
    for language in {row["language"] for row in rows}:
        left = survivors([row for row in rows if row["language"] == language], steps)
        found[str(language)] = {
            "read": left[0]["documents"],
            "kept": left[-1]["documents"],
            "bytes": left[-1]["bytes"],
            "left": {entry["step"]: entry["documents"] for entry in left[1:]},
        }
    return dict(sorted(found.items(), key=lambda item: (-item[1]["bytes"], -item[1]["read"], item[0])))


def _spreads(rows: Rows) -> dict[str, dict[str, Any]]:
    """Spread of a figure in each language of which something was kept, most documents first."""
    bins: dict[str, list[tuple[int, int, int]]] = {}
    for row in rows:
        bins.setdefault(row["language"], []).append((row["bin"], row["read"], row["kept"]))
    found = {language: spread(own) for language, own in bins.items() if any(kept for _, _, kept in own)}
    return dict(sorted(found.items(), key=lambda item: (-item[1]["kept"]["documents"], item[0])))
