"""Text to packed tokens: a `.bin`/`.idx` pair for each language, held-out text and parallel text.

A document ends with the end-of-text token. Parallel text is one file for two languages: document 2i is a sentence in
the first of them, document 2i + 1 the same in the second, both without an end, so that training can draw a direction.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer

from caravan.core.errors import ModelError
from caravan.core.progress import track
from caravan.text.indexed import IndexedDataset, IndexedWriter, token_dtype
from caravan.tokenize.corpus import Corpus


def load_fast(out: Path) -> Tokenizer:
    """The tokenizer of a folder; special tokens that stand in text are read as plain text."""
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def pack(corpus: Corpus, tokenizer: Tokenizer, end: str, packed: Path) -> dict[str, int]:
    """Encode the whole corpus; files that are there already are finished.

    Args:
        end: the token that ends a document.
        packed: folder to write `<language>`, `pair-<a>-<b>` and `heldout/<language>` to.

    Returns:
        tokens of each file, by name.

    Raises:
        ModelError: the tokenizer lacks that token.
    """
    end_id = tokenizer.token_to_id(end)
    if end_id is None:
        raise ModelError("the token that ends a document is not in the vocabulary", expected=end, got="no such token")
    names = [*corpus.languages, *(f"pair-{a}-{b}" for a, b in corpus.pairs)]
    total = sum(map(corpus.count, corpus.languages)) + sum(map(corpus.count_pairs, corpus.pairs))
    with track("pack", total, "doc") as bar:
        for language in corpus.languages:
            if not (packed / f"{language}.idx").is_file():
                _pack_language(corpus, language, tokenizer, [end_id], packed)
            bar.advance(corpus.count(language))
        for pair in corpus.pairs:
            path = packed / f"pair-{pair[0]}-{pair[1]}"
            if not path.with_suffix(".idx").is_file():
                _pack_pair(corpus, pair, tokenizer, path)
            bar.advance(corpus.count_pairs(pair))
    return {name: int(IndexedDataset(packed / name).lengths.sum()) for name in names}


def _pack_language(corpus: Corpus, language: str, tokenizer: Tokenizer, end: list[int], packed: Path) -> None:
    """Write a language's two files; that of the text to learn from comes last."""
    dtype = token_dtype(tokenizer.get_vocab_size())
    with (
        IndexedWriter(packed / language, dtype) as learnt,
        IndexedWriter(packed / "heldout" / language, dtype) as heldout,
    ):
        for texts, held in corpus.documents(language):
            _add(learnt, tokenizer, texts, end)
            _add(heldout, tokenizer, held, end)


def _pack_pair(corpus: Corpus, pair: tuple[str, str], tokenizer: Tokenizer, path: Path) -> None:
    with IndexedWriter(path, token_dtype(tokenizer.get_vocab_size())) as writer:
        for sentences in corpus.parallel(pair):
            _add(writer, tokenizer, list(chain.from_iterable(sentences)), [])


def _add(writer: IndexedWriter, tokenizer: Tokenizer, texts: list[str], end: list[int]) -> None:
    for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        writer.add(encoding.ids + end)
