from __future__ import annotations

import pytest

from caravan.core.artifact import Artifact
from caravan.tokenize.corpus import Corpus
from tests.tokenize.conftest import DOCUMENTS, texts


def test_every_document_is_either_learnt_or_held_out(corpus: Artifact) -> None:
    for language in DOCUMENTS:
        batches = list(Corpus(corpus.path, 0.05).documents(language))
        learnt = [text for batch, _ in batches for text in batch]
        held = [text for _, batch in batches for text in batch]
        assert sorted(learnt + held) == sorted(texts(language))
        assert held == texts(language)[19::20]


def test_a_small_language_still_holds_one_out(corpus: Artifact) -> None:
    assert [held for _, batch in Corpus(corpus.path, 0.001).documents("de") for held in batch] == texts("de")[-1:]


def test_languages_pairs_and_counts(corpus: Artifact) -> None:
    read = Corpus(corpus.path, 0.01)
    assert read.languages == ["de", "en", "zh"]
    assert read.pairs == [("en", "zh")]
    assert {language: read.count(language) for language in read.languages} == DOCUMENTS
    assert read.count_pairs(("en", "zh")) == 30


def test_bytes_count_documents_and_sides_of_pairs(corpus: Artifact) -> None:
    expected = sum(len(text.encode()) for text in texts("zh") + texts("zh")[:30])
    assert Corpus(corpus.path, 0.01).bytes("zh") == expected


def test_text_to_learn_from_leaves_held_out_documents_aside(corpus: Artifact) -> None:
    learnt = [text for batch in Corpus(corpus.path, 0.1).learnt("de") for text in batch]
    assert learnt == [text for place, text in enumerate(texts("de")) if place % 10 != 9]


@pytest.mark.parametrize("part", ["kept", "pairs"])
def test_an_absent_part_is_empty(tmp_path_factory: pytest.TempPathFactory, part: str) -> None:
    empty = Corpus(tmp_path_factory.mktemp(part), 0.01)
    assert (empty.languages, empty.pairs) == ([], [])
