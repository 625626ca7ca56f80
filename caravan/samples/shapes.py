"""The outlines of the world: shapes as polygons and digits as strokes, in a unit square with the origin at its centre.

Coordinates run from -1 to 1, x to the right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Point = tuple[float, float]
Polygon = list[Point]


def _arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, points: int = 24) -> Polygon:
    """Points on an ellipse, degrees from the x axis towards y (clockwise on a picture)."""
    angles = [math.radians(start + (stop - start) * i / (points - 1)) for i in range(points)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def _star() -> Polygon:
    radii = (1.0, 0.42)
    return [
        (radii[i % 2] * math.sin(math.pi * i / 5), 0.05 - radii[i % 2] * math.cos(math.pi * i / 5)) for i in range(10)
    ]


def _heart() -> Polygon:
    points = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3, -(y + 2.5) / 15.5))
    return points


def _moon() -> Polygon:
    outer = _arc(0.0, 0.0, 0.95, 0.95, 50, 310, 32)
    inner = _arc(0.55, 0.0, 0.73, 0.73, 275, 85, 24)
    return [(x + 0.2, y) for x, y in outer + inner]


SHAPE_POINTS: dict[str, Polygon] = {
    "circle": _arc(0.0, 0.0, 0.92, 0.92, 0, 352.5, 48),
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": [(0.0, -0.92), (0.95, 0.78), (-0.95, 0.78)],
    "star": _star(),
    "heart": _heart(),
    "cross": [
        (-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3),
        (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3),
    ],
    "moon": _moon(),
    "arrow": [(-1.0, -0.25), (0.1, -0.25), (0.1, -0.75), (1.0, 0.0), (0.1, 0.75), (0.1, 0.25), (-1.0, 0.25)],
}  # fmt: skip

# Digits as they are written by hand, in one or two ways each; x spans about +-0.6, y +-1.
_RING = _arc(0.0, 0.0, 0.6, 1.0, -90, 270, 32)
_DIGIT_STROKES: dict[int, list[list[Polygon]]] = {
    0: [[_RING]],
    1: [[[(0.0, -1.0), (0.0, 1.0)]], [[(-0.4, -0.6), (0.05, -1.0), (0.05, 1.0)], [(-0.4, 1.0), (0.5, 1.0)]]],
    2: [[[*_arc(0.0, -0.5, 0.55, 0.5, 180, 380, 20), (-0.55, 1.0), (0.6, 1.0)]]],
    3: [[_arc(-0.05, -0.5, 0.55, 0.5, 200, 450, 20) + _arc(-0.05, 0.5, 0.6, 0.5, -90, 160, 20)]],
    4: [
        [[(0.25, 1.0), (0.25, -1.0), (-0.6, 0.35), (0.6, 0.35)]],
        [[(-0.5, -1.0), (-0.5, 0.1), (0.55, 0.1)], [(0.3, -0.6), (0.3, 1.0)]],
    ],
    5: [[[(0.5, -1.0), (-0.45, -1.0), (-0.5, -0.1), *_arc(-0.05, 0.4, 0.6, 0.6, 222, 500, 24)]]],
    6: [[[(0.4, -1.0), (-0.15, -0.5), *_arc(0.0, 0.42, 0.58, 0.58, 190, -170, 28)]]],
    7: [
        [[(-0.6, -1.0), (0.6, -1.0), (-0.15, 1.0)]],
        [[(-0.6, -0.8), (-0.6, -1.0), (0.6, -1.0), (-0.1, 1.0)], [(-0.25, 0.05), (0.5, 0.05)]],
    ],
    8: [[_arc(0.0, -0.5, 0.45, 0.48, 90, 450, 28), _arc(0.0, 0.5, 0.58, 0.5, -90, 270, 28)]],
    9: [
        [[*_arc(0.0, -0.42, 0.56, 0.58, 0, 360, 28), (0.45, 1.0)]],
        [_arc(0.0, -0.42, 0.56, 0.58, 0, 360, 28) + _arc(-0.1, 0.3, 0.66, 0.7, 0, 130, 12)],
    ],
}

# Seven-segment digits: a top, b and c right, d bottom, e and f left, g middle.
_SEGMENTS: dict[str, Polygon] = {
    "a": [(-0.5, -1.0), (0.5, -1.0)], "b": [(0.5, -1.0), (0.5, 0.0)], "c": [(0.5, 0.0), (0.5, 1.0)],
    "d": [(-0.5, 1.0), (0.5, 1.0)], "e": [(-0.5, 0.0), (-0.5, 1.0)], "f": [(-0.5, -1.0), (-0.5, 0.0)],
    "g": [(-0.5, 0.0), (0.5, 0.0)],
}  # fmt: skip
_LIT = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def digit_strokes(digit: int, variant: int) -> list[Polygon]:
    """The strokes of a digit; a digit with one way of writing has it for every variant."""
    variants = _DIGIT_STROKES[digit]
    return variants[variant % len(variants)]


def segment_strokes(digit: int) -> list[Polygon]:
    """The lit segments of a seven-segment display, a gap between them."""
    return [[(x * 0.86, y * 0.9) for x, y in _SEGMENTS[name]] for name in _LIT[digit]]


def placed(points: Polygon, move: Callable[[Point], Point]) -> Polygon:
    """The points after a transform."""
    return [move(point) for point in points]


def transform(
    x: float, y: float, scale_x: float, scale_y: float, angle: float = 0.0, slant: float = 0.0
) -> Callable[[Point], Point]:
    """Scale, slant (x grows upwards), rotate by degrees, then move to (x, y)."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def move(point: Point) -> Point:
        px, py = (point[0] - slant * point[1]) * scale_x, point[1] * scale_y
        return x + cos * px - sin * py, y + sin * px + cos * py

    return move
