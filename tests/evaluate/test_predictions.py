from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from caravan.evaluate.predictions import Predictions
from caravan.evaluate.rows import Row


def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    Predictions(file).add("fp32", {"a": "один\u2028два", "b": "two"})
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"by": "fp32", "id": "c", "answer": "thr')
    again = Predictions(file)
    assert again.of("fp32") == {"a": "один\u2028два", "b": "two"}
    assert file.read_bytes() == whole
    again.add("fp32", {"c": "three"})
    assert Predictions(file).of("fp32")["c"] == "three"


@pytest.mark.parametrize("torn", [0, 1])
def test_a_killed_run_asks_only_batches_that_are_not_whole(tmp_path: Path, row: Any, torn: int) -> None:
    rows = [row(str(i), "x") for i in range(10)]
    asked: list[list[str]] = []

    def answer(part: Sequence[Row]) -> list[str]:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append([r.id for r in part])
        return [f"answer {r.id}" for r in part]

    file = tmp_path / "predictions.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Predictions(file).fill("fp32", rows, answer, 3)
    file.write_bytes(file.read_bytes()[: -torn or None])
    asked.clear()
    resumed = Predictions(file)
    assert resumed.missing("fp32", rows)
    resumed.fill("fp32", rows, answer, 3)
    assert asked == ([["6", "7", "8"]] if torn else []) + [["9"]]
    assert not resumed.missing("fp32", rows)
    assert Predictions(file).of("fp32") == {str(i): f"answer {i}" for i in range(10)}
    assert len(file.read_text().splitlines()) == 10
