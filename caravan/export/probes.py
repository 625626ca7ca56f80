"""The prompts on which an exported file is compared with torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from caravan.media.audio import SAMPLE_RATE, decode_audio, encode_wav, levelled
from caravan.media.image import decode_image, encode_png
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, Part, TextPart, dialogue_from_row

Kind = Literal["text", "audio", "image", "both"]
KINDS: tuple[Kind, ...] = ("text", "audio", "image", "both")
_ROWS_LOOKED_AT = 4096


@dataclass(frozen=True)
class Probe:
    """Messages that await an answer, and their media as the engine is handed them: 16 kHz WAV and PNG."""

    kind: Kind
    messages: tuple[Message, ...]

    @property
    def media(self) -> list[bytes]:
        """All media, in the order of their parts."""
        return [media.read() for part in _parts(self.messages) if (media := _media(part)) is not None]

    @property
    def audios(self) -> list[bytes]:
        """The clips alone."""
        return [part.audio.read() for part in _parts(self.messages) if isinstance(part, AudioPart)]

    @property
    def images(self) -> list[bytes]:
        """The pictures alone."""
        return [part.image.read() for part in _parts(self.messages) if isinstance(part, ImagePart)]


def _parts(messages: Sequence[Message]) -> Iterable[Part]:
    return itertools.chain.from_iterable(message.content for message in messages)


def _media(part: Part) -> Media | None:
    match part:
        case AudioPart(audio=media) | ImagePart(image=media):
            return media
    return None


def kind_of(messages: Sequence[Message]) -> Kind:
    """Which senses a prompt needs."""
    hears = any(isinstance(part, AudioPart) for part in _parts(messages))
    sees = any(isinstance(part, ImagePart) for part in _parts(messages))
    return "both" if hears and sees else "audio" if hears else "image" if sees else "text"


def dialogue_probes(folder: Path, kinds: Sequence[Kind], count: int) -> list[Probe]:
    """Up to `count` prompts of each kind from a `dialogues` artifact's test rows, languages in turn."""
    found: dict[Kind, dict[str, list[Probe]]] = {kind: {} for kind in kinds}
    for dialogue in itertools.islice(_test_rows(folder), _ROWS_LOOKED_AT):
        answers = [index for index, message in enumerate(dialogue.messages) if message.role == "assistant"]
        messages = dialogue.messages[: answers[-1]] if answers else dialogue.messages
        kind = kind_of(messages)
        if kind in found and len(same := found[kind].setdefault(dialogue.language, [])) < count:
            same.append(Probe(kind, tuple(_as_handed_over(message) for message in messages)))
    return [probe for kind in kinds for probe in _in_turn(found[kind].values(), count)]


def _test_rows(folder: Path) -> Iterable[Dialogue]:
    for file in sorted((folder / "test").glob("*.parquet")):
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    yield dialogue_from_row(row, where=f"{file}, {row['id']}")


def _in_turn(groups: Iterable[list[Probe]], count: int) -> list[Probe]:
    rounds = itertools.zip_longest(*groups)
    return [probe for probe in itertools.chain.from_iterable(rounds) if probe is not None][:count]


def _as_handed_over(message: Message) -> Message:
    parts: list[Part] = []
    for part in message.content:
        match part:
            case AudioPart(audio=media):
                parts.append(AudioPart(Media(encode_wav(decode_audio(media.read())))))
            case ImagePart(image=media):
                parts.append(ImagePart(Media(encode_png(decode_image(media.read())))))
            case TextPart():
                parts.append(part)
    return Message(message.role, tuple(parts))


def synthetic_probes(kinds: Sequence[Kind], count: int, seed: int) -> list[Probe]:
    """Prompts of drawn words, tones and blocks of colour: what a model is compared on where there are no dialogues."""
    random = np.random.default_rng(seed)
    makers: dict[Kind, Callable[[], list[Part]]] = {
        "text": lambda: [_words(random)],
        "audio": lambda: [_words(random), _tone(random)],
        "image": lambda: [_blocks(random), _words(random)],
        "both": lambda: [_blocks(random), _tone(random), _words(random)],
    }
    return [Probe(kind, (Message("user", tuple(makers[kind]())),)) for kind in kinds for _ in range(count)]


def _words(random: np.random.Generator) -> TextPart:
    words = ["what", "什么", "это", "como", "12", "نعم", "คือ", "いくつ", "37", "welche", "color?", "số"]
    return TextPart(" ".join(random.permutation(words)[: random.integers(2, len(words))]))


def _tone(random: np.random.Generator) -> AudioPart:
    """A gliding tone of one to four seconds, or one so quiet that it is not levelled: it alone shows a wrong floor."""
    seconds = np.arange(int(random.uniform(1, 4) * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * seconds * (random.uniform(150, 900) + 60 * np.sin(3 * seconds)))
    wave = 10 ** random.uniform(-4.0, -0.4) * (wave + 0.02 * random.standard_normal(wave.size))
    return AudioPart(Media(encode_wav(levelled(wave.astype(np.float32)))))


def _blocks(random: np.random.Generator) -> ImagePart:
    """A landscape or portrait of random blocks of colour."""
    from PIL import Image

    rows, columns = random.integers(3, 9, 2)
    width, height = random.integers(60, 240, 2)
    cells = random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    picture = Image.fromarray(cells).resize((int(width), int(height)), Image.Resampling.BICUBIC)
    return ImagePart(Media(encode_png(picture)))
