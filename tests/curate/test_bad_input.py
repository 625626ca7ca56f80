"""What breaks, from file to report: everything good is kept, everything else is named."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DataError, DiskFullError, RecipeError
from caravan.core.files import read_json
from caravan.curate.judge import Judge, judge_shards
from caravan.curate.readers import read_documents
from caravan.curate.rows import Damage
from caravan.curate.shards import Shard, plan
from caravan.curate.stage import check, run
from caravan.recipe.curate import TextSource
from tests.curate.conftest import Curate, configuration, context, rows, sentences, write_jsonl, write_parquet
from tests.curate.test_stage import files

GOOD = sentences(6)


def kept(base: Path) -> list[str]:
    return [row["text"] for row in rows(base / "out", "kept")]


def broken(base: Path) -> list[tuple[str, int | None, str]]:
    return [tuple(entry.values()) for entry in read_json(base / "out" / "broken.json")]


def test_lines_in_other_encodings_are_set_aside_one_by_one(
    tmp_path: Path, curate: Curate, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        GOOD[0].encode(), "Straße nach Süden".encode("latin-1"), GOOD[1].encode(), "商队把信送到城市".encode("gbk"),
        b"\0" + GOOD[2].encode(), "Дорога к морю".encode("koi8-r"), GOOD[3].encode(),
    ]  # fmt: skip
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    curate({"path": "a.txt"})
    assert kept(tmp_path) == [GOOD[0], GOOD[1], GOOD[2], GOOD[3]]
    assert [(file, row) for file, row, _ in broken(tmp_path)] == [("a.txt", 2), ("a.txt", 4), ("a.txt", 6)]
    assert all(problem.startswith("invalid UTF-8 at byte") for *_, problem in broken(tmp_path))
    assert read_json(tmp_path / "out" / "report.json")["broken"]["rows_by_file"] == {"a.txt": 3}
    assert "3 rows and files could not be read" in caplog.text


def test_surrogates_without_their_half_never_reach_the_corpus(tmp_path: Path, curate: Curate) -> None:
    records = [{"text": GOOD[0], "id": "\ud800"}, {"text": "\udfff" + GOOD[1]}, {"text": GOOD[2], "\ud800": "\ud800"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    curate({"path": "a.jsonl", "columns": {"id": "id", "source": "\ud800"}})
    found = [(row["id"], row["text"], row["source"]) for row in rows(tmp_path / "out", "kept")]
    assert found == [("a.jsonl#1", GOOD[0], "a.jsonl"), ("a.jsonl#3", GOOD[2], "a.jsonl")]
    assert broken(tmp_path) == [("a.jsonl", 2, "half of a surrogate pair")]


def utf16(path: Path) -> str:
    path.with_name("bad.txt").write_bytes("\n".join(GOOD).encode("utf-16"))
    return "UTF-16, not UTF-8"


def noise(path: Path) -> str:
    path.with_name("bad.jsonl").write_bytes(random.Random(7).randbytes(100_000))
    return "binary data"


def packed(path: Path) -> str:
    path.with_name("bad.jsonl").write_bytes(gzip.compress("\n".join(GOOD).encode()))
    return "binary data"


def other_column(path: Path) -> str:
    write_parquet(path.with_name("bad.parquet"), body=GOOD)
    return "there is no column text"


def numbers(path: Path) -> str:
    write_parquet(path.with_name("bad.parquet"), text=[1, 2])
    return "the column text does not hold text"


def lists(path: Path) -> str:
    write_parquet(path.with_name("bad.parquet"), text=[["one"], ["two"]])
    return "the column text does not hold text"


@pytest.mark.parametrize("spoil", [utf16, noise, packed, other_column, numbers, lists])
def test_a_file_of_another_kind_is_named_and_the_others_are_kept(tmp_path: Path, curate: Curate, spoil: Any) -> None:
    write_jsonl(tmp_path / "good.jsonl", GOOD)
    told = spoil(tmp_path / "good.jsonl")
    source = {"path": "*.*"}
    with pytest.raises(DataError) as caught:
        curate(source)
    assert told in str(caught.value)
    assert str(caught.value.where).startswith("bad.")
    curate(source, broken="skip")
    assert kept(tmp_path) == GOOD
    assert [(row, told in problem) for _, row, problem in broken(tmp_path)] == [(None, True)]


def test_an_empty_corpus_tells_what_was_wrong_with_its_files(tmp_path: Path, curate: Curate) -> None:
    write_parquet(tmp_path / "a.parquet", body=GOOD)
    with pytest.raises(DataError, match="the corpus is empty") as caught:
        curate({"path": "a.parquet"}, broken="skip")
    assert "a.parquet: there is no column text, but body" in str(caught.value.got)


def broken_gzip(base: Path) -> None:
    data = "".join(json.dumps({"text": text}) + "\n" for text in sentences(3000)).encode()
    (base / "a.jsonl.gz").write_bytes(gzip.compress(data)[:-5000])


def broken_table(base: Path) -> None:
    """Its second row group is overwritten."""
    table = pa.table({"text": sentences(3000)})
    pq.write_table(table, base / "a.parquet", row_group_size=1000, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(base / "a.parquet").row_group(1).column(0)
    with (base / "a.parquet").open("r+b") as stream:
        stream.seek(column.data_page_offset + 100)
        stream.write(b"\xff" * 2000)


@pytest.mark.parametrize(
    ("spoil", "told"), [(broken_gzip, "Truncated"), (broken_table, "rows 1,001 to 2,000: ")]
)  # fmt: skip
def test_what_is_whole_of_a_broken_file_is_kept(tmp_path: Path, curate: Curate, spoil: Any, told: str) -> None:
    spoil(tmp_path)
    source = {"path": "a.*", "language": "en"}
    with pytest.raises(DataError, match=told):
        curate(source)
    counts = curate(source, broken="skip", duplicates={"near": False})
    whole = sentences(3000)
    expected = whole[:1000] + whole[2000:] if spoil is broken_table else whole[: counts["documents"]]
    assert counts["documents"] >= 2000
    assert kept(tmp_path) == expected
    ((_, row, problem),) = broken(tmp_path)
    assert row is None
    assert told in problem
    assert problem.endswith(f"({counts['documents']:,} good rows)")


def test_a_language_without_text_is_in_the_report_and_the_log(
    tmp_path: Path, curate: Curate, caplog: pytest.LogCaptureFixture
) -> None:
    write_jsonl(tmp_path / "en.jsonl", GOOD)
    write_jsonl(tmp_path / "de.jsonl", [])
    counts = curate({"path": "{language}.jsonl"})
    assert counts["languages"] == {"en": 6}
    report = read_json(tmp_path / "out" / "report.json")
    assert "no text in de" in report["notes"]
    assert "no text in de" in caplog.text


# The same two thoughts in languages beyond the eighteen; the last five only one of the two identifiers knows.
OTHERS = {
    "sv": "Karavanen bär brev från stad till stad, och ingen vet hur lång vägen till havet är.",
    "is": "Enginn veit hversu löng leiðin til sjávar er, en bréfin koma alltaf á áfangastað að lokum.",
    "el": "Κανείς δεν ξέρει πόσο μακρύς είναι ο δρόμος προς τη θάλασσα, αλλά τα γράμματα φτάνουν πάντα.",
    "sw": "Hakuna anayejua njia ya kwenda baharini ni ndefu kiasi gani, lakini barua hufika mwishowe.",
    "hi": "कोई नहीं जानता कि समुद्र तक का रास्ता कितना लंबा है, लेकिन चिट्ठियाँ हमेशा पहुँचती हैं।",
    "uk": "Ніхто не знає, яка довга дорога до моря, але листи завжди доходять до міста.",
    "fa": "هیچ‌کس نمی‌داند راه دریا چقدر طولانی است، اما نامه‌ها همیشه می‌رسند.",
    "ceb": "Walay nasayod kung unsa ka layo ang dalan paingon sa dagat, apan ang mga sulat moabot gyud sa katapusan.",
    "yue": "佢哋喺度食緊飯，冇人知道去海邊條路有幾長，不過啲信最後都會到嘅。",
    "ckb": "کەس نازانێت ڕێگای دەریا چەند درێژە، بەڵام نامەکان هەمیشە دەگەن.",
    "my": "ပင်လယ်သို့ သွားသော လမ်းသည် မည်မျှ ရှည်သည်ကို မည်သူမျှ မသိပါ။",
    "bo": "རྒྱ་མཚོར་འགྲོ་བའི་ལམ་ཇི་ཙམ་རིང་བ་སུས་ཀྱང་མི་ཤེས།",
}


def test_other_languages_are_curated_on_request(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [*OTHERS.values(), *GOOD])
    run(configuration({"path": "a.jsonl"}), context(tmp_path, tuple(OTHERS)))
    assert {row["language"]: row["text"] for row in rows(tmp_path / "out", "kept")} == OTHERS
    assert {row["reason"] for row in rows(tmp_path / "out", "rejected")} == {"language not wanted"}


def test_a_language_that_nothing_identifies_is_an_error_before_any_work(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", GOOD)
    ctx = context(tmp_path, ("en", "nb"))
    (fault,) = check(configuration({"path": "a.jsonl"}), ctx)
    assert isinstance(fault, RecipeError)
    assert (fault.got, "nn" in str(fault.expected)) == ("nb", True)
    with pytest.raises(RecipeError, match="cannot be identified: nb"):
        run(configuration({"path": "a.jsonl"}), ctx)


ON_A_SMALL_DISK = """
import json, subprocess, sys
from pathlib import Path
from caravan.core.errors import DiskFullError
from caravan.core.stage import StageContext
from caravan.curate.stage import run
from caravan.recipe.curate import CurateConfig
base, out = Path(sys.argv[1]), Path(sys.argv[1]) / "out"
context = StageContext(out=out, inputs={}, base=base, seed=7, languages=("en",))
full = []
for size in range(64, 8192, 160):
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(out)], check=True)
    try:
        run(CurateConfig.model_validate_json(sys.argv[2]), context)
        break
    except DiskFullError as error:
        full.append([error.where, error.fix, sorted(str(file.relative_to(out)) for file in out.rglob("*.tmp"))])
