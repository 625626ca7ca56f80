from __future__ import annotations

import numpy as np
import pyarrow as pa

from caravan.curate.steps import Verdict, judge_all, verdict_of


class Longer:
    """Drops text of more characters than a limit, and notes which texts it was shown."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.limit = name, limit
        self.shown: list[str] = []

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        texts = batch["text"].to_pylist()
        self.shown += texts
        lengths = np.array([len(text) for text in texts], np.float64)
        first = np.where(lengths > self.limit, 0, -1)
        return verdict_of(["too long"], first, lengths, {"language": pa.array(["xx"] * len(texts))})


def batch(*texts: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": list(texts), "language": pa.nulls(len(texts), pa.string())})


def test_the_first_step_that_drops_a_row_gives_its_verdict_and_later_ones_do_not_see_it() -> None:
    first, second = Longer("first", 4), Longer("second", 2)
    judged = judge_all([first, second], batch("a", "abcdef", "abc"))
    assert judged["step"].to_pylist() == [None, "first", "second"]
    assert judged["reason"].to_pylist() == [None, "too long", "too long"]
    assert judged["value"].to_pylist() == [None, 6.0, 3.0]
    assert second.shown == ["a", "abc"]


def test_columns_that_a_step_fills_in_are_kept_for_all_rows_it_saw() -> None:
    assert judge_all([Longer("only", 2)], batch("a", "abc"))["language"].to_pylist() == ["xx", "xx"]


def test_rows_keep_their_order_and_what_later_steps_fill_in() -> None:
    texts = ["abc", "a", "abcdef", "ab", "", "abcd"]
    judged = judge_all([Longer("first", 4), Longer("second", 3), Longer("third", 1)], batch(*texts))
    assert judged["text"].to_pylist() == texts
    assert judged["step"].to_pylist() == ["third", None, "first", "third", None, "second"]
    assert judged["value"].to_pylist() == [3.0, None, 6.0, 2.0, None, 4.0]


def test_no_row_is_left_for_later_steps() -> None:
    second = Longer("second", 0)
    judged = judge_all([Longer("first", 0), second], batch("a", "b"))
    assert judged["step"].to_pylist() == ["first", "first"]
    assert second.shown == []


def test_an_empty_batch_passes() -> None:
    assert judge_all([Longer("first", 0)], batch()).num_rows == 0
