"""What curation did: survivors by step, language and reason, samples of what went, and what could not be read."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import duckdb

from caravan.curate.rows import Broken

SAMPLES = 3
SAMPLE_CHARACTERS = 200
LISTED_IN_PAGE = 50

ROWS = """
    SELECT language, step, reason, count(*) AS documents, sum(strlen(text))::BIGINT AS bytes
    FROM {table} GROUP BY ALL ORDER BY documents DESC, language, step, reason
"""
SAMPLED = f"""
    SELECT step, reason, id, left(text, {SAMPLE_CHARACTERS}) AS text, value FROM rejected
    QUALIFY row_number() OVER (PARTITION BY step, reason ORDER BY hash(id)) <= {SAMPLES} ORDER BY step, reason, id
"""

REPAIRED = """
    SELECT repair, count(*) AS documents FROM (SELECT unnest(string_split(repairs, ', ')) AS repair FROM kept)
    GROUP BY ALL ORDER BY documents DESC, repair
"""

BUCKETS = """
    SELECT language, bucket, count(*) AS documents, sum(strlen(text))::BIGINT AS bytes FROM kept
    WHERE bucket IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
WITHOUT_MODEL = "SELECT language, count(*) FROM kept GROUP BY language HAVING count(bucket) = 0 ORDER BY language"


def summarise(out: Path, steps: list[str], broken_rows: int, broken: list[Broken]) -> dict[str, Any]:
    """The report of a finished corpus.

    Args:
        out: folder with `kept`, `rejected`, `pairs` and `rejected_pairs`.
        steps: the steps of documents in their order.
    """
    with duckdb.connect() as connection:
        documents = _table(connection, out, "kept") + _table(connection, out, "rejected")
        pairs = _table(connection, out, "pairs") + _table(connection, out, "rejected_pairs")
        repaired = _dicts(connection.execute(REPAIRED)) if any(not row["reason"] for row in documents) else []
        samples = _dicts(connection.execute(SAMPLED)) if any(row["reason"] for row in documents) else []
        scored = "perplexity" in steps and any(not row["reason"] for row in documents)
        buckets = _dicts(connection.execute(BUCKETS)) if scored else []
        without = connection.execute(WITHOUT_MODEL).fetchall() if scored else []
    return {
        "notes": [f"no n-gram model for {name}: {count:,} documents passed without" for name, count in without],
        "documents": _view(documents, steps),
        "languages": _languages(documents),
        "pairs": _view(pairs, ["pair", "duplicates"]) | {"languages": _languages(pairs)},
        "repaired": repaired,
        "buckets": buckets,
        "samples": samples,
        "broken": {"rows": broken_rows, "files": sum(entry.row is None for entry in broken)},
    }


def _table(connection: duckdb.DuckDBPyConnection, out: Path, name: str) -> list[dict[str, Any]]:
    """Documents and bytes of one part of the corpus, by language, step and reason."""
    files = [str(file) for file in sorted((out / name).rglob("*.parquet"))]
    if not files:
        return []
    relation = connection.read_parquet(files)
    if "source_text" in relation.columns:
        relation = relation.project(
            "*, source_language || '-' || target_language AS language, source_text || target_text AS text"
        )
    if "reason" not in relation.columns:
        relation = relation.project("*, NULL::VARCHAR AS step, NULL::VARCHAR AS reason")
    relation.create_view(name)
    return _dicts(connection.execute(ROWS.format(table=name)))


