from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.curate.ngrams.arpa import read_arpa, write_arpa
from caravan.curate.ngrams.counts import NgramCounter
from caravan.curate.ngrams.kneser_ney import Level, estimate
from caravan.curate.ngrams.model import NgramModel
from caravan.curate.ngrams.vocabulary import UnitCounter, cut
from tests.curate.ngrams.conftest import MARKS, Reference, units

CLOSE = 2e-6  # float32 log10 probabilities against float64


def trained(texts: list[str], order: int, prune: Sequence[int], size: int = 1000) -> tuple[list[str], list[Level]]:
    counter = UnitCounter()
    parts = [counter.add(pa.array([text])) for text in texts]
    names, ids = cut(counter.words, counter.counts, size, 1)
    grams = NgramCounter(order)
    for part in parts:
        grams.add(ids[part])
    return names, estimate(grams.by_length(), len(names), prune)


def babble(seed: int, lines: int) -> str:
    """Lines of words whose order means something: each word likes the next letters."""
    draw = random.Random(seed)
    text = []
    for _ in range(lines):
        at, words = draw.randrange(26), []
        for _ in range(draw.randrange(1, 12)):
            words.append(chr(97 + at) * draw.choice((1, 1, 1, 2)))
            at = (at + draw.choice((1, 1, 1, 2, 2, 7, draw.randrange(26)))) % 26
        text.append(" ".join(words))
    return "\n".join(text)


TEXT = babble(1, 400)


def reference(names: list[str], text: str, order: int, prune: Sequence[int]) -> Reference:
    return Reference(units(text), set(names) - set(MARKS), order, prune)


@pytest.mark.parametrize(
    ("order", "prune", "size"),
    [(2, [0], 1000), (3, [0, 0], 1000), (3, [0, 1], 20), (3, [1, 1], 1000), (5, [0, 1, 1, 2], 30)],
)
def test_estimates_are_those_of_modified_kneser_ney(order: int, prune: list[int], size: int) -> None:
    names, levels = trained([TEXT], order, prune, size)
    expected = reference(names, TEXT, order, prune)
    seen = 0
    for level in levels:
        for words, (probability, backoff) in zip(level.words.tolist(), level.values.tolist(), strict=True):
            gram = tuple(names[word] for word in words)
            if gram == ("<s>",):
                assert probability == -99
                continue
            assert probability == pytest.approx(np.log10(expected.probability[gram]), abs=CLOSE)
            if len(gram) < order:
                assert backoff == pytest.approx(np.log10(expected.backoff.get(gram, 1)), abs=CLOSE)
            seen += 1
    assert seen == len(expected.probability)


@pytest.mark.parametrize("prune", [[0, 0], [0, 1], [1, 2]])
def test_the_words_after_any_context_sum_to_one(prune: list[int]) -> None:
    names, levels = trained([TEXT], 3, prune, 30)
    values = {
        tuple(words): value
        for level in levels
        for words, value in zip(level.words.tolist(), 10.0 ** level.values.astype(float), strict=True)
    }

    def probability(gram: tuple[int, ...]) -> float:
        if gram in values:
            return values[gram][0]
        return values[gram[:-1]][1] * probability(gram[1:]) if gram[:-1] in values else probability(gram[1:])

    foretold = [index for index, name in enumerate(names) if name != "<s>"]
    for context in [(), (1,), (3,), (0,), (3, 4), (1, 5), (5, 3), (0, 3), (29, 30)]:
        assert sum(probability((*context, word)) for word in foretold) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_texts_score_as_by_backing_off(order: int) -> None:
    names, levels = trained([TEXT], order, [0] * (order - 1), 30)
    expected = reference(names, TEXT, order, [0] * (order - 1))
    model = NgramModel.build(names, levels)
    texts = [babble(seed, 3) for seed in range(2, 12)] + ["", "zzz zzz\n\na bb", TEXT[:200]]
    scores = model.score(pa.array(texts))
    lines = [units(text) for text in texts]
    assert scores.total == pytest.approx([sum(map(expected.score, text)) for text in lines], abs=1e-4)
    assert scores.units.tolist() == [sum(len(line) + 1 for line in text) for text in lines]
    known = set(names)
    assert scores.unknown.tolist() == [sum(word not in known for line in text for word in line) for text in lines]
    alone = [sum(np.log10(expected.of((w,))) for line in text for w in [*line, "</s>"]) for text in lines]
    assert scores.alone == pytest.approx(alone, abs=1e-4)
    assert np.isnan(scores.perplexity).tolist() == [text == "" for text in texts]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.text(st.sampled_from("ab c\n"), max_size=30), min_size=1, max_size=4), st.integers(2, 4))
