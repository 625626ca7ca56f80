from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DataError
from caravan.core.files import read_json
from caravan.instruct import shards, speech, stage
from caravan.recipe.instruct import InstructConfig

CLIPS = {"speech": "clips.parquet", "heldout": {"speaker": ["s1"]}}
PICTURES = {
    "pictures": "pictures_*.parquet",
    "image": "png",
    "names": "names.parquet",
    "heldout": {"style": ["ink"]},
}


def config(*sources: dict[str, Any], **keys: Any) -> InstructConfig:
    return InstructConfig.model_validate({"sources": list(sources), "shard_rows": 10, **keys})


def test_rows_are_written_once_in_shards_of_small_groups(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", 4)
    world.parquet("clips.parquet", world.clips())
    counts = stage.run(config(CLIPS), world.context())
    assert (counts["train"], counts["test"], counts["broken"]) == (36, 12, 0)
    assert counts["tasks"] == {"test speech": 6, "test transcribe": 6, "train speech": 18, "train transcribe": 18}
    files = sorted((world.folder / "out/train").iterdir())
    assert [pq.ParquetFile(file).metadata.num_rows for file in files] == [10, 10, 10, 6]
    assert pq.ParquetFile(files[0]).metadata.num_row_groups == 3
    ids = [dialogue.id for split in ("train", "test") for dialogue in world.dialogues("out", split)]
    assert len(set(ids)) == len(ids) == 48


@pytest.mark.parametrize("killed_at", [1, 9, 17, 23])
def test_a_killed_run_goes_on_and_every_row_is_there_once(
    world: Any, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    world.parquet("clips.parquet", world.clips())
    world.pictures()
    both = config(PICTURES, CLIPS)
    stage.run(both, world.context("whole"))

    decoded = Counter[str]()
    decode = speech.decode_audio

    def dying(data: bytes, *, where: str) -> Any:
        decoded["clips"] += 1
        if decoded["clips"] == killed_at:
            raise KeyboardInterrupt
        return decode(data, where=where)

    monkeypatch.setattr(speech, "decode_audio", dying)
    with pytest.raises(KeyboardInterrupt):
        stage.run(both, world.context())
    kept = {file: file.stat().st_mtime_ns for file in (world.folder / "out").rglob("*.parquet")}
    assert not list((world.folder / "out").rglob("*.tmp"))
    assert (killed_at < 9) == (not list((world.folder / "out/train").glob("01*")))
    counts = stage.run(both, world.context())
    assert counts == stage.run(both, world.context("again"))
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "finished files are not written again"
    for split in ("train", "test"):
        assert world.dialogues("out", split) == world.dialogues("whole", split)


def test_broken_rows_are_set_aside_with_file_row_and_field(world: Any) -> None:
    rows = world.clips()
    rows[3]["audio"] = b"RIFF but no sound"
    rows[5]["text"] = "  "
    rows[7]["audio"] = None
    world.parquet("clips.parquet", rows)
    counts = stage.run(config(CLIPS), world.context())
    assert counts["broken"] == 3
    assert counts["train"] + counts["test"] == 2 * 21
    where = [entry["where"].removeprefix(str(world.data)) for entry in read_json(world.folder / "out/broken.json")]
    assert where == [
        "/clips.parquet, row 3, field audio",
        "/clips.parquet, row 5, field text",
        "/clips.parquet, row 7, field audio",
    ]
    with pytest.raises(DataError, match="row 3, field audio"):
        stage.run(config(CLIPS, broken="stop"), world.context("strict"))


def test_a_source_without_a_usable_row_is_an_error(world: Any) -> None:
    rows = [row | {"audio": b"noise"} for row in world.clips(4)]
    world.parquet("clips.parquet", rows)
    with pytest.raises(DataError, match=r"gives no dialogue(.|\n)*4 rows that cannot be used"):
        stage.run(config(CLIPS), world.context())


def test_check_looks_at_the_first_rows(world: Any) -> None:
    world.parquet("clips.parquet", world.clips())
    world.pictures()
    assert stage.check(config(CLIPS, PICTURES), world.context()) == []
    wrong = stage.check(
        config(CLIPS | {"audio": "sound"}, PICTURES | {"pictures": "none*.parquet"}, CLIPS), world.context()
    )
    assert [fault.problem for fault in wrong] == ["no column sound", "no file matches"]
    assert not (world.folder / "out/train").exists()


def test_check_sees_keys_that_are_missing_and_asks_no_service(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    row = {"lang": "en", "instruction": "how many?", "output": "five"}
    world.lines("chat.jsonl", [row])
    service = {"url": "http://127.0.0.1:9/v1", "model": "m", "key": "NO_KEY"}
    source = {"path": "chat.jsonl", "translate": {"to": ["de"], "by": service},
              "speak": {"voices": service, "check": service}}  # fmt: skip
    faults = stage.check(config(source), world.context())
    assert [fault.problem for fault in faults] == ["the environment has no NO_KEY"] * 3


def test_a_truncated_parquet_is_named(world: Any) -> None:
    file: Path = world.parquet("clips.parquet", world.clips())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"clips.parquet(.|\n)*complete Parquet"):
        stage.run(config(CLIPS), world.context())
