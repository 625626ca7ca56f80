"""Dialogues prepared once for random access: ids and loss masks as flat arrays, media memory-mapped, each kept once."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from caravan.core.errors import DataError
from caravan.core.files import full_disk_named, read_json, sync, write_json
from caravan.core.progress import track
from caravan.media.features import MediaSpec, audio_token_count
from caravan.records import DIALOGUE_SCHEMA, AudioPart, Dialogue, ImagePart, Media, dialogue_from_row
from caravan.text.chat import Rendered, render

MEDIA_SCHEMA = pa.schema([("bytes", pa.binary()), ("path", pa.string()), ("size", pa.int64()), ("mark", pa.binary())])
MEDIA_PARTS = ("edges", "index", "word_edges", "words")
READ_ROWS = 256


@dataclass(frozen=True)
class MediaStore:
    """Clips or pictures of the dialogues; one that several dialogues share is stored once.

    Attributes:
        table: bytes, path, size and mark of each distinct medium, memory-mapped. Size is 1 for a picture, and the
            tokens of a clip; the mark tells media apart, whatever run they stand in.
        edges: dialogue n has the media index[edges[n]:edges[n + 1]], in order.
        index: row of the table.
        word_edges: medium n has the words words[word_edges[n]:word_edges[n + 1]].
        words: distinct ids of what each medium says or shows, as far as it is known.
    """

    table: pa.Table
    edges: NDArray[np.int64]
    index: NDArray[np.int64]
    word_edges: NDArray[np.int64]
    words: NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path, name: str) -> MediaStore:
        table = pa.ipc.open_file(pa.memory_map(str(folder / f"{name}.arrow"))).read_all()
        return cls(table, *(np.load(folder / f"{name}.{part}.npy") for part in MEDIA_PARTS))

    def of(self, dialogue: int) -> NDArray[np.int64]:
        """Rows of the table that a dialogue uses, in order."""
        return self.index[self.edges[dialogue] : self.edges[dialogue + 1]]

    def words_of(self, row: int) -> NDArray[np.int64]:
        """Distinct ids of what a medium says or shows; none if that is not known."""
        return self.words[self.word_edges[row] : self.word_edges[row + 1]]

    def read(self, row: int) -> bytes:
        """The encoded bytes of one medium."""
        return Media(self.table["bytes"][row].as_py(), self.table["path"][row].as_py()).read()

    @property
    def sizes(self) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = self.table["size"].to_numpy()
        return sizes


class MediaWriter:
    """Writes one MediaStore."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.stream = pa.ipc.new_file(str(folder / f"{name}.arrow"), MEDIA_SCHEMA)
        self.rows: dict[bytes, int] = {}
        self.waiting: list[dict[str, object]] = []
        self.index: list[int] = []
        self.edges: list[int] = [0]
        self.words: list[NDArray[np.int64]] = []

    def add(self, media: Sequence[Media], sizes: Sequence[int], words: Sequence[NDArray[np.int64]]) -> None:
        for item, size, known in zip(media, sizes, words, strict=True):
            mark = hashlib.blake2b(item.bytes or str(item.path).encode(), digest_size=16).digest()
            if mark not in self.rows:
                self.rows[mark] = len(self.rows)
                self.waiting.append({"bytes": item.bytes, "path": item.path, "size": size, "mark": mark})
                self.words.append(known)
            self.index.append(self.rows[mark])
        self.edges.append(len(self.index))
        if len(self.waiting) >= READ_ROWS:
            self._flush()

    def _flush(self) -> None:
        self.stream.write_table(pa.Table.from_pylist(self.waiting, schema=MEDIA_SCHEMA))
        self.waiting.clear()

    def close(self) -> None:
        self._flush()
        self.stream.close()
        word_edges = np.cumsum([0, *map(len, self.words)], dtype=np.int64)
        words = np.concatenate([*self.words, np.zeros(0, np.int64)])
        parts = (np.array(self.edges, np.int64), np.array(self.index, np.int64), word_edges, words)
        for part, values in zip(MEDIA_PARTS, parts, strict=True):
            np.save(self.folder / f"{self.name}.{part}.npy", values)


@dataclass(frozen=True)
class Prepared:
    """Dialogues ready to be trained on.

    Attributes:
        edges: dialogue n has the ids edges[n] to edges[n + 1].
        ids: of all dialogues, one after the other.
        learnt: which of the ids carry loss.
        tasks: the task of each dialogue.
        counts: dialogues kept, and dropped by reason.
        audio: their clips. image: their pictures.
    """

    edges: NDArray[np.int64]
    ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]
    tasks: NDArray[np.str_]
    counts: dict[str, int]
    audio: MediaStore
    image: MediaStore

    @classmethod
    def open(cls, folder: Path) -> Prepared:
        """Open what `prepare` wrote."""
        facts = read_json(folder / "facts.json")
        return cls(
            edges=np.load(folder / "edges.npy"),
            ids=np.load(folder / "ids.npy", mmap_mode="r"),
            learnt=np.load(folder / "learnt.npy", mmap_mode="r"),
            tasks=np.array(facts["tasks"]),
            counts=facts["counts"],
            audio=MediaStore.open(folder, "audio"),
            image=MediaStore.open(folder, "image"),
        )

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each dialogue, media included."""
        return np.diff(self.edges)

    def piece(self, dialogue: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Ids of a dialogue, and which of them carry loss."""
        here = slice(self.edges[dialogue], self.edges[dialogue + 1])
        return self.ids[here], self.learnt[here]


