from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DataError, MissingDependencyError
from caravan.core.files import read_json, remove_torn, sha256_file
from caravan.curate import duplicates, stage
from caravan.curate.stage import check, run
from tests.curate.conftest import (
    LANGUAGES,
    Curate,
    configuration,
    context,
    rows,
    sentences,
    write_jsonl,
    write_parquet,
)

GERMAN = "Die Karawane trägt Briefe von Stadt zu Stadt, und niemand weiß, wie lang der Weg zum Meer ist."
CHINESE = "商队把信从一座城市送到另一座城市，没有人知道通往大海的路有多长。"


def files(out: Path) -> dict[str, str]:
    """Hash of every file of an artifact."""
    return {str(file.relative_to(out)): sha256_file(file) for file in sorted(out.rglob("*")) if file.is_file()}


def test_text_becomes_a_corpus_by_language_with_a_reject_stream_and_a_report(tmp_path: Path, curate: Curate) -> None:
    good = sentences(6)
    write_jsonl(tmp_path / "text" / "a.jsonl", [*good[:4], GERMAN, CHINESE, good[4] + " ### *** |||" * 8])
    write_jsonl(tmp_path / "text" / "b.jsonl", [*good[4:], good[0].upper(), "Karavanen bär brev från stad till stad."])
    counts = curate({"path": "text/*.jsonl"})
    kept = rows(tmp_path / "out", "kept")
    assert [row["text"] for row in kept if row["language"] == "en"] == good
    assert [row["text"] for row in kept if row["language"] in ("de", "zh")] == [GERMAN, CHINESE]
    assert kept[0].keys() == {"id", "text", "language", "source", "variant", "repairs", "masked"}
    assert [row["variant"] for row in kept if row["language"] == "zh"] == ["zh-Hans"]
    rejected = {row["id"]: row for row in rows(tmp_path / "out", "rejected")}
    assert {name: row["reason"] for name, row in rejected.items()} == {
        "text/a.jsonl#7": "symbols",
        "text/b.jsonl#3": "exact copy",
        "text/b.jsonl#4": "language not wanted",
    }
    assert rejected["text/b.jsonl#3"]["duplicate_of"] == "text/a.jsonl#1"
    assert counts["documents_read"] == 11
    assert counts["documents"] == len(kept) == 8
    assert counts["languages"] == {"en": 6, "de": 1, "zh": 1}
    report = read_json(tmp_path / "out" / "report.json")
    assert [entry["step"] for entry in report["documents"]["stages"]] == [
        "read", "language", "chinese", "rules", "repairs", "duplicates",
    ]  # fmt: skip
    assert [entry["documents"] for entry in report["documents"]["stages"]][-1] == 8
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "language not wanted" in page
    assert "Karavanen" in page
    assert not (tmp_path / "out" / "work").exists()


def test_texts_are_repaired_before_copies_are_looked_for(tmp_path: Path, curate: Curate) -> None:
    good = sentences(3)
    link = "https://example.com/of/a/page"
    write_jsonl(
        tmp_path / "a.jsonl", [good[0], good[1].replace(" walked", "\u200b  walked"), f"{link}\n{good[0]}", good[2]]
    )
    curate({"path": "a.jsonl"})
    out = tmp_path / "out"
    kept = [(row["text"], row["repairs"]) for row in rows(out, "kept")]
    assert kept == [(good[0], None), (good[1], "invisible characters 1, whitespace 1"), (good[2], None)]
    gone = rows(out, "rejected")
    assert [(row["text"], row["repairs"], row["reason"]) for row in gone] == [
        (good[0], f"URL lines {len(link) + 1}", "exact copy")
    ]
    assert read_json(out / "report.json")["repaired"] == [
        {"repair": "invisible characters", "documents": 1, "characters": 1},
        {"repair": "whitespace", "documents": 1, "characters": 1},
    ]
    assert "What was repaired" in (out / "report.html").read_text(encoding="utf-8")


