"""Bits per byte: how well a model predicts held-out text, comparable between tokenizers and languages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.artifact import Artifact
from caravan.core.progress import track
from caravan.models.bits import bits_per_byte
from caravan.text.chat import load_tokenizer
from caravan.text.indexed import IndexedDataset

HELDOUT = "packed/heldout"


def heldout_texts(tokenizer: Artifact, language: str, most_bytes: int) -> Iterator[str]:
    """Held-out documents of a language, decoded, until `most_bytes` of UTF-8 are given.

    They come as text, so that a model with another tokenizer is measured on the same bytes.
    """
    decoder = load_tokenizer(tokenizer.path)
    documents = IndexedDataset(tokenizer.path / HELDOUT / language)
    given = 0
    for index in range(len(documents)):
        if given >= most_bytes:
            return
        text = str(decoder.decode(documents[index].tolist(), skip_special_tokens=True))
        given += len(text.encode())
        yield text


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    heldout: Artifact,
    languages: Sequence[str],
    *,
    most_bytes: int,
    length: int,
) -> dict[str, float]:
    """Bits per byte of every language that has held-out text."""
    result = {}
    with track("evaluate held-out text", len(languages), "language") as bar:
        for language in languages:
            if has_heldout(heldout.path, language):
                texts = list(heldout_texts(heldout, language, most_bytes))
                value = bits_per_byte(model, tokenizer, texts, length)
                if value is not None:
                    result[language] = value
            bar.advance()
    return result


def has_heldout(tokenizer: Path, language: str) -> bool:
    return (tokenizer / HELDOUT / f"{language}.idx").is_file()
