"""Drawing: decodable PNG of the right size, the same each time, with the object where and what it should be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from caravan import samples
from caravan.recipe.samples import SamplesConfig
from caravan.records import LANGUAGES
from caravan.samples.pictures import SIZE, draw, png
from caravan.samples.world import COLOURS, HANDS_OF, POSITIONS, SHAPES, STYLES_OF, Scene, draw_scene, stream

STYLES = [style for styles in STYLES_OF.values() for style in styles]
HANDS = [hand for hands in HANDS_OF.values() for hand in hands]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_a_picture_is_a_png_that_depends_on_its_number_alone(number: int) -> None:
    scene = draw_scene(stream(number), "train", "train")
    data = png(draw(scene, stream("draw", number)))
    assert data == png(draw(scene, stream("draw", number)))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (SIZE, SIZE))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("position", POSITIONS)
def test_the_object_is_in_its_place(style: str, position: str) -> None:
    for shape in SHAPES:
        pixels = np.asarray(draw(Scene("one", "black", style, shape, position=position), stream(style, shape)))
        ys, xs = np.nonzero(pixels.max(axis=2) < 100)
        assert len(xs) > 20
        x, y = np.median(xs) - 31.5, np.median(ys) - 31.5
        if position == "middle":
            assert abs(x) < 12
            assert abs(y) < 12
        else:
            assert (y < -4) == position.startswith("top")
            assert (x < -4) == position.endswith("left")
            assert min(abs(x), abs(y)) > 4


@pytest.mark.parametrize("colour", COLOURS)
def test_the_object_has_its_colour(colour: str) -> None:
    flat = np.asarray(draw(Scene("one", colour, "flat", "square", position="middle"), stream(colour)))
    r, g, b = (int(channel) for channel in np.median(flat[28:36, 28:36].reshape(-1, 3), axis=0))
    hues = {
        "red": r > 150 > 90 > max(g, b), "green": g > 110 > 90 > max(r, b), "blue": b > 150 > 110 > max(r, g),
        "yellow": min(r, g) > 190 > 90 > b, "black": max(r, g, b) < 50, "white": min(r, g, b) > 220,
        "purple": b > 130 > 90 > g and r > 90, "orange": r > 200 > g > 100 > 60 > b,
    }  # fmt: skip
    assert [name for name, holds in hues.items() if holds] == [colour]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_many_objects_are_apart(count: int) -> None:
    pixels = np.asarray(draw(Scene("many", "black", "flat", "square", count=count), stream(count)))
    dark = pixels.max(axis=2) < 70
    areas = dark.sum() / count
    assert 80 < areas < 330
    assert _blobs(dark) == count


def _blobs(mask: np.ndarray) -> int:
    left, found = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}, 0
    while left:
        todo, found = [left.pop()], found + 1
        while todo:
            y, x = todo.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            todo += near
    return found


@pytest.mark.parametrize("hand", HANDS)
def test_ten_digits_are_ten_pictures(hand: str) -> None:
    drawn = [draw(Scene("digit", "black", hand, digit=digit), stream(hand)) for digit in range(10)]
    assert len({image.tobytes() for image in drawn}) == 10
    assert all((np.asarray(image).max(axis=2) < 90).sum() > 40 for image in drawn)


def test_pictures_carry_captions_in_every_language() -> None:
    config = SamplesConfig(pictures=6, test=1)
    for split, count in (("train", 6), ("test", 4)):
        rows = list(samples.pictures(config, 0, split))
        assert len(rows) == count
        assert all(set(row.names) == set(LANGUAGES) and row.facts["style"] == row.style for row in rows)
        assert all(bool(row.group) == (split == "test") for row in rows)
