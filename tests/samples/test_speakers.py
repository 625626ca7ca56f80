"""Drawn voices: files that espeak-ng takes, other ones for other names, never among those held out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caravan.samples.speakers import DRAWN, VOICES, drawn_voice, espeak_data

espeakng_loader = pytest.importorskip("espeakng_loader")
SHIPPED = Path(espeakng_loader.get_data_path())


def test_a_drawn_voice_is_a_function_of_its_name() -> None:
    files = [drawn_voice(f"drawn{number}") for number in range(DRAWN)]
    assert files == [drawn_voice(f"drawn{number}") for number in range(DRAWN)]
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


def test_the_folder_holds_every_voice_and_leaves_nothing_behind() -> None:
    with espeak_data() as data:
        variants = data / "voices" / "!v"
        assert {entry.name for entry in variants.iterdir()} == {voice for voices in VOICES.values() for voice in voices}
        assert (variants / "m1").read_bytes() == (SHIPPED / "voices" / "!v" / "m1").read_bytes()
        assert (data / "phontab").read_bytes() == (SHIPPED / "phontab").read_bytes()
    assert not data.parent.exists()


def test_every_voice_that_is_not_drawn_is_shipped() -> None:
    missing = [
        voice
        for split, voices in VOICES.items()
        for voice in voices
        if not (split == "train" and voice.startswith("drawn")) and not (SHIPPED / "voices" / "!v" / voice).exists()
    ]
    assert missing == []