print(json.dumps(full))
subprocess.run(["cp", "-r", str(out), str(base / "copy")], check=True)
"""


def test_a_disk_that_fills_stops_the_run_and_nothing_done_is_lost(tmp_path: Path) -> None:
    draw = random.Random(7)
    for number in range(4):
        words = (f"{draw.getrandbits(40):x}" for _ in range(60_000))
        texts = [f"{text} {' '.join(next(words) for _ in range(40))}" for text in sentences(300, 300 * number)]
        write_jsonl(tmp_path / f"{number}.jsonl", texts)
    anything = {"max_digits": 1, "min_mean_word": 0}
    config = configuration({"path": "*.jsonl", "language": "en"}, rules=anything, language={"contradiction": 1})
    ctx = context(tmp_path, ("en",))
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    mounted = [*own, "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"', str(ctx.out)]
    if subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    command = [*mounted, sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path), config.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    full = json.loads(done.stdout)
    assert len(full) > 5
    assert all(str(tmp_path) in where and "free some space" in fix and not torn for where, fix, torn in full)
    # At several points of the way, not at one again and again.
    assert len({Path(where).name for where, *_ in full}) > 3
    run(config, ctx)
    assert files(tmp_path / "copy") == files(ctx.out)


def test_a_full_disk_in_another_process_is_still_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "a.jsonl", GOOD)
    write_jsonl(tmp_path / "b.jsonl", GOOD)
    config = configuration({"path": "*.jsonl"}).model_copy(update={"workers": 2})
    shards = plan(config, context(tmp_path), tmp_path / "work")
    monkeypatch.setattr("caravan.curate.judge.judge_here", _full)
    with pytest.raises(DiskFullError, match="no room") as caught:
        judge_shards(shards, config, ("en",), tmp_path / "judged")
    assert caught.value.where == "here"


def _full(*_: Any) -> Judge:
    raise DiskFullError("no room", where="here")


def memory(field: str) -> int:
    """Of this process, in bytes: VmRSS, what it holds now, or VmHWM, the most it ever held."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def test_a_line_of_any_length_is_passed_over_in_little_memory(tmp_path: Path) -> None:
    path, size = write_jsonl(tmp_path / "a.jsonl", GOOD[:5]), 256 << 20
    with path.open("ab") as stream:
        stream.write(b"x" * 10_000)
        stream.truncate(stream.tell() + size - 10_000)  # a hole reads as zeros, and takes no disk
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + json.dumps({"text": GOOD[5]}).encode())
    shard = Shard(str(path), "a.jsonl", TextSource(path="a.jsonl", max_row_mb=1), number=0)
    damage = Damage("a.jsonl")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = memory("VmRSS")
    texts = [text for batch in read_documents(shard, damage) for text in batch["text"].to_pylist()]
    assert memory("VmHWM") - before < size / 4
    assert texts == GOOD
    assert damage.listed == [("a.jsonl", 6, "a line of 268,435,456 bytes, more than 1,048,576")]
