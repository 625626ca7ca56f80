"""What there is in the sample world, and which of it training never sees.

The split is a rule about facts, not a list of rows: a held-out thing is held out of documents, pairs, captions
and dialogues alike, so a held-out row asks for something that no training row ever showed. Combinations, styles,
hands and voices are held out twice: settings are chosen on the `validation` side, so that `test` stays unseen by
whoever chooses too. Sums, numbers, translations and phrasings have one held-out side.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

COLOURS = ("red", "green", "blue", "yellow", "black", "white", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "moon", "arrow")
# Told of, never drawn: with them a colour stands beside more nouns than those of which it lacks one or two.
THINGS = ("house", "book", "flower", "tree", "table", "chair", "ball", "hat", "cat", "bag")
POSITIONS = ("top_left", "top_right", "bottom_left", "bottom_right", "middle")
STYLES_OF: dict[Split, tuple[str, ...]] = {
    "train": (
        "flat", "outline", "hatched", "gradient", "checked", "noisy", "sketch", "dashed", "tinted", "speckled",
        "crosshatched", "ringed", *["mixed"] * 8,  # two pictures in five: it is many styles
    ),
    "validation": ("stippled",),
    "test": ("mosaic",),
}  # fmt: skip
HANDS_OF: dict[Split, tuple[str, ...]] = {
    "train": ("print", "bold", "typewriter", "segments", "dots", "pen", "pencil", "child", "marker", "hollow"),
    "validation": ("italic",),
    "test": ("brush",),
}
SPOKEN = ("en", "de", "es", "fr", "it", "pt", "ru", "zh")
COUNTRIES = {
    "CN": "zh", "GB": "en", "US": "en", "AU": "en", "RU": "ru", "ES": "es", "MX": "es", "AR": "es", "CO": "es",
    "FR": "fr", "PT": "pt", "BR": "pt", "DE": "de", "AT": "de", "IT": "it", "NL": "nl", "PL": "pl", "EG": "ar",
    "SA": "ar", "JO": "ar", "TR": "tr", "IL": "he", "JP": "ja", "KR": "ko", "TH": "th", "VN": "vi", "ID": "id",
}  # fmt: skip
ADDENDS = range(1, 6)
_NAMELESS_SHARE = 0.35
_HELD_OUT_COLOURS: dict[Split, dict[str, str]] = {
    "validation": {"circle": "green", "triangle": "white", "star": "blue", "heart": "black", "cross": "red",
                   "moon": "yellow"},
    "test": {"square": "black", "triangle": "orange", "star": "green", "heart": "white", "moon": "red",
             "arrow": "purple"},
}  # fmt: skip
_HELD_OUT_NUMBERS = frozenset({23, 26, 29})


def stream(*key: object) -> random.Random:
    """The random numbers of one row: a pure function of its key, the same on every machine."""
    return random.Random("/".join(map(str, key)))


def side_of(colour: str, shape: str) -> Split:
    """Twelve of the 64 are held out: every shape lacks one or two colours, and no colour lacks two that look alike."""
    sides: tuple[Split, ...] = ("validation", "test")
    return next((side for side in sides if colour == _HELD_OUT_COLOURS[side].get(shape)), "train")


def held_out_sum(a: int, b: int) -> bool:
    """Symmetric, so that b + a does not give a + b away; every addend is still seen in other sums."""
    return (3 * a + 7 * b) % 10 == 4 or (3 * b + 7 * a) % 10 == 4


def held_out_number(n: int) -> bool:
    """Two-digit numbers whose tens and units are both seen elsewhere."""
    return n in _HELD_OUT_NUMBERS


def held_out_translation(word: str, source: str, target: str) -> bool:
    """One colour and one shape of every two languages, each way its own."""
    turn = zlib.crc32(f"{source}/{target}".encode())
    return ((*COLOURS, *SHAPES).index(word) + turn) % len(COLOURS) == 0


COMBINATIONS: dict[Split, tuple[tuple[str, str], ...]] = {
    split: tuple((c, s) for c in COLOURS for s in SHAPES if side_of(c, s) == split) for split in SPLITS
}
SUMS: dict[Split, tuple[tuple[int, int], ...]] = {
    split: tuple((a, b) for a in ADDENDS for b in ADDENDS if held_out_sum(a, b) == (split != "train"))
    for split in SPLITS
}
NUMBERS: dict[Split, tuple[int, ...]] = {
    split: tuple(n for n in range(31) if held_out_number(n) == (split != "train")) for split in SPLITS
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows.

    `kind` is "one" (one shape at a position), "many" (`count` times the same shape) or "digit".
    `style` is a drawing style, or the hand that wrote a digit. `colour` is empty for one without a name.
    """

    kind: str
    colour: str
    style: str
    shape: str = ""
    count: int = 1
    position: str = ""
    digit: int = 0


def draw_scene(
    rng: random.Random, combinations: Split, styles: Split, *, kind: str = "", nameless: bool = False
) -> Scene:
    """A scene from one side of the split of the combinations, and of the styles; of any kind, or of `kind`.

    `nameless` gives some a colour without a name: a shape that is seen in many more colours than are named is known
    again in a colour that it was never seen in.
    """
    kind = kind or rng.choices(("one", "many", "digit"), cum_weights=(64, 82, 100))[0]
    if kind == "digit":
        return Scene("digit", rng.choice(COLOURS), rng.choice(HANDS_OF[styles]), digit=rng.randrange(10))
    colour, shape = rng.choice(COMBINATIONS[combinations])
    style = rng.choice(STYLES_OF[styles])
    if nameless and rng.random() < _NAMELESS_SHARE:
        colour = ""
    if kind == "many":
        return Scene("many", colour, style, shape, count=rng.randint(2, 5))
    return Scene("one", colour, style, shape, position=rng.choice(POSITIONS))
