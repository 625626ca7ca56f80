"""Existing tokenizers with new pieces: old ids and old text as before, every new piece reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from caravan.core.artifact import Artifact
from caravan.core.errors import ModelError
from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.chat import load_tokenizer
from caravan.text.tokens import SPECIAL_TOKENS
from caravan.tokenize.bpe import BYTE_PIECES, Bpe, close, piece_of
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.extend import extended
from caravan.tokenize.vocabulary import make_tokenizer
from tests.tokenize.conftest import texts, write

THEIRS = [f"In {year} the merchants of the old town sold {year} letters to the harbour." for year in range(1900, 1990)]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level() -> Tokenizer:
    """Of Llama 3's and Qwen's kind: their own pattern, special tokens after the vocabulary, outside it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    pattern = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pattern, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(THEIRS, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<|begin|>", "<|over|>")])
    return tokenizer


def sentencepiece() -> Tokenizer:
    """Of Llama 2's kind: a dummy prefix, byte fallback, every pair that makes a piece, a BOS from the template."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=180, show_progress=False)
    tokenizer.train_from_iterator(THEIRS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *BYTE_PIECES, *sorted(model["vocab"], key=model["vocab"].__getitem__)]
    bpe = Bpe({name: place for place, name in enumerate(names)}, [tuple(m) for m in model["merges"]], by_rank=True)
    close(bpe)
    tokenizer.model = models.BPE(bpe.ids, bpe.merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


KINDS = {"byte_level": byte_level, "sentencepiece": sentencepiece}


@pytest.fixture(scope="module", params=list(KINDS))
def both(request: pytest.FixtureRequest, corpus: Artifact) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer and the same extended."""
    theirs = KINDS[request.param]()
    config = TokenizeConfig.model_validate({"extend": "theirs", "new_pieces": 100})
    return theirs, extended(theirs, "theirs", config, Corpus(corpus.path, 0.01))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def test_old_ids_stay_and_new_ones_follow_all_of_them(both: tuple[Tokenizer, Tokenizer]) -> None:
    theirs, ours = both
    before, after = theirs.get_vocab(), ours.get_vocab()
    assert {token: after[token] for token in before} == before
    new = sorted(index for token, index in after.items() if token not in before)
    assert new == list(range(max(before.values()) + 1, max(before.values()) + 101))
    assert ours.get_added_tokens_decoder().keys() == theirs.get_added_tokens_decoder().keys()


def test_all_else_of_the_tokenizer_stays(both: tuple[Tokenizer, Tokenizer]) -> None:
    theirs, ours = (json.loads(tokenizer.to_str()) for tokenizer in both)
    for name in ("normalizer", "pre_tokenizer", "decoder", "post_processor", "added_tokens"):
        assert theirs[name] == ours[name]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*" '.\n", "19", "7", "the", "old", "town", "merch", "ants", "é"]), max_size=12))
def test_text_without_new_pieces_keeps_its_ids(both: tuple[Tokenizer, Tokenizer], parts: list[str]) -> None:
    theirs, ours = both
    text = "".join(parts)
    first_new = max(theirs.get_vocab().values()) + 1
    found = ids(ours, text)
    if max(found, default=0) < first_new:
        assert found == ids(theirs, text)
    # In any case the pieces are those of old, some of them joined.
    assert ours.decode(found) == theirs.decode(ids(theirs, text))


def test_every_new_piece_is_reached(both: tuple[Tokenizer, Tokenizer]) -> None:
    theirs, ours = both
    for token, index in ours.get_vocab().items():
        if token not in theirs.get_vocab():
            assert [found.id for found in ours.model.tokenize(token)] == [index]


def test_the_new_corpus_takes_far_fewer_tokens(both: tuple[Tokenizer, Tokenizer]) -> None:
    ours = both[1]
    for language in ("de", "zh"):
        before, after = (sum(len(ids(tokenizer, text)) for text in texts(language)) for tokenizer in both)
        assert after < 0.5 * before
    assert ours.decode(ids(ours, texts("zh")[0])) == texts("zh")[0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_chinese_words_stay_whole_within_the_new_pieces(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "kept" / "zh" / "0.parquet", text=["我们在图书馆学习软件", "软件工程师在图书馆工作"] * 10)
    write(tmp_path / "kept" / "de" / "0.parquet", text=texts("de"))
    config = TokenizeConfig.model_validate({"extend": "theirs", "new_pieces": 80, "chinese": {"words": 12}})
    theirs = KINDS[kind]()
    ours = extended(theirs, "theirs", config, Corpus(tmp_path, 0.01))
    for word in ("图书馆", "圖書館", "软件", "軟件", "工程师", "工程師"):
        piece = piece_of(word, by_rank=kind == "sentencepiece")
        assert [token.value for token in ours.model.tokenize(piece)] == [piece]
    assert max(ours.get_vocab().values()) - max(theirs.get_vocab().values()) == 80


def test_the_folder_keeps_roles_and_gets_our_special_tokens_last(corpus: Artifact, tmp_path: Path) -> None:
    backend = byte_level()
    settings: dict[str, Any] = {"bos_token": "<|begin|>", "eos_token": "<|over|>", "model_max_length": 512}
    PreTrainedTokenizerFast(tokenizer_object=backend, **settings).save_pretrained(tmp_path / "theirs")
    config = TokenizeConfig.model_validate({"extend": "theirs", "new_pieces": 40})
    make_tokenizer(config, Corpus(corpus.path, 0.01), str(tmp_path / "theirs"), tmp_path / "out")
    ours = load_tokenizer(tmp_path / "out")
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<|begin|>", "<|over|>", "<|pad|>")
    assert ours.model_max_length == 512
    size = backend.get_vocab_size()
    assert ours.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(size + 40, size + 40 + len(SPECIAL_TOKENS)))
    assert len(ours) == size + 40 + len(SPECIAL_TOKENS)
    plain = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for text in (*texts("zh")[:5], "isn't 12345"):
        assert ours(text, add_special_tokens=False)["input_ids"] == ids(plain, text)


@pytest.mark.parametrize(
    "model", [models.Unigram([("<unk>", 0.0)], unk_id=0), models.BPE({"a": 0}, [], end_of_word_suffix="</w>")]
)
def test_other_kinds_are_refused(corpus: Artifact, model: Any) -> None:
    with pytest.raises(ModelError, match="cannot be extended"):
        extended(Tokenizer(model), "theirs", TokenizeConfig(), Corpus(corpus.path, 0.01))
