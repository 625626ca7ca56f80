"""What is usual between two languages, and how wide the limits are, on real translations."""

from __future__ import annotations

import statistics
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from caravan.instruct.translated import CHARACTERS, doubtful
from caravan.recipe.translate import TranslateConfig
from caravan.records import LANGUAGES

DATA = Path(__file__).parents[2].parent / "shared/data/parallel"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside the repository: ../shared/data")
LEAST = 20


def test_characters_for_one_of_english_are_medians_of_the_declaration() -> None:
    rows = pq.read_table(DATA / "udhr_18way.parquet", columns=list(LANGUAGES)).to_pylist()
    for language in LANGUAGES:
        pairs = [(row["en"], row[language]) for row in rows if row["en"] and row[language] and len(row["en"]) >= LEAST]
        median = statistics.median(len(other) / len(english) for english, other in pairs)
        assert CHARACTERS[language] == pytest.approx(median, abs=0.006), language


def test_few_human_translations_are_refused() -> None:
    table = pq.read_table(DATA / "tatoeba_laser_test.parquet", columns=["lang", "en", "xx"]).to_pylist()
    config = TranslateConfig(to=list(LANGUAGES), checked_characters=LEAST)
    for language in sorted({row["lang"] for row in table} & set(LANGUAGES)):
        pairs = [(row["en"], row["xx"]) for row in table if row["lang"] == language and len(row["en"]) >= LEAST][:250]
        refused = [
            (other, why) for english, other in pairs if (why := doubtful(english, other, "en", language, config))
        ]
        assert len(refused) <= 0.07 * len(pairs), (language, refused)
