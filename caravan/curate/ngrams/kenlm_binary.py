"""KenLM's binary file of a model, as `build_binary` makes it by default (type `probing`): what `kenlm.Model` maps.

After KenLM's lm/binary_format.cc, vocab.cc and search_hashed.cc (https://github.com/kpu/kenlm): a header, a hash table
of words, the single words by id, a hash table of n-grams for each length from 2 on, and the words themselves. Tables
hold 64-bit hashes in place of words, so that n-grams can be looked up in the file but not listed from it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from caravan.core.files import atomic_path
from caravan.curate.kernels import Hashes
from caravan.curate.ngrams.kneser_ney import Floats, Level
from caravan.curate.ngrams.units import Ints, Longs
from caravan.curate.ngrams.vocabulary import UNKNOWN

MAGIC = b"mmap lm http://kheafield.com/code format version 5\n"
ROOM = 1.5  # slots for each entry
# The magic, padded, and numbers that another machine would lay out otherwise; order, room, type 0, that words are at
# the end, version 0.
SANITY, FIXED = struct.Struct("<56s3f3IQ"), struct.Struct("<B3xfI?3xI")
ENTRY = {"key": "<u8", "id": "<u4", "probability": "<f4", "backoff": "<f4"}
FACTORS = np.array([8978948897894561157, 17894857484156487943], np.uint64)  # of what is hashed, and of the next word
MURMUR = 0xC6A4A7935BD1E995
MASK = (1 << 64) - 1


def write_binary(path: Path, names: Sequence[str], levels: Sequence[Level]) -> None:
    """Write a model, to the byte what `build_binary` makes of its ARPA file.

    Args:
        names: words by id, `<unk>`, `<s>` and `</s>` first [v].
        levels: n-grams by length, two at least; contexts and ends of n-grams are n-grams, too.
    """
    spelt = [name.encode() for name in names]
    tables = _tables(levels)
    header = SANITY.pack(MAGIC, 0, 1, -0.5, 1, 0xFFFFFFFF, 0, 1) + FIXED.pack(len(levels), ROOM, 0, True, 0)
    header += struct.pack(f"<{len(levels)}Q", *(len(level.words) for level in levels))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header + bytes(-len(header) % 8))
        file.write(struct.pack("<2I", 0, len(names)) + _words(spelt))
        file.write(tables[0].entries(("probability", "backoff")) + bytes(8))  # room for an <unk> that is no word
        for table in tables[1:-1]:
            file.write(table.entries(("key", "probability", "backoff")))
        file.write(tables[-1].entries(("key", "probability")))
        file.write(b"".join(word + b"\0" for word in spelt))


def murmur(data: bytes) -> int:
    """MurmurHash64A (Austin Appleby, public domain) with seed 0."""
    h = len(data) * MURMUR & MASK
    whole = len(data) // 8 * 8
    for (k,) in struct.iter_unpack("<Q", data[:whole]):
        k = k * MURMUR & MASK
        h = (h ^ ((k ^ (k >> 47)) * MURMUR & MASK)) * MURMUR & MASK
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * MURMUR & MASK
    h = (h ^ (h >> 47)) * MURMUR & MASK
    return h ^ (h >> 47)


def _slots_for(entries: int) -> int:
    """Slots of a table; KenLM multiplies in single precision."""
    return max(entries + 1, int(np.float32(ROOM) * np.float32(entries)))


def _words(spelt: Sequence[bytes]) -> bytes:
    """Table of words; `<unk>` is what is not in it."""
    hashes = np.array([murmur(word) for word in spelt[UNKNOWN + 1 :]], np.uint64)
    keys = np.zeros(_slots_for(len(spelt)), np.uint64)
    table = np.zeros(len(keys), [(name, ENTRY[name]) for name in ("key", "id")])
    table["id"][_find(hashes, keys, True)] = np.arange(UNKNOWN + 1, len(spelt))
    table["key"] = keys
    return table.tobytes()


@dataclass(frozen=True)
class _Table:
    """N-grams of one length: single words by id, longer ones in a hash table.

    Attributes:
        keys: hash of each n-gram [s], 0 where there is none.
        probability: log10 [s], without its sign where longer n-grams end like this one.
        backoff: log10 [s], +0 in place of -0 where longer n-grams begin like this one.
    """

    keys: Hashes
    probability: Floats
    backoff: Floats

    @classmethod
    def of(cls, level: Level) -> _Table:
        n = level.words.shape[1]
        keys = np.zeros(len(level.words) if n == 1 else _slots_for(len(level.words)), np.uint64)
        table = cls(keys, np.zeros(len(keys), np.float32), np.zeros(len(keys), np.float32))
        at = table.slots(level.words, enter=True)
        table.probability[at] = level.values[:, 0] if n == 1 else np.copysign(level.values[:, 0], np.float32(-1))
        table.backoff[at] = np.where(level.values[:, 1] == 0, np.float32(-0.0), level.values[:, 1])
        return table

    def slots(self, words: Ints, enter: bool = False) -> Longs:
        """Slot of each n-gram [m]; of one that is not there, a free one."""
        if words.shape[1] == 1:
            return words[:, 0].astype(np.int64)
        hashes = words[:, -1].astype(np.uint64)
        for column in words.T[-2::-1]:
            hashes = (hashes * FACTORS[0]) ^ ((column.astype(np.uint64) + np.uint64(1)) * FACTORS[1])
        return _find(hashes, self.keys, enter)

    def entries(self, fields: tuple[str, ...]) -> bytes:
        table = np.empty(len(self.keys), [(name, ENTRY[name]) for name in fields])
        for name in fields:
            table[name] = self.keys if name == "key" else getattr(self, name)
        return table.tobytes()


def _tables(levels: Sequence[Level]) -> list[_Table]:
    tables: list[_Table] = []
    for level in levels:
        if tables:
            shorter = tables[-1]
            ends, starts = shorter.slots(level.words[:, 1:]), shorter.slots(level.words[:, :-1])
            shorter.probability[ends] = np.abs(shorter.probability[ends])
            shorter.backoff[starts] += np.float32(0)
        tables.append(_Table.of(level))
    return tables


@njit(nogil=True, cache=True)
def _find(hashes: Hashes, keys: Hashes, enter: bool) -> Longs:
    """Slot of each hash in a table with open addressing [m], or the free one where it would stand, or is entered."""
    found, size = np.empty(len(hashes), np.int64), np.uint64(len(keys))
    for i in range(len(hashes)):
        at = np.int64(hashes[i] % size)
        while keys[at] != hashes[i] and keys[at] != 0:
            at = np.int64((at + 1) % len(keys))
        if enter:
            keys[at] = hashes[i]
        found[i] = at
    return found
