"""New pieces for an existing BPE tokenizer: its own training, gone on with on the new corpus.

The corpus is split and encoded as the tokenizer does it; further pairs of its tokens are then merged, the most
frequent first, and appended to its merges. So every new piece can be reached, and text without new pieces keeps its
ids (continued BPE training; Purason et al. 2025 compare it with appending a second tokenizer's pieces).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from caravan.core.log import get_logger
from caravan.recipe.tokenize import TokenizeConfig
from caravan.tokenize.bpe import (
    BYTE_PIECES,
    Bpe,
    Merge,
    add_merges,
    close,
    keep_whole,
    number,
    piece_of,
    read_bpe,
    with_bpe,
)
from caravan.tokenize.chinese import BREAK, Words
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.learn import WORDS
from caravan.tokenize.sampling import sample

log = get_logger(__name__)
# Each token is one letter while pairs are counted: the planes above the first hold a million.
FIRST_LETTER = 0x10000
# Two merges may make the same piece: so many more are learnt.
SPARE = 1.1
FED = 4096


def extended(tokenizer: Tokenizer, where: str, config: TokenizeConfig, corpus: Corpus) -> Tokenizer:
    """The tokenizer with `config.new_pieces` more pieces; its ids, normalizer and pre-tokenizer stay.

    Raises:
        ModelError: it is no BPE, or Chinese words that shall stay whole do not fit.
        DataError: the corpus is empty.
    """
    bpe = read_bpe(tokenizer, where)
    first_new = max(bpe.ids.values()) + 1
    words = Words(config.chinese) if config.chinese else None
    counts = count_words(tokenizer, bpe.by_rank, sample(config, corpus, words))
    if bpe.by_rank:
        number(bpe, missing_letters(bpe, counts, config.character_coverage)[: config.new_pieces])
    room = first_new + config.new_pieces - max(bpe.ids.values()) - 1
    add_merges(bpe, _enough(learn_pairs(bpe, counts, config), bpe, room))
    close(bpe)
    if words is not None:
        pieces = [piece_of(word, bpe.by_rank) for word in words.chosen(config.min_frequency)]
        keep_whole(bpe, pieces, first_new + config.new_pieces, first_new)
    if (got := max(bpe.ids.values()) + 1 - first_new) < config.new_pieces:
        log.warning("the corpus gives %s new pieces, fewer than the %s asked for", f"{got:,}", f"{config.new_pieces:,}")
    return with_bpe(tokenizer, bpe)


def count_words(tokenizer: Tokenizer, by_rank: bool, batches: Iterable[list[str]]) -> Counter[str]:
    """How often each word comes, as the tokenizer splits text, in the letters of its vocabulary."""
    steps = [tokenizer.pre_tokenizer] if tokenizer.pre_tokenizer else []
    steps.append(pre_tokenizers.Split(piece_of(BREAK, by_rank), "removed"))
    if by_rank:
        # These tokenizers take a whole text for one word.
        steps.append(pre_tokenizers.Split(WORDS, "isolated"))
    split, normalizer = pre_tokenizers.Sequence(steps), tokenizer.normalizer
    counts: Counter[str] = Counter()
    for lines in batches:
        for line in lines:
            normal = normalizer.normalize_str(line) if normalizer else line
            counts.update(word for word, _ in split.pre_tokenize_str(normal))
    return counts


def missing_letters(bpe: Bpe, counts: Counter[str], coverage: float) -> list[str]:
    """The most frequent characters without a token, so many that tokens cover this share of the text.

    Spaces and controls keep the bytes that they have: all text has them.
    """
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        for letter in word:
            letters[letter] += count
    absent = {letter: count for letter, count in letters.items() if letter not in bpe.ids and letter.isprintable()}
    owed = sum(absent.values()) - (1 - coverage) * letters.total()
    chosen = []
    for letter in sorted(absent, key=lambda letter: (-absent[letter], letter)):
        if owed <= 0:
            break
        chosen.append(letter)
        owed -= absent[letter]
    return chosen


def learn_pairs(bpe: Bpe, counts: Counter[str], config: TokenizeConfig) -> list[Merge]:
    """Further merges of the vocabulary's tokens, in order; more than are needed, for some make the same piece."""
    model = bpe.model()
    letters = {token: chr(FIRST_LETTER + place) for place, token in enumerate(bpe.ids)}
    token_of = {letter: token for token, letter in letters.items()}
    coded: Counter[str] = Counter()
    for word, count in counts.items():
        tokens = (token.value for token in model.tokenize(word))
        # Bytes that stand for a character without a token never join.
        joined = "".join(" " if bpe.by_rank and token in BYTE_PIECES else letters[token] for token in tokens)
        coded.update(dict.fromkeys(joined.split(), count))
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(set().union(*coded)) + int(SPARE * config.new_pieces) + 1,
        min_frequency=config.min_frequency,
        show_progress=False,
    )
    learner.train_from_iterator(_repeated(coded), trainer)
    merges: list[Any] = json.loads(learner.to_str())["model"]["merges"]
    left_right = [tuple("".join(map(token_of.__getitem__, part)) for part in merge) for merge in merges]
    return [(left, right) for left, right in left_right]


def _repeated(words: Counter[str]) -> Iterator[str]:
    """Each word of several letters as often as it counts, with a space after it."""
    for word, count in words.items():
        if len(word) > 1:
            for first in range(0, count, FED):
                yield f"{word} " * min(FED, count - first)


def _enough(pairs: Iterable[Merge], bpe: Bpe, count: int) -> Iterator[Merge]:
    """Merges until they make `count` new pieces."""
    made: set[str] = set()
    for left, right in pairs:
        piece = left + right
        if piece not in bpe.ids and piece not in made:
            if len(made) == count:
                return
            made.add(piece)
        yield left, right
