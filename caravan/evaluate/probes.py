"""Rows at the senses' limits, made of the test's own: no speech, other media, two languages at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from caravan.core.files import sha256_obj
from caravan.evaluate.metrics import normalise
from caravan.evaluate.rows import Row, first_of_each_cell
from caravan.evaluate.sounds import SOUNDS
from caravan.media.audio import SAMPLE_RATE, Wave, decode_audio, encode_flac
from caravan.media.image import decode_image, encode_png
from caravan.recipe.evaluate import Probe, ProbesConfig
from caravan.records import AudioPart, ImagePart, Media, Message, Part
from caravan.text.instructions import INSTRUCTIONS, draw

PAUSE_SECONDS = 0.25
GREY = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class Probed:
    """A row of a probe, and the row of the test that it was made of."""

    probe: Probe
    row: Row
    original: Row


@dataclass(frozen=True)
class Neighbours:
    """Where a probe finds other rows: all that are asked, by task and language; and the languages of the clips."""

    rows: Mapping[tuple[str, str], Sequence[Row]]
    spoken: Sequence[str]
    languages: Sequence[str]
    seed: int

    @classmethod
    def of(cls, rows: Sequence[Row], seed: int) -> Neighbours:
        cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            cells[row.task, row.language].append(row)
        spoken = sorted({row.language for row in rows if said(row)})
        return cls(cells, spoken, sorted({row.language for row in rows}), seed)

    def with_another_answer(self, row: Row) -> Row | None:
        """The next row of the same task and language that expects something else."""
        cell = self.rows[row.task, row.language]
        place = cell.index(row)
        wanted = normalise(row.reference)
        return next((one for one in (*cell[place + 1 :], *cell[:place]) if normalise(one.reference) != wanted), None)

    def in_another_language(self, row: Row) -> Row | None:
        """A row whose clip is known to say something in another language."""
        others = [code for code in self.spoken if code != row.language]
        if not others:
            return None
        code = others[draw(len(others), self.seed, "mixed", row.id)]
        found = [one for (_, language), cell in self.rows.items() if language == code for one in cell if said(one)]
        return found[draw(len(found), self.seed, "clip", row.id)]


def probe_rows(config: ProbesConfig, rows: Sequence[Row], seed: int) -> list[Probed]:
    """Rows of every probe, in the order of the probes and of the rows that they are made of.

    A pure function of the rows and the seed. A row without the medium that a probe changes makes none.
    """
    neighbours = Neighbours.of(rows, seed)
    taken = {
        kind: first_of_each_cell([row for row in rows if _first(row, kind)], config.limit)
        for kind in (AudioPart, ImagePart)
    }
    made = []
    for probe, (kind, make) in PROBES.items():
        for original in taken[kind] if probe in config.kinds else ():
            row = make(original, neighbours)
            if row is not None:
                made.append(Probed(probe, replace(row, id=f"{original.id}#{probe}"), original))
    return made


def said(row: Row) -> str:
    """What the one clip of a row says, where that is known."""
    clips = [part for part in _parts(row) if isinstance(part, AudioPart)]
    words = clips[0].text.strip() if len(clips) == 1 else ""
    return words if any(map(str.isalnum, words)) else ""


def _parts(row: Row) -> list[Part]:
    return [part for message in row.messages for part in message.content]


def _first(row: Row, kind: type[Part]) -> Part | None:
    return next((part for part in _parts(row) if isinstance(part, kind)), None)


def _changed(row: Row, kind: type[Part], change: Callable[[Part], Part]) -> Row:
    """A row with every medium of one kind changed."""
    messages = (
        Message(message.role, tuple(change(part) if isinstance(part, kind) else part for part in message.content))
        for message in row.messages
    )
    return replace(row, messages=tuple(messages))


def _sound(name: str) -> Callable[[Row, Neighbours], Row | None]:
    def make(row: Row, neighbours: Neighbours) -> Row:
        rng = np.random.default_rng(int(sha256_obj([neighbours.seed, name, row.id])[:16], 16))

        def change(part: Part) -> Part:
            return _clip(SOUNDS[name](_wave(part).size, rng), "")

        return _changed(row, AudioPart, change)

    return make


def _other_picture(row: Row, neighbours: Neighbours) -> Row | None:
    other = neighbours.with_another_answer(row)
    picture = other and _first(other, ImagePart)
    return _changed(row, ImagePart, lambda _: picture) if picture else None


def _other_clip(row: Row, neighbours: Neighbours) -> Row | None:
    """Of rows that have no picture: about one that stays, another clip may ask the same in other words."""
    other = neighbours.with_another_answer(row)
    clip = other and _first(other, AudioPart)
    return _changed(row, AudioPart, lambda _: clip) if clip and not _first(row, ImagePart) else None


def _blank(row: Row, neighbours: Neighbours) -> Row:
    def change(part: Part) -> Part:
        assert isinstance(part, ImagePart)
        picture = decode_image(part.image.read())
        picture.paste(GREY, (0, 0, *picture.size))
        return ImagePart(Media(bytes=encode_png(picture)))

    return _changed(row, ImagePart, change)


def _transcript(row: Row, neighbours: Neighbours) -> Row | None:
    """Written down, asked in the clip's own language: what the two below are to be compared with."""
    return replace(written_down(row, row.language), reference=said(row)) if said(row) else None


def _asked_in_another(row: Row, neighbours: Neighbours) -> Row | None:
    others = [code for code in neighbours.languages if code != row.language]
    if not others or not said(row):
        return None
    code = others[draw(len(others), neighbours.seed, "asked", row.id)]
    return replace(written_down(row, code), reference=said(row))


def _code_switched(row: Row, neighbours: Neighbours) -> Row | None:
    """One clip in which the language changes halfway."""
    other = neighbours.in_another_language(row)
    if other is None or not said(row):
        return None
    pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), dtype=np.float32)
    first, second = (_wave(_first(one, AudioPart)) for one in (row, other))
    both = f"{said(row)} {said(other)}"
    clip = _clip(np.concatenate([first, pause, second]), both)
    changed = _changed(row, AudioPart, lambda _: clip)
    return replace(written_down(changed, row.language), reference=both)


def written_down(row: Row, language: str) -> Row:
    """A row's clips alone, with an instruction to write them down, of a pool without this language in English."""
    pool = INSTRUCTIONS["transcribe"].get(language, INSTRUCTIONS["transcribe"]["en"])
    clips = [part for part in _parts(row) if isinstance(part, AudioPart)]
    return replace(row, messages=(Message.of("user", *clips, pool[draw(len(pool), "probe", row.id)]),))


def _wave(part: Part | None) -> Wave:
    assert isinstance(part, AudioPart)
    return decode_audio(part.audio.read())


def _clip(wave: Wave, text: str) -> AudioPart:
    return AudioPart(Media(bytes=encode_flac(wave)), text=text)


PROBES: Mapping[Probe, tuple[type[AudioPart] | type[ImagePart], Callable[[Row, Neighbours], Row | None]]] = {
    "silence": (AudioPart, _sound("silence")),
    "noise": (AudioPart, _sound("noise")),
    "music": (AudioPart, _sound("music")),
    "other clip": (AudioPart, _other_clip),
    "transcript": (AudioPart, _transcript),
    "asked in another language": (AudioPart, _asked_in_another),
    "code-switched": (AudioPart, _code_switched),
    "blank picture": (ImagePart, _blank),
    "other picture": (ImagePart, _other_picture),
}
