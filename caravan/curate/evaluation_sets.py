"""Evaluation sets as hashes of their n-grams, written down once so that all processes search the same pages.

An n-gram is some words in a row; each character of a script without spaces is a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from caravan.core.errors import DataError
from caravan.core.files import atomic_path, read_json, write_json
from caravan.core.log import get_logger
from caravan.core.stage import StageContext
from caravan.curate.characters import UNSPACED, kinds, lower
from caravan.curate.kernels import Hashes, Points, buffers, decode_kinds, roll, split_words
from caravan.curate.readers import read_documents
from caravan.curate.rows import BrokenFileError, Damage
from caravan.curate.shards import Shard, files_of
from caravan.recipe.curate import DecontaminationConfig, TextSource

log = get_logger(__name__)
FOLDER, SETS = "evaluation", "sets.json"
# Of the filter that is asked first; about 1 % of what is not there passes it.
BITS_PER_ANCHOR = 16
WORD_BITS = 64
COMBINING = "[\u0300-\u036f]"

Integers = npt.NDArray[np.int64]


class Grams(NamedTuple):
    """N-grams of evaluation items, as arrays to be searched.

    Attributes:
        bits: Bloom filter of `anchors`: three bits of one of these words each, a power of two of words.
        anchors: hashes of the first words of each n-gram, as many as the shortest n-gram has; sorted.
        follow: which `lengths` n-grams have that begin so: the bits of their places, modulo 64.
        grams: hashes of the n-grams [G], sorted.
        starts: where the items of each n-gram begin in `items` [G + 1].
        items: the items of all n-grams, one n-gram's after the other.
        sizes: n-grams of each item [I]; 0 for one that is too short.
        set_of: evaluation set of each item [I].
        lengths: words in an anchor and in an n-gram that begins with it [K, 2], sorted.
    """

    bits: Hashes
    anchors: Hashes
    follow: Hashes
    grams: Hashes
    starts: Integers
    items: Integers
    sizes: Integers
    set_of: Integers
    lengths: Integers

    @classmethod
    def load(cls, folder: Path) -> Grams:
        """The arrays of a folder, mapped into memory."""
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in cls._fields))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in self._asdict().items():
            with atomic_path(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, values)


@njit(inline="always")
def bits_of(value: np.uint64) -> np.uint64:
    """The three bits of a hash in its word of the filter; the word follows from the lower half."""
    one = np.uint64(1)
    return (
        (one << (value >> np.uint64(58)))
        | (one << ((value >> np.uint64(52)) & np.uint64(63)))
        | (one << ((value >> np.uint64(46)) & np.uint64(63)))
    )


@njit(nogil=True, cache=True)
def add_to_filter(bits: Hashes, values: Hashes) -> None:
    for value in values:
        bits[value & np.uint64(len(bits) - 1)] |= bits_of(value)


@njit(nogil=True, cache=True)
def gram_rows(
    data: npt.NDArray[np.uint8],
    offsets: Integers,
    table: npt.NDArray[np.uint8],
    low: Points,
    most: Integers,
    least: Integers,
    grams: Hashes,
    anchors: Hashes,
    lengths: Integers,
    sizes: Integers,
) -> int:
    """Fill the n-grams of texts one after the other, what each begins with, its `lengths` [.., 2], and how many [n].

    Args:
        most, least: words in an n-gram, and in the shortest text; of words, and of characters without spaces [2].
    """
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points, kind, sizes_of_words = (
        np.empty(longest, np.uint32),
        np.empty(longest, np.uint8),
        np.empty(longest, np.int32),
    )
    hashes = np.empty(longest, np.uint64)
    total = 0
    for row in range(len(offsets) - 1):
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        words = split_words(points, kind, count, low, hashes, sizes_of_words)
        unspaced = int(2 * (kind[:count] == UNSPACED).sum() > words)
        sizes[row] = 0
        if words < least[unspaced]:
            continue
        n = min(most[unspaced], words)
        sizes[row] = many = roll(hashes, words, n, grams[total:])
        roll(hashes, words - n + least[unspaced], least[unspaced], anchors[total:])
        lengths[total : total + many, 0] = least[unspaced]
        lengths[total : total + many, 1] = n
        total += many
    return total


def grams_of(texts: pa.Array, config: DecontaminationConfig) -> tuple[Hashes, Hashes, Integers, Integers]:
    """Hashes of the texts' n-grams and of what they begin with, their lengths [.., 2], and how many each has [n]."""
    data, offsets = buffers(composed(texts, pa.array([True] * len(texts))))
    room = int(offsets[-1] - offsets[0]) + 1
    grams, anchors, lengths = np.empty(room, np.uint64), np.empty(room, np.uint64), np.empty((room, 2), np.int64)
    most, least = np.array([config.n, config.n_characters]), np.array([config.shortest, config.shortest_characters])
    sizes = np.empty(len(texts), np.int64)
    total = gram_rows(data, offsets, kinds(), lower(), most, least, grams, anchors, lengths, sizes)
    return grams[:total], anchors[:total], lengths[:total], sizes


