"""Stop words: the words that any text of a language is full of, and that lists and noise lack (Gopher).

The lists are counted, not chosen: `benchmarks/stop_words.py` makes `stopwords.yaml`.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import yaml
from numba import njit

from caravan.curate.characters import kinds, lower
from caravan.curate.kernels import GOLDEN, Hashes, mix, split_words

SIZE = 512  # of a table, for some 200 words


@functools.cache
def stop_words() -> dict[str, tuple[str, ...]]:
    """The list of each language."""
    text = Path(__file__).with_name("stopwords.yaml").read_text(encoding="utf-8")
    return {language: tuple(words.split()) for language, words in yaml.safe_load(text).items()}


@functools.cache
def stop_table(language: str) -> Hashes:
    """The hashes of a language's stop words, with open addressing; all 0 where there is no list."""
    table = np.zeros(SIZE, np.uint64)
    for word in stop_words().get(language, ()):
        points = np.array([ord(character) for character in word], np.uint32)
        hashes, lengths = np.zeros(len(word), np.uint64), np.zeros(len(word), np.int32)
        words = split_words(points, kinds()[points], len(points), lower(), hashes, lengths)
        _add(np.uint64(hashes[0] if words == 1 else _pair(hashes[0], hashes[1])), table)
    return table


@njit(inline="always")
def _pair(first: np.uint64, second: np.uint64) -> np.uint64:
    return mix(first * GOLDEN + second)


@njit(inline="always")
def _slot(key: np.uint64, table: Hashes) -> np.int64:
    slot = np.int64(key & np.uint64(SIZE - 1))
    while table[slot] != np.uint64(0) and table[slot] != key:
        slot = (slot + 1) & (SIZE - 1)
    return slot


@njit(nogil=True, cache=True)
def _add(key: np.uint64, table: Hashes) -> None:
    table[_slot(key, table)] = key


@njit(nogil=True, cache=True)
def count_stop_words(hashes: Hashes, words: int, pairs: bool, table: Hashes) -> int:
    """How many words are stop words, or with `pairs` one of two that are together; -1 where there is no list."""
    if not table.any():
        return -1
    total, counted = 0, -1
    for i in range(words):
        if pairs and i and table[_slot(_pair(hashes[i - 1], hashes[i]), table)]:
            total += 1 if counted == i - 1 else 2
            counted = i
        elif not pairs and table[_slot(hashes[i], table)]:
            total += 1
    return total
