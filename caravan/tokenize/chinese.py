"""Chinese by words: where jieba's dictionary has them, in Simplified and in Traditional characters."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any

from caravan.core.errors import MissingDependencyError
from caravan.recipe.tokenize import ChineseConfig

CHINESE = "zh"
# Stands between words while a vocabulary is learnt, and nowhere in text.
BREAK = "\x1f"
_RUN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]+")


def need_segmenter() -> None:
    """See that what cuts and converts Chinese is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    for package in ("rjieba", "opencc"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, "data", needed_for="learning Chinese by words")


class Words:
    """Cuts Chinese text into words and counts them.

    Attributes:
        counts: how often each word came, in Simplified characters.
    """

    def __init__(self, config: ChineseConfig) -> None:
        need_segmenter()
        import opencc
        import rjieba

        self.config = config
        self.counts: Counter[str] = Counter()
        self.lines = 0
        self._cut: Any = rjieba.cut
        self.simplified: Any = opencc.OpenCC("t2s").convert
        self.traditional: Any = opencc.OpenCC("s2t").convert

    def broken(self, lines: Iterable[str]) -> list[str]:
        """The lines with breaks around words; with `both_scripts` in Simplified and Traditional by turns."""
        return [self._broken(line) for line in lines]

    def _broken(self, line: str) -> str:
        self.lines += 1
        if self.config.both_scripts:
            line = self.traditional(line) if self.lines % 2 else self.simplified(line)
        return _RUN.sub(lambda run: f"{BREAK}{BREAK.join(self.cut(run[0]))}{BREAK}", line)

    def cut(self, run: str) -> list[str]:
        """The words of a run of ideographs; what the dictionary does not know is cut into single characters."""
        plain = self.simplified(run)
        found = self._cut(plain, hmm=False)
        self.counts.update(found)
        if len(plain) != len(run):
            return self._cut(run, hmm=False)
        ends = [0, *accumulate(map(len, found))]
        return [run[start:end] for start, end in pairwise(ends)]

    def chosen(self, least: int) -> list[str]:
        """The most frequent words that came `least` times, in both ways of writing where both are learnt."""
        frequent = [word for word, count in self.counts.most_common(self.config.words) if count >= least]
        forms = [*frequent, *map(self.traditional, frequent)] if self.config.both_scripts else frequent
        return list(dict.fromkeys(forms))
