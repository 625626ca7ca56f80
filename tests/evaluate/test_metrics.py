from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from caravan.evaluate.metrics import (
    FP32,
    HTTP,
    INT4,
    bleu,
    chrf,
    confusion_matrices,
    error_rate,
    failures,
    normalise,
    reached,
    right,
    scores,
    table,
)
from caravan.recipe.evaluate import TARGETS, Target


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  Two  RED\ncircles. ", "two red circles"),
        ("Straße?!", "strasse"),
        ("e\u0301te\u0301", "été"),
        ("红色的圆。", "红色的圆"),
        ("كم؟", "كم"),
        ("3.5", "3.5"),
        ("ΣΑΣ", "σασ"),
        ("...", ""),
    ],
)
def test_normalise(text: str, plain: str) -> None:
    assert normalise(text) == plain
    assert normalise(plain) == plain


def test_right_is_exact(row: Any) -> None:
    assert right("Three  stars.", row("a", "three stars"))
    assert not right("three star", row("a", "three stars"))
    assert not right("", row("a", "three stars"))


def test_error_rate_counts_words_or_characters() -> None:
    # One substitution and one insertion over three words; nothing wrong in the other two.
    assert error_rate([("the red cat", "the rad cat sat"), ("two dogs", "Two dogs.")], "en") == pytest.approx(2 / 5)
    # One of five characters; spaces do not count.
    assert error_rate([("红色的圆形", "红 色的方形")], "zh") == pytest.approx(1 / 5)
    assert error_rate([("빨간 원", "빨간 공")], "ko") == pytest.approx(1 / 2)


def test_chrf_and_bleu_are_sacrebleu_s() -> None:
    same = [("the cat sat on the mat", "the cat sat on the mat"), ("红色的圆形在左边", "红色的圆形在左边")]
    assert chrf(same) == pytest.approx(1)
    assert bleu(same[:1], "en") == bleu(same[1:], "zh") == bleu(same[1:], "ja") == pytest.approx(1)
    assert bleu([("the cat sat on the mat", "the cat lay on a mat")], "en") < 0.5
    # chrF2 by hand for one letter in two: n-gram orders 1 and 2, precision and recall 1/2 and 0.
    assert chrf([("ab", "ac")]) == pytest.approx(0.25)


def test_translations_are_scored_by_both_and_captions_by_chrf(row: Any) -> None:
    rows = [row("1", "one two three four", "translate"), row("2", "a red dog", "caption"), row("3", "x", "speech")]
    found = {one.task: one for one in scores(rows, {"1": "one two three four", "2": "a red dog", "3": "x"})}
    assert (found["translate"].bleu, found["translate"].chrf) == (pytest.approx(1), pytest.approx(1))
    assert (found["caption"].bleu, found["caption"].chrf) == (None, pytest.approx(1))
    assert (found["speech"].bleu, found["speech"].chrf) == (None, None)


def test_scores_by_task_language_and_group(row: Any) -> None:
    rows = [
        row("1", "one two", "transcribe", "en"),
        row("2", "three", "transcribe", "en"),
        row("3", "vier", "transcribe", "de"),
        row("4", "rot", "picture", "de"),
        row("5", "rot", "picture", "de", group="seen"),
    ]
    found = scores(rows, {"1": "one too", "2": "three", "3": "vier", "4": "blau", "5": "Rot!"})
    assert [(s.task, s.group, s.language, s.rows, s.accuracy, s.error_rate) for s in found] == [
        ("picture", "seen", "de", 1, 1.0, None),
        ("picture", "unseen style", "de", 1, 0.0, None),
        ("transcribe", "unseen style", "de", 1, 1.0, 0.0),
        ("transcribe", "unseen style", "en", 2, 0.5, pytest.approx(1 / 3)),
    ]


def test_table_is_a_mean_over_languages_and_a_share_over_rows(row: Any) -> None:
    rows = [row(str(i), "x", "picture", "en") for i in range(3)] + [row("d", "x", "picture", "de")]
    rows += [row("s", "x", "speech", "fr", group="unseen voice")]
    by = {
        FP32: {"0": "x", "1": "x", "2": "y", "d": "y", "s": "x"},
        INT4: {"0": "x", "1": "y", "d": "y", "s": "X"},
        HTTP: {"0": "x", "1": "y"},
    }
    targets = [
        Target(name="all"),
        Target(name="picture", task="picture", at_least=0.3),
        Target(name="picture en", task="picture", languages=["en"], at_least=0.7),
        Target(name="voice", group="unseen voice", at_least=1.0),
        Target(name="nothing", task="both", at_least=0.1),
        Target(name="int4", metric="int4 = fp32", at_least=0.5),
        Target(name="http", metric="HTTP = in-process", at_least=1.0),
    ]
    lines = table(targets, rows, by)
    assert [(line["name"], line["value"], line["count"]) for line in lines] == [
        ("all", pytest.approx((2 / 3 + 0 + 1) / 3), 5),
        ("picture", pytest.approx(1 / 3), 4),
        ("picture en", pytest.approx(2 / 3), 3),
        ("voice", 1.0, 1),
        ("nothing", None, 0),
        ("int4", 0.5, 4),
        ("http", 1.0, 2),
    ]
    assert [reached(line) for line in lines] == [None, True, False, True, None, True, True]
    without_export = table(TARGETS, rows, {FP32: by[FP32]})
    assert [line["value"] for line in without_export[-2:]] == [None, None]


def test_a_line_can_ask_for_rows_of_one_source(row: Any) -> None:
    rows = [replace(row("a", "x", "picture", "en"), source="names"), row("b", "x", "picture", "en")]
    lines = table([Target(name="names", source="names")], rows, {FP32: {"a": "x", "b": "y"}})
    assert [(line["value"], line["count"]) for line in lines] == [(1.0, 1)]


def test_failures_say_what_kind_of_wrong(row: Any) -> None:
    rows = [
        row("1", "cat", language="en"),
        row("2", "dog", language="en"),
        row("3", "dog", language="en"),
        row("4", "Hund", language="de"),
        row("5", "cow", language="en"),
    ]
    answers = {"1": "dog", "2": "Hund", "3": "Hund", "4": "hund", "5": "moo"}
    (found,) = failures(rows, answers)
    assert (found.rows, found.wrong) == (5, 4)
    assert (found.other_item, found.other_language, found.other_words) == (1, 2, 1)
    assert found.confusions[0] == ("en", "dog", "hund", 2)


def test_confusion_matrix_of_a_small_closed_set(row: Any) -> None:
    rows = [row(f"{i}", ("one", "two")[i % 2], "speech") for i in range(40)]
    rows += [row("de", "eins", "speech", "de")]
    answers = {r.id: r.reference for r in rows} | {"0": "two", "2": "seven"}
    (matrix,) = confusion_matrices(rows, answers)
    assert matrix.labels == ["one", "two"]
    assert matrix.counts == [[18, 1, 1], [0, 20, 0]]
