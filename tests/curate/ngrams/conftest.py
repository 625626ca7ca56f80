"""Plain-Python references: interpolated modified Kneser-Ney by its definition, and scoring by backing off."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

Gram = tuple[str, ...]
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
MARKS = (UNKNOWN, BEGIN, END)


def units(text: str) -> list[list[str]]:
    """Words of each line, as models see text without marks, in scripts with spaces."""
    lines = (re.findall(r"\w+", line.lower()) for line in text.splitlines())
    return [[re.sub(r"\d", "0", word) for word in line] for line in lines if line]


def discounts(counts: Sequence[int]) -> list[float]:
    n = Counter(counts)
    if not all(n[i] for i in (1, 2, 3)):
        return [0, 0.5, 1, 1.5]
    y = n[1] / (n[1] + 2 * n[2])
    found = [0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))]
    return found if all(0 <= d <= i for i, d in enumerate(found)) else [0, 0.5, 1, 1.5]


class Reference:
    """A model of lines of words, words out of the vocabulary being `<unk>`.

    Attributes:
        probability: of the last word of each n-gram after the others; `backoff`: weight of each n-gram as a context.
    """

    def __init__(self, lines: list[list[str]], vocabulary: set[str], order: int, prune: Sequence[int]) -> None:
        self.order, self.vocabulary = order, vocabulary | {END, UNKNOWN}
        count: Counter[Gram] = Counter()
        before: dict[Gram, set[str]] = defaultdict(set)
        for line in lines:
            padded = [BEGIN, *(word if word in vocabulary else UNKNOWN for word in line), END]
            for end in range(1, len(padded) + 1):
                for n in range(1, min(order, end) + 1):
                    gram = tuple(padded[end - n : end])
                    if gram == (BEGIN,) or UNKNOWN in gram:
                        continue
                    count[gram] += 1
                    if end > n:
                        before[gram].add(padded[end - n - 1])
        self.probability: dict[Gram, float] = {}
        self.backoff: dict[Gram, float] = {}
        for n in range(1, order + 1):
            raw = {gram for gram in count if n == order or gram[0] == BEGIN}
            adjusted = {g: count[g] if g in raw else len(before[g]) for g in count if len(g) == n}
            self._estimate(adjusted, {g for g in adjusted if count[g] <= (0, 0, *prune)[n]})

    def _estimate(self, adjusted: dict[Gram, int], pruned: set[Gram]) -> None:
        taken = discounts(list(adjusted.values()))
        contexts: dict[Gram, list[Gram]] = defaultdict(list)
        for gram in adjusted:
            contexts[gram[:-1]].append(gram)
        for context, grams in contexts.items():
            total = sum(adjusted[gram] for gram in grams)
            left = sum(adjusted[g] if g in pruned else taken[min(3, adjusted[g])] for g in grams)
            self.backoff[context] = left / total
            for gram in grams:
                own = 0 if gram in pruned else (adjusted[gram] - taken[min(3, adjusted[gram])]) / total
                lower = self.of(gram[1:]) if context else 1 / len(self.vocabulary)
                if gram not in pruned:
                    self.probability[gram] = own + self.backoff[context] * lower
        if () in contexts:
            for word in self.vocabulary:
                self.probability.setdefault((word,), self.backoff[()] / len(self.vocabulary))

    def of(self, gram: Gram) -> float:
        """Probability of the last word after the others, which may be any words."""
        if gram in self.probability:
            return self.probability[gram]
        if len(gram) == 1:
            return self.probability[(UNKNOWN,)]
        return self.backoff.get(gram[:-1], 1.0) * self.of(gram[1:])

    def score(self, line: list[str]) -> float:
        """Log10 probability of a line and its end."""
        padded = [BEGIN, *(word if word in self.vocabulary else UNKNOWN for word in line), END]
        return sum(
            math.log10(self.of(tuple(padded[max(0, end - self.order) : end]))) for end in range(2, len(padded) + 1)
        )
