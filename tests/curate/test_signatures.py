from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.signatures import sign

WORDS = st.lists(
    st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]),
    min_size=1,
    max_size=30,
)


def signed(*texts: str, shingle: int = 5, bands: int = 14, rows: int = 8) -> tuple[list[int], np.ndarray]:
    exact, keys = sign(pa.array(texts), np.full(len(texts), shingle, np.int32), bands=bands, rows=rows)
    return exact.tolist(), keys


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
