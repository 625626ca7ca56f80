"""Prompts to compare on: from the run's own test rows, languages in turn, as the engine is handed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from caravan.core.files import write_table
from caravan.export.probes import KINDS, Kind, dialogue_probes, kind_of, synthetic_probes
from caravan.media.audio import SAMPLE_RATE, decode_audio, encode_wav
from caravan.media.image import decode_image, encode_png
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, dialogues_to_table

CLIP = AudioPart(Media(encode_wav(np.sin(np.arange(SAMPLE_RATE, dtype=np.float32)))))
PICTURE = ImagePart(Media(encode_png(Image.new("RGB", (20, 10), "red"))))
CONTENT: dict[Kind, tuple[object, ...]] = {
    "text": ("hello",), "audio": (CLIP,), "image": (PICTURE, "what?"), "both": (PICTURE, CLIP),
}  # fmt: skip


def write_rows(folder: Path, kinds: list[Kind], languages: list[str], each: int) -> None:
    rows = [
        Dialogue(
            f"{language}-{kind}-{number}", language, kind,
            (Message.of("user", *CONTENT[kind]), Message.of("assistant", "yes")),
        )
        for language in languages for kind in kinds for number in range(each)
    ]  # fmt: skip
    write_table(folder / "test" / "part.parquet", dialogues_to_table(rows))


def test_the_last_answer_is_what_is_asked_for(tmp_path: Path) -> None:
    write_rows(tmp_path, ["both"], ["en"], 1)
    (probe,) = dialogue_probes(tmp_path, ["both"], 3)
    assert [message.role for message in probe.messages] == ["user"]
    assert probe.media == [*probe.images, *probe.audios]
    assert decode_audio(probe.audios[0]).size == SAMPLE_RATE
    assert decode_image(probe.images[0]).size == (20, 10)


def test_languages_take_turns_and_kinds_that_are_not_asked_for_are_left_out(tmp_path: Path) -> None:
    write_rows(tmp_path, list(KINDS), ["de", "en", "fr"], 4)
    probes = dialogue_probes(tmp_path, ["text", "image"], 5)
    assert [probe.kind for probe in probes] == ["text"] * 5 + ["image"] * 5


def test_kinds() -> None:
    for kind, content in CONTENT.items():
        assert kind_of([Message.of("user", *content)]) == kind  # type: ignore[arg-type]


def test_drawn_prompts_are_the_same_for_a_seed_and_of_the_kind_that_they_say() -> None:
    probes = synthetic_probes(KINDS, 2, seed=3)
    assert probes == synthetic_probes(KINDS, 2, seed=3) != synthetic_probes(KINDS, 2, seed=4)
    assert [probe.kind for probe in probes] == [kind for kind in KINDS for _ in range(2)]
    assert all(kind_of(probe.messages) == probe.kind for probe in probes)