def test_any_text_trains_a_model_that_agrees_with_the_definition(texts: list[str], order: int) -> None:
    if not any(units(text) for text in texts):
        return
    names, levels = trained(texts, order, [0] * (order - 1), 3)
    expected = reference(names, "\n".join(texts), order, [0] * (order - 1))
    scores = NgramModel.build(names, levels).score(pa.array(texts))
    assert scores.total == pytest.approx([sum(map(expected.score, units(text))) for text in texts], abs=1e-4)


def test_pieces_of_a_text_score_as_its_parts_do() -> None:
    names, levels = trained([TEXT], 3, [0, 0])
    expected = reference(names, TEXT, 3, [0, 0])
    scores = NgramModel.build(names, levels).score(pa.array(["aa bb cc\n" * 40]), 18)
    # Two lines each; of the second and third piece the first word, which may be half of one, is left out, and what
    # follows has no context.
    line = expected.score(["aa", "bb", "cc"])
    cut = sum(np.log10(expected.of(gram)) for gram in (("bb",), ("bb", "cc"), ("bb", "cc", "</s>")))
    assert scores.units.tolist() == [8 + 7 + 7]
    assert scores.total == pytest.approx([4 * line + 2 * cut], abs=1e-5)


def test_a_saved_model_scores_the_same(tmp_path: Path) -> None:
    model = NgramModel.build(*trained([TEXT], 3, [0, 1]))
    model.save(tmp_path)
    loaded = NgramModel.load(tmp_path)
    assert loaded.order == 3
    np.testing.assert_array_equal(loaded.score(pa.array([TEXT])).total, model.score(pa.array([TEXT])).total)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_an_arpa_file_holds_the_model_exactly(tmp_path: Path, suffix: str) -> None:
    names, levels = trained([TEXT], 3, [0, 0])
    path = tmp_path / f"model.arpa{suffix}"
    write_arpa(path, names, levels)
    again, read = read_arpa(path)
    assert again == names
    for level, other in zip(levels, read, strict=True):
        np.testing.assert_array_equal(level.words, other.words)
        np.testing.assert_array_equal(level.values, other.values)


PRUNED = """
made by another toolkit

\\data\\
ngram 1=5
ngram 2=3
ngram 3=2

\\1-grams:
-1.5 <unk>
-99\t<s>\t-0.5
-0.7 </s>
-0.4\ta\t-0.25
-0.6 b -0.125

\\2-grams:
-0.3\t<s> a\t-0.0625
-0.2\tb </s>
-0.9 a a

\\3-grams:
-0.01\t<s> a b
-0.02\ta b </s>

\\end\\
"""


def test_a_file_of_another_toolkit_with_pruned_ends_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "m.arpa").write_text(PRUNED)
    model = NgramModel.build(*read_arpa(tmp_path / "m.arpa"))
    # `<s> a b` ends in `a b`, which is no 2-gram: b after a is backoff(a) + p(b).
    by_hand = {
        "a b": -0.3 - 0.01 - 0.02,
        "b a": (-0.5 - 0.6) + (-0.125 - 0.4) + (-0.25 - 0.7),
        "a a": -0.3 + (-0.0625 - 0.9) + (-0.25 - 0.7),
        "a c": -0.3 + (-0.0625 - 0.25 - 1.5) + (0 - 0.7),
        "b b": (-0.5 - 0.6) + (-0.125 - 0.6) + -0.2,
    }
    scores = model.score(pa.array(list(by_hand)))
    assert scores.total == pytest.approx(list(by_hand.values()), abs=1e-6)


@pytest.mark.parametrize(
    ("broken", "line", "got"),
    [
        (PRUNED[: PRUNED.index("\\end")], 25, "the end of the file"),
        (PRUNED.replace("-0.9 a a", "-0.9 a x"), 19, "a x"),
        (PRUNED.replace("-0.6 b", "abc b"), 14, "abc b"),
        (PRUNED.replace("2=3", "2=4"), 20, ""),
        (PRUNED.replace("2=3", "2=2"), 19, "-0.9 a a"),
        ("some text\n", 2, "the end of the file"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, broken: str, line: int, got: str) -> None:
    (tmp_path / "m.arpa").write_text(broken)
    with pytest.raises(DataError, match="n-gram model cannot be read") as caught:
        read_arpa(tmp_path / "m.arpa")
    assert str(caught.value.where).endswith(f"m.arpa, line {line}")
    assert got in str(caught.value.got)


def test_a_file_of_other_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.arpa").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0\xff\xfe\x80")
    with pytest.raises(DataError, match=r"n-gram model cannot be read(?s:.)*take the ARPA file"):
        read_arpa(tmp_path / "m.arpa")
