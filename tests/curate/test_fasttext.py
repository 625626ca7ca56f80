from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fasttext.FastText import _FastText
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import ModelError
from caravan.curate.fasttext import FastText, label_tree
from caravan.curate.language import model_file

# Float32 sums in another order, and the probability is a product of some eight logistic decisions.
CLOSE = 2e-5
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=80)


@pytest.fixture(scope="module")
def model() -> FastText:
    return FastText.load(model_file())


@pytest.fixture(scope="module")
def reference() -> _FastText:
    return _FastText(str(model_file()))


def compare(model: FastText, reference: _FastText, text: str) -> None:
    (found,) = model.probabilities(pa.array([text]))
    if not found.any():  # fastText answers by the end of the line alone
        return
    for probability, label in reference.f.predict(text + "\n", 5, 0.0, "strict"):
        assert found[model.labels.index(label.removeprefix("__label__"))] == pytest.approx(probability, abs=CLOSE)


@pytest.mark.parametrize(
    "text",
    ["Tea in the morning", "Утром пьём чай", "今朝はお茶を飲みます。", "เช้านี้ฉันดื่มชา", "a", "ß 🐪 x", "tea\tand  bread"],
)
def test_probabilities_are_those_of_fasttext(model: FastText, reference: _FastText, text: str) -> None:
    compare(model, reference, text)


@pytest.mark.parametrize(
    "text", ["今朝はお茶を飲みます" * 400 + " tea", "Tea in the morning " * 600, "x" * 5000 + " y" * 3000]
)
def test_text_of_more_vectors_than_the_buffer_holds(model: FastText, reference: _FastText, text: str) -> None:
    compare(model, reference, text)


@settings(max_examples=150, deadline=None)
@given(WORDS)
def test_any_text_has_the_probabilities_of_fasttext(model: FastText, reference: _FastText, text: str) -> None:
    compare(model, reference, text)


def test_all_labels_together_are_as_probable_as_one(model: FastText) -> None:
    # Each decision adds 1e-5 to both of its branches, some eight of them to a label.
    assert model.probabilities(pa.array(["Words about the weather"])).sum() == pytest.approx(1, abs=0.01)


def test_texts_of_a_batch_are_apart(model: FastText) -> None:
    texts = ["Tea in the morning", "", "Утром пьём чай", "\0", "今朝はお茶を飲みます。"]
    together = model.probabilities(pa.array(texts))
    apart = np.concatenate([model.probabilities(pa.array([text])) for text in texts])
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(model.probabilities(pa.array(["x", *texts]).slice(1)), together)
    assert not together[[1, 3]].any()


@pytest.mark.parametrize("piece", range(1, 12))
def test_pieces_do_not_cut_characters(model: FastText, piece: int) -> None:
    assert np.isfinite(model.probabilities(pa.array(["茶を飲む🐪" * 20, "ab" * 30]), piece)).all()


def test_three_pieces_of_a_text_that_is_the_same_everywhere(model: FastText) -> None:
    text = "Words about tea. " * 400
    whole, pieces = model.probabilities(pa.array([text])), model.probabilities(pa.array([text]), 170)
    np.testing.assert_allclose(pieces, whole, atol=0.02)


def test_the_label_tree_joins_the_rarest_first() -> None:
    assert label_tree([50, 30, 10, 5, 5]).tolist() == [[4, 3], [5, 2], [6, 1], [7, 0]]


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.ftz").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match=r"model\.ftz"):
        FastText.load(tmp_path / "model.ftz")
