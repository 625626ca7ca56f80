"""Text to learn a vocabulary from: each language as often as its share to the power alpha says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from caravan.core.errors import DataError
from caravan.core.progress import track
from caravan.recipe.tokenize import TokenizeConfig
from caravan.tokenize.chinese import CHINESE, Words
from caravan.tokenize.corpus import Corpus

KILOBYTE = 1 << 10


def shares(sizes: dict[str, int], alpha: float, budget: int) -> dict[str, float]:
    """How often each language's text is shown: budget * p ** alpha / sum(p ** alpha) over its bytes, p its share.

    The exponent is that of XLM-R (arXiv 1911.02116); the budget is never more than all the text.
    """
    total = sum(sizes.values())
    weights = {language: (size / total) ** alpha for language, size in sizes.items() if size}
    scale = min(budget, total) / sum(weights.values())
    return {language: scale * weight / sizes[language] for language, weight in weights.items()}


def sample(config: TokenizeConfig, corpus: Corpus, words: Words | None = None) -> Iterator[list[str]]:
    """Batches of lines, each language as often as its share says; the same lines every time.

    With `words`, breaks stand between the words of Chinese lines.
    """
    named = sorted({*corpus.languages, *(language for pair in corpus.pairs for language in pair)})
    sizes = {language: corpus.bytes(language) for language in named}
    if not sum(sizes.values()):
        raise DataError(
            "the corpus is empty",
            where=str(corpus.folder),
            expected="documents under kept/, or parallel text under pairs/",
            got="none",
            fix="run the curate stage on sources with text",
        )
    often = shares(sizes, config.alpha, config.train_bytes)
    total = sum(round(often[language] * sizes[language]) for language in often)
    with track("vocabulary", total // KILOBYTE, "kB") as bar:
        for language, times in often.items():
            # Of every line so many bytes are owed; it is shown when its whole length is.
            owed = 0.0
            for texts in corpus.learnt(language):
                shown: list[str] = []
                for line in (line for text in texts for line in text.splitlines(keepends=True)):
                    length = len(line.encode())
                    owed += times * length
                    while owed >= length:
                        shown.append(line)
                        owed -= length
                yield words.broken(shown) if words is not None and language == CHINESE else shown
                bar.advance(sum(map(len, shown)) // KILOBYTE)


def letters(batches: Iterable[list[str]], coverage: float) -> list[str]:
    """The most frequent characters that make up this share of the text."""
    counts: Counter[str] = Counter()
    for lines in batches:
        for line in lines:
            counts.update(line)
    left = coverage * counts.total()
    chosen: list[str] = []
    for letter, count in counts.most_common():
        if left <= 0:
            break
        chosen.append(letter)
        left -= count
    return chosen