def composed(texts: pa.Array, those: pa.Array) -> pa.Array:
    """Letters and their accents as one character where Unicode has it (NFC), in those texts."""
    return pc.replace_with_mask(texts, those, pc.utf8_normalize(texts.filter(those), form="NFC"))


def shards_of(sets: Iterable[TextSource], ctx: StageContext) -> list[Shard]:
    """The files of the evaluation sets.

    Raises:
        DataError: no file matches.
    """
    return [shard for source in sets for shard in files_of(source, ctx)]


def prepare(config: DecontaminationConfig, shards: list[Shard], folder: Path) -> None:
    """Write the n-grams of evaluation sets into a folder; `sets.json`, written last, says how many items each has.

    Raises:
        DataError: a file cannot be read or has no text.
    """
    if (folder / SETS).is_file():
        return
    parts: list[tuple[Hashes, Hashes, Integers, Integers]] = []
    sets: list[dict[str, Any]] = []
    for shard in shards:
        found = [grams_of(batch["text"], config) for batch in _items(shard)]
        sizes = np.concatenate([part[3] for part in found])
        sets.append({"set": shard.name, "items": len(sizes), "too_short": int((sizes == 0).sum())})
        parts += found
        log.info("evaluation set %s: %d items, %d of them too short to be looked for", *sets[-1].values())
    grams, anchors, lengths, sizes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    set_of = np.repeat(np.arange(len(sets)), [entry["items"] for entry in sets])
    arranged(grams, anchors, lengths, sizes, set_of).save(folder)
    write_json(folder / SETS, sets)


def read_sets(folder: Path) -> list[dict[str, Any]]:
    """Name, items and items too short of each evaluation set that was prepared; none without a folder."""
    file = folder / SETS
    return read_json(file) if file.is_file() else []


def arranged(grams: Hashes, anchors: Hashes, lengths: Integers, sizes: Integers, set_of: Integers) -> Grams:
    """What `grams_of` gives, in the order in which it is searched; an n-gram counts once in an item."""
    item_of = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((item_of, grams))
    grams, item_of = grams[order], item_of[order]
    new = np.ones(len(grams), np.bool_)
    new[1:] = (grams[1:] != grams[:-1]) | (item_of[1:] != item_of[:-1])
    grams, item_of = grams[new], item_of[new]
    different, starts = np.unique(grams, return_index=True)
    lengths, length_of = np.unique(lengths, axis=0, return_inverse=True)
    anchors, anchor_of = np.unique(anchors, return_inverse=True)
    follow = np.zeros(len(anchors), np.uint64)
    np.bitwise_or.at(follow, anchor_of, np.uint64(1) << (length_of.ravel() % WORD_BITS).astype(np.uint64))
    bits = np.zeros(1 << (BITS_PER_ANCHOR * len(anchors) // WORD_BITS).bit_length(), np.uint64)
    add_to_filter(bits, anchors)
    return Grams(
        bits=bits,
        anchors=anchors,
        follow=follow,
        grams=different,
        starts=np.append(starts, len(grams)),
        items=item_of,
        sizes=np.bincount(item_of, minlength=len(sizes)),
        set_of=set_of,
        lengths=lengths,
    )


def _items(shard: Shard) -> Iterator[pa.RecordBatch]:
    """Batches of the items of an evaluation set.

    Raises:
        DataError: the file cannot be read, or has no item with text.
    """
    damage, found = Damage(shard.name), 0
    problem = "no text in the columns that the recipe names"
    try:
        for batch in read_documents(shard, damage):
            found += batch.num_rows
            yield batch
    except BrokenFileError as error:
        found, problem = 0, str(error)
    if not found:
        raise DataError(
            "an evaluation set cannot be read",
            where=shard.name,
            expected="items with text in Parquet, JSON lines or plain text",
            got=damage.listed[0].problem if damage.listed else problem,
            fix="name its columns under `columns: {text: ...}` of this set, or repair the file",
        )
    if damage.rows:
        log.warning("evaluation set %s: %d rows without text are not looked for", shard.name, damage.rows)