class Writer:
    """Ids, masks and media of dialogues, written as they come."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self.folder = folder
        self.words = cache(partial(words_in, tokenizer))  # many media say or show the same
        self.ids: list[NDArray[np.int32]] = []
        self.learnt: list[NDArray[np.bool_]] = []
        self.tasks: list[str] = []
        self.audio, self.image = MediaWriter(folder, "audio"), MediaWriter(folder, "image")

    def add(self, dialogue: Dialogue, rendered: Rendered, audio_tokens: Sequence[int]) -> None:
        self.ids.append(np.array(rendered.ids, np.int32))
        self.learnt.append(np.array(rendered.loss_mask, bool))
        self.tasks.append(dialogue.task)
        texts = {kind: [self.words(part.text) for part in parts_of(dialogue, kind)] for kind in (AudioPart, ImagePart)}
        self.audio.add(dialogue.audios, audio_tokens, texts[AudioPart])
        self.image.add(dialogue.images, [1] * len(dialogue.images), texts[ImagePart])

    def close(self, dropped: Counter[str]) -> None:
        self.audio.close()
        self.image.close()
        np.save(self.folder / "edges.npy", np.cumsum([0, *map(len, self.ids)], dtype=np.int64))
        np.save(self.folder / "ids.npy", np.concatenate([*self.ids, np.zeros(0, np.int32)]))
        np.save(self.folder / "learnt.npy", np.concatenate([*self.learnt, np.zeros(0, bool)]))
        counts = {"dialogues": len(self.ids), **{f"dropped: {why}": n for why, n in sorted(dropped.items())}}
        write_json(self.folder / "facts.json", {"tasks": self.tasks, "counts": counts})
        for file in self.folder.iterdir():
            sync(file)


def words_in(tokenizer: PreTrainedTokenizerBase, text: str) -> NDArray[np.int64]:
    """The distinct ids of a text's lines."""
    lines = tokenizer(text.splitlines(), add_special_tokens=False)["input_ids"] if text else []
    return np.unique(np.array([token for line in lines for token in line], np.int64))


def parts_of(dialogue: Dialogue, kind: type[AudioPart] | type[ImagePart]) -> list[AudioPart | ImagePart]:
    """The clips or pictures of a dialogue, in order."""
    return [part for message in dialogue.messages for part in message.content if isinstance(part, kind)]


def dialogues_in(files: Sequence[Path], tasks: Sequence[str] | None = None) -> Iterator[tuple[str, Dialogue]]:
    """(file and row, dialogue) of the wanted tasks.

    Raises:
        DataError: a file or a row cannot be used; names it.
    """
    for file in files:
        row = 0
        try:
            for batch in pq.ParquetFile(file).iter_batches(READ_ROWS):
                for record in batch.to_pylist():
                    where = f"{file}, row {row}"
                    row += 1
                    if tasks is None or record["task"] in tasks:
                        yield where, dialogue_from_row(record, where)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(
                "dialogues cannot be read",
                where=f"{file}, row {row}",
                expected="Parquet with the columns " + ", ".join(DIALOGUE_SCHEMA.names),
                got=f"{type(error).__name__}: {error}",
                fix="run the instruct stage again, or correct the file",
            ) from error


def prepare(
    files: Sequence[Path],
    tokenizer: PreTrainedTokenizerBase,
    spec: MediaSpec,
    length: int,
    folder: Path,
) -> Prepared:
    """Render every dialogue once into `folder`; if that was done before, it is only opened.

    Dialogues longer than a sequence, and those with media that the model has no sense for, are dropped and counted.

    Raises:
        DataError: a row cannot be used, or none is left; PlaceholderError and UnsupervisedError name file and row.
    """
    if folder.exists():
        return Prepared.open(folder)
    torn = folder.with_name(folder.name + ".partial")
    shutil.rmtree(torn, ignore_errors=True)
    dropped: Counter[str] = Counter()
    with full_disk_named(torn), track("preparing dialogues", None, unit="dialogue") as bar:
        torn.mkdir(parents=True)
        writer = Writer(torn, tokenizer)
        for where, dialogue in dialogues_in(files):
            reason = _add(writer, where, dialogue, tokenizer, spec, length)
            if reason:
                dropped[reason] += 1
            bar.advance(1)
        writer.close(dropped)
    if not writer.ids:
        raise DataError(
            "no dialogue is left to train on",
            where=", ".join(map(str, files)) or None,
            expected=f"dialogues of at most {length} tokens",
            got=", ".join(f"{n} {why}" for why, n in dropped.items()) or "none",
            fix="give such dialogues, or a larger `length`",
        )
    torn.rename(folder)
    sync(folder.parent)
    return Prepared.open(folder)


def _add(
    writer: Writer, where: str, dialogue: Dialogue, tokenizer: PreTrainedTokenizerBase, spec: MediaSpec, length: int
) -> str | None:
    """Write a dialogue, or say why it is dropped."""
    if dialogue.audios and not spec.hears:
        return "has speech, the model has no ears"
    if dialogue.images and not spec.image_size:
        return "has a picture, the model has no eyes"
    try:
        audio_tokens = [audio_token_count(media.read(), spec) for media in dialogue.audios]
        rendered = render(tokenizer, dialogue, audio_tokens, [spec.image_tokens] * len(dialogue.images))
    except DataError as error:
        place = f"{where}, {error.where}" if error.where else where
        raise type(error)(error.problem, expected=error.expected, got=error.got, fix=error.fix, where=place) from error
    if len(rendered.ids) > length:
        return "longer than a sequence"
    writer.add(dialogue, rendered, audio_tokens)
    return None
