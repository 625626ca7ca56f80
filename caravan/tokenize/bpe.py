"""A BPE vocabulary as plain lists, to be grown and shrunk, and back in the tokenizer that it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, models

from caravan.core.errors import ModelError

Merge = tuple[str, str]
BYTE_PIECES = {f"<0x{byte:02X}>": byte for byte in range(256)}
ROUNDS = 8
_AS_THEY_ARE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
# GPT-2's letter for each byte: printable ones as they are in Latin-1, the others from U+0100 on.
LETTERS = {byte: chr(byte) for byte in _AS_THEY_ARE} | {
    byte: chr(0x100 + place) for place, byte in enumerate(sorted(set(range(256)) - set(_AS_THEY_ARE)))
}


@dataclass
class Bpe:
    """What BPE has learnt.

    Attributes:
        ids: of each token, added tokens that are in the model's vocabulary included.
        merges: pairs of tokens, the first learnt first.
        by_rank: SentencePiece's kind (byte fallback, ▁ for a space): any two neighbours that make a token merge, the
            token learnt first before others. Otherwise only the pairs named here merge, in their order.
    """

    ids: dict[str, int]
    merges: list[Merge]
    by_rank: bool

    def model(self) -> models.BPE:
        """The model alone: what it does to a word in the letters of its vocabulary."""
        return models.BPE(vocab=self.ids, merges=self.merges, byte_fallback=self.by_rank)


def read_bpe(tokenizer: Tokenizer, where: str | None = None) -> Bpe:
    """The BPE of a tokenizer; added tokens get a place in the vocabulary, so that it has no holes.

    Raises:
        ModelError: another kind of model.
    """
    raw = json.loads(tokenizer.to_str())
    model = raw["model"]
    if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError(
            "this tokenizer cannot be extended",
            where=where,
            expected="byte-level BPE (GPT-2, Llama 3, Qwen) or SentencePiece BPE (Llama 2, Mistral, Gemma)",
            got=f"{model['type']}{' with marks at word ends' if model['type'] == 'BPE' else ''}",
            fix="use it as it is: `tokenize.existing`",
        )
    ids = dict(model["vocab"]) | {token["content"]: token["id"] for token in raw["added_tokens"]}
    merges: list[Merge] = [(merge[0], merge[1]) for merge in model["merges"]]
    return Bpe(ids, merges, bool(model["byte_fallback"]))


def with_bpe(tokenizer: Tokenizer, bpe: Bpe) -> Tokenizer:
    """The same tokenizer with another vocabulary."""
    raw = json.loads(tokenizer.to_str())
    raw["model"] |= {"vocab": bpe.ids, "merges": [list(merge) for merge in bpe.merges]}
    return Tokenizer.from_str(json.dumps(raw))


def piece_of(word: str, by_rank: bool) -> str:
    """A word in the letters of a vocabulary: GPT-2's letters for bytes, or itself."""
    if by_rank:
        return word.replace(" ", "▁")
    return "".join(map(LETTERS.__getitem__, word.encode()))


def add_merges(bpe: Bpe, merges: Iterable[Merge]) -> None:
    """Append merges, and tokens for what they make, with the next free ids."""
    fresh = dict.fromkeys(merges)
    number(bpe, map("".join, fresh))
    known = set(bpe.merges)
    bpe.merges += [pair for pair in fresh if pair not in known]


def close(bpe: Bpe) -> None:
    """With `by_rank`, add every pair of tokens that makes a merged token, at that token's rank."""
    if not bpe.by_rank:
        return
    pairs = _by_piece(bpe.merges)
    for piece, found in pairs.items():
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        found += [pair for pair in splits if pair not in found and pair[0] in bpe.ids and pair[1] in bpe.ids]
    bpe.merges = [pair for found in pairs.values() for pair in found]


def keep_whole(bpe: Bpe, words: Sequence[str], size: int, first_new: int) -> None:
    """Make each word one token; where the vocabulary gets larger than `size`, the tokens learnt last make room.

    Args:
        words: each in the letters of the vocabulary.
        size: most tokens.
        first_new: tokens with smaller ids, and what makes them, stay.

    Raises:
        ModelError: there is no room for the words.
    """
    if bpe.by_rank:
        number(bpe, (letter for word in words for letter in word))
    for _ in range(ROUNDS):
        close(bpe)
        model = bpe.model()
        broken = [parts for parts in ([token.value for token in model.tokenize(word)] for word in words) if parts[1:]]
        if not broken:
            break
        # A word may now end in another's token: the next round sees to it.
        add_merges(bpe, (pair for parts in broken for pair in _chain(parts)))
    _drop_last(bpe, set(words), max(bpe.ids.values()) + 1 - size, first_new)


def _chain(parts: Sequence[str]) -> Iterator[Merge]:
    left = parts[0]
    for right in parts[1:]:
        yield left, right
        left += right


def number(bpe: Bpe, tokens: Iterable[str]) -> None:
    """Give tokens that are new the next ids."""
    following = max(bpe.ids.values(), default=-1) + 1
    for token in tokens:
        if token not in bpe.ids:
            bpe.ids[token] = following
            following += 1


def _drop_last(bpe: Bpe, wanted: set[str], count: int, first_new: int) -> None:
    """Drop the `count` new tokens learnt last that are neither wanted nor part of a token that stays."""
    pairs = _by_piece(bpe.merges)
    needed = set(wanted)
    dropped: set[str] = set()
    for piece in reversed(list(pairs)):
        if len(dropped) >= count:
            break
        if bpe.ids[piece] < first_new or piece in needed:
            needed.update(part for pair in pairs[piece] for part in pair)
        else:
            dropped.add(piece)
    if len(dropped) < count:
        raise ModelError(
            "the vocabulary has no room for the words that shall stay whole",
            expected=f"{count - len(dropped)} tokens more",
            got=f"{len(wanted)} words",
            fix="give a larger vocab_size (new_pieces), or fewer chinese.words",
        )
    order = sorted(bpe.ids, key=bpe.ids.__getitem__)
    new = [token for token in order if bpe.ids[token] >= first_new and token not in dropped]
    bpe.ids = {token: bpe.ids[token] for token in order if bpe.ids[token] < first_new}
    bpe.ids |= {token: first_new + place for place, token in enumerate(new)}
    bpe.merges = [pair for pair in bpe.merges if not dropped & {*pair, "".join(pair)}]


def _by_piece(merges: Iterable[Merge]) -> dict[str, list[Merge]]:
    """The pairs that make each token, in the order in which the tokens were learnt."""
    pairs: dict[str, list[Merge]] = {}
    for left, right in merges:
        pairs.setdefault(left + right, []).append((left, right))
    return pairs
