"""What there is in the sample world, and which of it training never sees.

The split is a rule about facts, not a list of rows: a held-out thing is held out of documents, pairs, captions
and dialogues alike, so a test row asks for something that no training row ever showed.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

COLOURS = ("red", "green", "blue", "yellow", "black", "white", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "moon", "arrow")
POSITIONS = ("top_left", "top_right", "bottom_left", "bottom_right", "middle")
STYLES = ("flat", "outline", "hatched", "gradient", "checked", "noisy", "sketch", "stippled")
HELD_OUT_STYLES = ("stippled",)
HANDS = ("print", "bold", "typewriter", "segments", "dots", "pen", "pencil", "child", "italic", "brush")
HELD_OUT_HANDS = ("italic", "brush")
SPOKEN = ("en", "de", "es", "fr", "it", "pt", "ru", "zh")
COUNTRIES = {
    "CN": "zh", "GB": "en", "US": "en", "AU": "en", "RU": "ru", "ES": "es", "MX": "es", "AR": "es", "CO": "es",
    "FR": "fr", "PT": "pt", "BR": "pt", "DE": "de", "AT": "de", "IT": "it", "NL": "nl", "PL": "pl", "EG": "ar",
    "SA": "ar", "JO": "ar", "TR": "tr", "IL": "he", "JP": "ja", "KR": "ko", "TH": "th", "VN": "vi", "ID": "id",
}  # fmt: skip
_NAMELESS_SHARE = 0.2
_HELD_OUT_COLOURS = {
    "circle": ("green",), "square": ("black",), "triangle": ("orange", "white"), "star": ("blue", "green"),
    "heart": ("white", "black"), "cross": ("red",), "moon": ("yellow", "red"), "arrow": ("purple",),
}  # fmt: skip
_HELD_OUT_NUMBERS = frozenset({27, 34, 38, 49, 56, 63, 71, 82, 85, 93})


def stream(*key: object) -> random.Random:
    """The random numbers of one row: a pure function of its key, the same on every machine."""
    return random.Random("/".join(map(str, key)))


def held_out_combination(colour: str, shape: str) -> bool:
    """Twelve of the 64: every shape lacks one or two colours, and no colour lacks two shapes that look alike."""
    return colour in _HELD_OUT_COLOURS[shape]


def held_out_sum(a: int, b: int) -> bool:
    """Symmetric, so that b + a does not give a + b away; every addend is still seen in other sums."""
    return (3 * a + 7 * b) % 10 == 4 or (3 * b + 7 * a) % 10 == 4


def held_out_number(n: int) -> bool:
    """Two-digit numbers whose tens and units are both seen elsewhere."""
    return n in _HELD_OUT_NUMBERS


def held_out_translation(word: str, source: str, target: str) -> bool:
    """A tenth of the (word, language, language) triples."""
    return zlib.crc32(f"{word}/{source}/{target}".encode()) % 10 == 0


COMBINATIONS: dict[Split, tuple[tuple[str, str], ...]] = {
    split: tuple((c, s) for c in COLOURS for s in SHAPES if held_out_combination(c, s) == (split == "test"))
    for split in SPLITS
}
STYLES_OF: dict[Split, tuple[str, ...]] = {
    split: tuple(s for s in STYLES if (s in HELD_OUT_STYLES) == (split == "test")) for split in SPLITS
}
HANDS_OF: dict[Split, tuple[str, ...]] = {
    split: tuple(h for h in HANDS if (h in HELD_OUT_HANDS) == (split == "test")) for split in SPLITS
}
SUMS: dict[Split, tuple[tuple[int, int], ...]] = {
    split: tuple((a, b) for a in range(10) for b in range(10) if held_out_sum(a, b) == (split == "test"))
    for split in SPLITS
}
NUMBERS: dict[Split, tuple[int, ...]] = {
    split: tuple(n for n in range(100) if held_out_number(n) == (split == "test")) for split in SPLITS
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
