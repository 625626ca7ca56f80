"""New tokenizers: SentencePiece's kind, normalisation, and Chinese by words."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from caravan.core.artifact import Artifact
from caravan.core.errors import ModelError
from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.tokens import SPECIAL_TOKENS
from caravan.tokenize.bpe import BYTE_PIECES
from caravan.tokenize.chinese import Words
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.learn import UNKNOWN, learn
from caravan.tokenize.sampling import letters
from tests.tokenize.conftest import write

STYLES = ("byte_level", "sentencepiece")


def learnt(corpus: Path, **options: Any) -> Tokenizer:
    return learn(TokenizeConfig.model_validate({"vocab_size": 700, **options}), Corpus(corpus, 0.01))


@pytest.fixture(scope="module")
def pieces(corpus: Artifact) -> Tokenizer:
    tokenizer = learnt(corpus.path, style="sentencepiece")
    tokenizer.encode_special_tokens = True
    return tokenizer


def test_special_tokens_then_bytes_then_characters(pieces: Tokenizer) -> None:
    names = [pieces.id_to_token(index) for index in range(pieces.get_vocab_size())]
    assert names[: len(SPECIAL_TOKENS) + 257] == [*SPECIAL_TOKENS, UNKNOWN, *BYTE_PIECES]
    assert None not in names
    assert "▁" in names


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_text_comes_back_from_pieces(pieces: Tokenizer, text: str) -> None:
    assert pieces.decode(pieces.encode(text).ids, skip_special_tokens=False) == text


def test_pieces_begin_words_with_their_space_and_digits_stand_alone(pieces: Tokenizer) -> None:
    assert "▁caravan" in pieces.encode("The caravan in 2024").tokens
    assert [token for token in pieces.encode("from 2024").tokens if any(map(str.isdigit, token))] == list("2024")
    assert pieces.encode("\U0001f42a").tokens == ["<0xF0>", "<0x9F>", "<0x90>", "<0xAA>"]


def test_any_two_neighbours_that_make_a_piece_merge(pieces: Tokenizer) -> None:
    model = json.loads(pieces.to_str())["model"]
    merges = {tuple(merge) for merge in model["merges"]}
    for piece in {left + right for left, right in merges}:
        splits = {(piece[:cut], piece[cut:]) for cut in range(1, len(piece))}
        assert {pair for pair in splits if set(pair) <= model["vocab"].keys()} <= merges


def test_coverage_leaves_rare_characters_to_bytes(corpus: Artifact) -> None:
    text = ["a" * 90, "b" * 9 + "c"]
    assert letters([text], 0.99) == ["a", "b"]
    assert letters([text], 1.0) == ["a", "b", "c"]
    tokenizer = learnt(corpus.path, style="sentencepiece", character_coverage=0.5)
    assert "<0xE5>" in tokenizer.encode("商队在").tokens


@pytest.mark.parametrize("style", STYLES)
def test_nfkc_makes_one_of_what_looks_alike(corpus: Artifact, style: str) -> None:
    plain, folded = (learnt(corpus.path, style=style, normalization=kind) for kind in ("none", "nfkc"))
    wide, narrow = "ＡＢＣ１２３ ﬁ", "ABC123 fi"
    assert folded.encode(wide).ids == folded.encode(narrow).ids
    assert plain.encode(wide).ids != plain.encode(narrow).ids


CLAUSES = ("我们在图书馆学习软件", "软件工程师在图书馆工作", "工程师学习软件工程", "我们工作在台湾")


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chinese")
    write(folder / "kept" / "zh" / "0.parquet", text=[clause for clause in CLAUSES for _ in range(10)])
    rng = random.Random(7)
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprst", "aeiou")]
    lines = [" ".join("".join(rng.choices(syllables, k=3)) for _ in range(8)) for _ in range(120)]
    write(folder / "kept" / "en" / "0.parquet", text=lines)
    return folder


WORDS = ("软件", "图书馆", "工程师", "学习", "工作", "我们", "台湾")
TRADITIONAL = ("軟件", "圖書館", "工程師", "學習", "工作", "我們", "臺灣")


@pytest.mark.parametrize("style", STYLES)
def test_frequent_words_are_one_token_in_either_script(chinese: Path, style: str) -> None:
    tokenizer = learnt(chinese, style=style, vocab_size=540, chinese={"words": 20})
    for word in (*WORDS, *TRADITIONAL):
        assert len(tokenizer.encode(word).ids) == 1, word
    assert tokenizer.get_vocab_size() == 540
    assert tokenizer.get_vocab_size() == max(tokenizer.get_vocab().values()) + 1
    for text in (*CLAUSES, "The caravan carries 学习 letters."):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("style", STYLES)
def test_no_token_joins_parts_of_two_words(chinese: Path, style: str) -> None:
    whole, cut = (
        learnt(chinese, style=style, vocab_size=900, chinese=kind) for kind in (None, {"both_scripts": False})
    )
    between = [left[-1] + right[0] for left, right in (("我们", "在"), ("图书馆", "学习"), ("学习", "软件"))]
    for tokenizer, joined in ((whole, True), (cut, False)):
        text = [tokenizer.decode([index]) for index in range(len(SPECIAL_TOKENS), tokenizer.get_vocab_size())]
        assert any(pair in piece for pair in between for piece in text) == joined


def test_words_are_cut_alike_in_both_scripts() -> None:
    words = Words(TokenizeConfig.model_validate({"chinese": {"both_scripts": False}}).chinese)  # type: ignore[arg-type]
    assert words.cut("图书馆工程师") == ["图书馆", "工程师"]
    assert words.cut("圖書館工程師") == ["圖書館", "工程師"]
    assert words.counts == {"图书馆": 2, "工程师": 2}
    assert words.chosen(least=2) == ["图书馆", "工程师"]
    assert words.chosen(least=3) == []


def test_words_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    characters = "".join(map(chr, range(0x5000, 0x5100)))
    write(tmp_path / "kept" / "zh" / "0.parquet", text=[characters] * 3)
    with pytest.raises(ModelError, match="no room for the words"):
        learnt(tmp_path, vocab_size=512, chinese={"words": 256})
