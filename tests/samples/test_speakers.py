"""Drawn voices: files that espeak-ng takes, other ones for other names, never among those held out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caravan.samples.speakers import DRAWN, VOICES, choose_voice, drawn_voice, espeak_data, voice_for
from caravan.samples.world import stream

espeakng_loader = pytest.importorskip("espeakng_loader")
SHIPPED = Path(espeakng_loader.get_data_path())


def test_a_drawn_voice_is_a_function_of_its_name() -> None:
    files = [drawn_voice(f"drawn{number}") for number in range(DRAWN)]
    assert files[:9] == [drawn_voice(f"drawn{number}") for number in range(9)]
    bodies = {file.split("\n", 2)[2] for file in files}
    assert len(bodies) == DRAWN


def test_a_drawn_voice_keeps_to_what_a_tract_can_do() -> None:
    for number in range(DRAWN):
        file = drawn_voice(f"drawn{number}")
        assert file.startswith(f"language variant\nname drawn{number}\n")
        formants = {int(n): int(f) for n, f in re.findall(r"^formant (\d) (\d+) ", file, re.M)}
        assert sorted(formants) == list(range(9))
        assert all(75 <= frequency <= 140 for frequency in formants.values())
        low, high = map(int, re.search(r"^pitch (\d+) (\d+)$", file, re.M).groups())
        assert 55 <= low < high


def test_a_drawn_voice_is_written_when_it_is_asked_for_and_nothing_is_left_behind() -> None:
    with espeak_data() as data:
        assert (data / "phontab").read_bytes() == (SHIPPED / "phontab").read_bytes()
        assert voice_for(data, "de", "m1") == "de+m1"
        assert (data / "voices" / "!v" / "m1").read_bytes() == (SHIPPED / "voices" / "!v" / "m1").read_bytes()
        variant = voice_for(data, "de", "drawn9").removeprefix("de+")
        assert (data / "voices" / "!v" / variant).read_text() == drawn_voice("drawn9")
        assert [file.name for file in (data / "drawn").iterdir()] == ["drawn9"]
    assert not data.parent.exists()


def test_half_of_the_training_voices_are_drawn_and_none_of_the_others() -> None:
    rng = stream("voices")
    drawn = {split: [choose_voice(rng, split).startswith("drawn") for _ in range(2000)] for split in VOICES}
    assert 0.42 < sum(drawn["train"]) / 2000 < 0.55
    assert not any(drawn["validation"] + drawn["test"])


def test_every_voice_that_is_not_drawn_is_shipped() -> None:
    missing = [
        voice
        for split, voices in VOICES.items()
        for voice in voices
        if not (split == "train" and voice.startswith("drawn")) and not (SHIPPED / "voices" / "!v" / voice).exists()
    ]
    assert missing == []
