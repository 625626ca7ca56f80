"""Corpora of read speech as they are unpacked: AISHELL, LibriSpeech, MagicData, Primewords, Common Voice.

Layouts: openslr.org 33, 12, 68, 47, and commonvoice.mozilla.org. Transcripts are read line by line.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from caravan.instruct.containers import Rows, broken_file, opened, read_rows
from caravan.instruct.pairs import split_of
from caravan.instruct.rows import Row

AISHELL_SPLITS = ("train", "dev", "test")
COMMON_VOICE = ("train.tsv", "dev.tsv", "test.tsv")
_BETWEEN_CHARACTERS = re.compile(r"(?<=[^\x00-\x7f])\s+|\s+(?=[^\x00-\x7f])")


def chinese(text: str) -> str:
    """A transcript whose words stand apart, as Chinese is written."""
    return _BETWEEN_CHARACTERS.sub("", text.strip())


def aishell(folder: Path) -> Rows:
    """`transcript/aishell_transcript_v0.8.txt` and `wav/SPLIT/SPEAKER/ID.wav`; the id holds the speaker."""
    file = next(iter(sorted(folder.glob("transcript/aishell_transcript*.txt"))))
    for number, line in _lines(file):
        name, _, text = line.partition(" ")
        speaker = name[6:11]
        paths = {split: folder / "wav" / split / speaker / f"{name}.wav" for split in AISHELL_SPLITS}
        split = next((split for split, path in paths.items() if path.is_file()), AISHELL_SPLITS[0])
        values = {"id": name, "audio": str(paths[split]), "text": chinese(text), "speaker": speaker, "lang": "zh"}
        yield Row(file, number, values, "line", folder, split_of(Path(split)))


def librispeech(folder: Path) -> Rows:
    """`SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`, each line an id in capitals; the clips stand beside it."""
    for file in sorted(folder.rglob("*.trans.txt")):
        split = split_of(file.relative_to(folder.parent))
        for number, line in _lines(file):
            name, _, text = line.partition(" ")
            values = {"id": name, "audio": f"{name}.flac", "text": text.lower(), "speaker": name.split("-")[0]}
            yield Row(file, number, {**values, "lang": "en"}, "line", file.parent, split)


def magicdata(folder: Path) -> Rows:
    """`SPLIT/TRANS.txt` with UtteranceID, SpeakerID and Transcription; clips in `SPLIT/SPEAKER/`."""
    for file in sorted([*folder.glob("TRANS.txt"), *folder.glob("*/TRANS.txt")]):
        split = split_of(file.relative_to(folder.parent))
        for number, line in _lines(file):
            if number == 1 and line.startswith("UtteranceID"):
                continue
            name, speaker, text = ([*line.split("\t"), "", ""])[:3]
            values = {"id": name, "audio": f"{speaker}/{name}", "text": chinese(text), "speaker": speaker, "lang": "zh"}
            yield Row(file, number, values, "line", file.parent, split)


def primewords(folder: Path) -> Rows:
    """`set1_transcript.json` and `audio_files/X/XY/XYZ….wav`, by the first characters of the name."""
    for file in sorted(folder.glob("set*_transcript.json")):
        for row in read_rows(file):
            if isinstance(row, Row):
                name = str(row.values.get("file") or "")
                path = f"audio_files/{name[:1]}/{name[:2]}/{name}"
                text, speaker = row.values.get("text"), row.values.get("user_id")
                row.values = {"id": row.values.get("id"), "audio": path, "speaker": speaker, "lang": "zh"}
                row.values["text"] = chinese(text) if isinstance(text, str) else text
            yield row


def common_voice(path: Path) -> Rows:
    """`train.tsv`, `dev.tsv` and `test.tsv` of one language, or one such file; clips in `clips/` beside it."""
    folder = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else [folder / name for name in COMMON_VOICE if (folder / name).is_file()]
    for file in files or sorted(folder.glob("*.tsv")):
        for row in read_rows(file):
            if isinstance(row, Row):
                row.folder, row.split = folder / "clips", split_of(Path(file.name))
                row.values["speaker"] = row.values.get("client_id")
                row.values["id"] = row.values.get("path")
            yield row


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1, that hold anything.

    Raises:
        DataError: the file cannot be read, or not as UTF-8.
    """
    number = 0
    try:
        with io.TextIOWrapper(opened(file), encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise broken_file(file, f"line {number + 1}", "transcripts in UTF-8", error) from error
