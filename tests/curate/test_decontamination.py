from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.core.files import read_json
from caravan.curate.decontamination import matches
from caravan.curate.evaluation_sets import Grams, arranged, grams_of
from caravan.curate.stage import check
from caravan.recipe.curate import DecontaminationConfig
from tests.curate.conftest import Curate, configuration, context, rows, sentences, write_jsonl, write_parquet

QUESTION = (
    "A caravan of twelve camels carries salt across the desert; each of them carries four bags, and a bag weighs "
    "thirty kilograms. How much salt do they carry?"
)
CHINESE = "一支由十二头骆驼组成的商队驮着盐穿过沙漠，每头骆驼驮四袋盐，每袋重三十公斤，请问它们一共驮了多少公斤盐？"
THAI = "กองคาราวานอูฐสิบสองตัวบรรทุกเกลือข้ามทะเลทราย อูฐแต่ละตัวบรรทุกเกลือสี่ถุง แต่ละถุงหนักสามสิบกิโลกรัม"


def known(items: list[str], **chosen: Any) -> Grams:
    config = DecontaminationConfig.model_validate({"sets": [{"path": "any"}], **chosen})
    return arranged(*grams_of(pa.array(items), config), np.zeros(len(items), np.int64))


def shares(texts: list[str], items: list[str], **chosen: Any) -> list[float]:
    return list(matches(pa.array(texts), known(items, **chosen))[0])


@pytest.mark.parametrize("item", [QUESTION, CHINESE, THAI])
@pytest.mark.parametrize(
    "spoil",
    [
        str,
        str.upper,
        lambda text: text.replace(" ", "\n\n  ").replace(",", " -- "),
        lambda text: text.replace(",", "").replace(".", "").replace("，", " ").replace("；", ""),
        lambda text: f"Before it: {text} And after it.",
    ],
)
def test_an_item_is_found_whatever_its_case_blanks_and_punctuation(item: str, spoil: Any) -> None:
    assert shares([spoil(item), "Nothing of it, " * 20], [item]) == [1, 0]


def test_accents_may_be_characters_of_their_own() -> None:
    item = "Một đoàn lữ hành gồm mười hai con lạc đà chở muối băng qua sa mạc"
    assert shares([unicodedata.normalize("NFD", item)], [item]) == [1]


def test_the_figure_is_the_share_of_the_items_n_grams() -> None:
    words = QUESTION.split()
    assert len(words) == 28
    half = " ".join(words[:20])
    assert shares([half, half + " " + half], [QUESTION]) == [8 / 16] * 2
    assert shares([" ".join(words[:13]), " ".join(words[:12])], [QUESTION]) == [1 / 16, 0]
    assert shares([" ".join(words[3:8])], [QUESTION], n=5, shortest=5) == [1 / 24]


def test_a_short_item_is_looked_for_as_a_whole_and_one_too_short_is_not() -> None:
    item = "Which of these nine towns lies by water?"
    assert shares([f"He asked: {item.lower()} And left.", item[:-6]], [item]) == [1, 0]
    assert shares([item], ["Which of these lies by water?"]) == [0]
    assert shares(
        ["他问道：水的化学式和冰的化学式是什么？", "水的化学式是什么？"], ["水的化学式和冰的化学式是什么"]
    ) == [1, 0]


def test_of_several_items_the_one_that_is_there_most_is_named() -> None:
    items = [f"{QUESTION} {ending}" for ending in ("One hundred and more of them", "Say why", "")]
    found, which = matches(pa.array([f"{QUESTION} Say why"]), known(items))
    assert (found.tolist(), which.tolist()) == ([1], [1])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.text("ab ", max_size=40), min_size=1, max_size=5),
    st.lists(st.text("aB, ", max_size=60), max_size=4),
    st.integers(2, 5),
    st.integers(1, 2),
)
def test_shares_are_those_of_sets_of_tuples(items: list[str], texts: list[str], n: int, shortest: int) -> None:
    def grams(text: str, size: int) -> set[tuple[str, ...]]:
        words = text.lower().replace(",", " ").split()
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    sizes = [min(n, len(item.split())) for item in items]
    wanted = [grams(item, size) if size >= shortest else set() for item, size in zip(items, sizes, strict=True)]
    for text, share in zip(texts, shares(texts, items, n=n, shortest=shortest), strict=True):
        naive = [len(of & grams(text, size)) / len(of) for of, size in zip(wanted, sizes, strict=True) if of]
        assert share == max(naive, default=0)


