"""Every feature against a naive computation of the same, in plain Python."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.characters import BULLETS, CLOSING, ENDINGS, TABLE_SIZE, kinds, latin_bytes, lower, marks
from caravan.curate.features import FEATURES, Scale, measure
from caravan.curate.stopwords import stop_words

CODES = "LUDSNPYIBO"  # of the kinds, in their order
PIECES = (
    "the", "and", "Cat", "dog.", "lorem ipsum", "Lorem Ipsum dolor", "javascript", "JavaScript;", "12", "7", "x" * 40,
    "2024-01-31", "31.01.24", "1/2/2024", "12:30", "9:05:59", "2024年1月31日", "3월 5일", "https://a.example/x?y=1",
    "…", "...", "....", "!?", "。", "！", "»", '"', ")", "'", "’", "(", "- ", "• ", "* ", "#", "##", "{", "}", "|",
    ", ", "、", "ab. ", "cd. ", "Ab. ", "É! ", "ef? ",
    "\n", "\n", "\n\n", " \n", " ", " ", "  ", "\t", "\u2028", "\r\n", "\u200b", "\u00ad", "\ufffd",
    "一个", "可以", "的", "を", "กา", "ที่", "한국", "שלום", "مرحبا", "😀", "𠀀", "İ", "ß",
    "Ã¼", "Ã¤Ã¶", "â€œ", "Ç’", "é »", "a b c a b c a b c a b c",
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join),
    st.lists(st.sampled_from(("aa", "bb", "cc")), max_size=60).map(" ".join),
    st.text("一二三", max_size=60),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
)


def features(text: str, language: str = "en", unit: int = 1, short_line: int = 30) -> dict[str, float]:
    measured = measure(pa.array([text]), np.zeros(1, np.int32), [Scale(language, unit, short_line)])
    return dict(zip(FEATURES, measured[0].tolist(), strict=True))


def coded(text: str) -> str:
    """A letter for the kind of each character."""
    return "".join(CODES[kinds()[ord(c)]] if ord(c) < TABLE_SIZE else "UI"[ord(c) >= 0x40000] for c in text)


def words_of(text: str, kind: str) -> list[tuple[str, tuple[int, ...]]]:
    """Kind and lower-case characters of each word."""
    points = [int(lower()[ord(c)]) if ord(c) < TABLE_SIZE else ord(c) for c in text]
    low = [ord(c) if k == "U" else point for c, k, point in zip(text, kind, points, strict=True)]
    return [(kind[m.start()], tuple(low[m.start() : m.end()])) for m in re.finditer("[LD]+|U", kind)]


def mojibake(text: str) -> int:
    """Characters whose Windows-1252 or Latin-1 bytes are a lead byte and those that follow it."""
    data = [int(latin_bytes()[ord(c)]) if ord(c) < TABLE_SIZE else 0 for c in text]
    total = i = 0
    while i < len(data):
        need = 1 if 0xC2 <= data[i] < 0xE0 else 2 if 0xE0 <= data[i] < 0xF0 else 3 if 0xF0 <= data[i] < 0xF5 else 0
        spared = 0xC6 <= data[i] < 0xCE or (need > 1 and text[i + 1 : i + 2] == "\u00a0")
        follow = data[i + 1 : i + 1 + need]
        good = bool(need) and not spared and len(follow) == need and all(0x80 <= byte < 0xC0 for byte in follow)
        total += need + 1 if good else 0
        i += need + 1 if good else 1
    return total


def dates(text: str, kind: str) -> int:
    """Characters that regular expressions take for dates and times."""
    shown = "".join("d" if k == "D" else " " if c == "d" else c for c, k in zip(text, kind, strict=True))
    joined = r"d{4}([-/.])d{1,2}\1d{1,2}(?!d)|d{1,2}([-/.])d{1,2}\2d{4}(?!d)|dd([-/.])dd\3dd(?!d)"
    time, unit = r"d{1,2}:dd(?!d)(?::dd(?!d))?", "[年月日년월일]"
    pattern = rf"(?<!d)(?:{joined}|{time}|d{{1,4}}{unit}(?: ?d{{1,2}}{unit})+)"
    return sum(len(m.group()) for m in re.finditer(pattern, shown))


def sentences(text: str) -> int:
    return len(sentence_ends(text))


def small_starts(text: str) -> float:
    """Share of small letters among those that come after ends of sentences."""
    kind, cases = coded(text), []
    for start, end in sentence_ends(text):
        if not any(c in ENDINGS for c in text[start + 1 : end]) and start and kind[start - 1] != "D":
            first = re.compile("[SNP]*").match(kind, end).end()  # type: ignore[union-attr]
            cases.append(unicodedata.category(text[first]) if first < len(text) else "")
    small, capital = cases.count("Ll"), cases.count("Lu")
    return small / (small + capital) if small + capital >= 5 else math.nan


def sentence_ends(text: str) -> list[tuple[int, int]]:
    """Where the punctuation of each starts, and where what closes it ends."""
    closing = marks() & CLOSING
    signs = "".join(
        ("w" if ord(c) >= 0x3000 else "e") if c in ENDINGS else "s" if k in "SN"
        else "c" if ord(c) < TABLE_SIZE and closing[ord(c)] else "x"
        for c, k in zip(text, coded(text), strict=True)
    )  # fmt: skip
    found = re.finditer(r"(?<![ew])(?=([ew])([ewc]*)(s|$)?)", signs)
    return [(m.start(), m.end(2)) for m in found if m.group(1) == "w" or m.group(3) is not None]


def text_features(text: str, kind: str, language: str, unit: int) -> dict[str, float]:
    count, words = max(1, len(text)), words_of(text, kind)
    spaced = [len(word) for k, word in words if k != "U"]
    units = len(spaced) + kind.count("U") / unit
    tokens, runs = re.findall("[^SN]+", kind), re.finditer("[^SNU]+", kind)
    shown = [text[m.start() : m.end()] for m in runs]
    urls = [len(run) - run.index("://") for run in shown if "://" in run]
    starts = [m.start() for m in re.finditer("L+", kind)]
    many = units >= 10
    return {
        "characters": len(text),
        "words": units,
        "broken": (kind.count("B") + mojibake(text)) / count,
        "invisible": kind.count("I") / count,
        "letters": len(re.findall("[LU]", kind)) / max(1, len(re.findall("[^SNI]", kind))),
        "digits": kind.count("D") / count,
        "dates": dates(text, kind) / count,
        "urls": sum(urls) / count,
        "symbols": kind.count("Y") / count,
        "punctuation": kind.count("P") / count,
        "blanks": len(re.findall("[SN]", kind)) / count,
        "brackets": sum(text.count(c) for c in "{}") / count,
        "placeholders": sum(text[i : i + 11].lower() == "lorem ipsum" for i in starts),
        "longest_word": max((len(run) for run in shown if "://" not in run), default=0),
        "mean_word": sum(spaced) / len(spaced) if len(spaced) >= 10 else math.nan,
        "alphabetic_words": sum("L" in t or "U" in t for t in tokens) / len(tokens) if len(tokens) > 9 else math.nan,
        "stop_words": stops(words, language, unit) / units if many and language != "xx" else math.nan,
        "hashes": text.count("#") / units if many else math.nan,
        "ellipses": len(re.findall(r"…+|(?<!\.)\.{3}", text)) / units if many else math.nan,
        "commas": sum(text.count(c) for c in ",，、،") / units if many else math.nan,
        "fragment": math.nan if sentences(text) else units,
    }


def stops(words: list[tuple[str, tuple[int, ...]]], language: str, unit: int) -> float:
    listed = set(stop_words()[language]) if language != "xx" else set()
    shown = ["".join(map(chr, word)) for _, word in words]
    if unit == 1:
        return sum(word in listed for word in shown)
    found = {i for i in range(1, len(shown)) if shown[i - 1] + shown[i] in listed and len(shown[i]) == 1}
    return len(found | {i - 1 for i in found}) / unit


def line_features(text: str, short: int) -> dict[str, float]:
    kind, lines, paragraphs, raw, empty = coded(text), [], [[]], [], False  # type: ignore[var-annotated]
    ends = [m.start() for m in re.finditer("N", kind)] + [len(text)]
    for start, end in zip([0, *(end + 1 for end in ends)], ends, strict=False):
        visible = "".join(text[i] for i in range(start, end) if kind[i] not in "SI")
        if visible:
            if empty and paragraphs[-1]:
                paragraphs.append([])
            lines.append(visible)
            paragraphs[-1].append(visible)
            raw.append((start, end))
        empty = not visible
    closing = "".join(chr(point) for point in np.flatnonzero(marks() & CLOSING))
    shown = [re.sub("[SI]+$", lambda m: "\1" * len(m.group()), kind[a:b]) for a, b in raw]
    cut = [text[a : a + len(k.rstrip("\1"))].rstrip(closing) for (a, _), k in zip(raw, shown, strict=True)]
    ellipsis = [line.endswith(("…", "...")) for line in cut]
    ended = [line[-1:] in ENDINGS and bool(line) and not dots for line, dots in zip(cut, ellipsis, strict=True)]
    script = [
        any(text[m.start() + a : m.start() + a + 10].lower() == "javascript" for m in re.finditer("L+", kind[a:b]))
        for a, b in raw
    ]
    some = {
        "short_lines": [len(line) <= short for line in lines],
        "bullet_lines": [line[0] in BULLETS for line in lines],
        "ellipsis_lines": ellipsis,
        "ended_lines": ended,
        "javascript_lines": script,
    }
    return {
        "sentences": sentences(text),
        "small_starts": small_starts(text),
        "line_characters": sum(map(len, lines)) / max(1, len(lines)),
        **{name: sum(values) / len(lines) if len(lines) >= 3 else math.nan for name, values in some.items()},
        **repeats("line", lines),
        **repeats("paragraph", ["\n".join(paragraph) for paragraph in paragraphs if paragraph]),
    }


def repeats(name: str, parts: list[str]) -> dict[str, float]:
    again = [part for i, part in enumerate(parts) if part in parts[:i]]
    size = [sum(len(part.replace("\n", "")) for part in some) for some in (again, parts)]
    return {
        f"repeated_{name}s": len(again) / max(1, len(parts)),
        f"repeated_{name}_characters": size[0] / max(1, size[1]),
    }


def ngram_features(text: str, unit: int) -> dict[str, float]:
    words = [word for _, word in words_of(text, coded(text))]
    total = max(1, sum(map(len, words)))
    out = {}
    for n in range(2, 11):
        grams = [tuple(words[i : i + n * unit]) for i in range(len(words) - n * unit + 1)]
        if n > 4:
            covered = {j for i, gram in enumerate(grams) if gram in grams[:i] for j in range(i, i + n * unit)}
            out[f"repeated_{n}gram"] = sum(len(words[j]) for j in covered) / total
        else:
            out[f"top_{n}gram"] = top(grams, n * unit) / total
    return out


def top(grams: Sequence[tuple[Any, ...]], span: int) -> int:
    """Characters of the n-gram that is the first to come most often, if it comes three times without overlap."""
    counts: Counter[Any] = Counter()
    best: Any = None
    for gram in grams:
        counts[gram] += 1
        best = gram if best is None or counts[gram] > counts[best] else best
    repeated, i = 0, 0
    while i < len(grams):
        repeated, i = (repeated + 1, i + span) if grams[i] == best else (repeated, i + 1)
    return repeated * sum(map(len, best)) if repeated >= 3 else 0


@settings(max_examples=400, deadline=None, derandomize=True)
@given(TEXTS, st.sampled_from([("en", 1), ("xx", 1), ("ar", 1), ("zh", 2), ("ja", 4), ("th", 6)]), st.integers(0, 9))
def test_features_agree_with_a_naive_computation(text: str, scale: tuple[str, int], short: int) -> None:
    language, unit = scale
    expected = {
        **text_features(text, coded(text), language, unit), **line_features(text, short), **ngram_features(text, unit)
    }  # fmt: skip
    assert features(text, language, unit, short) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(1, 6))
def test_a_text_measures_the_same_in_any_company(texts: list[str], unit: int) -> None:
    scales = [Scale("en", unit), Scale("zh", unit)]
    codes = np.arange(len(texts), dtype=np.int32) % 2
    together = measure(pa.array(texts), codes, scales)
    for row, text in enumerate(texts):
        alone = features(text, scales[codes[row]].language, unit)
        np.testing.assert_array_equal(together[row], list(alone.values()))


@pytest.mark.parametrize(
    ("text", "feature", "expected"),
    [
        ("abc 12345", "digits", 5 / 9),
        ("a # b", "symbols", 1 / 5),
        ("ab\u200b\u200bcd", "invisible", 2 / 6),
        ("ab\ufffd.", "broken", 1 / 4),
        ("see https://a.example/x now", "urls", 14 / 27),
        ("on 2024-01-31 at 12:30", "dates", 15 / 22),
        ("version 1.2.34 of 300:20", "dates", 0.0),
        ("x" * 30 + " y", "longest_word", 30.0),
        ("一二三四五六七八九十", "longest_word", 0.0),
        ("same line\nother one\nsame line", "repeated_line_characters", 8 / 24),
        ("same line\nother one\nsame line", "repeated_lines", 1 / 3),
        ("one\ntwo\n\none\ntwo\n\nthree", "repeated_paragraphs", 1 / 3),
        ("one…\ntwo...\nthree", "ellipsis_lines", 2 / 3),
        ("He said: “Go.”\nWho?\nand then", "ended_lines", 2 / 3),
        ("- a\n• b\nc - d", "bullet_lines", 2 / 3),
        ("a b c d e f g h i jj", "mean_word", 11 / 10),
        ("你好。再见！“走吧。”他说", "sentences", 3.0),
        ("It costs 3.50 at www.example.com", "sentences", 0.0),
        ("Lorem ipsum dolor", "placeholders", 1.0),
        ("bat, cat, dog, eel, fox, gnu, hen, ibis, jay, kid", "commas", 9 / 10),
        ("Go. “Now!” he said. It is. and so. 1. here. why? Well... no.", "small_starts", 3 / 6),
        ("Go. now. So. and. Here.", "small_starts", math.nan),
        ("a bear and the cat or so # # one", "hashes", math.nan),
    ],
)
def test_features_measure_what_they_say(text: str, feature: str, expected: float) -> None:
    assert features(text)[feature] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("codec", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", ["Größe über Maß", "Привет, как дела", "文字化け文字化け"])
def test_utf8_read_through_the_wrong_codec_counts_as_broken(text: str, codec: str) -> None:
    shown = text.encode().decode(codec, errors="replace")
    assert features(shown)["broken"] > 0.1
    assert features(text)["broken"] == 0


def test_french_typography_is_not_mojibake() -> None:
    assert features("Ç’a été dit : « voilà\u00a0», puis « été\u00a0…")["broken"] == 0


@pytest.mark.parametrize(("unit", "text"), [(1, "ha ho " * 20), (4, "哈哈呵呵嘿嘿嗨嗨" * 20), (6, "ฮาฮาฮาฮาฮาฮา" * 20)])
def test_repetition_is_seen_in_words_and_in_scripts_without_spaces(unit: int, text: str) -> None:
    measured = features(text, unit=unit)
    assert measured["top_2gram"] > 0.5
    assert measured["repeated_5gram"] > 0.8


def test_two_mentions_are_no_repetition() -> None:
    measured = features("a red cat met a red cat")
    assert measured["top_2gram"] == measured["top_3gram"] == 0


@pytest.mark.parametrize(
    ("language", "unit", "prose", "noise"),
    [
        ("en", 1, "The road to the city was long and he did not know what to do with it.", "Sky moon tree river " * 5),
        ("de", 1, "Der Weg in die Stadt war lang und er wusste nicht, was er mit ihm tun sollte.", "Himmel Mond " * 9),
        ("th", 6, "เขาไม่รู้ว่าจะทำอย่างไรกับมัน และการเดินทางไปยังเมืองก็เป็นเรื่องที่ยาวนานมาก", "ฟ๙ฬฮฌฦ" * 12),
        (
            "ja",
            4,
            "町までの道は長くて、それをどうしたらいいのか分からなかったと言っているが、誰も知らないことである。",
            "雲山川空月森" * 8,
        ),
    ],
)
def test_stop_words_tell_prose_from_lists(language: str, unit: int, prose: str, noise: str) -> None:
    assert features(prose, language, unit)["stop_words"] > 0.15 > features(noise, language, unit)["stop_words"]


def test_slices_of_an_array_are_measured_as_such() -> None:
    texts: Any = pa.array(["zero", "one one", "two two two"])
    measured = measure(texts[1:], np.zeros(2, np.int32), [Scale("en")])
    assert measured[:, FEATURES.index("characters")].tolist() == [7, 11]
