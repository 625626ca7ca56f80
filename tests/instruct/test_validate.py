"""Every fault of a data set at once, with file, row and field, and no torch for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from caravan.instruct import stage
from caravan.instruct.validate import examine
from caravan.recipe.instruct import DataSource, InstructConfig

GOOD = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]
SEEN = [{"from": "human", "value": "<image> what?"}, {"from": "gpt", "value": "red"}]


def bad_rows(world: Any) -> None:
    (world.data / "red.png").write_bytes(world.png(200))
    (world.data / "torn.png").write_bytes(b"no picture")
    (world.data / "torn.wav").write_bytes(b"RIFF\xff\0\0\0WAVEfmt ")
    rows: list[Any] = [
        {"id": "a", "image": "red.png", "conversations": SEEN},
        {"id": "a", "conversations": GOOD},
        {"id": "b", "image": "gone.png", "conversations": SEEN},
        {"id": "c", "image": "torn.png", "conversations": SEEN},
        {"id": "d", "audio": "torn.wav", "conversations": [{"from": "human", "value": "<audio>"}, GOOD[1]]},
        {"id": "e", "conversations": SEEN},
        {"id": "f", "conversations": [{"from": "judge", "value": "x"}, {"from": "gpt", "value": " "}]},
        {"id": "g", "conversations": [GOOD[0], {"from": "gpt", "value": 7}]},
        {"id": "h", "conversations": [GOOD[1], GOOD[0]]},
        {"id": "i", "conversations": GOOD, "lang": "klingon!"},
    ]
    world.lines("bad.jsonl", [{"lang": "en", **row} for row in rows])


def test_all_faults_of_all_rows(world: Any) -> None:
    bad_rows(world)
    found = examine(DataSource(path="bad.jsonl"), world.context(), limit=50)
    assert (found.rows, found.broken) == (10, 9)
    told = {(str(fault.where).split("/")[-1], fault.problem) for fault in found.faults}
    assert told == {
        ("bad.jsonl, line 2, field id", "duplicate id"),
        ("bad.jsonl, line 3, field image", "a media file is missing"),
        ("bad.jsonl, line 4, field image", "the picture cannot be decoded"),
        ("bad.jsonl, line 5, field audio", "the clip is cut off"),
        ("bad.jsonl, line 6", "image placeholders and image media differ in number"),
        ("bad.jsonl, line 7, field conversations[0]", "unknown role"),
        ("bad.jsonl, line 7, field conversations[1]", "empty answer"),
        ("bad.jsonl, line 8, field conversations[1]", "content of a wrong type"),
        ("bad.jsonl, line 9, field conversations", "turns do not alternate"),
        ("bad.jsonl, line 10, field lang", "language unknown"),
    }
    assert all(fault.expected and fault.fix for fault in found.faults)
    assert found.dialogues == {("picture", "en"): 1}


def test_one_kind_of_fault_does_not_hide_the_others(world: Any) -> None:
    rows: list[Any] = [{"id": i, "conversations": GOOD} for i in range(50)]
    world.lines("many.jsonl", [*rows, {"id": 50, "lang": "en", "conversations": [GOOD[0]]}])
    found = examine(DataSource(path="many.jsonl"), world.context(), limit=8)
    assert found.problems == {"language unknown": 50, "turns do not alternate": 1}
    assert [fault.problem for fault in found.faults] == ["language unknown"] * 3 + ["turns do not alternate"]


def test_what_a_run_would_pass_over_is_counted(world: Any) -> None:
    rows = [
        {"lang": "fr", "conversations": GOOD},
        {"lang": "en", "conversations": [{"from": "human", "value": "x" * 9}, GOOD[1]]},
    ]
    world.lines("more.jsonl", [*rows, {"lang": "en", "conversations": GOOD}])
    found = examine(DataSource(path="more.jsonl", max_characters=8), world.context(), limit=9)
    assert (found.rows, found.broken, found.passed, sum(found.dialogues.values())) == (3, 0, 2, 1)


def test_a_torn_file_does_not_hide_the_next(world: Any) -> None:
    good = json.dumps({"lang": "en", "conversations": GOOD})
    (world.data / "a.json").write_text(f"[{good}, {{")
    (world.data / "b.json").write_text(f"[{good}]")
    found = examine(DataSource(path="*.json"), world.context(), limit=9)
    assert (found.rows, found.files) == (2, {"sharegpt": 2})
    assert [fault.problem for fault in found.faults] == ["the file cannot be read"]


def test_the_check_of_a_recipe_looks_at_the_first_rows_of_data(world: Any) -> None:
    bad_rows(world)
    faults = stage.check(InstructConfig.model_validate({"sources": [{"path": "bad.jsonl"}]}), world.context())
    assert len(faults) == 10


def caravan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; sys.argv = ['caravan', *sys.argv[1:]]\n"
        "from caravan.__main__ import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder, check=False, timeout=120
    )


def test_the_command_line_looks_at_data(world: Any) -> None:
    bad_rows(world)
    done = caravan(world.data, "validate", "bad.jsonl", "--limit", "2")
    assert done.returncode == 1
    assert done.stderr.count("✗") == 2
    assert "and 8 faults more" in done.stderr
    assert "1 x empty answer" in done.stderr
    assert "bad.jsonl: llava; 10 rows, 9 broken; 1 picture en" in done.stdout
    world.lines("good.jsonl", [{"conversations": GOOD}])
    done = caravan(world.data, "validate", "good.jsonl", "language=en")
    assert (done.returncode, "good.jsonl: sharegpt; 1 rows, 0 broken; 1 chat en" in done.stdout) == (0, True)
    assert "did you mean language?" in caravan(world.data, "validate", "good.jsonl", "languag=en").stderr
