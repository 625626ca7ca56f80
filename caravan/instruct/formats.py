"""The formats of data for ears and eyes: how each is told, read, and made into dialogues."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caravan.core.errors import DataError
from caravan.core.stage import StageContext
from caravan.instruct import corpora
from caravan.instruct.build import asked
from caravan.instruct.containers import READERS, Rows, built, read_rows, suffix_of
from caravan.instruct.language import Languages
from caravan.instruct.media import kind_of
from caravan.instruct.pairs import METADATA, folder_rows, is_pair, pair_of, split_of, translation_of, walk
from caravan.instruct.rows import Item, Row
from caravan.instruct.tars import tar_rows
from caravan.instruct.turns import MESSAGES, messages_of, task_of
from caravan.recipe.instruct import DataSource
from caravan.records import AudioPart, Dialogue
from caravan.text.instructions import Wish, draw

PARTS = 10_000
TAR = ".tar"


@dataclass(frozen=True)
class Format:
    """A format of data.

    Attributes:
        words: what it is.
        keys: columns of which all stand in a row of it, in any of these combinations.
        marks: globs that all find something in a folder of it, in any of these combinations.
        read: the rows below a path.
    """

    words: str
    keys: tuple[tuple[str, ...], ...] = ()
    marks: tuple[tuple[str, ...], ...] = ()
    read: Callable[[Path], Rows] = read_rows


# In the order in which they are tried.
FORMATS: dict[str, Format] = {
    "dialogues": Format("dialogues as this stage writes them", (("messages", "audios", "images", "task"),)),
    "openai": Format("OpenAI's messages, with parts or without", (("messages",),)),
    "llasm": Format("LLaSM's conversations about clips", (("conversations", "audio"), ("conversations", "audios"))),
    "llava": Format("LLaVA's conversations about pictures", (("conversations", "image"), ("conversations", "images"))),
    "sharegpt": Format("ShareGPT's conversations", (("conversations",),)),
    "alpaca": Format("Alpaca's instruction, input and output", (("instruction", "output"),)),
    "aishell": Format("AISHELL", marks=(("transcript/aishell_transcript*.txt", "wav"),), read=corpora.aishell),
    "magicdata": Format("MagicData", marks=(("TRANS.txt",), ("*/TRANS.txt",)), read=corpora.magicdata),
    "primewords": Format("Primewords", marks=(("set*_transcript.json", "audio_files"),), read=corpora.primewords),
    "common-voice": Format("Common Voice, one language", marks=(("*.tsv", "clips"),), read=corpora.common_voice),
    "librispeech": Format(
        "LibriSpeech, or subsets of it",
        marks=(("*.trans.txt",), ("*/*.trans.txt",), ("*/*/*.trans.txt",), ("*/*/*/*.trans.txt",)),
        read=corpora.librispeech,
    ),
    "webdataset": Format("WebDataset's tar archives", read=tar_rows),
    "audiofolder": Format("Hugging Face's folder of clips", read=folder_rows),
    "imagefolder": Format("Hugging Face's folder of pictures", read=folder_rows),
    "table": Format("paths of media and their texts in columns"),
}


def read(source: DataSource, ctx: StageContext, name: str) -> Iterator[Item | DataError]:
    """Dialogues of the run's languages; media are references.

    Raises:
        DataError: no file, one of no known format, or one that cannot be read.
    """
    build = Builder(source, ctx, name)
    return itertools.chain.from_iterable(
        built(rows(path, kind, ctx.full(source.media) if source.media else ""), build)
        for path, kind in located(source, ctx)
    )


def rows(path: Path, kind: str, media: str = "") -> Rows:
    """The rows below a path, their media below a folder of their own if there is one."""
    for row in FORMATS[kind].read(path):
        if isinstance(row, Row) and media:
            row.folder = Path(media)
        yield row


def located(source: DataSource, ctx: StageContext) -> Iterator[tuple[Path, str]]:
    """Files and folders of a source, each with its format.

    Raises:
        DataError: nothing there, or nothing of a known format.
    """
    for path in ctx.resolve(source.path):
        if path.is_dir() and (source.format == "auto" or not FORMATS[source.format].marks):
            yield from _in_folder(path, source)
        else:
            yield path, format_of(path) if source.format == "auto" else source.format


def _in_folder(folder: Path, source: DataSource) -> Iterator[tuple[Path, str]]:
    """A folder of one format as it is, else the files of rows in it."""
    if source.format in ("audiofolder", "imagefolder"):
        yield folder, source.format
    elif source.format == "auto" and (found := folder_format(folder)):
        yield found
    else:
        files = [place / name for place, _, names in walk(folder) for name in names if _has_rows(place / name)]
        if not files:
            raise unknown(folder, "no file of rows, no layout that is known")
        for file in files:
            yield file, format_of(file) if source.format == "auto" else source.format


def _has_rows(file: Path) -> bool:
    return suffix_of(file) in (*READERS, TAR)


def folder_format(folder: Path) -> tuple[Path, str] | None:
    """The layout of a folder, or of the only folder in it; None if it is none that is known."""
    inner = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for place in (folder, *(inner if len(inner) == 1 else [])):
        for name, kind in FORMATS.items():
            if any(all(next(place.glob(mark), None) for mark in marks) for marks in kind.marks):
                return place, name
    names = ((place, name) for place, _, files in walk(folder) for name in files)
    for place, name in itertools.islice(names, 1000):
        if name in METADATA:
            return folder, _kind_of_metadata(place / name)
        if place != folder and (medium := kind_of(name)):
            return folder, f"{medium}folder"
        if suffix_of(Path(name)) in (*READERS, TAR):
            return None
    return None


def _kind_of_metadata(file: Path) -> str:
    first = next(read_rows(file), None)
    values = first.values.values() if isinstance(first, Row) else []
    kinds = [kind_of(value) for value in values if isinstance(value, str)]
    return "audiofolder" if "audio" in kinds else "imagefolder"


def format_of(file: Path) -> str:
    """The format of a file, by its suffix or by its first row.

    Raises:
        DataError: none that is known.
    """
    if suffix_of(file) == TAR:
        return "webdataset"
    if suffix_of(file) == ".tsv" and (file.parent / "clips").is_dir():
        return "common-voice"
    first = next((row for row in read_rows(file) if isinstance(row, Row)), None)
    if first is None:
        raise unknown(file, "no row that can be read")
    for name, kind in FORMATS.items():
        if any(all(key in first.values for key in keys) for keys in kind.keys):
            return name
    if is_pair(first.values):
        return "table"
    raise unknown(file, f"columns {', '.join(map(str, first.values))}")


def unknown(path: Path, got: str) -> DataError:
    known = ", ".join("+".join(keys) for kind in FORMATS.values() for keys in kind.keys)
    return DataError(
        "the format is not known",
        where=str(path),
        expected=f"rows with {known}; a path and a text; a tar archive; or a layout of {', '.join(FORMATS)}",
        got=got[:200],
        fix="name it: `format:`, and its columns: `columns: {messages: NAME}`",
    )


class Builder:
    """Makes rows of a source into dialogues; counts what it has taken of each language."""

    def __init__(self, source: DataSource, ctx: StageContext, name: str) -> None:
        self.source, self.ctx, self.name = source, ctx, name
        self.languages = Languages(source.language)
        self.taken: Counter[str] = Counter()

    def __call__(self, row: Row) -> list[Item]:
        source = self.source
        talks = source.columns.get("messages") in row.values or any(key in row.values for key in (*MESSAGES, "output"))
        made = self._conversation(row) if talks else self._pair(row)
        return [Item(self._split(row, dialogue), dialogue) for dialogue in made] if not row.faults else []

    def _wanted(self, row: Row, text: str) -> str:
        """The row's language; empty where the run has it not, or enough of it."""
        language = self.languages.of(row, text)
        full = self.source.limit is not None and self.taken[language] >= self.source.limit
        if row.faults or language not in self.ctx.languages or full:
            return ""
        self.taken[language] += 1
        return language

    def _conversation(self, row: Row) -> list[Dialogue]:
        messages = messages_of(row, self.source)
        length = sum(len(message.text) for message in messages)
        if messages and (len(messages) > self.source.max_messages or length > self.source.max_characters):
            return []
        language = self._wanted(row, "\n".join(message.text for message in messages))
        if not language:
            return []
        stated = row.values.get("task")
        task = stated if isinstance(stated, str) and stated else task_of(messages)
        return [Dialogue(self._identity(row), language, task, messages, self.name, self._group(row, messages[0].text))]

    def _pair(self, row: Row) -> list[Dialogue]:
        pair = pair_of(row, self.source)
        language = self._wanted(row, pair[1] if pair else "")
        if not pair or not language:
            return []
        part, text = pair
        heard = isinstance(part, AudioPart)
        wished: list[tuple[Wish, str, str]] = [
            (wish, language, text) for wish in (self.source.heard if heard else self.source.seen)
        ]
        if heard and self.source.translated:
            wished.append(("translate", self.source.translated, translation_of(row, self.source)))
        return [
            asked(
                wish,
                part,
                answer,
                row=self._identity(row),
                language=into,
                seed=self.ctx.seed,
                source=self.name,
                group=self._group(row, text),
            )
            for wish, into, answer in wished
        ]

    def _identity(self, row: Row) -> str:
        return f"{self.name}:{row.file.name.split('.')[0]}:{row.number}"

    def _group(self, row: Row, text: str) -> str:
        """What a row of the test shows: the data set's own held-out split, a held-out value, or an unseen text."""
        if group := row.heldout(self.source.heldout):
            return group
        if split := row.split or split_of(Path(row.file.name)):
            return f"its {split} split"
        return "unseen text" if draw(PARTS, self.ctx.seed, text) < self.source.test_share * PARTS else ""

    def _split(self, row: Row, dialogue: Dialogue) -> Literal["train", "test"]:
        return "test" if dialogue.group else "train"
