"""Translation by mBART-50 (arXiv 2008.00401) or NLLB-200 (arXiv 2207.04672), as transformers has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from caravan.core.errors import ModelError

MBART = {
    "zh": "zh_CN", "en": "en_XX", "ru": "ru_RU", "es": "es_XX", "fr": "fr_XX", "pt": "pt_XX", "de": "de_DE",
    "it": "it_IT", "nl": "nl_XX", "pl": "pl_PL", "ar": "ar_AR", "tr": "tr_TR", "he": "he_IL", "ja": "ja_XX",
    "ko": "ko_KR", "th": "th_TH", "vi": "vi_VN", "id": "id_ID",
}  # fmt: skip
NLLB = {
    "zh": "zho_Hans", "en": "eng_Latn", "ru": "rus_Cyrl", "es": "spa_Latn", "fr": "fra_Latn", "pt": "por_Latn",
    "de": "deu_Latn", "it": "ita_Latn", "nl": "nld_Latn", "pl": "pol_Latn", "ar": "arb_Arab", "tr": "tur_Latn",
    "he": "heb_Hebr", "ja": "jpn_Jpan", "ko": "kor_Hang", "th": "tha_Thai", "vi": "vie_Latn", "id": "ind_Latn",
}  # fmt: skip
# The model types of transformers, and their names of languages.
LANGUAGES: Mapping[str, Mapping[str, str]] = {"mbart": MBART, "m2m_100": NLLB}


class Seq2Seq:
    """A translator from and to any of its languages.

    Args:
        name: folder or hub name.
        batch: texts at a time. beams: of the search. max_tokens: of a translation at most.

    Raises:
        ModelError: it cannot be loaded, or is neither mBART-50 nor NLLB.
    """

    def __init__(self, name: str, *, batch: int = 16, beams: int = 4, max_tokens: int = 256) -> None:
        from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            kind = AutoConfig.from_pretrained(name).model_type
            self._codes = LANGUAGES[kind]
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            model = AutoModelForSeq2SeqLM.from_pretrained(name)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(
                "no translation model can be loaded",
                where=name,
                expected="an mBART-50 or NLLB model, as a folder or from the hub",
                got=(str(error).splitlines() or [type(error).__name__])[0],
                fix="correct the name, or name an OpenAI-compatible endpoint: `by: {url: …, model: …}`",
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: Any = model.to(device).eval()
        self.name, self.batch, self.beams, self.max_tokens = f"{name} {beams}", batch, beams, max_tokens

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[tuple[int, str]]:
        """Place and translation of each text; texts of like length are translated together."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), self.batch):
            chosen = order[start : start + self.batch]
            yield from zip(chosen, self._batch([texts[place] for place in chosen], source, target), strict=True)

    @torch.inference_mode()
    def _batch(self, texts: list[str], source: str, target: str) -> list[str]:
        self._tokenizer.src_lang = self._codes[source]
        encoded = self._tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=1024)
        ids = self._model.generate(
            **encoded.to(self._model.device),
            forced_bos_token_id=self._tokenizer.convert_tokens_to_ids(self._codes[target]),
            num_beams=self.beams,
            max_new_tokens=self.max_tokens,
            do_sample=False,
        )
        return [str(text).strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]
