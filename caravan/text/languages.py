"""In which language a text is: by its script, and by py3langid where several languages share one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from caravan.core.errors import MissingDependencyError

LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
# Letters of each language's script, where it is not the Latin one.
SCRIPTS: Mapping[str, str] = {
    "zh": "\u3400-\u9fff",
    "ja": "\u3040-\u30ff\u3400-\u9fff",
    "ko": "\uac00-\ud7a3\u1100-\u11ff",
    "ru": "\u0400-\u04ff",
    "ar": "\u0600-\u06ff\u0750-\u077f",
    "he": "\u0590-\u05ff",
    "th": "\u0e00-\u0e7f",
}
_KANA = re.compile("[\u3040-\u30ff]")
_LETTER = re.compile(r"[^\W\d_]")
# Below so many letters of a shared script a language is a guess.
LEAST_LETTERS = 20


def identify(text: str, among: Sequence[str] | None = None) -> str:
    """The likeliest language of a text, by py3langid, of the 97 that it knows or `among` these.

    Raises:
        MissingDependencyError: py3langid is not installed.
    """
    try:
        from py3langid import langid
    except ImportError as error:
        raise MissingDependencyError("py3langid", "data", needed_for="telling languages by the text") from error
    if among is None:
        return str(langid.classify(text)[0])
    return next(str(code) for code, _ in langid.rank(text) if code in among)


def written_in(text: str, language: str, among: Sequence[str]) -> bool | None:
    """Whether a text is in this one of the languages `among`; None where it has too few letters to tell.

    Another script tells at once. Kana tells Japanese from Chinese; languages of one script are told apart from
    LEAST_LETTERS letters on.
    """
    letters = _LETTER.findall(text)
    if not letters:
        return None
    own = re.compile(f"[{SCRIPTS.get(language, LATIN)}]")
    if 2 * sum(bool(own.match(letter)) for letter in letters) < len(letters):
        return False
    if language == "zh" and "ja" in among:
        return not _KANA.search(text)
    if language == "ja" and "zh" in among:
        return bool(_KANA.search(text)) or None
    rivals = [code for code in among if SCRIPTS.get(code, LATIN) == SCRIPTS.get(language, LATIN)]
    if len(rivals) < 2:
        return True
    return identify(text, rivals) == language if len(letters) >= LEAST_LETTERS else None
