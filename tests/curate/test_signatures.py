from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.signatures import shingle_sets, sign

WORDS = st.lists(
    st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]),
    min_size=1,
    max_size=30,
)


def signed(*texts: str, shingle: int = 5, bands: int = 14, rows: int = 6) -> tuple[list[int], np.ndarray]:
    """Hash [n] and bands [n, bands]."""
    many = len(texts)
    exact, keys = sign(pa.array(texts), ["en"] * many, [shingle] * many, bands=bands, rows=rows)
    return exact.tolist(), keys.T


@settings(max_examples=40, deadline=None, derandomize=True)
@given(WORDS)
def test_case_and_spacing_change_neither_hash_nor_bands(words: list[str]) -> None:
    (first, second), keys = signed(" ".join(words), "\n ".join(words).upper() + "\u200b ")
    assert first == second
    assert (keys[0] == keys[1]).all()


def test_punctuation_changes_the_hash_but_not_the_bands() -> None:
    (first, second), keys = signed("I beg your pardon!", "I beg your pardon?")
    assert first != second
    assert (keys[0] == keys[1]).all()


def test_other_words_share_no_band() -> None:
    _, keys = signed("the cat sat on the mat in the sun", "a dog ran over the hill at night time")
    assert not (keys[0] == keys[1]).any()


def test_agreement_estimates_the_similarity_of_the_shingles() -> None:
    words = [f"w{i}" for i in range(400)]
    # With shingles of one word, 300 of 500 words are common to both: Jaccard 0.6.
    _, keys = signed(
        " ".join(words), " ".join(words[:300] + [f"v{i}" for i in range(100)]), shingle=1, bands=400, rows=1
    )
    assert abs((keys[0] == keys[1]).mean() - 0.6) < 0.08


def test_text_without_words_has_a_signature_of_its_own() -> None:
    _, keys = signed("!!!", "???")
    assert not (keys[0] == keys[1]).any()


def test_equal_texts_of_two_languages_have_nothing_in_common() -> None:
    exact, keys = sign(pa.array(["Radio", "Radio"]), ["en", "de"], [5, 5], bands=14, rows=6)
    assert exact[0] != exact[1]
    assert not (keys[:, 0] == keys[:, 1]).any()


def test_without_bands_there_is_the_hash_alone() -> None:
    texts = pa.array(["one text", "another text"])
    (alone, none), (beside, _) = (sign(texts, ["en"] * 2, [5] * 2, bands=bands, rows=6) for bands in (0, 3))
    assert none.shape == (0, 2)
    assert alone.tolist() == beside.tolist()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 9))
def test_sets_hold_each_shingle_once_in_order(texts: list[list[str]], shingle: int, most: int) -> None:
    values, sizes = shingle_sets(pa.array(map(" ".join, texts)), [shingle] * len(texts))
    found = np.split(values, np.cumsum(sizes)[:-1])
    for words, hashes in zip(texts, found, strict=True):
        size = min(shingle, len(words))
        assert len(hashes) == len({tuple(words[i : i + size]) for i in range(len(words) - size + 1)})
        assert (np.diff(hashes.astype(np.int64)) > 0).all()
    least, counts = shingle_sets(pa.array(map(" ".join, texts)), [shingle] * len(texts), most)
    assert np.concatenate([hashes[:most] for hashes in found]).tolist() == least.tolist()
    assert counts.tolist() == np.minimum(sizes, most).tolist()
