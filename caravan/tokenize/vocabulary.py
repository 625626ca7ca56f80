"""The tokenizer: byte-level BPE learnt from the corpus, or an existing one with the special tokens it lacks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from caravan.core.errors import DataError, ModelError
from caravan.core.files import atomic_path, write_json
from caravan.core.log import get_logger
from caravan.core.progress import track
from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.chat import load_tokenizer
from caravan.text.tokens import CHAT_TEMPLATE, END_OF_TEXT, PAD, SPECIAL_TOKENS
from caravan.tokenize.corpus import Corpus

log = get_logger(__name__)
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
KILOBYTE = 1 << 10


def make_tokenizer(config: TokenizeConfig, corpus: Corpus, existing: str | None, out: Path) -> None:
    """Write a Hugging Face tokenizer folder; `tokenizer.json` comes last, and where it is there this is done.

    Args:
        existing: folder or hub name of a tokenizer to extend, None to learn one.

    Raises:
        ModelError: the existing tokenizer cannot be loaded.
        DataError: there is no text to learn from.
    """
    if (out / TOKENIZER).is_file():
        return
    if existing is None:
        tokenizer = learn(config, corpus)
        if (size := tokenizer.get_vocab_size()) < config.vocab_size:
            log.warning(
                "the corpus gives %s tokens, fewer than the %s asked for", f"{size:,}", f"{config.vocab_size:,}"
            )
        save_learnt(tokenizer, out)
    else:
        save_extended(existing, out)


def learn(config: TokenizeConfig, corpus: Corpus) -> Tokenizer:
    """Learn byte-level BPE: GPT-2's split into words, digits one by one, special tokens as the first ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample(config, corpus), trainer)
    return tokenizer


def shares(sizes: dict[str, int], alpha: float, budget: int) -> dict[str, float]:
    """How often each language's text is shown: budget * p ** alpha / sum(p ** alpha) over its bytes, p its share.

    The exponent is that of XLM-R (arXiv 1911.02116); the budget is never more than all the text.
    """
    total = sum(sizes.values())
    weights = {language: (size / total) ** alpha for language, size in sizes.items() if size}
    scale = min(budget, total) / sum(weights.values())
    return {language: scale * weight / sizes[language] for language, weight in weights.items()}


def sample(config: TokenizeConfig, corpus: Corpus) -> Iterator[list[str]]:
    """Batches of lines, each language as often as its share says; the same lines every time."""
    named = sorted({*corpus.languages, *(language for pair in corpus.pairs for language in pair)})
    sizes = {language: corpus.bytes(language) for language in named}
    if not sum(sizes.values()):
        raise DataError(
            "the corpus is empty",
            where=str(corpus.folder),
            expected="documents under kept/, or parallel text under pairs/",
            got="none",
            fix="run the curate stage on sources with text",
        )
    often = shares(sizes, config.alpha, config.train_bytes)
    total = sum(round(often[language] * sizes[language]) for language in often)
    with track("vocabulary", total // KILOBYTE, "kB") as bar:
        for language, times in often.items():
            # Of every line so many bytes are owed; it is shown when its whole length is.
            owed = 0.0
            for texts in corpus.learnt(language):
                shown: list[str] = []
                for line in (line for text in texts for line in text.splitlines(keepends=True)):
                    length = len(line.encode())
                    owed += times * length
                    while owed >= length:
                        shown.append(line)
                        owed -= length
                yield shown
                bar.advance(sum(map(len, shown)) // KILOBYTE)


def save_learnt(tokenizer: Tokenizer, out: Path) -> None:
    """Write the folder that `AutoTokenizer` loads as a PreTrainedTokenizerFast."""
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": PAD,
        "additional_special_tokens": [token for token in SPECIAL_TOKENS if token not in (END_OF_TEXT, PAD)],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(out / TOKENIZER_CONFIG, settings)
    with atomic_path(out / TOKENIZER) as temporary:
        tokenizer.save(str(temporary))


def save_extended(existing: str, out: Path) -> None:
    """Write an existing tokenizer with the special tokens that it lacks and our chat template.

    Its own tokens for the beginning, the end and padding stay, where it has them.
    """
    tokenizer = load_tokenizer(existing)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(SPECIAL_TOKENS)}, replace_extra_special_tokens=False
    )
    for role, token in (("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT), ("pad_token", PAD)):
        if getattr(tokenizer, role) is None:
            setattr(tokenizer, role, token)
    tokenizer.chat_template = CHAT_TEMPLATE
    work = out / "work"
    tokenizer.save_pretrained(work, save_jinja_files=False)
    if not (work / TOKENIZER).is_file():
        raise ModelError(
            "the tokenizer has no fast version",
            where=existing,
            expected="one that the tokenizers library can run (tokenizer.json)",
            got=type(tokenizer).__name__,
            fix="use a tokenizer with a tokenizer.json, or leave `existing` out to learn one",
        )
    for file in sorted(work.iterdir(), key=lambda path: path.name == TOKENIZER):
        file.replace(out / file.name)
    shutil.rmtree(work)
