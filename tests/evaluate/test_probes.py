from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from caravan.evaluate.behaviour import behaviours, guard_figures, means, mixed_error_rate
from caravan.evaluate.probes import PROBES, probe_rows
from caravan.evaluate.rows import Row
from caravan.evaluate.sounds import SOUNDS
from caravan.media.audio import SPEECH_LEVEL, decode_audio, encode_wav
from caravan.media.image import decode_image
from caravan.recipe.evaluate import ProbesConfig
from caravan.records import AudioPart, ImagePart, Media, Message
from caravan.text.instructions import INSTRUCTIONS


def clip(number: int, samples: int = 8000) -> bytes:
    return encode_wav(0.1 * np.sin(np.arange(samples) * (0.1 + 0.02 * number)).astype(np.float32))


def heard(row: Any, identity: str, reference: str, language: str, number: int, said: str) -> Row:
    plain = row(identity, reference, "speech", language, "unseen voice")
    part = AudioPart(Media(bytes=clip(number)), text=said)
    return replace(plain, messages=(Message.of("user", "Hm?", part),))


@pytest.fixture
def rows(row: Any, png: bytes) -> list[Row]:
    spoken = [
        heard(row, f"{code}{i}", f"{code} answer {i}", code, i, f"{code} words {i}")
        for code in ("de", "en")
        for i in range(3)
    ]
    seen = [row(f"p{i}", ("red", "red", "blue")[i], "picture", "en", image=png) for i in range(3)]
    return [*spoken, *seen, row("text", "four", "chat", "en", "")]


def sound(row: Row) -> Any:
    (part,) = (part for message in row.messages for part in message.content if isinstance(part, AudioPart))
    return decode_audio(part.audio.read())


def test_every_probe_is_made_of_the_rows_that_have_its_medium(rows: list[Row]) -> None:
    made = probe_rows(ProbesConfig(limit=2), rows, 7)
    assert Counter(one.probe for one in made) == {probe: 2 if "picture" in probe else 4 for probe in PROBES}, (
        "two rows of each language and task"
    )
    assert len({one.row.id for one in made}) == len(made)
    assert made == probe_rows(ProbesConfig(limit=2), rows, 7)
    assert {one.probe for one in probe_rows(ProbesConfig(kinds=["noise"]), rows, 7)} == {"noise"}


