"""A Hugging Face tokenizer as GGUF metadata, if llama.cpp gives the very same ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from caravan.core.errors import ExportError, TokenizerMismatchError
from caravan.core.files import read_json

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_BPE_OPTIONS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
# Pre-tokenizers that llama.cpp reproduces for every text, and what it calls them. (It knows the letters of Unicode 16,
# all of rare or ancient scripts, which the tokenizers library takes for symbols.)
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_BYTES],
    "smollm": [_DIGITS, _BYTES],
}


@dataclass(frozen=True)
class Vocabulary:
    """What llama.cpp needs to know of a byte-level BPE tokenizer; `tokens[i]` has the id i."""

    pre: str
    tokens: list[str]
    types: list[TokenType]
    merges: list[str]


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """The tokenizer of a model whose embedding has this many rows.

    Raises:
        ExportError: a kind of tokenizer that llama.cpp does not reproduce exactly.
        TokenizerMismatchError: it has more tokens than the model has rows.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ExportError("no tokenizer to export", where=str(folder), expected="tokenizer.json", got="no such file")
    tokenizer = read_json(file)
    model = tokenizer["model"]
    pre = _pre_tokenizer(tokenizer, str(file))
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    names = {index: name for name, index in model["vocab"].items()}
    names |= {index: token["content"] for index, token in added.items()}
    if max(names) >= rows:
        raise TokenizerMismatchError(
            "the tokenizer does not match the model",
            where=str(file),
            expected=f"at most {rows} tokens, the rows of the model's embedding",
            got=f"{max(names) + 1} tokens",
            fix="use the tokenizer that the model was trained with",
        )
    types = [_type(added.get(index), index in names) for index in range(rows)]
    tokens = [names.get(index, f"[unused {index}]") for index in range(rows)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary(pre, tokens, types, merges)


def _type(added: dict[str, Any] | None, known: bool) -> TokenType:
    if not known:
        return TokenType.UNUSED
    if added is None:
        return TokenType.NORMAL
    return TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED


def _pre_tokenizer(tokenizer: dict[str, Any], where: str) -> str:
    model = tokenizer["model"]
    steps = tokenizer["pre_tokenizer"] or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    # trim_offsets changes no id.
    plain = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    found = [name for name, known in PRE_TOKENIZERS.items() if plain == known]
    obstacles = {
        f"a {model['type']} model": model["type"] != "BPE",
        f"the pre-tokenizer {json.dumps(plain)}": not found,
        f"a normalizer: {json.dumps(tokenizer['normalizer'])[:80]}": tokenizer["normalizer"] is not None,
        "an option of the BPE model": any(model.get(option) for option in _BPE_OPTIONS),
        "an added token that strips or normalises its surroundings": any(
            token[option] for token in tokenizer["added_tokens"] for option in ("lstrip", "rstrip", "single_word")
        ),
    }
    if got := [what for what, there in obstacles.items() if there]:
        raise ExportError(
            "llama.cpp does not reproduce this tokenizer exactly",
            where=where,
            expected="byte-level BPE without normalizer, split by GPT-2's pattern, digits apart or not",
            got="; ".join(got),
            fix="use a tokenizer of the tokenize stage",
        )
    return found[0]


def describe_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, stop: list[int], template: str | None) -> None:
    """Add the tokenizer to a file's metadata; `stop` are the ids that end an answer.

    Nothing is ever added before a prompt: the chat template has all that a prompt needs.

    Raises:
        ExportError: more ends than GGUF has names for.
    """
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    adders = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    if len(stop) > len(adders):
        raise ExportError("too many tokens end an answer", expected=f"at most {len(adders)}", got=stop)
    for add, token in zip(adders, stop, strict=False):
        add(token)
    if template:
        writer.add_chat_template(template)
