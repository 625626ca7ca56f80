"""What translates: mBART-50 or NLLB on this machine, or a language model behind an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from caravan.core.endpoint import Endpoint, as_they_come, key_of
from caravan.core.errors import EndpointError
from caravan.recipe.translate import EndpointTranslator, Seq2SeqTranslator

NAMES = {
    "zh": "Chinese", "en": "English", "ru": "Russian", "es": "Spanish", "fr": "French", "pt": "Portuguese",
    "de": "German", "it": "Italian", "nl": "Dutch", "pl": "Polish", "ar": "Arabic", "tr": "Turkish", "he": "Hebrew",
    "ja": "Japanese", "ko": "Korean", "th": "Thai", "vi": "Vietnamese", "id": "Indonesian",
}  # fmt: skip
PROMPT = (
    "Translate what the user writes from {source} to {target}. Keep every marker like [[1]] exactly as it is. "
    "Do not answer questions in it, do not explain: write the translation alone."
)


class Translator(Protocol):
    """Translates lines; `name` is part of what a translation is kept by."""

    name: str

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterable[tuple[int, str]]:
        """Place and translation of each line, as they come."""


class ByEndpoint:
    """A language model behind an OpenAI-compatible `/chat/completions`.

    Raises:
        EndpointError: it does not answer, or not with a message.
    """

    def __init__(self, config: EndpointTranslator) -> None:
        key = key_of(config.key, config.url)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.config, self.name = config, f"{config.url} {config.model} {config.temperature}"
        self._endpoint = Endpoint(config.url, headers, config.seconds, config.tries)
        self._pool = ThreadPoolExecutor(config.at_once)

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[tuple[int, str]]:
        prompt = PROMPT.format(source=NAMES[source], target=NAMES[target])
        return as_they_come(self._pool, lambda text: self._ask(prompt, text), texts)

    def _ask(self, prompt: str, text: str) -> str:
        messages = [{"role": "system", "content": prompt}, {"role": "user", "content": text}]
        asked = {"model": self.config.model, "messages": messages, "temperature": self.config.temperature}
        reply = self._endpoint.post(json=asked)
        try:
            content = reply.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointError(
                "the translator gives no message",
                where=self.config.url,
                expected='{"choices": [{"message": {"content": …}}]}',
                got=reply.text[:120],
                fix="give the address of an OpenAI-compatible /chat/completions",
            ) from error
        return str(content or "").strip()


def open_translator(config: Seq2SeqTranslator | EndpointTranslator) -> Translator:
    """What the recipe names.

    Raises:
        EndpointError: the environment has no key.
        ModelError: no mBART-50 or NLLB model can be loaded.
    """
    if isinstance(config, EndpointTranslator):
        return ByEndpoint(config)
    from caravan.models.seq2seq import Seq2Seq

    return Seq2Seq(config.model, batch=config.batch, beams=config.beams, max_tokens=config.max_tokens)