def _dicts(result: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _sum(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in ("documents", "bytes")}


def _view(rows: list[dict[str, Any]], steps: list[str]) -> dict[str, Any]:
    """Totals, what is left after each step, and how many went for each reason."""
    left = _sum(rows)
    stages = [{"step": "read", **left}]
    for step in steps:
        gone = _sum([row for row in rows if row["step"] == step])
        left = {name: left[name] - gone[name] for name in left}
        stages.append({"step": step, **left})
    named = sorted({(row["step"], row["reason"]) for row in rows if row["reason"]})
    reasons = [
        {
            "step": step,
            "reason": reason,
            **_sum([row for row in rows if (row["step"], row["reason"]) == (step, reason)]),
        }
        for step, reason in named
    ]
    reasons.sort(key=lambda entry: -int(entry["documents"]))
    return {
        "read": stages[0]["documents"],
        "kept": left["documents"],
        "bytes": left["bytes"],
        "stages": stages,
        "reasons": reasons,
    }


def _languages(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Read and kept documents and kept bytes by language, most bytes first."""
    found = {}
    for language in {row["language"] for row in rows}:
        own = [row for row in rows if row["language"] == language]
        kept = _sum([row for row in own if row["reason"] is None])
        found[str(language)] = {"read": _sum(own)["documents"], "kept": kept["documents"], "bytes": kept["bytes"]}
    return dict(sorted(found.items(), key=lambda item: (-item[1]["bytes"], -item[1]["read"], item[0])))


HEAD = """<!doctype html><html><head><meta charset="utf-8"><title>Corpus</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #223 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem } th { text-align: left; color: #667 }
td, th { padding: .2rem .6rem; border-bottom: 1px solid #e4e6ec; vertical-align: top } td.n, th.n { text-align: right }
td.bar { width: 40% } td.bar div { background: #4a7ab5; height: .8rem; border-radius: 2px }
td.text { font-size: 13px; word-break: break-word; max-width: 34rem }
</style></head><body>
"""


def page(report: dict[str, Any], broken: list[Broken]) -> str:
    """The report as one HTML page without any other file."""
    documents, pairs = report["documents"], report["pairs"]
    parts = [
        f"<h1>Corpus</h1><p>{documents['kept']:,} of {documents['read']:,} documents kept, "
        f"{documents['bytes']:,} bytes; {pairs['kept']:,} of {pairs['read']:,} parallel pairs.</p>",
        *(f"<p>{html.escape(note)}</p>" for note in report["notes"]),
        "<h2>What is left after each step</h2>", _bars(documents["stages"], "step", "documents"),
        "<h2>Why documents went</h2>", _bars(documents["reasons"], "reason", "documents"),
        "<h2>What was repaired in those that stay</h2>", _bars(report["repaired"], "repair", "documents"),
        "<h2>Languages</h2>", _bars(_named(report["languages"]), "language", "kept", "read", "bytes"),
    ]  # fmt: skip
    if report["buckets"]:
        parts += ["<h2>Perplexity</h2>", _rows(report["buckets"], "language", "bucket", "documents", "bytes")]
    if pairs["read"]:
        parts += ["<h2>Parallel pairs</h2>", _bars(_named(pairs["languages"]), "language", "kept", "read", "bytes")]
        parts += ["<h2>Why pairs went</h2>", _bars(pairs["reasons"], "reason", "documents")]
    parts += ["<h2>A sample of what went</h2>", _rows(report["samples"], "step", "reason", "value", "text")]
    if broken:
        listed = [entry._asdict() for entry in broken[:LISTED_IN_PAGE]]
        total = f"<p>{report['broken']['rows']:,} rows and {report['broken']['files']:,} files.</p>"
        parts += ["<h2>What could not be read</h2>", total, _rows(listed, "file", "row", "problem")]
    return HEAD + "\n".join(parts) + "</body></html>\n"


def _named(languages: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    return [{"language": language, **counts} for language, counts in languages.items()]


def _bars(rows: list[dict[str, Any]], label: str, number: str, *more: str) -> str:
    """A table with a bar for one number of each row."""
    top = max((row[number] for row in rows), default=0) or 1
    head = f"<th>{label}</th><th></th>" + "".join(f'<th class="n">{name}</th>' for name in (number, *more))
    lines = [
        f"<tr><td>{html.escape(str(row[label]))}</td>"
        f'<td class="bar"><div style="width:{100 * row[number] / top:.1f}%"></div></td>'
        + "".join(f'<td class="n">{row[name]:,}</td>' for name in (number, *more))
        + "</tr>"
        for row in rows
    ]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _rows(rows: list[dict[str, Any]], *names: str) -> str:
    """A plain table."""
    head = "".join(f"<th>{name}</th>" for name in names)
    lines = (
        "<tr>" + "".join(f'<td class="{name}">{html.escape(_shown(row[name]))}</td>' for name in names) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
