"""A Hugging Face tokenizer as GGUF metadata, if llama.cpp gives the very same ids.

Two kinds: byte-level BPE, whose merges llama.cpp follows, and SentencePiece's BPE, where it joins any two neighbours
that make a token, the token of the highest score first. Scores are the ranks of the merges here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from caravan.core.errors import ExportError, TokenizerMismatchError
from caravan.core.files import read_json

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
_BPE_OPTIONS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
# Pre-tokenizers that llama.cpp reproduces for every text, and what it calls them. (It knows the letters of Unicode 16,
# all of rare or ancient scripts, which the tokenizers library takes for symbols.)
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_BYTES],
    "smollm": [_DIGITS, _BYTES],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": _LLAMA_3}, "behavior": "Isolated", "invert": False},
        _BYTES | {"use_regex": False},
    ],
    "qwen2": [
        {"type": "Split", "pattern": {"Regex": _QWEN_2}, "behavior": "Isolated", "invert": False},
        _BYTES | {"use_regex": False},
    ],
}
# There llama.cpp takes a whole word that is a token for that token, whatever its merges.
IGNORES_MERGES = ("llama-bpe",)
SPACE = "▁"
_ESCAPE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREFIX = {"type": "Prepend", "prepend": SPACE}
# Of Gemma: without effect, as the normalizer leaves no space.
_NO_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
# Of Llama and Mistral in transformers 5; `prepend_scheme` says where a space is put before text.
_METASPACE = {"type": "Metaspace", "replacement": SPACE, "split": False}
_NFC = {"type": "NFC"}
BYTE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """What llama.cpp needs to know of a BPE tokenizer; `tokens[i]` has the id i.

    Attributes:
        pre: name of the pre-tokenizer of byte-level BPE; None for SentencePiece's BPE.
        tokens: of every row of the model's tables. types: of each.
        merges: of byte-level BPE.
        scores: of SentencePiece's BPE, of each token.
        unknown: id of the unknown token of SentencePiece's BPE.
        prefix: whether a space is put before text.
        conditions: what must hold of a text for the same ids; in most vocabularies nothing.
    """

    pre: str | None
    tokens: list[str]
    types: list[TokenType]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    unknown: int | None = None
    prefix: bool = False
    conditions: tuple[str, ...] = ()


def read_vocabulary(
    folder: Path, rows: int, content: dict[str, Any] | None = None, *, chats: bool = True
) -> Vocabulary:
    """The tokenizer of a model whose embedding has this many rows.

    Args:
        folder: of the model.
        rows: of the embedding.
        content: the tokenizer as transformers runs it, which may be other than its tokenizer.json; default: that file.
        chats: whether prompts come from a chat template, so begin with a special token.

    Raises:
        ExportError: a kind of tokenizer that llama.cpp does not reproduce exactly.
        TokenizerMismatchError: it has more tokens than the model has rows.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ExportError("no tokenizer to export", where=str(folder), expected="tokenizer.json", got="no such file")
    tokenizer = content or read_json(file)
    model = tokenizer["model"]
    pieces = bool(model.get("byte_fallback"))
    pre = None if pieces else _pre_tokenizer(tokenizer)
    _check(tokenizer, pre, pieces, str(file))
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
    unknown = model["vocab"].get(model.get("unk_token")) if pieces else None
    tokens = [names.get(index, f"[unused {index}]") for index in range(rows)]
    types = [_type(added.get(index), names.get(index), pieces, index == unknown) for index in range(rows)]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    if not pieces:
        composed = ("in Unicode's form NFC",) if _NFC in _steps(tokenizer["normalizer"], "normalizers") else ()
        return Vocabulary(pre, tokens, types, merges=[" ".join(merge) for merge in merges], conditions=composed)
    scores = _scores(merges, set(names.values()), str(file))
    prefix, conditions = _prefix(tokenizer, chats)
    ordered = [scores.get(token, 0.0) for token in tokens]
    return Vocabulary(None, tokens, types, scores=ordered, unknown=unknown, prefix=prefix, conditions=conditions)


def _prefix(tokenizer: dict[str, Any], chats: bool) -> tuple[bool, tuple[str, ...]]:
    """Whether llama.cpp is to put a space before each text between special tokens, and where that is another rule."""
    if _PREFIX in _steps(tokenizer["normalizer"], "normalizers"):
        return True, ()
    scheme = (tokenizer["pre_tokenizer"] or {}).get("prepend_scheme", "never")
    unspaced = "without a space where it begins"
    if scheme == "always":
        return True, (f"{unspaced} or follows a special token",)
    if scheme == "first":
        return not chats, ("beginning with a special token",) if chats else (unspaced, "without special tokens inside")
    return False, ()


