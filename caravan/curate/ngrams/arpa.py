"""ARPA files, in which n-gram models are exchanged (KenLM, SRILM, IRSTLM): one n-gram a line with log10 probability
and backoff weight; plain or compressed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from caravan.core.errors import DataError
from caravan.core.files import atomic_path
from caravan.curate.kernels import GOLDEN
from caravan.curate.ngrams.kneser_ney import NEVER, Level
from caravan.curate.ngrams.vocabulary import NAMES

CHUNK = 1 << 16
BLANKS = re.compile("[ \t]+")
LOWER_CASE = {"<UNK>": "<unk>", "<S>": "<s>", "</S>": "</s>"}


def write_arpa(path: Path, names: Sequence[str], levels: Sequence[Level]) -> None:
    """Write a model; a suffix `.gz`, `.bz2` or `.zst` compresses it.

    Args:
        names: words by id [v].
        levels: n-grams by length.
    """
    words = pa.array(names)
    with atomic_path(path) as temporary, _output(temporary, path.suffix) as file:
        sizes = "".join(f"ngram {n}={len(level.words)}\n" for n, level in enumerate(levels, 1))
        file.write(f"\\data\\\n{sizes}".encode())
        for n, level in enumerate(levels, 1):
            file.write(f"\n\\{n}-grams:\n".encode())
            for start in range(0, len(level.words), CHUNK):
                rows = slice(start, start + CHUNK)
                grams = [words.take(pa.array(level.words[rows, k])) for k in range(n)]
                columns = [pa.array(level.values[rows, k]).cast(pa.string()) for k in range(2)]
                parts = [columns[0], pc.binary_join_element_wise(*grams, " ")]
                # The longest n-grams have no backoff weight.
                lines = pc.binary_join_element_wise(*parts, *columns[1 : 1 + (n < len(levels))], "\t")
                file.write("\n".join([*lines.to_pylist(), ""]).encode())
        file.write(b"\n\\end\\\n")


def _output(path: Path, suffix: str) -> pa.NativeFile:
    kinds = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
    return pa.output_stream(str(path), compression=kinds.get(suffix))


def read_arpa(path: Path) -> tuple[list[str], list[Level]]:
    """Read a model, compressed or not: its words by id, `<unk>`, `<s>` and `</s>` first, and its n-grams by length.

    Where an n-gram's last words are no n-gram themselves, as SRILM's pruning leaves it, they are added with the
    probability that backing off gives them, so that the model says the same.

    Raises:
        DataError: not an ARPA file, one that is cut off, or an n-gram of words that are not in it.
    """
    try:
        with io.TextIOWrapper(io.BufferedReader(pa.input_stream(str(path), compression="detect")), "utf-8") as file:
            return _parsed(_Lines(path, file))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _broken(path, 0, "an ARPA file", str(error).splitlines()[0]) from error


def _broken(path: Path, number: int, expected: str, got: str) -> DataError:
    return DataError(
        "the n-gram model cannot be read",
        where=f"{path}, line {number}" if number else str(path),
        expected=expected,
        got=got,
        fix="get the file again; of KenLM's binary files take the ARPA file that each was built from",
    )


class _Lines:
    """Lines of a file, numbered for errors."""

    def __init__(self, path: Path, file: io.TextIOBase) -> None:
        self.path, self.file, self.number, self.line = path, file, 0, ""

    def next(self) -> str:
        self.number += 1
        self.line = self.file.readline()
        if not self.line:
            raise self.wrong("\\end\\ at the end", "the end of the file")
        self.line = self.line.rstrip("\r\n")
        return self.line

    def seek(self, wanted: str) -> None:
        """Pass over blank lines up to this one."""
        while not self.next().strip():
            pass
        if self.line.strip() != wanted:
            raise self.wrong(wanted, self.line[:60])

    def wrong(self, expected: str, got: str) -> DataError:
        return _broken(self.path, self.number, expected, got)


def _parsed(lines: _Lines) -> tuple[list[str], list[Level]]:
    while lines.next().strip() != "\\data\\":
        if lines.number > 1000:
            raise lines.wrong("\\data\\", lines.line[:60])
    sizes = []
    while (line := lines.next()).strip():
        name, _, count = line.partition("=")
        if not name.startswith("ngram ") or not count.strip().isdigit():
            raise lines.wrong("ngram N=COUNT", line[:60])
        sizes.append(int(count))
    ids = {name: index for index, name in enumerate(NAMES)}
    levels = []
    for n, size in enumerate(sizes, 1):
        lines.seek(f"\\{n}-grams:")
        levels.append(_level(lines, n, size, ids))
    lines.seek("\\end\\")
    return list(ids), _completed(levels)


def _level(lines: _Lines, n: int, size: int, ids: dict[str, int]) -> Level:
    """The n-grams of one length; single words are given their ids."""
    words, values = np.empty((size, n), np.int32), np.zeros((size, 2), np.float32)
    for row in range(size):
        fields = BLANKS.split(lines.next().strip(" \t"))
        try:
            values[row, 0] = float(fields[0])
            if len(fields) == n + 2:
                values[row, 1] = float(fields[-1])
            names = [LOWER_CASE.get(name, name) for name in fields[1 : n + 1]]
            words[row] = [ids.setdefault(name, len(ids)) if n == 1 else ids[name] for name in names]
        except (ValueError, IndexError, KeyError) as error:
            raise lines.wrong(f"a probability and {n} words of the model", lines.line[:60]) from error
    if n > 1:
        return Level(words, values)
    singles = np.tile(np.array([NEVER, 0], np.float32), (len(ids), 1))
    singles[words[:, 0]] = values
    return Level(np.arange(len(ids), dtype=np.int32)[:, None], singles)


def _completed(levels: list[Level]) -> list[Level]:
    """The levels with every n-gram that others end with, the longest looked at first."""
    for n in range(len(levels), 2, -1):
        shorter, suffixes = levels[n - 2], levels[n - 1].words[:, 1:]
        missing = np.unique(suffixes[~np.isin(_hashes(suffixes), _hashes(shorter.words))], axis=0)
        if len(missing):
            unknown = np.tile(np.array([np.nan, 0], np.float32), (len(missing), 1))
            levels[n - 2] = Level(
                np.concatenate([shorter.words, missing]), np.concatenate([shorter.values, unknown])
            )  # fmt: skip
    for n, level in enumerate(levels, 1):
        for row in np.flatnonzero(np.isnan(level.values[:, 0])):
            words = level.words[row]
            backoff = _values(levels[n - 2], words[:-1])[1]
            level.values[row, 0] = backoff + _values(levels[n - 2], words[1:])[0]
    return levels


def _hashes(words: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """A hash of each n-gram [m]."""
    h = np.zeros(len(words), np.uint64)
    for column in words.T:
        h = (h ^ (h >> np.uint64(29))) * GOLDEN + column.astype(np.uint64) + np.uint64(1)
    return h


def _values(level: Level, words: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Values of one n-gram; of one that is not there, no probability and no weight."""
    rows = np.flatnonzero((level.words == words).all(1))
    return level.values[rows[0]] if len(rows) else np.array([NEVER, 0], np.float32)