def test_long_texts_and_many_items_are_searched_exactly() -> None:
    draw = random.Random(7)
    items = [" ".join(f"w{draw.randrange(60)}" for _ in range(30)) for _ in range(300)]
    text = " ".join(f"w{draw.randrange(60)}" for _ in range(5000))
    planted = text + " " + " ".join(items[123].split()[5:20])
    assert shares([text, planted], items) == [0, 3 / 18]


def test_documents_and_pairs_go_with_the_name_of_the_set_and_the_share(tmp_path: Path, curate: Curate) -> None:
    good = sentences(5)
    write_parquet(tmp_path / "eval" / "salt.parquet", question=[QUESTION, "Too short"], answer=["1,440 kg", "No"])
    write_jsonl(tmp_path / "eval" / "plain.jsonl", [good[4], CHINESE])
    write_jsonl(tmp_path / "a.jsonl", [good[0], f"{good[1]} {QUESTION.upper()}", CHINESE, good[2]])
    pair = {"translation": {"de": "Das ist ein Satz über das Salz und die Wüste.", "en": QUESTION}}
    (tmp_path / "p.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    sets = [{"path": "eval/*.parquet", "columns": {"text": ["question", "answer"]}}, {"path": "eval/*.jsonl"}]
    counts = curate({"path": "a.jsonl"}, {"pairs": "p.jsonl"}, decontamination={"sets": sets})
    out = tmp_path / "out"
    gone = {row["id"]: (row["step"], row["reason"], row["value"]) for row in rows(out, "rejected")}
    question = pytest.approx(16 / 19)  # the answer's three words end three more n-grams
    assert gone == {
        "a.jsonl#2": ("decontamination", "evaluation set eval/salt.parquet", question),
        "a.jsonl#3": ("decontamination", "evaluation set eval/plain.jsonl", 1),
    }
    assert [row["text"] for row in rows(out, "kept")] == [good[0], good[2]]
    (gone_pair,) = rows(out, "rejected_pairs")
    assert (gone_pair["reason"], gone_pair["value"]) == ("evaluation set eval/salt.parquet", question)
    assert counts["rejected"]["decontamination: evaluation set eval/plain.jsonl"] == 1
    report = read_json(out / "report.json")
    assert report["evaluation_sets"][0] == {"set": "eval/salt.parquet", "items": 2, "too_short": 1}
    assert "eval/salt.parquet" in (out / "report.html").read_text(encoding="utf-8")


def test_the_recipe_says_how_much_of_an_item_is_too_much(tmp_path: Path, curate: Curate) -> None:
    write_jsonl(tmp_path / "eval.jsonl", [QUESTION])
    words = QUESTION.split()
    texts = [" ".join([*sentences(1, start=i)[0].split(), *words[:count]]) for i, count in enumerate((13, 21, 28))]
    write_jsonl(tmp_path / "a.jsonl", texts)
    curate({"path": "a.jsonl"}, decontamination={"sets": [{"path": "eval.jsonl"}], "threshold": 0.5})
    assert [row["id"] for row in rows(tmp_path / "out", "kept")] == ["a.jsonl#1"]
    assert [row["value"] for row in rows(tmp_path / "out", "rejected")] == [9 / 16, 1]


def test_a_set_that_cannot_be_read_is_refused(tmp_path: Path, curate: Curate) -> None:
    write_jsonl(tmp_path / "a.jsonl", sentences(2))
    (tmp_path / "eval.jsonl").write_text('{"question": "no text"}\n')
    wanted = {"sets": [{"path": "eval.jsonl"}]}
    with pytest.raises(DataError, match=r"eval.jsonl: an evaluation set cannot be read(.|\n)*got: no text in text"):
        curate({"path": "a.jsonl"}, decontamination=wanted)
    wanted = {"sets": [{"path": "nothing*.jsonl"}]}
    faults = check(configuration({"path": "a.jsonl"}, decontamination=wanted), context(tmp_path))
    assert ["no file matches" in str(fault) for fault in faults] == [True]
    with pytest.raises(ValueError, match="shortest up to n"):
        DecontaminationConfig.model_validate({**wanted, "n": 5})


def test_a_set_of_nothing_but_short_items_drops_nothing(tmp_path: Path, curate: Curate) -> None:
    write_jsonl(tmp_path / "eval.jsonl", ["Too short"])
    write_jsonl(tmp_path / "a.jsonl", ["Too short to be found.", *sentences(1)])
    assert curate({"path": "a.jsonl"}, decontamination={"sets": [{"path": "eval.jsonl"}]})["documents"] == 2