def test_personal_data_is_masked_before_copies_are_looked_for(tmp_path: Path, curate: Curate) -> None:
    good = sentences(2)
    write_jsonl(tmp_path / "a.jsonl", [f"{good[0]} Write to {name}@mail.de." for name in ("ann", "bob")] + good[1:])
    write_parquet(tmp_path / "pairs.parquet", en=["my address is ann@mail.de"], de=["meine Adresse ist ann@mail.de"])
    curate({"path": "a.jsonl", "language": "en"}, {"pairs": "pairs.parquet"})
    kept = [(row["text"], row["masked"]) for row in rows(tmp_path / "out", "kept")]
    assert kept == [(f"{good[0]} Write to <EMAIL>.", "email 1"), (good[1], None)]
    assert [row["reason"] for row in rows(tmp_path / "out", "rejected")] == ["exact copy"]
    (pair,) = rows(tmp_path / "out", "pairs")
    assert (pair["source_text"], pair["masked"]) == ("meine Adresse ist <EMAIL>", "email 2")


def test_text_full_of_listed_words_goes(tmp_path: Path, curate: Curate) -> None:
    good = sentences(3)
    write_jsonl(tmp_path / "a.jsonl", [good[0], f"{good[1]} Darn baker!"])
    (tmp_path / "lists").mkdir()
    toxicity = {"lists": "lists/{language}.txt", "max_count": 0}
    config = configuration({"path": "a.jsonl", "language": "en"}, toxicity=toxicity)
    assert [fault.problem for fault in check(config, context(tmp_path))] == ["there is no list of words"]
    (tmp_path / "lists" / "en.txt").write_text("darn baker\n")
    assert check(config, context(tmp_path)) == []
    curate({"path": "a.jsonl", "language": "en"}, toxicity=toxicity)
    assert [row["text"] for row in rows(tmp_path / "out", "kept")] == [good[0]]
    (gone,) = rows(tmp_path / "out", "rejected")
    assert (gone["step"], gone["reason"], gone["value"]) == ("toxicity", "listed words", 1)
    stages = read_json(tmp_path / "out" / "report.json")["documents"]["stages"]
    assert [entry["step"] for entry in stages][-2:] == ["toxicity", "duplicates"]


def test_whatever_goes_has_a_reason_and_the_figure_that_caused_it(tmp_path: Path, curate: Curate) -> None:
    good = sentences(9)
    mixed = "\n".join([GERMAN, GERMAN.lower(), *good[:2]])
    stated = [("sv", good[0]), ("de", good[1]), ("en", f"{good[2]}\n{mixed}"), ("zh", CHINESE), ("en", good[3])]
    stated += [("en", good[3]), ("en", f"{good[3]} Once more."), ("en", "#*|" * 20), ("en", f"{good[4]} Darn baker!")]
    unknown = ["Karavanen bär brev från stad till stad.", "12 34", "https://example.com/of/a/page", "tea"]
    languages, texts = zip(*stated, *((None, text) for text in unknown), strict=True)
    write_parquet(tmp_path / "a.parquet", text=list(texts), language=list(languages))
    pairs = [("tea", ""), ("...", "!!!"), (good[0], good[0]), ("tea", "Tee"), ("tea", "Tee"), ("tea", "Der Tee")]
    pairs += [("from 1984 to 1999", "von 1123 bis 2467"), (good[5], good[6]), ("tea", "Tee " * 40)]
    write_parquet(tmp_path / "p.parquet", en=[en for en, _ in pairs], de=[de for _, de in pairs])
    (tmp_path / "en.txt").write_text("darn baker\n")
    curate(
        {"path": "a.parquet", "columns": {"text": "text", "language": "language"}},
        {"pairs": "p.parquet"},
        language={"min_line_share": 0.6, "chinese": "traditional", "line_characters": 20},
        toxicity={"lists": "en.txt"},
        pairs={"max_repeats": 1},
    )
    gone = [*rows(tmp_path / "out", "rejected"), *rows(tmp_path / "out", "rejected_pairs")]
    assert {row["step"] for row in gone} >= {"language", "chinese", "rules", "toxicity", "pair", "duplicates"}
    assert len({row["reason"] for row in gone}) >= 12
    told = [row for row in gone if not (row["step"] and row["reason"] and math.isfinite(row["value"]))]
    assert told == []


