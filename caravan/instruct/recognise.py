"""A recogniser writes clips down again: any OpenAI-compatible `/audio/transcriptions`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from caravan.core.endpoint import Endpoint, as_they_come, key_of
from caravan.core.errors import EndpointError, MissingDependencyError
from caravan.recipe.speak import Recogniser


class Listener:
    """Tells how much of a clip is understood."""

    def __init__(self, config: Recogniser) -> None:
        key = key_of(config.key, config.url)
        self._endpoint = Endpoint(
            config.url, {"Authorization": f"Bearer {key}"} if key else {}, config.seconds, config.tries
        )
        self._config, self._pool = config, ThreadPoolExecutor(config.at_once)

    def errors(self, clips: Sequence[tuple[bytes, str, str]]) -> Iterator[tuple[int, float]]:
        """Place and character error rate of each clip, given with its text and language, as they come.

        Raises:
            EndpointError: the recogniser does not answer, or not with a text.
        """
        return as_they_come(self._pool, self._error, clips)

    def _error(self, clip: tuple[bytes, str, str]) -> float:
        data, text, language = clip
        reply = self._endpoint.post(
            files={"file": ("clip.flac", data, "audio/flac")}, data={"model": self._config.model, "language": language}
        )
        try:
            heard = str(reply.json()["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise EndpointError(
                "the recogniser gives no text", where=self._config.url, expected='{"text": …}', got=reply.text[:120]
            ) from error
        return character_error_rate(text, heard)


def character_error_rate(text: str, heard: str) -> float:
    """Edits a character between what was to be said and what was heard, letters and digits alone, in small letters.

    Raises:
        MissingDependencyError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise MissingDependencyError("rapidfuzz", "data", needed_for="comparing what was said and heard") from error
    said, got = _bare(text), _bare(heard)
    return Levenshtein.distance(said, got) / max(len(said), 1)


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
