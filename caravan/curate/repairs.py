"""Line repairs of the documents that stay: the rules judge a text as it came, this mends what little is wrong with it.

Regular expressions run in Arrow's C++, over those texts in which one pass over the bytes saw something to repair.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import ftfy
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from caravan.curate import blemishes
from caravan.curate.steps import REPAIRS, Verdict, verdict_of
from caravan.recipe.curate import CurateConfig, RepairConfig

# UTF-8 read as Latin-1 or Windows-1252: a lead byte's character, then one of a byte that goes on.
MOJIBAKE = "[Â-ô][\u0080-¿€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
# Control characters but tab and newline, soft hyphens, marks of direction and of nothing. Joiners are letters' and
# emoji's, and stay.
INVISIBLE = (
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffb]+"
)
LINE_BREAK = "\r\n?|\u2028|\u2029"
# Runs of blanks; one that does not break the line is French before a question mark, and stays.
BLANKS = "[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]{2,}|\t"
URL = r"(?:https?://|www\.)\S+"
URL_LINES = rf"(?m)^[ \t]*{URL}(?:[ \t]+{URL})*[ \t]*$\n?"
LONGEST_NOTICE = 200  # characters: a longer line is a paragraph that mentions such a thing
Repair = Callable[[pa.Array, pa.Array], pa.Array]


class RepairStep:
    """Mend the lines of each text, write down what each repair took from it, and drop it if nothing is left."""

    name = "repairs"
    REASONS = ("nothing left after repairs",)

    def __init__(self, config: CurateConfig) -> None:
        self.config = config
        self.repairs = _repairs(config.repairs, self._unspaced)

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        before = text = batch["text"]
        found = self._marks(text)
        changed = np.zeros(batch.num_rows, np.bool_)
        made: list[list[str]] = [[] for _ in range(batch.num_rows)]
        for name, (mark, repair) in self.repairs.items():
            # What one repair changed, the next may have to mend.
            text, taken = _mended(text, batch["language"], repair, found[:, mark] | changed)
            for row, characters in taken.items():
                changed[row] = True
                made[row].append(f"{name} {characters}")
        repairs = pa.array([", ".join(one) or None for one in made], pa.string())
        empty, size = np.zeros(batch.num_rows, np.bool_), np.full(batch.num_rows, np.nan)
        if changed.any():
            mended = pa.array(changed)
            left = pc.utf8_trim_whitespace(text.filter(mended))
            empty[changed] = pc.equal(left, "").to_numpy(zero_copy_only=False)
            size[changed] = pc.utf8_length(before.filter(mended)).to_numpy(zero_copy_only=False)
        # A text of which nothing is left is shown in the reject stream as it came.
        kept = pc.if_else(pa.array(empty), before, text) if empty.any() else text
        return verdict_of(self.REASONS, np.where(empty, 0, -1), size, {"text": kept, REPAIRS.name: repairs})

    def _marks(self, text: pa.Array) -> npt.NDArray[np.bool_]:
        most = self.config.repairs.max_word or 0
        return blemishes.marks(text, most) if self.repairs else np.zeros((len(text), 0), np.bool_)

    def _unspaced(self, languages: pa.Array) -> pa.Array:
        """Which rows are in a language written without spaces, where a word may be a paragraph."""
        units = {language: self.config.limits_of(language).unit for language in pc.unique(languages).to_pylist()}
        return pa.array([units[language] > 1 for language in languages.to_pylist()], pa.bool_())


def _repairs(config: RepairConfig, unspaced: Callable[[pa.Array], pa.Array]) -> dict[str, tuple[int, Repair]]:
    """The repairs that the recipe wants, each with the mark of texts that may need it, in their order."""
    wanted: list[tuple[str, bool, int, Repair]] = [
        ("mojibake", config.mojibake, blemishes.MOJIBAKE, _mojibake),
        ("line breaks", config.whitespace, blemishes.LINE_BREAK, _replaced(LINE_BREAK, "\n")),
        ("invisible characters", config.invisible, blemishes.INVISIBLE, _replaced(INVISIBLE, "")),
        ("URL lines", config.url_lines, blemishes.URL_LINE, _replaced(URL_LINES, "")),
        ("boilerplate lines", bool(config.boilerplate), blemishes.ANY, _notices(config.boilerplate)),
        ("long words", config.max_word is not None, blemishes.LONG_WORD, _long_words(config.max_word or 0, unspaced)),
        ("whitespace", config.whitespace, blemishes.WHITESPACE, _whitespace),
    ]
    return {name: (mark, repair) for name, on, mark, repair in wanted if on}


def _mended(
    text: pa.Array, languages: pa.Array, repair: Repair, worth: npt.NDArray[np.bool_]
) -> tuple[pa.Array, dict[int, int]]:
    """The texts, those that are worth it repaired, and how many characters fewer each has that changed, by row."""
    if not worth.any():
        return text, {}
    mask = pa.array(worth)
    before = text.filter(mask)
    after = repair(before, languages.filter(mask))
    changed = pc.not_equal(after, before)
    taken = pc.subtract(pc.utf8_length(before.filter(changed)), pc.utf8_length(after.filter(changed)))
    rows = np.flatnonzero(worth)[changed.to_numpy(zero_copy_only=False)]
    return pc.replace_with_mask(text, mask, after), dict(zip(rows.tolist(), taken.to_pylist(), strict=True))


def _replaced(pattern: str, by: str) -> Repair:
    return lambda text, _: pc.replace_substring_regex(text, pattern, by)


def _whitespace(text: pa.Array, _: pa.Array) -> pa.Array:
    """Blanks one at a time, none at the ends of lines, at most one empty line in a row."""
    text = pc.replace_substring_regex(text, BLANKS, " ")
    text = pc.replace_substring_regex(text, " +\n", "\n")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(text, "\n{3,}", "\n\n"))


def _long_words(most: int, unspaced: Callable[[pa.Array], pa.Array]) -> Repair:
    """Words of more than `most` characters go, with the blank before them; not where words are not told apart."""

    def repair(text: pa.Array, languages: pa.Array) -> pa.Array:
        return pc.if_else(unspaced(languages), text, pc.replace_substring_regex(text, rf" ?\S{{{most + 1},}}", ""))

    return repair


def _notices(phrases: list[str]) -> Repair:
    """Short lines that hold one of these phrases go."""
    pattern = re.compile("|".join(map(re.escape, phrases)), re.IGNORECASE)

    def without(text: str) -> str:
        lines = text.split("\n")
        return "\n".join(line for line in lines if len(line) > LONGEST_NOTICE or not pattern.search(line))

    def repair(text: pa.Array, _: pa.Array) -> pa.Array:
        return _some(text, pc.match_substring_regex(text, pattern.pattern, ignore_case=True), without)

    return repair


def _some(text: pa.Array, seen: pa.Array, mend: Callable[[str], str]) -> pa.Array:
    """The texts that `seen` marks, mended one by one in Python; the others as they are."""
    if not pc.any(seen).as_py():
        return text
    return pc.replace_with_mask(text, seen, pa.array(map(mend, text.filter(seen).to_pylist()), text.type))


def _mojibake(text: pa.Array, _: pa.Array) -> pa.Array:
    """UTF-8 that was read as another encoding, read again (ftfy, github.com/rspeer/python-ftfy)."""
    return _some(text, pc.match_substring_regex(text, MOJIBAKE), ftfy.fix_encoding)