def test_parallel_text_is_written_by_pair_of_languages_without_copies(tmp_path: Path, curate: Curate) -> None:
    write_parquet(
        tmp_path / "wide.parquet", en=["tea", "bread", "milk"], de=["Tee", "Brot", ""], zh=["茶", "面包", "牛奶"]
    )  # fmt: skip
    write_parquet(tmp_path / "long.parquet", lang=["de", "de"], en=["tea ", "salt"], xx=["tee", "Salz"])
    long = {"pairs": "long.parquet", "columns": {"en": "en", "xx": "xx"}, "language_column": "lang"}
    counts = curate({"pairs": "wide.parquet", "others": 0}, long)
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "pairs").iterdir()) == ["de-en", "en-zh"]
    kept = [(row["source_text"], row["target_text"]) for row in rows(out, "pairs/de-en")]
    assert kept == [("Tee", "tea"), ("Brot", "bread"), ("Salz", "salt")]
    assert {row["reason"] for row in rows(out, "rejected_pairs")} == {"empty side", "exact copy"}
    assert (counts["pairs_read"], counts["pairs"], counts["documents"]) == (8, 6, 0)


def test_pairs_whose_row_names_a_language_that_is_not_wanted_are_told_of(tmp_path: Path, curate: Curate) -> None:
    long = {"pairs": "long.parquet", "columns": {"en": "en", "xx": "xx"}, "language_column": "lang"}
    texts = {"en": ["tea", "milk", "bread", "salt"], "xx": ["Tee", "Milch", "bröd", "Salz"]}
    write_parquet(tmp_path / "long.parquet", lang=["de", "deu", "sv", None], **texts)
    counts = curate(long)
    gone = {row["id"][-6:]: (row["reason"], row["value"]) for row in rows(tmp_path / "out", "rejected_pairs")}
    assert gone == dict.fromkeys(["deu-en", ":en-sv", ":en-xx"], ("language not wanted", 1))
    assert (counts["pairs_read"], counts["pairs"]) == (4, 1)


def test_broken_rows_are_listed_and_everything_else_is_kept(tmp_path: Path, curate: Curate) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", sentences(3))
    path.write_bytes(path.read_bytes() + b'{"text": "caf\xe9"}\nno json\n')
    counts = curate({"path": "a.jsonl", "language": "en"})
    assert (counts["documents"], counts["broken_rows"], counts["broken_files"]) == (3, 2, 0)
    listed = read_json(tmp_path / "out" / "broken.json")
    assert [(entry["file"], entry["row"]) for entry in listed] == [("a.jsonl", 4), ("a.jsonl", 5)]
    assert "invalid UTF-8" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def binary(path: Path) -> None:
    path.with_name("bad.jsonl").write_bytes(bytes(range(256)) * 8)


def truncated(path: Path) -> None:
    bad = write_parquet(path.with_name("bad.parquet"), text=sentences(50))
    bad.write_bytes(bad.read_bytes()[:-100])


def all_rows_bad(path: Path) -> None:
    path.with_name("bad.txt").write_bytes(b"\xff\xfe\xfd\n" * 3)


