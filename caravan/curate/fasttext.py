"""fastText's supervised models with hierarchical softmax, such as lid.176.ftz, read and run over Arrow text buffers.

The method and file format are fastText's (Joulin et al. 2016, arXiv 1607.01759 and 1612.03651;
github.com/facebookresearch/fastText): the mean of the vectors of words and their character n-grams, then a Huffman
tree of logistic decisions over the labels. One text takes a tenth of the time it takes in C++ behind Python.
"""

from __future__ import annotations

import heapq
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.core.errors import ModelError
from caravan.curate.kernels import FNV_OFFSET, FNV_PRIME, Hashes, buffers

MAGIC = 793712314
HIERARCHICAL_SOFTMAX = 1
LABEL, LABEL_PREFIX, END = 1, "__label__", b"</s>"
CENTROIDS = 256
NGRAM_OFFSET, NGRAM_PRIME = np.uint32(2166136261), np.uint32(16777619)
OPEN, CLOSE = 60, 62  # < and > around a word
PIECES = 3
BUFFER = 1 << 12  # rows of vectors that are found before they are added
EPSILON = 1e-5  # fastText adds it to each decision

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


class Vocabulary(NamedTuple):
    """Vectors of words and n-grams, and how to find them; kernels take it whole.

    Attributes:
        vectors: of words, then of n-grams that survived pruning [rows, dim].
        word_keys, word_rows: hash table of words with open addressing, row -1 where free.
        ngram_rows: row of each bucket of n-grams, -1 where pruned.
        kept: a bit for each bucket, packed: most n-grams end here, in a table that fits the cache.
        shortest, longest: n-grams, in characters.
        end: row of the end of a line, which every text has; -1 for none.
    """

    vectors: Floats
    word_keys: Hashes
    word_rows: Ints
    ngram_rows: Ints
    kept: Bytes
    shortest: int
    longest: int
    end: int


@dataclass(frozen=True)
class FastText:
    """A model.

    Attributes:
        labels: without their prefix [L].
        vocabulary: what it knows of text.
        nodes: vectors of the inner nodes of the label tree [L - 1, dim].
        children: of each inner node, the negative and the positive one [L - 1, 2]; from L on they are inner nodes.
    """

    labels: tuple[str, ...]
    vocabulary: Vocabulary
    nodes: Floats
    children: Ints

    @classmethod
    def load(cls, path: Path) -> FastText:
        """Read a `.bin` or `.ftz` file.

        Raises:
            ModelError: another kind of file, or a model of another kind than lid.176's.
        """
        with path.open("rb") as file:
            magic, _ = _numbers(file, "2i")
            if magic != MAGIC:
                raise _unfit(path, "a fastText model", "another file")
            sizes = _numbers(file, "12i")
            word_ngrams, loss, bucket, shortest, longest = (sizes[index] for index in (5, 6, 8, 9, 10))
            if loss != HIERARCHICAL_SOFTMAX or word_ngrams != 1:
                raise _unfit(
                    path, "hierarchical softmax over single words", f"loss {loss}, {word_ngrams}-grams of words"
                )
            _numbers(file, "d")
            words, labels, counts, pruned = _dictionary(file)
            (quantised,) = _numbers(file, "?")
            vectors = _quantised(file) if quantised else _matrix(file)
            (quantised,) = _numbers(file, "?")
            outputs = _matrix(file)
        ngram_rows = np.full(bucket, -1, np.int32)
        if len(pruned):
            ngram_rows[pruned[:, 0]] = len(words) + pruned[:, 1]
        else:
            ngram_rows[:] = len(words) + np.arange(bucket)
        kept = np.packbits(ngram_rows >= 0, bitorder="little")
        end = words.index(END) if END in words else -1
        vocabulary = Vocabulary(vectors, *_word_table(words), ngram_rows, kept, shortest, longest, end)
        return cls(tuple(labels), vocabulary, outputs[: len(labels) - 1], label_tree(counts))

    def probabilities(self, texts: pa.Array, piece: int = 0) -> Floats:
        """Probability of each label for each text [n, L]; zeros for a text in which the model knows nothing.

        Args:
            texts: valid UTF-8 strings [n], no nulls; line breaks count as blanks.
            piece: bytes looked at in each of three places of a longer text; 0: all of it.
        """
        out = np.zeros((len(texts), len(self.labels)), np.float32)
        if len(texts):
            data, offsets = buffers(texts)
            _predict(data, offsets, piece, self.vocabulary, self.nodes, self.children, out)
        return out


def _unfit(path: Path, expected: str, got: str) -> ModelError:
    return ModelError(
        "this model cannot identify languages",
        where=str(path),
        expected=expected,
        got=got,
        fix="use lid.176.ftz or lid.176.bin of fasttext.cc",
    )