def test_sounds_have_the_clip_s_length_and_no_words(rows: list[Row]) -> None:
    by = {one.probe: one.row for one in probe_rows(ProbesConfig(limit=1, kinds=["silence", "noise"]), rows, 7)}
    assert sound(by["silence"]).size == sound(by["noise"]).size == 8000
    assert not sound(by["silence"]).any()
    assert by["noise"].messages[0].content[0].text == "Hm?", "the rest of the question stays"
    assert not any(part.text for part in by["noise"].messages[0].content if isinstance(part, AudioPart))


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_is_a_function_of_its_generator(name: str) -> None:
    waves = [SOUNDS[name](20_000, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert waves[0].dtype == np.float32
    assert np.abs(waves[0]).max() <= 1
    assert (waves[0] == waves[1]).all()
    if name != "silence":
        assert (waves[0] != waves[2]).any()
        assert np.sqrt(np.mean(waves[0] ** 2)) == pytest.approx(SPEECH_LEVEL, rel=0.05)


def test_pink_noise_has_equal_power_in_every_octave() -> None:
    power = np.abs(np.fft.rfft(SOUNDS["noise"](1 << 16, np.random.default_rng(3)))) ** 2
    octaves = [power[1 << k : 2 << k].sum() for k in range(8, 15)]
    assert max(octaves) < 1.25 * min(octaves)


def test_another_clip_or_picture_expects_another_answer(rows: list[Row]) -> None:
    made = probe_rows(ProbesConfig(kinds=["other clip", "other picture"]), rows, 7)
    for one in made:
        if one.probe == "other clip":
            assert (sound(one.row)[:100] != sound(one.original)[:100]).any()
    pictures = [one.original.id for one in made if one.probe == "other picture"]
    assert pictures == ["p0", "p1", "p2"]
    asked_of_a_picture = [replace(one, messages=(*one.messages, *rows[6].messages)) for one in rows[:6]]
    assert not probe_rows(ProbesConfig(kinds=["other clip"]), asked_of_a_picture, 7)
    alone = [row for row in rows if row.id in ("p0", "p1")]
    assert not probe_rows(ProbesConfig(kinds=["other picture"]), alone, 7), "nothing else to show"


def test_a_blank_picture_is_grey_and_as_large(rows: list[Row]) -> None:
    (one,) = probe_rows(ProbesConfig(kinds=["blank picture"], limit=1), rows, 7)
    (part,) = (part for part in one.row.messages[0].content if isinstance(part, ImagePart))
    picture = decode_image(part.image.read())
    assert (picture.size, picture.getextrema()) == ((4, 4), ((128, 128),) * 3)


def test_two_languages_in_one_clip_and_an_instruction_in_another(rows: list[Row]) -> None:
    made = probe_rows(ProbesConfig(limit=1), rows, 7)
    of_german = {one.probe: one.row for one in made if one.original.id == "de0"}
    assert of_german["transcript"].reference == "de words 0"
    english = of_german["code-switched"].reference.removeprefix("de words 0 ")
    assert english.startswith("en words ")
    assert sound(of_german["code-switched"]).size == 8000 + 4000 + 8000
    assert of_german["asked in another language"].messages[0].text in INSTRUCTIONS["transcribe"]["en"]
    assert of_german["transcript"].messages[0].text in INSTRUCTIONS["transcribe"]["de"]
    unknown = [replace(one, messages=(Message.of("user", AudioPart(Media(bytes=clip(1)))),)) for one in rows[:6]]
    assert not probe_rows(ProbesConfig(kinds=["transcript", "code-switched"]), unknown, 7)


def test_behaviour_of_answers(rows: list[Row]) -> None:
    made = probe_rows(ProbesConfig(limit=3, kinds=["silence", "transcript", "other picture"]), rows, 7)
    answers = {row.id: row.reference for row in rows}
    for one in made:
        answers[one.row.id] = {
            "silence": ("", "Ich kann leider nichts hören", "da da da da da da da da da da da da")[
                int(one.original.id[-1])
            ],
            "transcript": "de words 0" if one.original.language == "de" else one.row.reference,
            "other picture": "red",
        }[one.probe]
    found = {(one.probe, one.language): one for one in behaviours(rows, made, answers, ("de", "en", "ru"))}
    quiet = found["silence", "de"]
    assert (quiet.rows, quiet.wordless, quiet.refusing, quiet.running_away) == (3, *[pytest.approx(1 / 3)] * 3)
    assert (quiet.right, quiet.before, quiet.unchanged) == (0, 1, 0)
    picture = found["other picture", "en"]
    assert (picture.right, picture.before, picture.unchanged) == (*[pytest.approx(2 / 3)] * 1, 1, pytest.approx(2 / 3))
    assert found["transcript", "de"].error_rate == pytest.approx(2 / 9)
    assert found["transcript", "en"].error_rate == 0
    assert found["transcript", "de"].before is None
    assert found["as asked", "de"].rows == 3
    lines = {line["probe"]: line for line in means(list(found.values()))}
    assert lines["transcript"]["error_rate"] == pytest.approx(1 / 9)
    assert (lines["silence"]["rows"], lines["silence"]["languages"]) == (6, 2)


def test_answers_in_another_language_are_told_where_they_can_be(row: Any, png: bytes) -> None:
    asked = [row(str(i), reference, "picture", "ru", image=png) for i, reference in enumerate(["да", "нет", "yes"])]
    (found,) = behaviours(asked, [], {"0": "да", "1": "a red circle", "2": "yes"}, ("ru", "en"))
    # The third is to be answered in English.
    assert (found.own_language, found.told) == (0.5, 2)


def test_mixed_error_rate_counts_characters_of_scripts_without_spaces() -> None:
    assert mixed_error_rate([("red 红色的圆", "red 红色的方")]) == pytest.approx(1 / 5)
    assert mixed_error_rate([("красный круг 红", "красный круг")]) == pytest.approx(1 / 3)


def test_guard_figures(row: Any) -> None:
    asked = [row(str(i), "x") for i in range(3)]
    answers = {"0": "fine", "1": "so, " + "no " * 30, "2": "ha " * 20}
    figures = guard_figures(asked, answers, {"1": "so, no", "2": "hum"})
    assert figures == {
        "answers": 3,
        "running_away": 2,
        "ended": 1,
        "characters": 94 + 60,
        "characters_guarded": 6 + 3,
    }