@pytest.mark.parametrize("spoil", [binary, truncated, all_rows_bad])
def test_a_broken_file_stops_the_run_unless_it_may_be_skipped(tmp_path: Path, curate: Curate, spoil: Any) -> None:
    spoil(write_jsonl(tmp_path / "good.jsonl", sentences(3)))
    with pytest.raises(DataError, match="cannot be read") as caught:
        curate({"path": "*.*", "language": "en"})
    assert str(caught.value.where).startswith("bad.")
    assert "curate.broken=skip" in str(caught.value.fix)
    counts = curate({"path": "*.*", "language": "en"}, broken="skip")
    assert (counts["documents"], counts["broken_files"]) == (3, 1)
    assert read_json(tmp_path / "out" / "broken.json")[-1]["row"] is None


def test_a_mended_file_is_read_again_and_the_rest_is_not(tmp_path: Path, curate: Curate) -> None:
    write_jsonl(tmp_path / "a.jsonl", sentences(3))
    binary(tmp_path / "a.jsonl")
    with pytest.raises(DataError):
        curate({"path": "*.jsonl", "language": "en"})
    write_jsonl(tmp_path / "bad.jsonl", sentences(2, start=10))
    assert curate({"path": "*.jsonl", "language": "en"})["documents"] == 5


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_corpus_says_so(tmp_path: Path, curate: Curate, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match="the corpus is empty"):
        curate({"path": "a.jsonl"})


def test_a_corpus_of_which_nothing_is_left_names_the_reasons(tmp_path: Path, curate: Curate) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["### *** ### ||| ###"] * 2)
    with pytest.raises(DataError, match="nothing was kept") as caught:
        curate({"path": "a.jsonl", "language": "en"})
    assert "symbols 2" in str(caught.value.got)
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_sample_world_is_cleaned_of_its_junk_and_copies(tmp_path: Path, curate: Curate) -> None:
    counts = curate({"samples": {"documents": 400, "pairs": 100, "languages": list(LANGUAGES)}})
    left = [row["source"] for row in rows(tmp_path / "out", "kept")]
    gone = [row["source"] for row in rows(tmp_path / "out", "rejected")]
    assert sum("junk" in source for source in gone) > 4 * sum("junk" in source for source in left)
    assert sum("clean" in source for source in gone) < 0.02 * sum("clean" in source for source in left)
    assert counts["documents_read"] == 400
    assert counts["pairs_read"] == 100


def test_input_that_changed_since_an_unfinished_attempt_is_judged_anew(
    tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "a.jsonl", sentences(3))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "_write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            curate({"path": "a.jsonl", "language": "en"})
    assert len(rows(tmp_path / "out", "kept")) == 3
    write_jsonl(tmp_path / "a.jsonl", sentences(5, start=20))
    assert curate({"path": "a.jsonl", "language": "en"})["documents"] == 5
    assert [row["text"] for row in rows(tmp_path / "out", "kept")] == sentences(5, start=20)


def test_processes_give_the_same_corpus_as_one(tmp_path: Path) -> None:
    for number in range(2):
        write_jsonl(tmp_path / f"{number}.jsonl", [*sentences(20, start=20 * number), sentences(1)[0]])
    results = {}
    for workers in (1, 2):
        ctx = context(tmp_path)
        config = configuration({"path": "*.jsonl", "language": "en"}).model_copy(update={"workers": workers})
        run(config, ctx)
        results[workers] = files(ctx.out)
        ctx.out.rename(tmp_path / f"out-{workers}")
    assert results[1] == results[2]


KILLED = """
import json, sys
from pathlib import Path
from caravan.core.stage import StageContext
from caravan.curate.stage import run
from caravan.recipe.curate import CurateConfig
base = Path(sys.argv[1])
context = StageContext(out=base / "out", inputs={}, base=base, seed=7, languages=("en", "de", "zh", "th"))
run(CurateConfig.model_validate(json.loads(sys.argv[2])), context)
"""


# As KILLED, it kills itself just before the so many-th file is renamed to its own name.
KILL_AT_A_WRITE = """
import itertools, os, signal
written = itertools.count(1)
rename = Path.replace
def replace(path, target):
    if next(written) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(path, target)
Path.replace = replace
"""
KILLED_AT_A_WRITE = KILLED.replace("base = Path", KILL_AT_A_WRITE + "base = Path")


