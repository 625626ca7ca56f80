"""Tiny random models of mBART-50's and NLLB's true classes and tokenizers: the mechanics, not the words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from caravan.core.errors import ModelError
from caravan.models.seq2seq import MBART, NLLB, Seq2Seq
from caravan.records import LANGUAGES

TEXTS = ["a red ball", "two", "children ride through the city", ""]


def tokenizer(kind: str) -> Any:
    from transformers import MBart50Tokenizer, NllbTokenizer

    words = [*"▁abcdefghijklmnopqrstuvwxyz"]
    if kind == "mbart":
        pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((word, -1.0) for word in words)]
        return MBart50Tokenizer(vocab=pieces, src_lang="en_XX", tgt_lang="de_DE")
    vocab = {word: place for place, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    return NllbTokenizer(vocab=vocab, merges=[], src_lang="eng_Latn", tgt_lang="deu_Latn")


@pytest.fixture(scope="module", params=["mbart", "m2m_100"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, MBartConfig, MBartForConditionalGeneration

    torch.manual_seed(0)
    kind = request.param
    made = tokenizer(kind)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
             "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 16, "max_position_embeddings": 128}  # fmt: skip
    sizes["vocab_size"] = len(made)
    model = (
        MBartForConditionalGeneration(MBartConfig(**sizes))
        if kind == "mbart"
        else M2M100ForConditionalGeneration(M2M100Config(**sizes))
    )
    path = tmp_path_factory.mktemp(kind)
    model.save_pretrained(path)
    made.save_pretrained(path)
    return path


def test_every_language_has_a_code_that_the_tokenizers_know(folder: Path) -> None:
    translator = Seq2Seq(str(folder), beams=1, max_tokens=3)
    unknown = translator._tokenizer.unk_token_id
    ids = {translator._tokenizer.convert_tokens_to_ids(translator._codes[language]) for language in LANGUAGES}
    assert len(ids) == len(LANGUAGES)
    assert unknown not in ids
    assert set(MBART) == set(NLLB) == set(LANGUAGES)


def test_texts_come_back_the_same_whatever_the_batch(folder: Path) -> None:
    one = dict(Seq2Seq(str(folder), batch=1, beams=2, max_tokens=6).translate(TEXTS, "en", "de"))
    several = dict(Seq2Seq(str(folder), batch=8, beams=2, max_tokens=6).translate(TEXTS, "en", "de"))
    assert one == several
    assert sorted(one) == list(range(len(TEXTS)))


def test_the_answer_starts_in_the_language_that_was_asked_for(folder: Path) -> None:
    translator = Seq2Seq(str(folder), beams=1, max_tokens=3)
    seen: list[int] = []
    generate = translator._model.generate

    def watched(**arguments: object) -> torch.Tensor:
        ids = generate(**arguments)
        seen.append(int(ids[0, 1]))
        return ids

    translator._model.generate = watched
    for language in ("de", "th"):
        list(translator.translate(["a red ball"], "en", language))
    code = translator._tokenizer.convert_tokens_to_ids
    assert seen == [code(translator._codes["de"]), code(translator._codes["th"])]


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mBART-50 or NLLB"):
        Seq2Seq(str(tmp_path / "none"))
