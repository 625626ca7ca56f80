from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.text.repetition import LEAST, REPEATS, LoopWatch, cut_loop, loop, runs_away


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("the red circle the red circle the red circle the red circle the red ci", True),
        ("红色的圆" * 8, True),
        ("Well: " + "no, " * 12, True),
        ("ha ha ha ha ha ha", False),
        ("| --- | --- | --- |", False),
        ("one two three four five six seven eight nine ten eleven twelve", False),
        ("1000000000000000", False),
        ("no, " * 12 + "and then it ended.", False),
        ("", False),
    ],
)
def test_runs_away(text: str, away: bool) -> None:
    assert runs_away(text) is away


def test_a_loop_is_cut_down_to_its_first_unit() -> None:
    assert cut_loop([7, 8, *[1, 2, 3] * 20, 1]) == [7, 8, 1, 2, 3]
    # The space before "a dog" belongs to the run.
    assert cut_loop("I see " + "a dog and " * 9) == "I see a dog and"
    assert cut_loop("a plain answer") == "a plain answer"


def naive(items: list[int]) -> tuple[int, int] | None:
    """The definition, word by word."""
    for unit in range(1, len(items)):
        for run in range(len(items), max(LEAST, REPEATS * unit) - 1, -1):
            tail = items[len(items) - run :]
            if all(tail[place] == tail[place + unit] for place in range(run - unit)):
                return unit, run
    return None


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=7), st.integers(0, 50))
def test_the_search_finds_what_the_definition_says(before: list[int], unit: list[int], length: int) -> None:
    items = before + (unit * length)[:length]
    assert loop(items) == naive(items)


def test_an_answer_in_pieces_runs_away_where_the_whole_does() -> None:
    text = "I see " + "a dog and " * 200
    watch, off = LoopWatch(LEAST), LoopWatch(0)
    ends = [end for end in range(7, len(text), 7) if watch.runs_away(text[end - 7 : end])]
    assert ends[0] == next(end for end in range(7, len(text), 7) if loop(text[:end]) is not None)
    assert not any(off.runs_away(text[end - 7 : end]) for end in range(7, len(text), 7))
