"""Documents and parallel pairs, composed of statements about the world, plain prose and questions with answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from caravan.records import Document, Pair
from caravan.samples.questions import chat_turn, phrase, scene_answer, translation
from caravan.samples.words import Words, words
from caravan.samples.world import (
    COLOURS,
    COMBINATIONS,
    COUNTRIES,
    NUMBERS,
    SUMS,
    THINGS,
    Scene,
    draw_scene,
    stream,
)

# Uneven on purpose, as real corpora are: the small ones need the tokenizer's and the mixture's up-sampling.
SHARES = {
    "en": 16.0, "zh": 12.0, "ru": 9.0, "es": 8.0, "fr": 7.0, "de": 7.0, "pt": 6.0, "it": 5.0, "ja": 5.0, "nl": 4.0,
    "pl": 4.0, "ar": 4.0, "tr": 4.0, "ko": 3.0, "vi": 3.0, "id": 3.0, "th": 1.5, "he": 1.5,
}  # fmt: skip
_STATEMENTS = {
    "order": 3, "add": 3, "translate": 4, "number": 2, "country": 1, "scene": 3, "many": 1, "things": 10,
}  # fmt: skip
_NOT_ALOUD = ("translate", "number", "things")
_SYMBOLS = "#@~^|<>{}[]=+*$%&_\\/"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is so, in no language: a kind of statement, its variant and what it is about."""

    kind: str
    variant: int
    about: tuple[str | int, ...]
    scene: Scene | None = None


def draw_fact(rng: random.Random, languages: Sequence[str], aloud: bool = False) -> Fact:
    """A fact from the training side of every split, for the languages it will be told in.

    `aloud` leaves out what is not said the way it is written, foreign words and digits, and what is never drawn.
    """
    # In two languages at once, a translation into one of them would say nothing.
    left_out = _NOT_ALOUD if aloud else ("translate",) if len(languages) > 1 else ()
    kinds = [kind for kind in _STATEMENTS if kind not in left_out]
    kind = rng.choices(kinds, [_STATEMENTS[kind] for kind in kinds])[0]
    variant = rng.randrange(2)
    if kind == "order":
        cycle, length = rng.choice((("months", 12), ("days", 7)))
        return Fact(kind, variant, (cycle, rng.randrange(length)))
    if kind == "add":
        return Fact(kind, variant, rng.choice(SUMS["train"]))
    if kind == "number":
        return Fact(kind, variant, (rng.choice(NUMBERS["train"]),))
    if kind == "country":
        return Fact(kind, variant, (rng.choice(tuple(COUNTRIES)),))
    if kind == "things":
        return Fact(kind, variant, (*_thing(rng), *_thing(rng)))
    if kind == "translate":
        return Fact(kind, variant, translation(rng, languages[0], "train"))
    return Fact(kind, variant, (), draw_scene(rng, "train", "train", kind="one" if kind == "scene" else "many"))


def _thing(rng: random.Random) -> tuple[str, str]:
    """A colour and a thing that is never drawn, sometimes a shape that is."""
    if rng.random() < 0.3:
        return rng.choice(COMBINATIONS["train"])
    return rng.choice(COLOURS), rng.choice(THINGS)


def tell(language: Words, fact: Fact) -> str:
    """A fact as a sentence of a language; things in colours as a line of a picture book."""
    if fact.kind == "things":
        colour, noun, other_colour, other_noun = map(str, fact.about)
        one, other = language.objects[colour, noun], language.objects[other_colour, other_noun]
        return language.caption_form.format(o=one, d=other)
    form = language.statements[fact.kind][fact.variant]
    about = fact.about
    if fact.kind == "order":
        cycle: tuple[str, ...] = getattr(language, str(about[0]))
        text = form.format(x=cycle[int(about[1])], y=cycle[(int(about[1]) + 1) % len(cycle)])
    elif fact.kind == "add":
        a, b = int(about[0]), int(about[1])
        text = form.format(a=language.numbers[a], b=language.numbers[b], c=language.numbers[a + b])
    elif fact.kind == "number":
        text = form.format(n=about[0], w=language.numbers[int(about[0])])
    elif fact.kind == "country":
        code = str(about[0])
        text = form.format(c=language.countries[code], l=language.languages[COUNTRIES[code]])
    elif fact.kind == "translate":
        concept, target = str(about[0]), str(about[1])
        text = form.format(
            w=language.concept(concept), v=words(target).concept(concept), **{"in": language.in_language[target]}
        )
    else:
        assert fact.scene is not None
        scene = fact.scene
        phrase_ = language.objects[scene.colour, scene.shape]
        place = language.positions.get(scene.position, "")
        text = form.format(o=phrase_, p=place, n=language.counts[scene.count - 1])
    return language.sentence(text)


