"""Which conversations can be said aloud, and which answers tell something: what LLaSM (arXiv 2308.15930) leaves out.

A text is unspeakable for a reason with a name: code, a table, markup, an address, a formula, symbols, another script
than its language's, or sheer length. An answer is uninformative that refuses, repeats its question or says nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
# Letters of each language's script; a few words in Latin letters are spoken everywhere.
_SCRIPTS: Mapping[str, str] = {
    "zh": "\u3400-\u9fff",
    "ja": "\u3040-\u30ff\u3400-\u9fff",
    "ko": "\uac00-\ud7a3\u1100-\u11ff",
    "ru": "\u0400-\u04ff",
    "ar": "\u0600-\u06ff\u0750-\u077f",
    "he": "\u0590-\u05ff",
    "th": "\u0e00-\u0e7f",
}
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
_REFUSALS: Mapping[str, str] = {
    "en": r"as an ai\b|ai language model|i'?m sorry,? but|i (?:cannot|can't|am unable|am not able)"
    r"|i do(?:n't| not) have (?:access|enough)",
    "zh": "作为一个?(?:人工智能|AI|语言模型)|我是一个?(?:人工智能|AI)|(?:很?抱歉|对不起)[，,]?我?(?:无法|不能)|我无法",
    "ru": r"как (?:ии|языковая модель)|я не могу|извините, но|к сожалению, я",
    "es": r"como (?:una? )?(?:ia\b|modelo de lenguaje)|lo siento, pero|no puedo",
    "fr": r"en tant qu[e'’] ?(?:ia\b|modèle de langage)|je suis désolée?, mais|je ne peux pas",
    "pt": r"como (?:uma? )?(?:ia\b|modelo de linguagem)|(?:desculpe|sinto muito), mas|não posso",
    "de": r"als (?:ki\b|sprachmodell|künstliche)|es tut mir leid, aber|ich kann (?:leider )?nicht",
    "it": r"come (?:ia\b|modello linguistico)|mi dispiace, ma|non posso",
    "nl": r"als (?:ai\b|taalmodel)|het spijt me, maar|ik kan (?:helaas )?niet",
    "pl": r"jako (?:ai\b|model językowy)|przykro mi, ale|nie mogę",
    "ar": "كنموذج لغ|بصفتي (?:نموذج|ذكاء)|(?:عذر|آسف).{0,12}لا (?:يمكنني|أستطيع)|لا أستطيع",
    "tr": r"bir (?:yapay zek[aâ]|dil modeli) olarak|üzgünüm,? ancak|yapamam",
    "he": "כמודל שפה|כבינה מלאכותית|אני מצטער.{0,6}אבל|איני יכול|אני לא יכול",
    "ja": "(?:AI|人工知能|言語モデル)(?:として|なので|である)|申し訳(?:ありません|ございません)が|できません",
    "ko": "(?:AI|인공지능|언어 모델)(?:로서|이기)|죄송하지만|할 수 없습니다",
    "th": "ในฐานะ(?: ?AI|ปัญญาประดิษฐ์|โมเดลภาษา)|ขออภัย.{0,8}ไม่สามารถ|ฉันไม่สามารถ",
    "vi": r"(?:là|với tư cách là) (?:một )?(?:ai\b|mô hình ngôn ngữ|trí tuệ)|xin lỗi,? nhưng|tôi không thể",
    "id": r"sebagai (?:ai\b|model bahasa)|maaf,? (?:tetapi|tapi|saya)|saya tidak (?:bisa|dapat)",
}
# A refusal opens its answer; later on the words may be about something else.
OPENING = 80
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
    own = f"[{_SCRIPTS.get(language, _LATIN)}]"
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
    patterns = {_REFUSALS["en"], _REFUSALS.get(language, _REFUSALS["en"])}
    if any(re.search(pattern, told[:OPENING], re.IGNORECASE) for pattern in patterns):
        return "refusal"
    return None
