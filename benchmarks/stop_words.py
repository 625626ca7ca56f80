"""The most frequent words of each language, which the rules' share of stop words counts.

    python benchmarks/stop_words.py TEXT [--most 80] > caravan/curate/stopwords.yaml

TEXT: a folder of Parquet files named by language, with a column `text`. Words are ranked by how many documents they are
in. Chinese, Japanese and Thai are counted by pairs of characters: single ones are as frequent in noise.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from caravan.curate.characters import DIGIT, LETTER, UNSPACED, kinds

UNSPACED_LANGUAGES = ("zh", "ja", "th")


def only(*wanted: int) -> dict[int, str]:
    """A translation that turns all characters but those of some kinds into blanks."""
    return {point: " " for point, kind in enumerate(kinds().tolist()) if kind not in wanted}


WORDS, CHARACTERS = only(LETTER, DIGIT), only(UNSPACED)


def words_of(text: str) -> set[str]:
    """The words as the kernels split them; those with digits left out."""
    return {word for word in text.lower().translate(WORDS).split() if not re.search(r"\d", word)}


def pairs_of(text: str) -> set[str]:
    """Pairs of neighbours in a script without spaces."""
    return {run[i : i + 2] for run in text.translate(CHARACTERS).split() for i in range(len(run) - 1)}


def frequent(path: Path, most: int) -> list[str]:
    """The most frequent words of one language."""
    split = pairs_of if path.stem in UNSPACED_LANGUAGES else words_of
    counts: Counter[str] = Counter()
    for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
        counts.update(split(text))
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--most", type=int, default=80)
    given = parser.parse_args()
    lists = {path.stem: " ".join(frequent(path, given.most)) for path in sorted(given.text.glob("*.parquet"))}
    print(yaml.safe_dump(lists, allow_unicode=True, width=118, sort_keys=True), end="")


if __name__ == "__main__":
    main()
