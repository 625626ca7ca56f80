from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from caravan.curate.langid import LangId

TEXTS = ("", "Tea in the morning", "SCHÖNE GRÜSSE", "サクラ咲く", "чај ујутру", "čaj ujutru", "e\u0301")
LANGUAGES = ("en", "de", "sr", "ja", "id", "ms")


@pytest.fixture(scope="module")
def reference() -> LanguageIdentifier:
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(LANGUAGES)
    return model


@pytest.fixture(scope="module")
def model() -> LangId:
    return LangId([*LANGUAGES, "xx"])


def compare(model: LangId, reference: LanguageIdentifier, text: str) -> None:
    (found,) = model.probabilities([text])
    expected = dict(reference.rank(text))
    # Single precision on both sides, summed in another order.
    np.testing.assert_allclose(found, [expected[label] for label in model.labels], atol=1e-4)


@pytest.mark.parametrize("text", TEXTS)
def test_probabilities_are_those_of_py3langid(model: LangId, reference: LanguageIdentifier, text: str) -> None:
    compare(model, reference, text)


def test_texts_of_a_batch_are_apart(model: LangId) -> None:
    texts = [*TEXTS, "", "tea " * 90, "Чай", *TEXTS]
    together = model.probabilities(texts)
    np.testing.assert_array_equal(together, np.concatenate([model.probabilities([text]) for text in texts]))
    assert not len(model.probabilities([]))


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_any_text(model: LangId, reference: LanguageIdentifier, text: str) -> None:
    compare(model, reference, text)


def test_languages_that_the_model_does_not_know_are_passed_over(model: LangId) -> None:
    assert set(model.labels) == set(LANGUAGES)
