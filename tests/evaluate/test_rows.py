from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from caravan.core.errors import DataError
from caravan.evaluate.rows import Row, first_of_each_cell, heldout_rows
from caravan.records import Dialogue, Message


def many(row: Any) -> list[Row]:
    return [
        row(f"{task}-{language}-{i}", f"answer {i}", task, language)
        for i in range(9)
        for task in ("picture", "speech")
        for language in ("en", "th")
    ]


def test_a_limit_for_each_cell_whatever_the_files(row: Any, save_dialogues: Any) -> None:
    every = many(row)
    folder = save_dialogues(every).path
    rows = heldout_rows(folder, limit=4, seed=1)
    assert Counter(r.cell[:2] for r in rows) == {
        (task, code): 4 for task in ("picture", "speech") for code in ("en", "th")
    }
    assert set(rows) <= set(every)
    assert rows == heldout_rows(folder, limit=4, seed=1)
    assert rows != heldout_rows(folder, limit=4, seed=2)
    assert {r.task for r in heldout_rows(folder, limit=4, seed=1, tasks=["speech"])} == {"speech"}
    few = first_of_each_cell(rows, 2)
    assert Counter(r.cell[:2] for r in few) == {
        (task, code): 2 for task in ("picture", "speech") for code in ("en", "th")
    }


def test_a_smaller_limit_asks_a_part_of_the_same_rows(row: Any, save_dialogues: Any) -> None:
    folder = save_dialogues(many(row)).path
    assert set(heldout_rows(folder, limit=2, seed=1)) < set(heldout_rows(folder, limit=5, seed=1))


def test_nothing_held_out_is_an_error(row: Any, save_dialogues: Any) -> None:
    folder = save_dialogues(many(row)).path
    with pytest.raises(DataError, match="nothing to evaluate"):
        heldout_rows(folder, limit=4, seed=1, tasks=["both"])


def test_the_last_answer_is_what_is_expected() -> None:
    turns = (
        Message.of("user", "a"),
        Message.of("assistant", "b"),
        Message.of("user", "c"),
        Message.of("assistant", "d"),
    )
    row = Row.of(Dialogue("1", "en", "chat", turns))
    assert (row.messages, row.reference) == (turns[:3], "d")
    with pytest.raises(DataError, match="without a last answer"):
        Row.of(Dialogue("1", "en", "chat", turns[:3]))