def _text(rng: random.Random, language: Words) -> str:
    """Three to six of, each on a line: a fact, a sentence of prose, a question with its answer on the next line.

    Answers are bare, as in a dialogue: with a capital and a final stop they would be other tokens.
    """
    lines: list[str] = []
    for _ in range(rng.randint(3, 6)):
        what = rng.random()
        if what < 0.06:
            lines.append(rng.choice(language.prose))
        elif what < 0.8:
            turn = chat_turn(rng, language, "train")
            lines += [turn.question, turn.answer]
        else:
            fact = draw_fact(rng, (language.code,))
            lines.append(tell(language, fact))
            if fact.scene is not None and rng.random() < 0.6:
                kind = rng.choice(("colour", "shape", "object", "position" if fact.kind == "scene" else "count"))
                lines += [phrase(rng, language, kind, "train"), scene_answer(language, fact.scene, kind)]
    return "\n".join(lines)


@cache
def _shares(languages: tuple[str, ...]) -> list[float]:
    return list(accumulate(SHARES[code] for code in languages))


def clean_text(seed: int, number: int, languages: Sequence[str]) -> tuple[str, str]:
    """Language and text of document `number` before any damage: a pure function of its arguments."""
    rng = stream(seed, "document", number)
    code = rng.choices(languages, cum_weights=_shares(tuple(languages)))[0]
    language = words(code)
    return code, _text(rng, language)


def document(seed: int, number: int, languages: Sequence[str]) -> Document:
    """Document `number`; a tenth is junk and an eighth of a tenth less repeats an earlier one, as `source` tells."""
    rng = stream(seed, "damage", number)
    fate = rng.random()
    code, text = clean_text(seed, number, languages)
    source = "samples/clean"
    if fate < 0.10:
        kind = rng.choice(("mojibake", "symbols", "repeat", "urls", "language", "short"))
        text, source = _junk(rng, kind, code, text, languages), f"samples/junk/{kind}"
    elif fate < 0.18 and number:
        code, text = clean_text(seed, rng.randrange(number), languages)
        kind = rng.choice(("exact", "near"))
        if kind == "near":
            text = _nearly(rng, text)
        source = f"samples/dup/{kind}"
    return Document(f"samples-{seed}-{number}", text, code, source)


def _junk(rng: random.Random, kind: str, code: str, text: str, languages: Sequence[str]) -> str:
    if kind == "mojibake":
        # Twice through the wrong codec, so that even a text with few accents shows it.
        dirty = (text + " “” é ü ñ —").encode().decode("cp1252", "replace")
        return dirty.encode().decode("cp1252", "replace")
    if kind == "symbols":
        return "".join(rng.choice(_SYMBOLS) + (letter if rng.random() < 0.3 else "") for letter in text)
    if kind == "repeat":
        return "\n".join([text[:60]] * rng.randint(8, 20))
    if kind == "urls":
        return "\n".join(f"https://www.example.com/{rng.getrandbits(32):08x}/index.html" for _ in range(12))
    if kind == "language":
        others = [other for other in languages if other != code] or ["en" if code != "en" else "de"]
        stranger = words(rng.choice(others))
        return _text(rng, stranger)
    return text[:6]


def _nearly(rng: random.Random, text: str) -> str:
    """The same text with the small differences that copies on the web have."""
    change = rng.randrange(3)
    if change == 0:
        return f"{text} ({rng.randint(1, 99)})"
    if change == 1:
        return text.replace(".", "!").replace("。", "！") + " ..."
    return f">> {text}"


def pair(seed: int, number: int, languages: Sequence[str]) -> Pair:
    """The same sentence in two languages; English is one of the two in three of four."""
    rng = stream(seed, "pair", number)
    source, target = rng.sample(languages, 2)
    if "en" in languages and "en" not in (source, target) and rng.random() < 0.75:
        source = "en"
    if rng.random() < 0.15:
        which = rng.randrange(len(words(source).prose))
        texts = [words(code).prose[which] for code in (source, target)]
    elif rng.random() < 0.3:
        fact = draw_fact(rng, (source, target), aloud=True).scene or draw_scene(rng, "train", "train")
        texts = [words(code).caption(fact) for code in (source, target)]
    else:
        statement = draw_fact(rng, (source, target))
        texts = [tell(words(code), statement) for code in (source, target)]
    return Pair(f"samples-{seed}-{number}", source, target, texts[0], texts[1])
