"""The split rules: what is held out is held out everywhere, and everything is still seen in other company."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from caravan.records import LANGUAGES
from caravan.samples.questions import CONCEPTS
from caravan.samples.speakers import VOICES
from caravan.samples.world import (
    ADDENDS,
    COLOURS,
    COMBINATIONS,
    HANDS_OF,
    NUMBERS,
    SHAPES,
    SPLITS,
    STYLES_OF,
    SUMS,
    draw_scene,
    held_out_translation,
    stream,
)


def test_splits_are_disjoint_and_not_empty() -> None:
    for table in (COMBINATIONS, STYLES_OF, HANDS_OF, SUMS, NUMBERS, VOICES):
        train, validation, test = (set(table[split]) for split in SPLITS)
        assert train
        assert validation
        assert test
        assert not train & (validation | test)


def test_what_settings_are_chosen_on_is_not_what_is_reported() -> None:
    for table in (COMBINATIONS, STYLES_OF, HANDS_OF, VOICES):
        assert not set(table["validation"]) & set(table["test"])


def test_twelve_combinations_are_held_out_and_every_part_is_seen() -> None:
    assert len(COMBINATIONS["validation"]) + len(COMBINATIONS["test"]) == 12
    colours = Counter(colour for colour, _ in COMBINATIONS["train"])
    shapes = Counter(shape for _, shape in COMBINATIONS["train"])
    assert set(colours) == set(COLOURS)
    assert set(shapes) == set(SHAPES)
    assert min(*colours.values(), *shapes.values()) >= 6


def test_a_held_out_sum_is_held_out_both_ways_and_its_addends_are_seen() -> None:
    assert all((b, a) in SUMS["test"] for a, b in SUMS["test"])
    assert {a for a, _ in SUMS["train"]} == set(ADDENDS)


def test_every_word_is_translated_in_training_into_most_languages() -> None:
    for concept in CONCEPTS:
        held = sum(held_out_translation(concept, a, b) for a in LANGUAGES for b in LANGUAGES if a != b)
        assert 0 < held < 0.25 * 17 * 18


@given(st.integers(0, 10**9))
def test_scenes_stay_on_their_side(number: int) -> None:
    for combinations in SPLITS:
        for styles in SPLITS:
            scene = draw_scene(stream("scene", number), combinations, styles)
            if scene.kind == "digit":
                assert scene.style in HANDS_OF[styles]
            else:
                assert (scene.colour, scene.shape) in COMBINATIONS[combinations]
                assert scene.style in STYLES_OF[styles]


def test_some_training_scenes_have_a_colour_without_a_name() -> None:
    scenes = [draw_scene(stream(i), "train", "train", nameless=True) for i in range(500)]
    assert 0.2 < sum(not scene.colour for scene in scenes) / 500 < 0.4
    assert all(draw_scene(stream(i), "train", "train").colour for i in range(500))


def test_a_stream_is_the_same_on_every_machine() -> None:
    assert stream(7, "picture", "train", 3).getrandbits(32) == 2909913019
