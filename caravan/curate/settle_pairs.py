"""From judged pairs to parallel text by pair of languages: what only all pairs together can tell.

How long one language's side is beside another's is learnt from the pairs themselves; of copies of a pair one stays, and
of pairs that share a side so many as the recipe allows.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.files import atomic_path, write_json
from caravan.curate.duplicates import DUPLICATES, EXACT, connect, room
from caravan.curate.pairs import PairStep
from caravan.curate.settle import ROW_GROUP
from caravan.curate.shards import PAIR_SCHEMA
from caravan.curate.steps import MASKED, VERDICT_FIELDS
from caravan.recipe.curate import CurateConfig
from caravan.recipe.pairs import PairLimits

KEPT_PAIRS = pa.schema([*list(PAIR_SCHEMA)[1:], MASKED])
REJECTED_PAIRS = pa.schema([*KEPT_PAIRS, *VERDICT_FIELDS])
RATIOS = "pair_ratios.json"
LENGTHS, REPEATED = "lengths differ", "repeated side"

# Characters that say what 100 characters of English say, measured on the Universal Declaration of Human Rights.
DENSITY = {"en": 100, "zh": 26, "ja": 39, "ko": 44, "he": 68, "ar": 70, "th": 88}
USUAL_DENSITY = 110

BOTH = "source_language, target_language"
PAIRS = """
    CREATE VIEW pairs AS
    SELECT *, lower(trim(source_text)) AS a, lower(trim(target_text)) AS b,
           ln(greatest(length(b), 1) / greatest(length(a), 1)) AS log_ratio, greatest(length(a), length(b)) AS longer
    FROM judged
"""
# A histogram by hundredths of the logarithm: flat in memory, and the same however the work is divided.
HISTOGRAM = f"""
    SELECT {BOTH}, round(log_ratio, 2) AS log, count(*) AS pairs FROM pairs
    WHERE reason IS NULL AND longer >= ? GROUP BY ALL ORDER BY ALL
"""
# A table in memory that spills: first the lengths, then copies, then repeated sides among what is left.
SETTLED = f"""
    CREATE TABLE settled AS
    WITH measured AS (
        SELECT *, exp(abs(log_ratio - usual)) AS ratio, reason IS NULL AND longer >= $from AND ratio > $most AS uneven
        FROM pairs JOIN ratios USING ({BOTH})
    ), counted AS (
        SELECT *, reason IS NULL AND NOT uneven AS good,
               row_number() OVER (PARTITION BY good, {BOTH}, hash(a, b) ORDER BY key) > 1 AND good AS copied
        FROM measured
    ), placed AS (
        SELECT *, good AND NOT copied AS single,
               row_number() OVER (PARTITION BY single, {BOTH}, hash(a) ORDER BY key) AS place_a,
               row_number() OVER (PARTITION BY single, {BOTH}, hash(b) ORDER BY key) AS place_b,
               single AND greatest(place_a, place_b) > $repeats AS repeated
        FROM counted
    )
    SELECT key, id, {BOTH}, source_text, target_text, source, masked,
           CASE WHEN uneven OR repeated THEN '{PairStep.name}' WHEN copied THEN '{DUPLICATES}' ELSE step END AS step,
           CASE WHEN uneven THEN '{LENGTHS}' WHEN copied THEN '{EXACT}' WHEN repeated THEN '{REPEATED}'
                ELSE reason END AS reason,
           CASE WHEN uneven THEN ratio WHEN copied THEN 1 WHEN repeated THEN greatest(place_a, place_b)
                ELSE value END AS value
    FROM placed ORDER BY {BOTH}, key
"""
LANGUAGE_PAIRS = f"SELECT DISTINCT {BOTH} FROM settled WHERE reason IS NULL ORDER BY ALL"
KEPT_OF = "SELECT * FROM settled WHERE reason IS NULL AND source_language = ? AND target_language = ? ORDER BY key"
REJECTED = "SELECT * FROM settled WHERE reason IS NOT NULL ORDER BY key"


def settle_pairs(shards: list[Path], config: CurateConfig, out: Path) -> None:
    """Judge pairs by each other and write them by pair of languages; the reject file comes last and ends it."""
    rejected = out / "rejected_pairs" / "00000.parquet"
    if not shards or rejected.is_file():
        return
    limits, memory, spill = config.pairs, config.duplicates.memory, out / "work" / "spill"
    with room(memory, spill), connect(memory, config.processes(), spill) as connection:
        connection.read_parquet([str(path) for path in shards]).create_view("judged")
        connection.execute(PAIRS)
        ratios = usual_ratios(connection, limits)
        write_json(out / RATIOS, ratios)
        names = BOTH.split(", ")
        logs = [
            {**dict(zip(names, pair.split("-"), strict=True)), "usual": math.log(found["ratio"])}
            for pair, found in ratios.items()
        ]
        connection.register("ratios", pa.Table.from_pylist(logs))
        repeats = limits.max_repeats or 2**62
        connection.execute(SETTLED, {"from": limits.ratio_characters, "most": limits.max_ratio, "repeats": repeats})
        for languages in connection.execute(LANGUAGE_PAIRS).fetchall():
            rows = connection.sql(KEPT_OF, params=languages)
            _write_stream(out / "pairs" / "-".join(languages) / "00000.parquet", rows, KEPT_PAIRS)
        _write_stream(rejected, connection.sql(REJECTED), REJECTED_PAIRS)


def usual_ratios(connection: duckdb.DuckDBPyConnection, limits: PairLimits) -> dict[str, dict[str, Any]]:
    """For each pair of languages, characters of the second for one of the first, and where that figure is from."""
    bins: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for source, target in connection.execute(f"SELECT DISTINCT {BOTH} FROM pairs ORDER BY ALL").fetchall():
        bins[source, target] = []
    for source, target, log, pairs in connection.execute(HISTOGRAM, [limits.ratio_characters]).fetchall():
        bins[source, target].append((log, pairs))
    return {"-".join(languages): _usual_ratio(*languages, found, limits) for languages, found in bins.items()}


def _usual_ratio(source: str, target: str, bins: list[tuple[float, int]], limits: PairLimits) -> dict[str, Any]:
    pairs = sum(count for _, count in bins)
    given = limits.usual_ratio.get(f"{source}-{target}")
    if given is not None:
        return {"ratio": given, "pairs": pairs, "from": "recipe"}
    if pairs < limits.ratio_from:
        densities = (DENSITY.get(language, USUAL_DENSITY) for language in (target, source))
        return {"ratio": round(next(densities) / next(densities), 3), "pairs": pairs, "from": "scripts"}
    upto = itertools.accumulate(count for _, count in bins)
    middle = next(log for (log, _), below in zip(bins, upto, strict=True) if 2 * below >= pairs)
    return {"ratio": round(math.exp(middle), 3), "pairs": pairs, "from": "median"}


def _write_stream(path: Path, rows: Any, schema: pa.Schema) -> None:
    """Write the result of a query, row group by row group."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in rows.to_arrow_reader(ROW_GROUP):
            writer.write_batch(batch.select(schema.names).cast(schema))
