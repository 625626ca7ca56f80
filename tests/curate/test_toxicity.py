from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.curate.toxicity import ToxicityStep, WordList
from caravan.recipe.toxicity import ToxicityConfig

LANGUAGES = ("en", "de", "zh", "th")


def counted(entries: list[str], text: str) -> tuple[int, int, int]:
    words, listed, matches = WordList.of(entries).count(pa.array([text]))[0].tolist()
    return words, listed, matches


@pytest.mark.parametrize(
    ("entries", "text", "expected"),
    [
        (["darn"], "Darn it, DARN! Darning is fine.", (6, 2, 2)),
        (["son of a gun", "gun"], "That son of a gun has a gun.", (8, 5, 2)),
        (["what-ever"], "what ever, what_ever, whatever", (5, 4, 2)),
        (["坏蛋"], "他是个大坏蛋，坏 蛋。", (8, 4, 2)),
        (["ไอ้บ้า"], "เขาเป็นไอ้บ้าจริง", (17, 6, 1)),
        (["blöd"], "Blöd, so blöde", (3, 1, 1)),
        (["x y", "y z"], "x y z", (3, 2, 1)),
        ([], "darn", (0, 0, 0)),
        (["!!!"], "what!!!", (0, 0, 0)),
    ],
)
def test_entries_match_whole_words_and_parts_of_what_has_no_spaces(
    entries: list[str], text: str, expected: tuple[int, int, int]
) -> None:
    assert counted(entries, text) == expected


WORDS = st.lists(st.sampled_from(["ab", "cd", "ef", "g"]), max_size=12)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from(["ab", "cd", "ef", "g"]), min_size=1, max_size=3), max_size=4), WORDS)
def test_words_are_counted_as_in_plain_python(entries: list[list[str]], text: list[str]) -> None:
    covered, matches = [False] * len(text), 0
    for size in (3, 2, 1):
        for i in range(len(text) - size + 1):
            if text[i : i + size] in entries and not any(covered[i : i + size]):
                covered[i : i + size] = [True] * size
                matches += 1
    expected = (len(text) if entries else 0, sum(covered), matches)
    assert counted([" ".join(entry) for entry in entries], " ".join(text)) == expected


@settings(deadline=None, derandomize=True)
@given(st.text("坏蛋人好", max_size=30), st.text("坏蛋人", min_size=1, max_size=3))
def test_in_scripts_without_spaces_any_part_matches(text: str, entry: str) -> None:
    assert counted([entry], text)[2] == len(re.findall(entry, text))


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "en.txt").write_text("\ufeff# mild\ndarn\n\n  heck \n", encoding="utf-8")
    (tmp_path / "zh.txt").write_text("坏蛋\n", encoding="utf-8")
    return tmp_path


TEXTS = [
    ("en", "one two three four five six seven eight nine darn", "share of listed words", 0.1),
    ("en", "one two three four five six seven eight nine ten", None, None),
    ("en", "oh heck, darn", "listed words", 2),
    ("de", "darn darn darn", None, None),
    ("zh", "坏蛋", "share of listed words", 1),
]


def test_text_goes_by_the_lists_of_its_language(lists: Path) -> None:
    step = ToxicityStep(ToxicityConfig(lists=str(lists / "{language}.txt"), max_share=0.05, max_count=1), LANGUAGES)
    languages, texts, reasons, values = (list(column) for column in zip(*TEXTS, strict=True))
    verdict = step.judge(pa.record_batch({"text": texts, "language": languages}))
    assert verdict.reason.to_pylist() == reasons
    assert verdict.value.to_pylist() == values


def test_lists_without_a_language_hold_for_all(lists: Path) -> None:
    step = ToxicityStep(ToxicityConfig(lists=str(lists / "*.txt"), max_share=None, max_count=0), LANGUAGES)
    verdict = step.judge(pa.record_batch({"text": ["heck", "坏蛋 heck"], "language": ["de", "th"]}))
    assert verdict.value.to_pylist() == [1, 2]


def test_lists_that_are_not_there_or_not_utf8_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no list of words"):
        ToxicityStep(ToxicityConfig(lists=str(tmp_path / "{language}.txt")), LANGUAGES)
    (tmp_path / "de.txt").write_bytes(b"bl\xf6d\n")
    with pytest.raises(DataError, match="cannot be read"):
        ToxicityStep(ToxicityConfig(lists=str(tmp_path / "{language}.txt")), LANGUAGES)
    with pytest.raises(ValueError, match="max_share, max_count or both"):
        ToxicityConfig(lists="x", max_share=None)