def _scores(merges: list[tuple[str, ...]], tokens: set[str], where: str) -> dict[str, float]:
    """A score for each merged token, higher for those merged earlier.

    Raises:
        ExportError: two tokens that make a third do not always merge, or not at one rank.
    """
    order = list(dict.fromkeys(map("".join, merges)))
    rank = {piece: place for place, piece in enumerate(order)}
    ranks = [rank["".join(merge)] for merge in merges]
    known = set(merges)
    splits = ((token, (token[:cut], token[cut:])) for token in tokens for cut in range(1, len(token)))
    loose = [token for token, pair in splits if pair not in known and pair[0] in tokens and pair[1] in tokens]
    if loose or ranks != sorted(ranks):
        raise ExportError(
            "llama.cpp does not reproduce this tokenizer exactly",
            where=where,
            expected="merges of any two tokens that make a third, all at the third's rank, as SentencePiece has them",
            got=f"{loose[0]!r}, and {len(loose) - 1} others that do not" if loose else "several ranks of one token",
            fix="use a tokenizer of the tokenize stage, or one converted from a SentencePiece model",
        )
    return {piece: -float(place) for piece, place in rank.items()}


def _type(added: dict[str, Any] | None, name: str | None, pieces: bool, unknown: bool) -> TokenType:
    if name is None:
        return TokenType.UNUSED
    if unknown:
        return TokenType.UNKNOWN
    if added is not None:
        return TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    return TokenType.BYTE if pieces and BYTE.fullmatch(name) else TokenType.NORMAL


def _steps(part: dict[str, Any] | None, of: str) -> list[dict[str, Any]]:
    """The members of a sequence, or the one; trim_offsets changes no id."""
    steps = [] if part is None else part[of] if part.get("type") == "Sequence" else [part]
    return [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """What llama.cpp calls the pre-tokenizer of a byte-level BPE."""
    steps = _steps(tokenizer["pre_tokenizer"], "pretokenizers")
    found = [name for name, known in PRE_TOKENIZERS.items() if steps == known]
    return found[0] if found else None


def _piece_steps(normal: list[dict[str, Any]], steps: list[dict[str, Any]]) -> bool:
    """Whether spaces become part of pieces, once, and nothing else is split."""
    if not normal:
        return len(steps) == 1 and {**steps[0], "prepend_scheme": ""} == {**_METASPACE, "prepend_scheme": ""}
    return steps in ([], [_NO_SPLIT])


def _check(tokenizer: dict[str, Any], pre: str | None, pieces: bool, where: str) -> None:
    """See that llama.cpp has every part of this tokenizer.

    Raises:
        ExportError: it has not.
    """
    model = tokenizer["model"]
    normal = _steps(tokenizer["normalizer"], "normalizers")
    steps = _steps(tokenizer["pre_tokenizer"], "pretokenizers")
    known = _piece_steps(normal, steps) if pieces else pre is not None
    split = json.dumps(steps)
    merges_ignored = bool(model.get("ignore_merges"))
    obstacles = {
        f"a {model['type']} model": model["type"] != "BPE",
        f"the pre-tokenizer {split}": not known,
        f"a normalizer: {json.dumps(tokenizer['normalizer'])[:80]}": normal
        not in (([], [_ESCAPE], [_PREFIX, _ESCAPE]) if pieces else ([], [_NFC])),
        "an option of the BPE model": any(model.get(option) for option in _BPE_OPTIONS)
        or merges_ignored != (pre in IGNORES_MERGES),
        "an added token that strips or normalises its surroundings": any(
            token[option] for token in tokenizer["added_tokens"] for option in ("lstrip", "rstrip", "single_word")
        ),
    }
    if got := [what for what, there in obstacles.items() if there]:
        raise ExportError(
            "llama.cpp does not reproduce this tokenizer exactly",
            where=where,
            expected="byte-level BPE without normalizer but NFC, split by GPT-2's pattern (digits apart or not), "
            "Llama 3's or Qwen's, or SentencePiece's BPE with bytes for what it does not know",
            got="; ".join(got),
            fix="use a tokenizer of the tokenize stage",
        )


def describe_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, stop: list[int], template: str | None) -> None:
    """Add the tokenizer to a file's metadata; `stop` are the ids that end an answer.

    Nothing is ever added before a prompt: the chat template has all that a prompt needs.

    Raises:
        ExportError: more ends than GGUF has names for.
    """
    writer.add_tokenizer_model("llama" if vocabulary.pre is None else "gpt2")
    writer.add_tokenizer_pre(vocabulary.pre or "default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.pre is None:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.prefix)
        if vocabulary.unknown is not None:
            writer.add_unk_token_id(vocabulary.unknown)
    else:
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
