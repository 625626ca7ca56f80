from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.classifier.hashing import Shape, hash_texts

SHAPE = Shape(words=2, shortest=1, longest=3, bits=22, window=0)
TEXT = st.text(st.sampled_from("aBé1,. \n\t茶水ท"), max_size=40)
WRAP, PRIME, GOLDEN = (1 << 64) - 1, 0x100000001B3, 0x9E3779B97F4A7C15
OFFSET, START = 0xCBF29CE484222325, 0x9AE16A3B2F90404F


def mixed(h: int) -> int:
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & WRAP
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & WRAP
    return h ^ (h >> 31)


def spelt(text: str, start: int) -> int:
    for character in text:
        start = (start ^ ord(character)) * PRIME & WRAP
    return mixed(start)


def plain(text: str) -> str:
    """As it counts: lower case, 0 for digits, a blank or a line break for any row of them that begins so."""
    out = " "
    for character in text:
        if character in " \t\n":
            character = "\n" if character == "\n" else " "
            if out[-1] in (character, "\n"):
                continue
        out += "0" if character.isdigit() else character.lower()
    return out[1:]


def words(line: str) -> list[str]:
    found, word = [], ""
    for character in line + " ":
        if character in "茶水ท" or unicodedata.category(character)[0] not in "LNM":
            found += [word] if word else []
            word = ""
        if character in "茶水ท":
            found.append(character)
        elif unicodedata.category(character)[0] in "LNM":
            word += character
    return found


def reference(text: str, shape: Shape) -> set[int]:
    """Places of the n-grams, from strings."""
    text = plain(text)
    hashes = [
        spelt(text[i - n : i][::-1], START)
        for n in range(shape.shortest, shape.longest + 1)
        for i in range(n, len(text) + 1)
    ]
    for line in text.split("\n"):
        found = [spelt(word, OFFSET) for word in words(line)]
        for n in range(1, shape.words + 1):
            for i in range(n, len(found) + 1):
                h = 0
                for word in found[i - n : i]:
                    h = mixed((h * GOLDEN + word) & WRAP)
                hashes.append(h)
    return {h >> (64 - shape.bits) for h in hashes}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(TEXT, st.integers(1, 3), st.integers(1, 2), st.integers(2, 4))
def test_places_are_those_of_ngrams_made_of_strings(text: str, many: int, shortest: int, longest: int) -> None:
    shape = Shape(many, shortest, longest, 22, 0)
    places = hash_texts(pa.array([text]), shape).places.tolist()
    assert len(places) == len(set(places))
    assert set(places) == reference(text, shape)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=30), max_size=5))
def test_texts_of_a_batch_are_apart(texts: list[str]) -> None:
    together = hash_texts(pa.array(["x", *texts], pa.string()).slice(1), SHAPE)
    for row, text in enumerate(texts):
        mine = together.places[together.bounds[row] : together.bounds[row + 1]]
        np.testing.assert_array_equal(mine, hash_texts(pa.array([text]), SHAPE).places)


def test_of_a_long_text_three_places_are_read() -> None:
    words = ["é" + "".join(chr(97 + i // 26**k % 26) for k in range(3)) for i in range(3000)]
    places = set(hash_texts(pa.array([" ".join(words)]), SHAPE._replace(window=100)).places.tolist())
    for near in (words[:15], words[1495:1505], words[-15:]):
        assert reference(" ".join(near), SHAPE) < places
    for far in (words[700:900], words[2100:2300]):
        own = {mixed(spelt(word, OFFSET)) >> (64 - SHAPE.bits) for word in far}
        assert len(own & places) <= 1  # two words may share a place
