"""llama.cpp reads every text as the tokenizers library does, and tokenizers that it cannot match are refused."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gguf import TokenType
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from caravan.core.errors import ExportError, TokenizerMismatchError
from caravan.engine import Engine
from caravan.export.tokenizer import PRE_TOKENIZERS, read_vocabulary
from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.tokens import CHAT_TEMPLATE, SPECIAL_TOKENS
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.extend import extended
from tests.export.conftest import SENTENCES
from tests.tokenize.test_extend import byte_level, sentencepiece

# The tokenizers library does not yet know the letters that came with Unicode 16, of rare and ancient scripts; llama.cpp
# does. Python 3.11 knows Unicode 14.
ASSIGNED = st.characters(exclude_categories=("Cn", "Cs", "Co"), max_codepoint=0x1FFFF)
# What the pattern treats apart: spaces of many kinds, contractions, digits and numerals of many scripts, marks that
# combine, joiners, and special tokens, whole and broken.
PIECES = [
    *SPECIAL_TOKENS, "<|", "|>", "<|user", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "'s", "'LL",
    "'re", "isn't", "1", "23", "٤٥", "๓", "½", "Ⅷ", "三", "a", "Zé", "e\u0301", "你好", "です", "안녕", "ไทย", "้", "שָׁ",
    "عَر", "aaaa", "   ", "\n\n", "▁", "<0x41>", "\u200f", "🙂", "👨\u200d👩", "\ufe0f", ".", "!!", "-", "\ufffd",
    "\ue000",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(ASSIGNED, max_size=6), max_size=12).map("".join)


def grown(theirs: Tokenizer, corpus: Path) -> Tokenizer:
    """A tokenizer with pieces learnt on the sentences, and our special tokens."""
    (corpus / "kept" / "en").mkdir(parents=True)
    pq.write_table(pa.table({"text": list(SENTENCES) * 4}), corpus / "kept" / "en" / "0.parquet")
    config = TokenizeConfig.model_validate({"extend": "theirs", "new_pieces": 200, "character_coverage": 0.9})
    tokenizer = extended(theirs, "theirs", config, Corpus(corpus, 0.01))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    return tokenizer


@pytest.fixture(
    scope="module",
    params=["smollm", "gpt-2", "llama-bpe", "qwen2", "pieces", "pieces after a space", "gemma's", "metaspace"],
)
def both(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_tokenizer: Callable[..., Any],
    export_text: Callable[..., Path],
) -> Iterator[tuple[Tokenizer, Engine]]:
    """A tokenizer of the tokenizers library, and the engine with an export of it."""
    folder = tmp_path_factory.mktemp("both")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    kinds = {"smollm": pre_tokenizers.Sequence([digits, letters]), "gpt-2": letters}
    if request.param in kinds:
        tokenizer = make_tokenizer(kinds[request.param])
    else:
        theirs = byte_level() if request.param in ("llama-bpe", "qwen2") else sentencepiece()
        if request.param == "qwen2":
            pattern = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated")
            letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            theirs.pre_tokenizer = pre_tokenizers.Sequence([pattern, letters])
            theirs.model.ignore_merges = False
        if request.param in ("pieces", "gemma's"):
            theirs.normalizer = normalizers.Replace(" ", "▁")
        if request.param == "gemma's":
            theirs.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        if request.param == "metaspace":
            theirs.normalizer = None
            theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
        backend = grown(theirs, folder / "corpus")
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=SPECIAL_TOKENS[0])
    file = export_text(tokenizer, folder)
    known = request.param if request.param in PRE_TOKENIZERS else None
    assert read_vocabulary(folder, len(tokenizer)).pre == known
    with Engine(file, context=64, threads=1) as engine:
        yield tokenizer.backend_tokenizer, engine


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=TEXTS)
def test_ids_are_the_same_for_any_text(both: tuple[Tokenizer, Engine], text: str) -> None:
    tokenizer, engine = both
    assert engine.tokenize(text) == tokenizer.encode(text, add_special_tokens=False).ids


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXTS)
def test_what_holds_under_a_condition_holds(conditional: tuple[str, Tokenizer, Engine], text: str) -> None:
    kind, tokenizer, engine = conditional
    meeting = {"nfc": unicodedata.normalize("NFC", text), "first, chats": SPECIAL_TOKENS[0] + text}
    prompt = meeting.get(kind, text)
    if kind == "first, plain":
        prompt = re.sub("|".join(map(re.escape, SPECIAL_TOKENS)), "", text).lstrip(" ▁")
    assert engine.tokenize(prompt) == tokenizer.encode(prompt, add_special_tokens=False).ids


@pytest.fixture(scope="module", params=["nfc", "first, chats", "first, plain"])
def conditional(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, export_text: Callable[..., Path]
) -> Iterator[tuple[str, Tokenizer, Engine]]:
    """Tokenizers that llama.cpp reproduces for some texts, which the export then names."""
    folder = tmp_path_factory.mktemp("conditional")
    theirs = byte_level() if request.param == "nfc" else sentencepiece()
    if request.param == "nfc":
        theirs.normalizer = normalizers.NFC()
    else:
        theirs.normalizer = None
        theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend = grown(theirs, folder / "corpus")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=SPECIAL_TOKENS[0])
    if request.param == "first, chats":
        tokenizer.chat_template = CHAT_TEMPLATE
    file = export_text(tokenizer, folder)
    assert read_vocabulary(folder, len(tokenizer)).conditions
    with Engine(file, context=64, threads=1) as engine:
        yield request.param, tokenizer.backend_tokenizer, engine


def revealing_tokenizer() -> Tokenizer:
    """A tokenizer whose ids show what it takes a character for.

    The last byte of a character merges with an A or ! after it, and its first with a space before it, if the pattern
    leaves them together: a letter keeps the A, a symbol the !, a digit neither, and a space is no letter's space.
    """
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte = {letters.pre_tokenize_str(chr(code))[0][0][-1] for code in range(0x80, 0xC0)}
    first = {letters.pre_tokenize_str(chr(code))[0][0][0] for code in range(0x80, 0x110000, 64) if code >> 11 != 27}
    merges = [(last, after) for last in sorted(byte) for after in "A!"] + [("Ġ", start) for start in sorted(first)]
    tokens = [*SPECIAL_TOKENS, *sorted(letters.alphabet()), *("".join(merge) for merge in merges)]
    return Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))


def test_every_character_is_taken_for_the_same(export_text: Callable[..., Path], tmp_path: Path) -> None:
    tokenizer = revealing_tokenizer()
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL_TOKENS[0])
    codes = [*range(0x80, 0x3400), *range(0x3400, 0xD800, 97), *range(0xE000, 0x20000)]
    characters = [chr(code) for code in codes if unicodedata.category(chr(code)) not in ("Cn", "Co")]
    with Engine(export_text(wrapped, tmp_path), context=64, threads=1) as engine:
        for start in range(0, len(characters), 512):
            text = "\nB".join(f"{one}A{one}! {one}" for one in characters[start : start + 512])
            found, right = engine.tokenize(text), tokenizer.encode(text, add_special_tokens=False).ids
            assert found == right, hex(ord(characters[start]))


def test_rows_without_a_token_are_marked_unused(plain: Path, tokenizer: Any) -> None:
    vocabulary = read_vocabulary(plain, len(tokenizer) + 4)
    assert vocabulary.tokens[: len(SPECIAL_TOKENS)] == list(SPECIAL_TOKENS)
    assert set(vocabulary.types[: len(SPECIAL_TOKENS)]) == {TokenType.CONTROL}
    assert set(vocabulary.types[len(tokenizer) :]) == {TokenType.UNUSED}
    assert len(set(vocabulary.tokens)) == len(vocabulary.tokens)


@pytest.fixture
def edited(plain: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """A folder with the tokenizer of `plain`, changed."""

    def edit(change: Callable[[dict[str, Any]], None]) -> Path:
        content = json.loads((plain / "tokenizer.json").read_text())
        change(content)
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        return tmp_path

    return edit


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.update(normalizer={"type": "NFKC"}), "a normalizer"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
        (lambda t: t.update(pre_tokenizer=None), "the pre-tokenizer"),
        (lambda t: t["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "add_prefix_space"),
        (lambda t: t["model"].update(ignore_merges=True), "an option of the BPE model"),
        (lambda t: t["model"].update(type="Unigram"), "Unigram"),
        (lambda t: t["added_tokens"][3].update(lstrip=True), "strips"),
    ],
)
def test_tokenizers_that_llama_cpp_cannot_match_are_refused(
    edited: Callable[..., Path], change: Callable[[dict[str, Any]], None], named: str
) -> None:
    with pytest.raises(ExportError, match=named):
        read_vocabulary(edited(change), 2000)


def test_more_tokens_than_rows(plain: Path, tokenizer: Any) -> None:
    with pytest.raises(TokenizerMismatchError, match=f"got: {len(tokenizer)} tokens"):
        read_vocabulary(plain, len(tokenizer) - 1)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no tokenizer to export"):
        read_vocabulary(tmp_path, 10)
