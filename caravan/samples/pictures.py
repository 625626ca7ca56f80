"""Pictures of the world, drawn with Pillow: 64 x 64 RGB, drawn four times as large and scaled down."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from caravan.core.errors import MissingDependencyError
from caravan.samples.shapes import (
    SHAPE_POINTS,
    Polygon,
    digit_strokes,
    placed,
    segment_strokes,
    transform,
)
from caravan.samples.world import Scene

try:
    from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
except ImportError as _error:
    raise MissingDependencyError("Pillow", "vision", needed_for="drawing the sample world") from _error

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIZE = 64
_SCALE = 4
_LARGE = SIZE * _SCALE

RGB = tuple[int, int, int]
_RGB: dict[str, RGB] = {
    "red": (214, 30, 36), "green": (28, 150, 52), "blue": (32, 76, 214), "yellow": (250, 222, 30),
    "black": (14, 14, 16), "white": (252, 252, 252), "purple": (132, 36, 172), "orange": (246, 132, 16),
}  # fmt: skip
# A colour without a name in the world is at least this far from every one that has a name, and from its background.
_FAR, _APART = 95, 70
# Muted, so that no background passes for one of the colours.
_BACKGROUNDS: tuple[RGB, ...] = (
    (178, 178, 178), (196, 184, 160), (150, 168, 186), (164, 188, 166), (188, 168, 180), (140, 146, 150),
)  # fmt: skip
_CENTRES = {"top_left": (18, 18), "top_right": (46, 18), "bottom_left": (18, 46), "bottom_right": (46, 46)}


def _near(rng: random.Random, colour: RGB, spread: int) -> RGB:
    r, g, b = (min(255, max(0, channel + rng.randint(-spread, spread))) for channel in colour)
    return r, g, b


def _blend(a: RGB, b: RGB, share: float) -> RGB:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _nameless(rng: random.Random, background: RGB) -> RGB:
    """Any colour that passes neither for one with a name nor for the background."""
    while True:
        colour = rng.randrange(256), rng.randrange(256), rng.randrange(256)
        if math.dist(colour, background) >= _APART and all(math.dist(colour, named) >= _FAR for named in _RGB.values()):
            return colour


def _jittered(rng: random.Random, points: Polygon, spread: float) -> Polygon:
    return [(x + rng.uniform(-spread, spread), y + rng.uniform(-spread, spread)) for x, y in points]


def _stroke(draw: ImageDraw.ImageDraw, points: Polygon, fill: RGB | int, width: float) -> None:
    """A line with round joints and ends."""
    draw.line(points, fill=fill, width=round(width), joint="curve")
    r = width / 2
    for x, y in (points[0], points[-1]):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _mask(polygon: Polygon) -> Picture:
    mask = Image.new("L", (_LARGE, _LARGE), 0)
    ImageDraw.Draw(mask).polygon(polygon, fill=255)
    return mask


def _hatching(rng: random.Random) -> Picture:
    """Parallel slanted lines over the whole canvas."""
    pattern = Image.new("L", (_LARGE, _LARGE), 0)
    draw = ImageDraw.Draw(pattern)
    step, slope = rng.randint(13, 17), rng.choice((-1.0, -0.5, 0.5, 1.0))
    for offset in range(-_LARGE, 2 * _LARGE, step):
        draw.line((offset, 0, offset + slope * _LARGE, _LARGE), fill=255, width=rng.randint(6, 8))
    return pattern


def _checks(rng: random.Random) -> Picture:
    pattern = Image.new("L", (_LARGE, _LARGE), 0)
    draw = ImageDraw.Draw(pattern)
    side = rng.randint(14, 20)
    for row in range(0, _LARGE, side):
        for column in range((row // side % 2) * side, _LARGE, 2 * side):
            draw.rectangle((column, row, column + side - 1, row + side - 1), fill=255)
    return pattern


def _stipple(rng: random.Random) -> Picture:
    """Round dots in staggered rows, none quite in its place."""
    pattern = Image.new("L", (_LARGE, _LARGE), 0)
    draw = ImageDraw.Draw(pattern)
    step = rng.randint(11, 13)
    for row, y in enumerate(range(0, _LARGE, step)):
        for column in range((row % 2) * step // 2, _LARGE, step):
            x, r = column + rng.uniform(-1.5, 1.5), rng.uniform(4.2, 5.2)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return pattern


def _dots_along(rng: random.Random, draw: ImageDraw.ImageDraw, points: Polygon, colour: RGB) -> None:
    """Round dots along a line, evenly apart."""
    step, left = rng.uniform(11, 13), 0.0
    for (ax, ay), (bx, by) in pairwise(points):
        length = math.hypot(bx - ax, by - ay)
        while left < length:
            x, y, r = ax + (bx - ax) * left / length, ay + (by - ay) * left / length, rng.uniform(4.2, 5.2)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
            left += step
        left -= length


def _gradient(rng: random.Random, colour: RGB) -> Picture:
    """From a darker to a lighter tone of a colour that stays the same colour."""
    ramp = Image.linear_gradient("L").resize((_LARGE, _LARGE)).rotate(rng.choice((0, 90, 180, 270)))
    dark, light = _blend(colour, (0, 0, 0), 0.28), _blend(colour, (255, 255, 255), 0.28)
    return Image.composite(Image.new("RGB", ramp.size, light), Image.new("RGB", ramp.size, dark), ramp)


def _mosaic(rng: random.Random, canvas: Picture, polygon: Polygon, colour: RGB) -> None:
    """Square tiles of the colour's tones, with gaps, wherever a tile's centre lies inside."""
    mask, draw = _mask(polygon), ImageDraw.Draw(canvas)
    side = rng.randint(10, 13)
    x0, y0 = rng.randrange(side), rng.randrange(side)
    for left in range(x0, _LARGE - side, side):
        for top in range(y0, _LARGE - side, side):
            if mask.getpixel((left + side // 2, top + side // 2)):
                draw.rectangle((left, top, left + side - 3, top + side - 3), fill=_near(rng, colour, 14))


def _speckles(rng: random.Random) -> Picture:
    """Specks of a few points at chance places."""
    side = rng.randint(4, 7)
    noise = np.random.default_rng(rng.getrandbits(64)).random((_LARGE // side + 1,) * 2) < rng.uniform(0.6, 0.75)
    specks = Image.fromarray((noise * 255).astype(np.uint8)).resize((side * len(noise),) * 2, Image.Resampling.NEAREST)
    return specks.crop((0, 0, _LARGE, _LARGE))


def _cells(rng: random.Random) -> Picture:
    """Soft blotches of chance size, some of them empty."""
    side = rng.choice((8, 12, 16))
    noise = np.random.default_rng(rng.getrandbits(64)).random((side, side))
    blotches = Image.fromarray((255 * noise**0.5).astype(np.uint8)).resize((_LARGE, _LARGE), Image.Resampling.BICUBIC)
    return blotches.point(lambda level: min(255, max(0, 2 * level - 110)))


def _dashes(rng: random.Random, draw: ImageDraw.ImageDraw, points: Polygon, colour: RGB) -> None:
    """The outline in dashes."""
    length, width = rng.uniform(13, 18), rng.uniform(8, 11)
    along = [(a, b, math.dist(a, b)) for a, b in pairwise(points[:-1])]
    start = 0.0
    for (ax, ay), (bx, by), size in along:
        at = 0.0
        while at < size:
            phase = (start + at) % (1.6 * length)
            step = min(size - at, length - phase if phase < length else 1.6 * length - phase) or 1e-6
            if phase < length:
                ends = [(ax + (bx - ax) * t / size, ay + (by - ay) * t / size) for t in (at, at + step)]
                _stroke(draw, ends, colour, width)
            at += max(step, 0.01)
        start += size


def _shrunk(points: Polygon, centre: tuple[float, float], share: float) -> Polygon:
    return [(centre[0] + (x - centre[0]) * share, centre[1] + (y - centre[1]) * share) for x, y in points]


_PATTERNS = {
    "hatched": _hatching,
    "crosshatched": lambda rng: ImageChops.lighter(_hatching(rng), _hatching(rng)),
    "speckled": _speckles,
    "stippled": _stipple,
}
_TEXTURES = {
    "hatched": _hatching,
    "crosshatched": _PATTERNS["crosshatched"],
    "checked": _checks,
    "speckled": _speckles,
    "cells": _cells,
}


def _mixed(rng: random.Random, canvas: Picture, polygon: Polygon, colour: RGB, background: RGB) -> None:
    """A chance way to fill with a chance way to trace the outline: what they have in common is the shape alone."""
    draw, mask = ImageDraw.Draw(canvas), _mask(polygon)
    closed = [*polygon, polygon[0], polygon[1]]
    fill = rng.choice(("none", "flat", "tint", "gradient", *_TEXTURES))
    if fill == "tint":
        draw.polygon(polygon, fill=_blend(colour, background, rng.uniform(0.1, 0.6)))
    elif fill == "gradient":
        canvas.paste(_gradient(rng, colour), (0, 0), mask)
    elif fill in _TEXTURES:
        ground = rng.choice((background, _blend(colour, background, 0.6), _blend(colour, (128, 128, 128), 0.5)))
        draw.polygon(polygon, fill=ground)
        canvas.paste(colour, (0, 0, _LARGE, _LARGE), ImageChops.multiply(mask, _zoomed(rng, _TEXTURES[fill](rng))))
    elif fill == "flat":
        draw.polygon(polygon, fill=colour)
    edge = rng.choice(("solid", "dashes", "jitter") if fill == "none" else ("none", "none", "solid", "dashes"))
    tone = _blend(colour, rng.choice(((0, 0, 0), (255, 255, 255))), rng.uniform(0.0, 0.25))
    if edge == "solid":
        _stroke(draw, closed, tone, rng.uniform(3, 14) if fill != "none" else rng.uniform(6, 14))
    elif edge == "dashes":
        _dashes(rng, draw, closed, tone)
    elif edge == "jitter":
        for _ in range(rng.randint(1, 4)):
            _stroke(draw, _jittered(rng, closed, rng.uniform(1.0, 5.0)), tone, rng.uniform(4, 8))


def _zoomed(rng: random.Random, pattern: Picture) -> Picture:
    """A part of a pattern, enlarged or reduced, mirrored or not."""
    side = round(_LARGE / rng.uniform(0.75, 2.0))
    tiled = Image.new("L", (2 * _LARGE, 2 * _LARGE))
    for corner in ((0, 0), (_LARGE, 0), (0, _LARGE), (_LARGE, _LARGE)):
        tiled.paste(pattern, corner)
    left, top = rng.randrange(2 * _LARGE - side), rng.randrange(2 * _LARGE - side)
    part = tiled.crop((left, top, left + side, top + side)).resize((_LARGE, _LARGE))
    return ImageChops.invert(part) if rng.random() < 0.3 else part


def _draw_shape(
    rng: random.Random, canvas: Picture, polygon: Polygon, colour: RGB, background: RGB, style: str
) -> None:
    draw = ImageDraw.Draw(canvas)
    closed = [*polygon, polygon[0], polygon[1]]
    if style in ("flat", "noisy"):
        draw.polygon(polygon, fill=colour)
    elif style == "outline":
        _stroke(draw, closed, colour, rng.uniform(9, 13))
    elif style == "dashed":
        _dashes(rng, draw, closed, colour)
    elif style == "ringed":
        xs, ys = zip(*polygon, strict=True)
        centre = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
        for share in (1.0, 0.55):
            _stroke(draw, _shrunk(closed, centre, share), colour, rng.uniform(5, 7))
    elif style == "tinted":
        draw.polygon(polygon, fill=_blend(colour, background, rng.uniform(0.3, 0.5)))
        _stroke(draw, closed, colour, rng.uniform(5, 8))
    elif style == "sketch":
        for _ in range(3):
            _stroke(draw, _jittered(rng, closed, 4.0), colour, rng.uniform(4, 6))
    elif style == "gradient":
        canvas.paste(_gradient(rng, colour), (0, 0), _mask(polygon))
    elif style == "checked":
        draw.polygon(polygon, fill=_blend(colour, (128, 128, 128), 0.35))
        canvas.paste(colour, (0, 0, _LARGE, _LARGE), ImageChops.multiply(_mask(polygon), _checks(rng)))
    elif style == "mixed":
        _mixed(rng, canvas, polygon, colour, background)
    elif style == "mosaic":
        _mosaic(rng, canvas, polygon, colour)
    else:
        canvas.paste(colour, (0, 0, _LARGE, _LARGE), ImageChops.multiply(_mask(polygon), _PATTERNS[style](rng)))
        if style == "stippled":
            _dots_along(rng, draw, closed, colour)
        elif style != "speckled":
            _stroke(draw, closed, colour, 4)


def _places(rng: random.Random, scene: Scene) -> Iterator[tuple[float, float, float]]:
    """Centre and radius of every object of a scene, in points of the finished picture."""
    if scene.kind == "many":
        for cell in rng.sample(range(9), scene.count):
            x, y = 11.5 + 20.5 * (cell % 3), 11.5 + 20.5 * (cell // 3)
            yield x + rng.uniform(-1.5, 1.5), y + rng.uniform(-1.5, 1.5), rng.uniform(7.2, 8.6)
    elif scene.position == "middle":
        yield 32 + rng.uniform(-3, 3), 32 + rng.uniform(-3, 3), rng.uniform(12, 20)
    else:
        x, y = _CENTRES[scene.position]
        yield x + rng.uniform(-2.5, 2.5), y + rng.uniform(-2.5, 2.5), rng.uniform(12, 15)


def _draw_digit(rng: random.Random, canvas: Picture, scene: Scene, colour: RGB) -> None:
    """A digit in one of the hands: type, displays, or strokes of pen, pencil, child or brush."""
    x, y = (_SCALE * (32 + rng.uniform(-5, 5)) for _ in range(2))
    height = _SCALE * rng.uniform(15, 23)
    draw = ImageDraw.Draw(canvas)
    hand = scene.style
    if hand in ("print", "bold", "italic", "hollow", "typewriter"):
        mask = _type(scene.digit, hand, round(height * 2))
        canvas.paste(colour, (round(x - mask.width / 2), round(y - mask.height / 2)), mask)
        return
    if hand == "dots":
        _draw_dots(draw, scene.digit, x, y, height, colour)
        return
    width = {"segments": 0.26, "pen": 0.2, "pencil": 0.12, "child": 0.22, "brush": 0.34, "marker": 0.3}[hand] * height
    loose = {"segments": 0.0, "pen": 3.0, "pencil": 4.0, "child": 9.0, "brush": 5.0, "marker": 2.0}[hand]
    slant = {"segments": 0.1, "pen": rng.uniform(0.0, 0.25), "brush": rng.uniform(0.1, 0.4)}.get(hand, 0.0)
    angle = rng.uniform(-14, 14) if hand == "child" else rng.uniform(-5, 5) if hand != "segments" else 0.0
    narrow = rng.uniform(0.75, 1.1)
    move = transform(x, y, height * narrow, height, angle, slant)
    strokes = segment_strokes(scene.digit) if hand == "segments" else digit_strokes(scene.digit, rng.randrange(2))
    for stroke in strokes:
        # Few displaced corners look drawn; many look like noise, so long curves are displaced less.
        spread = loose if len(stroke) < 8 else loose / 4
        _stroke(draw, _jittered(rng, placed(stroke, move), spread), colour, width)


def _type(digit: int, hand: str, height: int) -> Picture:
    """A mask of a digit in one of Pillow's own two typefaces, as tall as `height`."""
    if hand == "typewriter":
        small = ImageFont.load_default_imagefont().getmask(str(digit))
        mask = Image.frombytes("L", small.size, bytes(small))
    else:
        mask = Image.new("L", (160, 200), 0)
        stroke = 6 if hand == "bold" else 0
        ImageDraw.Draw(mask).text((40, 20), str(digit), fill=255, font=ImageFont.load_default(140), stroke_width=stroke)
        if hand == "hollow":
            mask = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(9)), mask)
        if hand == "italic":
            mask = mask.transform(mask.size, Image.Transform.AFFINE, (1, 0.35, -35, 0, 1, 0), Image.Resampling.BILINEAR)
    mask = mask.crop(mask.getbbox())
    return mask.resize((max(8, round(mask.width * height / mask.height)), height), Image.Resampling.BILINEAR)


