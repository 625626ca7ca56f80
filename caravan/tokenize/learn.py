"""A new tokenizer learnt from the corpus: byte-level BPE, or BPE over characters with bytes for the rest."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.tokens import SPECIAL_TOKENS
from caravan.tokenize.bpe import BYTE_PIECES, Bpe, close, keep_whole, piece_of, read_bpe, with_bpe
from caravan.tokenize.chinese import BREAK, Words
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.sampling import letters, sample

UNKNOWN = "<unk>"
SPACE = "▁"
# Where SentencePiece never joins: at spaces, between digits, between kinds of characters and of scripts.
_HAN, _KANA = r"\p{Han}", r"\p{Hiragana}\p{Katakana}ー"
WORDS = Regex(
    rf"{SPACE}?[{_HAN}]+|{SPACE}?[{_KANA}]+|{SPACE}?[\p{{L}}\p{{M}}&&[^{_HAN}{_KANA}]]+|\p{{N}}"
    rf"|{SPACE}?[^\p{{L}}\p{{M}}\p{{N}}{SPACE}\n]+|{SPACE}+(?={SPACE})|{SPACE}|\n"
)


def learn(config: TokenizeConfig, corpus: Corpus) -> Tokenizer:
    """A tokenizer with the special tokens as the first ids; digits are taken one by one.

    Raises:
        DataError: the corpus is empty.
        ModelError: Chinese words that shall stay whole do not fit.
    """
    words = Words(config.chinese) if config.chinese else None
    if config.style == "byte_level":
        tokenizer, bpe = _byte_level(config, sample(config, corpus, words))
    else:
        kept = letters(sample(config, corpus, words), config.character_coverage)
        tokenizer, bpe = _sentencepiece(config, sample(config, corpus, words), kept)
    if words is None and not bpe.by_rank:
        return tokenizer
    if words is not None:
        pieces = [piece_of(word, bpe.by_rank) for word in words.chosen(config.min_frequency)]
        first_new = min((bpe.ids[left + right] for left, right in bpe.merges), default=len(bpe.ids))
        keep_whole(bpe, pieces, config.vocab_size, first_new)
    close(bpe)
    return with_bpe(tokenizer, bpe)


def _byte_level(config: TokenizeConfig, lines: Iterator[list[str]]) -> tuple[Tokenizer, Bpe]:
    """GPT-2's split into words, digits one by one."""
    tokenizer = Tokenizer(models.BPE())
    if config.normalization == "nfkc":
        tokenizer.normalizer = normalizers.NFKC()
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(_at_breaks(config) + split)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=_special(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    return tokenizer, read_bpe(tokenizer)


def _sentencepiece(config: TokenizeConfig, lines: Iterator[list[str]], kept: list[str]) -> tuple[Tokenizer, Bpe]:
    """Characters that are frequent enough, ▁ for a space (none is put before text), bytes for the rest.

    As SentencePiece's BPE does without a dummy prefix (Kudo and Richardson 2018; Gemma's setting).
    """
    spaces = normalizers.Replace(" ", SPACE)
    nfkc = [normalizers.NFKC()] if config.normalization == "nfkc" else []
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([*nfkc, spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*_at_breaks(config), pre_tokenizers.Split(WORDS, "isolated")])
    normal = dict.fromkeys("".join(map(tokenizer.normalizer.normalize_str, kept)))
    alphabet = [letter for letter in normal if letter != BREAK]
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(BYTE_PIECES),
        min_frequency=config.min_frequency,
        special_tokens=[*_special(), AddedToken(UNKNOWN, special=True, normalized=False)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    bpe = read_bpe(tokenizer)
    # Bytes stand between special tokens and characters.
    order = sorted(bpe.ids, key=bpe.ids.__getitem__)
    special = len(SPECIAL_TOKENS) + 1
    order[special:special] = BYTE_PIECES
    bpe.ids = {token: place for place, token in enumerate(order)}
    return tokenizer, bpe


def _special() -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]


def _at_breaks(config: TokenizeConfig) -> list[pre_tokenizers.PreTokenizer]:
    return [pre_tokenizers.Split(BREAK, "removed")] if config.chinese else []
