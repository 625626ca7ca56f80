"""Which conversations can be said aloud, and which answers tell something: what LLaSM (arXiv 2308.15930) leaves out.

A text is unspeakable for a reason with a name: code, a table, markup, an address, a formula, symbols, another script
than its language's, or sheer length. An answer is uninformative that refuses, repeats its question or says nothing.
"""

from __future__ import annotations

import re
import unicodedata

from caravan.text.languages import LATIN, SCRIPTS
from caravan.text.refusals import refuses

_ITEM = r"(?:[-*+•]|\d+[.)])\s+\S"
_CODE = (
    r"```|~~~|`[^`\n]+`|^(?: {4}|\t)\S.*[;{}()=]\s*$|[{};]\s*$|</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>",
    r"^\s*(?:def \w+\(|class \w+\s*[:({]|function\s*\w*\(|from \S+ import\b|import [\w.]+;?$|#include)|SELECT .+ FROM",
    r"^\s*(?:let|const|var|int|public|private|static)\s+\w+.*[=;{(]|^\s*return\b.*;|\b(?:printf?|console\.log)\(",
    r"\w+\([^()]*\);|\b\w+\.\w+\([^()\n]*\)|=>|==|!=|&&|\|\|",
)
_REASONS = {
    "code": "|".join(_CODE),
    "table": r"^\s*\|.*\|\s*$|^.*\S\t+\S.*\t+\S.*$|^\s*\|?\s*:?-{3,}:?\s*\|",
    "markup": rf"^#{{1,6}}\s|\*\*\S|__\S|!?\[[^\]\n]*\]\([^)\n]*\)|^\s*{_ITEM}.*\n\s*{_ITEM}",
    "address": r"https?://|www\.\w|\b[\w-]+\.(?:com|org|net|io|cn|ru|de)\b|\S+@\S+\.\w|[A-Za-z]:\\\w|(?:^|\s)/\w+/\w",
    "formula": r"\\(?:frac|sum|int|sqrt|begin|left|alpha|beta|times|cdot)\b|\$[^$\n]+\$|\^\{|_\{|[∑∫√∂∞≤≥≠∈]",
}
_PATTERNS = {reason: re.compile(pattern, re.MULTILINE) for reason, pattern in _REASONS.items()}
_SPOKEN_SIGNS = frozenset(".,;:!?-–—'’\"“”„«»()…、。，；：！？「」『』（）《》·・،؛؟¿¡%€$£¥₩°&+/~～")
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf]")
_SYLLABLES = frozenset({"zh", "ja", "ko", "th"})
MOST_SIGNS, LEAST_OWN = 0.08, 0.5
_NOTHING = re.compile(r"(?:n/?a|none|null|nil|noinput|<noinput>|-+|\.+)\W*", re.IGNORECASE)


def unspeakable(text: str, language: str, longest: int) -> str | None:
    """Why a text cannot be said aloud; None if it can.

    Args:
        longest: characters; in Chinese, Japanese, Korean and Thai a third of it.
    """
    if not any(map(str.isalnum, text)):
        return "unreadable"
    if len(text) > (longest // 3 if language in _SYLLABLES else longest):
        return "too long"
    for reason, pattern in _PATTERNS.items():
        if pattern.search(text):
            return reason
    dense = [character for character in text if not character.isspace()]
    signs = sum(not character.isalnum() and character not in _SPOKEN_SIGNS and not _is_mark(character)
                for character in dense)  # fmt: skip
    if _EMOJI.search(text) or signs > MOST_SIGNS * len(dense) or "\ufffd" in text:
        return "symbols"
    own = f"[{SCRIPTS.get(language, LATIN)}]"
    # A foreign word counts as much as one letter of a script that writes syllables, and as a word of any other.
    ours = len(re.findall(own if language in _SYLLABLES else rf"{own}+", text))
    others = len(re.findall(rf"(?:(?!{own})[^\W\d_])+", text))
    if ours < LEAST_OWN * (ours + others):
        return "another script"
    return None


def _is_mark(character: str) -> bool:
    """Vowel signs and tone marks are no letters to Unicode, and no symbols either."""
    return unicodedata.category(character)[0] == "M"


def uninformative(answer: str, question: str, language: str) -> str | None:
    """Why an answer tells nothing; None if it tells something."""
    told = answer.strip()
    if not any(map(str.isalnum, told)) or _NOTHING.fullmatch(told):
        return "empty answer"
    if told.casefold() == question.strip().casefold():
        return "repeats the question"
    return "refusal" if refuses(told, language) else None