def _draw_dots(draw: ImageDraw.ImageDraw, digit: int, x: float, y: float, height: float, colour: RGB) -> None:
    """A dot-matrix display: the typewriter's bitmap, a round dot for every point."""
    small = ImageFont.load_default_imagefont().getmask(str(digit))
    step = 2 * height / 9
    bitmap = Image.frombytes("L", small.size, bytes(small))
    left, top, right, bottom = bitmap.getbbox() or (0, 0, 1, 1)
    for column in range(left, right):
        for row in range(top, bottom):
            if bitmap.getpixel((column, row)):
                cx, cy = x + (column - (left + right - 1) / 2) * step, y + (row - (top + bottom - 1) / 2) * step
                r = step * 0.46
                draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=colour)


def _clutter(rng: random.Random, draw: ImageDraw.ImageDraw, background: RGB) -> None:
    """Small dashes in tones of the background, over it and over the object."""
    for _ in range(rng.randint(8, 16)):
        x, y = rng.uniform(0, _LARGE), rng.uniform(0, _LARGE)
        end = (x + rng.uniform(-22, 22), y + rng.uniform(-22, 22))
        draw.line((x, y, *end), fill=_near(rng, background, 40), width=rng.randint(3, 6))


def draw(scene: Scene, rng: random.Random) -> Picture:
    """A picture of a scene: 64 x 64, RGB. The same scene and random state give the same picture."""
    background = _near(rng, rng.choice(_BACKGROUNDS), 10)
    colour = _near(rng, _RGB[scene.colour], 22) if scene.colour else _nameless(rng, background)
    canvas = Image.new("RGB", (_LARGE, _LARGE), background)
    if scene.kind == "digit":
        _draw_digit(rng, canvas, scene, colour)
    else:
        angle = rng.uniform(-14, 14)
        for x, y, radius in _places(rng, scene):
            size = _SCALE * radius
            move = transform(_SCALE * x, _SCALE * y, size * rng.uniform(0.92, 1.0), size, angle + rng.uniform(-4, 4))
            _draw_shape(rng, canvas, placed(SHAPE_POINTS[scene.shape], move), colour, background, scene.style)
    if scene.style == "noisy":
        _clutter(rng, ImageDraw.Draw(canvas), background)
    small = canvas.resize((SIZE, SIZE), Image.Resampling.BOX)
    spread = rng.uniform(10, 22) if scene.style == "noisy" else rng.choice((0, 0, 4, 8))
    return _grain(rng, small, spread) if spread else small


def _grain(rng: random.Random, picture: Picture, spread: float) -> Picture:
    """Gaussian noise on every channel."""
    noise = np.random.default_rng(rng.getrandbits(64)).normal(0.0, spread, (SIZE, SIZE, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def png(picture: Picture) -> bytes:
    """The picture as PNG bytes."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=3)
    return stream.getvalue()