def test_a_killed_run_goes_on_from_its_finished_shards_and_ends_the_same(tmp_path: Path) -> None:
    for number in range(12):
        write_parquet(tmp_path / f"{number:02d}.parquet", text=sentences(500, start=500 * number))
    config = configuration({"path": "*.parquet", "language": "en"}).model_copy(update={"workers": 2})
    ctx = context(tmp_path)
    judged = ctx.out / "work" / "judged"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), config.model_dump_json()])
    deadline = time.monotonic() + 60
    while len(list(judged.glob("0*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in judged.glob("0*.parquet")}
    assert 3 <= len(finished) < 12
    seen: dict[str, int] = {}
    settle = duplicates.find_duplicates

    def look(*arguments: Any) -> None:
        seen.update({path.name: path.stat().st_mtime_ns for path in judged.glob("0*.parquet")})
        settle(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(duplicates, "find_duplicates", look)
        counts = run(configuration({"path": "*.parquet", "language": "en"}), ctx)
    assert {name: seen[name] for name in finished} == finished
    resumed = files(ctx.out)
    assert not [name for name in resumed if name.endswith(".tmp")]
    ctx.out.rename(tmp_path / "resumed")
    assert run(configuration({"path": "*.parquet", "language": "en"}), context(tmp_path)) == counts
    assert files(tmp_path / "out") == resumed


@pytest.mark.parametrize("write", [9, 14])
def test_a_run_killed_while_it_writes_the_corpus_ends_the_same(tmp_path: Path, write: int) -> None:
    for number in range(6):
        write_parquet(tmp_path / f"{number:02d}.parquet", text=sentences(60, start=50 * number))
    config = configuration({"path": "*.parquet", "language": "en"})
    command = [sys.executable, "-c", KILLED_AT_A_WRITE, str(tmp_path), config.model_dump_json(), str(write)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert list((tmp_path / "out").rglob("*.tmp"))
    remove_torn(tmp_path / "out")  # as an artifact does that is gone on with
    counts = run(config, context(tmp_path))
    (tmp_path / "out").rename(tmp_path / "resumed")
    assert run(config, context(tmp_path)) == counts
    assert files(tmp_path / "resumed") == files(tmp_path / "out")


def test_a_finished_stage_answers_from_its_report(tmp_path: Path, curate: Curate) -> None:
    write_jsonl(tmp_path / "a.jsonl", sentences(3))
    counts = curate({"path": "a.jsonl", "language": "en"})
    (tmp_path / "a.jsonl").unlink()
    assert curate({"path": "a.jsonl", "language": "en"}) == counts


def test_check_reads_the_first_rows_of_each_source(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", sentences(2))
    write_parquet(tmp_path / "b.parquet", body=["text"])
    binary(tmp_path / "a.jsonl")
    pq.write_table(pa.table({"en": ["tea"], "de": ["Tee"]}), tmp_path / "pairs.parquet")
    config = configuration(
        {"path": "a.jsonl"}, {"path": "b.parquet"}, {"path": "bad.jsonl"}, {"path": "none.jsonl"},
        {"pairs": "pairs.parquet"}, {"samples": {}}, perplexity={"models": str(tmp_path / "lm")},
    )  # fmt: skip
    problems = [fault.problem for fault in check(config, context(tmp_path))]
    assert problems == [
        "not a finished artifact",
        "there is no column text",
        "the file cannot be read",
        "no file matches",
    ]


def test_a_missing_library_names_the_extra(tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stage.LIBRARIES, "no_such_module", "no-such-package")
    with pytest.raises(MissingDependencyError, match=r"caravan\[data\]"):
        curate({"path": "a.jsonl"})
    assert isinstance(check(configuration({"samples": {}}), context(tmp_path))[0], MissingDependencyError)
