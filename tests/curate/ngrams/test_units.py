from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.ngrams.units import BREAK, LINE_END, find_word, hash_of, normalised, split, word_table
from caravan.curate.ngrams.vocabulary import UnitCounter, cut
from tests.curate.ngrams.conftest import units

PLAIN = st.text(st.sampled_from("aBcdé 1,.\n'-"), max_size=60)


def spelt(text: str) -> list[list[str]]:
    """The units of a text, found again by where they stand; the hash of each must be that of what stands there."""
    found = split(pa.array([text]))
    lines: list[list[str]] = [[]]
    for key, start, length in zip(found.hashes, found.starts, found.lengths, strict=True):
        if key == LINE_END:
            lines.append([])
            continue
        word = normalised(text[start : start + length])
        assert key == hash_of(word)
        lines[-1].append(word)
    assert lines.pop() == []
    return lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's Öl, no. 42!\n\n  Tea\n", [["it", "s", "öl", "no", "00"], ["tea"]]),
        ("茶A1です。\n", [["茶", "a0", "で", "す"]]),
        ("ชา\n한국어 tea", [["ช", "า"], ["한국어", "tea"]]),
        ("... !!!\n", []),
        ("", []),
        ("\U00020000\U0001f42a x", [["\U00020000", "x"]]),
    ],
)
def test_units_of_lines(text: str, expected: list[list[str]]) -> None:
    assert spelt(text) == expected


@settings(max_examples=200, deadline=None, derandomize=True)
@given(PLAIN)
def test_words_of_plain_text_are_those_of_the_reference(text: str) -> None:
    assert spelt(text) == units(text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=40), max_size=5))
def test_texts_of_a_batch_are_apart(texts: list[str]) -> None:
    together = split(pa.array(["x", *texts], pa.string()).slice(1))
    for row, text in enumerate(texts):
        alone = split(pa.array([text]))
        mine = slice(together.bounds[row], together.bounds[row + 1])
        np.testing.assert_array_equal(together.hashes[mine], alone.hashes)
        np.testing.assert_array_equal(together.starts[mine], alone.starts)
        spelt(text)


@pytest.mark.parametrize("window", range(1, 40))
def test_pieces_of_a_text_hold_whole_units_of_it(window: int) -> None:
    text = "茶を飲む🐪\nÄrger über 42 Dächer\n" * 9
    found = split(pa.array([text]), window)
    for key, length in zip(found.hashes, found.lengths, strict=True):
        assert length or key in (BREAK, LINE_END)
    assert set(found.hashes.tolist()) - {int(BREAK)} <= set(split(pa.array([text])).hashes.tolist())
    assert (found.hashes == BREAK).sum() == 2


def test_a_window_as_wide_as_the_text_is_all_of_it() -> None:
    text = "one two\nthree " * 10
    np.testing.assert_array_equal(split(pa.array([text]), 60).hashes, split(pa.array([text])).hashes)


def test_a_word_is_found_by_its_hash_or_not_at_all() -> None:
    hashes = np.array([hash_of(f"word{i}") for i in range(1000)], np.uint64)
    keys, rows = word_table(hashes)
    assert [int(rows[find_word(h, keys, rows)]) for h in hashes] == list(range(1000))
    assert rows[find_word(np.uint64(hash_of("other")), keys, rows)] == -1


def test_units_are_counted_in_the_order_in_which_they_first_come() -> None:
    counter = UnitCounter()
    numbers = [counter.add(pa.array(["b a\nB 茶", ""])).tolist(), counter.add(pa.array(["a c"])).tolist()]
    assert numbers == [[0, 1, -1, 0, 2, -1], [1, 3, -1]]
    assert counter.words == ["b", "a", "茶", "c"]
    assert counter.counts.tolist() == [2, 2, 1, 1]


def test_many_units_outgrow_the_table() -> None:
    counter = UnitCounter()
    texts = pa.array([" ".join("ab"[i >> k & 1] for k in range(17)).replace(" ", "") for i in range(1 << 17)])
    first = counter.add(texts)
    assert len(counter.words) == len(set(counter.words)) == 1 << 17
    np.testing.assert_array_equal(counter.add(texts), first)


def test_the_vocabulary_is_cut_by_count() -> None:
    names, ids = cut(["a", "b", "c", "d"], np.array([1, 5, 2, 5]), size=3, least=2)
    assert names == ["<unk>", "<s>", "</s>", "b", "d", "c"]
    assert ids.tolist() == [0, 3, 5, 4, 2]
