from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from caravan.core.artifact import Artifact
from caravan.tokenize.bpe import BYTE_PIECES, LETTERS, piece_of
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.fertility import counter, fertility, measure, page
from tests.tokenize.conftest import texts


def words(batch: list[str]) -> tuple[int, int]:
    return sum(len(text.split()) for text in batch), len(batch)


def test_rates_are_those_of_the_held_out_text(corpus: Artifact) -> None:
    report = fertility(measure(Corpus(corpus.path, 0.05), {"caravan": words}))
    held = texts("de")[19::20]
    german = report["de"]
    assert german["documents"] == len(held)
    assert german["bytes"] == len("".join(held).encode())
    assert german["characters"] == len("".join(held))
    ours = german["tokenizers"]["caravan"]
    assert ours["tokens"] == german["words"] == words(held)[0]
    assert ours["tokens_per_word"] == 1
    assert ours["tokens_per_byte"] == round(words(held)[0] / german["bytes"], 4)


def test_bytes_and_characters_are_the_baselines(corpus: Artifact) -> None:
    chinese = fertility(measure(Corpus(corpus.path, 0.05), {"caravan": words}))["zh"]
    assert chinese["tokenizers"]["bytes"]["tokens_per_byte"] == 1
    assert chinese["tokenizers"]["characters"]["tokens_per_character"] == 1
    assert chinese["words"] is chinese["tokenizers"]["bytes"]["tokens_per_word"] is None


def test_relative_numbers_are_to_the_baseline(corpus: Artifact) -> None:
    def twice(batch: list[str]) -> tuple[int, int]:
        return 2 * words(batch)[0], 0

    measured = measure(Corpus(corpus.path, 0.05), {"caravan": words, "theirs": twice})
    for language in ("de", "zh"):
        ours, theirs = (fertility(measured, "theirs")[language]["tokenizers"][name] for name in ("caravan", "theirs"))
        assert (ours["relative"], theirs["relative"]) == (0.5, 1)
    assert fertility(measured)["de"]["tokenizers"]["caravan"]["relative"] == ours_by_bytes(measured["de"])
    drawn = page(fertility(measured, "theirs"), "theirs")
    assert drawn.count("<svg") == 2
    assert "tokens, theirs = 1" in drawn


def ours_by_bytes(sizes: dict[str, Any]) -> float:
    return round(sizes["tokens"]["caravan"] / sizes["bytes"], 4)


def byte_level(*words: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(words * 3, trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    vocabulary = {"<unk>": 0, "a": 1} | {piece: 2 + place for place, piece in enumerate(BYTE_PIECES)}
    return Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))


@pytest.mark.parametrize(
    ("tokenizer", "text", "expected"),
    [
        (byte_level("é"), "é a", (3, 0)),
        (byte_level("é"), "中a", (4, 3)),
        (byte_level("é"), "a<|endoftext|>", (14, 0)),
        (sentencepiece(), "a中a", (5, 3)),
        (Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")), "中", (1, 1)),
        (Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)), "a中", (2, 1)),
    ],
)
def test_tokens_that_hold_less_than_a_character_are_counted(
    tokenizer: Tokenizer, text: str, expected: tuple[int, int]
) -> None:
    assert counter(tokenizer)([text]) == expected
    assert counter(tokenizer)([]) == (0, 0)


def test_letters_of_bytes_are_those_of_the_tokenizers_library() -> None:
    assert set(LETTERS.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    for text in ("aé中\n \x00\x7f", "🙂\u00ad\u00a0"):
        split = pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(text)
        assert piece_of(text, by_rank=False) == "".join(part for part, _ in split)


def test_the_page_has_a_plot_and_every_tokenizer(corpus: Artifact) -> None:
    report = fertility(measure(Corpus(corpus.path, 0.05), {"caravan": words, "<other>": words}))
    drawn = page(report)
    assert "<svg" in drawn
    assert "&lt;other&gt;" in drawn
    assert drawn == page(report)


def test_nothing_held_out_is_said() -> None:
    assert "No document was held out" in page({})
