from __future__ import annotations

from caravan.core.artifact import Artifact
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.fertility import fertility, measure, page
from tests.tokenize.conftest import texts


def words(batch: list[str]) -> int:
    return sum(len(text.split()) for text in batch)


def test_rates_are_those_of_the_held_out_text(corpus: Artifact) -> None:
    report = fertility(measure(Corpus(corpus.path, 0.05), {"caravan": words}))
    held = texts("de")[19::20]
    german = report["de"]
    assert german["documents"] == len(held)
    assert german["bytes"] == len("".join(held).encode())
    assert german["characters"] == len("".join(held))
    ours = german["tokenizers"]["caravan"]
    assert ours["tokens"] == german["words"] == words(held)
    assert ours["tokens_per_word"] == 1
    assert ours["tokens_per_byte"] == round(words(held) / german["bytes"], 4)


def test_bytes_and_characters_are_the_baselines(corpus: Artifact) -> None:
    chinese = fertility(measure(Corpus(corpus.path, 0.05), {"caravan": words}))["zh"]
    assert chinese["tokenizers"]["bytes"]["tokens_per_byte"] == 1
    assert chinese["tokenizers"]["characters"]["tokens_per_character"] == 1
    assert chinese["words"] is chinese["tokenizers"]["bytes"]["tokens_per_word"] is None


def test_the_page_has_a_plot_and_every_tokenizer(corpus: Artifact) -> None:
    report = fertility(measure(Corpus(corpus.path, 0.05), {"caravan": words, "<other>": words}))
    drawn = page(report)
    assert "<svg" in drawn
    assert "&lt;other&gt;" in drawn
    assert drawn == page(report)


def test_nothing_held_out_is_said() -> None:
    assert "No document was held out" in page({})