def _numbers(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    """Little-endian numbers, laid out as `struct` writes it."""
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def _dictionary(file: BinaryIO) -> tuple[list[bytes], list[str], list[int], npt.NDArray[np.int32]]:
    """Words, labels, how often each label came in training, and the pruned n-grams (bucket, row) [k, 2]."""
    size, _, _ = _numbers(file, "3i")
    _, pruned = _numbers(file, "2q")
    words: list[bytes] = []
    labels: list[str] = []
    counts: list[int] = []
    for _ in range(size):
        word = bytearray()
        while (byte := file.read(1)) not in (b"\0", b""):
            word += byte
        count, kind = _numbers(file, "qb")
        if kind == LABEL:
            labels.append(word.decode().removeprefix(LABEL_PREFIX))
            counts.append(count)
        else:
            words.append(bytes(word))
    pairs = np.frombuffer(file.read(8 * max(0, pruned)), "<i4").reshape(-1, 2)
    return words, labels, counts, pairs


def _matrix(file: BinaryIO) -> Floats:
    rows, columns = _numbers(file, "2q")
    return np.frombuffer(file.read(4 * rows * columns), "<f4").reshape(rows, columns)


def _quantised(file: BinaryIO) -> Floats:
    """A matrix stored as codes of a product quantiser, and perhaps its rows' norms as codes of another."""
    (with_norms,) = _numbers(file, "?")
    rows, columns = _numbers(file, "2q")
    (size,) = _numbers(file, "i")
    codes = np.frombuffer(file.read(size), np.uint8)
    matrix = _decoded(file, codes.reshape(rows, -1), columns)
    if with_norms:
        norms = np.frombuffer(file.read(rows), np.uint8)
        matrix = matrix * _decoded(file, norms.reshape(rows, 1), 1)
    return matrix


def _decoded(file: BinaryIO, codes: Bytes, columns: int) -> Floats:
    """Rows from the codes of their parts; the last part may be narrower than the others."""
    _, parts, width, last = _numbers(file, "4i")
    centroids = np.frombuffer(file.read(4 * columns * CENTROIDS), "<f4")
    out = np.empty((len(codes), columns), np.float32)
    for part in range(parts):
        start, wide = part * width, last if part == parts - 1 else width
        table = centroids[start * CENTROIDS : start * CENTROIDS + wide * CENTROIDS].reshape(CENTROIDS, wide)
        out[:, start : start + wide] = table[codes[:, part]]
    return out


def label_tree(counts: list[int]) -> Ints:
    """Huffman's tree over labels: the negative and the positive child of each inner node [L - 1, 2].

    Inner nodes are numbered from the number of labels on, in the order in which they are joined, the root last.
    """
    # Of equal counts an inner node comes first, the older before the younger; of leaves the later label.
    heap = [(count, 1, -leaf, leaf) for leaf, count in enumerate(counts)]
    heapq.heapify(heap)
    children = np.empty((len(counts) - 1, 2), np.int32)
    for inner in range(len(children)):
        (first, *_, left), (second, *_, right) = heapq.heappop(heap), heapq.heappop(heap)
        children[inner] = left, right
        heapq.heappush(heap, (first + second, 0, inner, len(counts) + inner))
    return children


def _word_table(words: list[bytes]) -> tuple[Hashes, Ints]:
    size = 1 << (4 * len(words)).bit_length()
    keys, rows = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    data, offsets = buffers(pa.array(words, pa.large_binary()))
    _fill_table(data, offsets, keys, rows)
    return keys, rows


@njit(nogil=True, cache=True)
def hash_word(data: Bytes, start: int, end: int) -> np.uint64:
    """FNV-1a of bytes, 64 bits."""
    h = FNV_OFFSET
    for i in range(start, end):
        h = (h ^ np.uint64(data[i])) * FNV_PRIME
    return h


@njit(nogil=True, cache=True)
def _fill_table(data: Bytes, offsets: npt.NDArray[np.int64], keys: Hashes, rows: Ints) -> None:
    """Enter each word and its row into a table with open addressing."""
    for row in range(len(offsets) - 1):
        key = hash_word(data, offsets[row], offsets[row + 1])
        slot = np.int64(key & np.uint64(len(keys) - 1))
        while rows[slot] >= 0:
            slot = (slot + 1) & (len(keys) - 1)
        keys[slot], rows[slot] = key, row


@njit(inline="always")
def _blank(byte: np.uint8) -> bool:
    return bool(byte == 32 or 9 <= byte <= 13 or byte == 0)


@njit(inline="always")
def _inside(byte: np.uint8) -> bool:
    """Whether a byte goes on with a character that began before it."""
    return bool((byte & 0xC0) == 0x80)


@njit(inline="always")
def _step(h: np.uint32, byte: np.uint8) -> np.uint32:
    """fastText's hash takes bytes as signed."""
    return np.uint32((h ^ np.uint32(np.int32(np.int8(byte)))) * NGRAM_PRIME)


@njit(nogil=True, cache=True)
def _add(hidden: Floats, vectors: Floats, rows: Ints) -> None:
    for row in rows:
        for d in range(len(hidden)):
            hidden[d] += vectors[row, d]


@njit(nogil=True, cache=True)
def _find_rows(data: Bytes, start: int, end: int, word: Bytes, known: Vocabulary, rows: Ints) -> tuple[int, int]:
    """Rows of the words between two bytes and of their n-grams, while there is room; how many, and the next byte."""
    # Each use of a field of a tuple counts references.
    kept, ngram_rows, word_keys, word_rows = known.kept, known.ngram_rows, known.word_keys, known.word_rows
    shortest, longest = known.shortest, known.longest
    buckets, mask = np.uint32(len(ngram_rows)), len(word_keys) - 1
    found = 0
    i = start
    while i < end:
        if _blank(data[i]):
            i += 1
            continue
        first, size = i, 1
        while i < end and not _blank(data[i]):
            word[size] = data[i]
            size += 1
            i += 1
        if found and found + 1 + (longest - shortest + 1) * size > len(rows):
            return found, first
        key = hash_word(data, first, i)
        slot = np.int64(key & np.uint64(mask))
        while word_rows[slot] >= 0 and word_keys[slot] != key:
            slot = (slot + 1) & mask
        if word_rows[slot] >= 0:
            rows[found] = word_rows[slot]
            found += 1
        word[0], word[size] = OPEN, CLOSE
        size += 1
        for begin in range(size):
            if _inside(word[begin]):
                continue
            h = NGRAM_OFFSET
            at, characters = begin, 0
            while at < size and characters < longest:
                h = _step(h, word[at])
                at += 1
                while at < size and _inside(word[at]):
                    h = _step(h, word[at])
                    at += 1
                characters += 1
                if characters >= shortest and not (characters == 1 and (begin == 0 or at == size)):
                    bucket = h % buckets
                    if (kept[bucket >> np.uint32(3)] >> (bucket & np.uint32(7))) & 1:
                        rows[found] = ngram_rows[bucket]
                        found += 1
    return found, i


@njit(nogil=True, cache=True)
def _walk_tree(hidden: Floats, nodes: Floats, children: Ints, reached: Doubles, out: Floats) -> None:
    """Probability of each label: the product of the decisions on the way to it from the root, the last node."""
    many = len(out)
    reached[2 * many - 2] = 1.0
    for node in range(many - 2, -1, -1):
        z = np.float32(0)
        for d in range(len(hidden)):
            z += nodes[node, d] * hidden[d]
        yes = 1 / (1 + np.exp(-z))
        reached[children[node, 0]] = reached[many + node] * (1 - yes + EPSILON)
        reached[children[node, 1]] = reached[many + node] * (yes + EPSILON)
    out[:] = reached[:many]


@njit(nogil=True, cache=True)
def _predict(
    data: Bytes,
    offsets: npt.NDArray[np.int64],
    piece: int,
    known: Vocabulary,
    nodes: Floats,
    children: Ints,
    out: Floats,
) -> None:
    """Fill the probability of each label for each text [n, L]."""
    hidden, reached = np.empty(known.vectors.shape[1], np.float32), np.empty(2 * out.shape[1] - 1)
    longest = (offsets[1:] - offsets[:-1]).max()
    if piece:
        longest = min(longest, (PIECES + 1) * piece + 8)
    word = np.empty(longest + 2, np.uint8)
    # Room for one word at least, however long.
    rows = np.empty(max(BUFFER, 1 + (known.longest - known.shortest + 1) * len(word)), np.int32)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        pieces = PIECES if 0 < PIECES * piece < end - start else 1
        hidden[:] = 0
        added = 0
        for k in range(pieces):
            first = start + (end - start - piece) * k // 2 if pieces > 1 else start
            last = first + piece if pieces > 1 else end
            while _inside(data[first]) and first > start:
                first -= 1
            while last < end and _inside(data[last]):
                last += 1
            while first < last:
                found, first = _find_rows(data, first, last, word, known, rows)
                _add(hidden, known.vectors, rows[:found])
                added += found
        if not added:
            continue
        if known.end >= 0:
            _add(hidden, known.vectors, np.array([known.end], np.int32))
            added += 1
        hidden /= np.float32(added)
        _walk_tree(hidden, nodes, children, reached, out[row])
