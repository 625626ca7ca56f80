"""The tokenizer's folder: one learnt from the corpus, or an existing one with what it lacks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from caravan.core.errors import ModelError
from caravan.core.files import atomic_path, write_json
from caravan.core.log import get_logger
from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.chat import complete, load_tokenizer
from caravan.text.tokens import CHAT_TEMPLATE, END_OF_TEXT, PAD, SPECIAL_TOKENS
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.extend import extended
from caravan.tokenize.learn import learn

log = get_logger(__name__)
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


def make_tokenizer(config: TokenizeConfig, corpus: Corpus, existing: str | None, out: Path) -> None:
    """Write a Hugging Face tokenizer folder; `tokenizer.json` comes last, and where it is there this is done.

    Args:
        existing: folder or hub name of a tokenizer to keep or to extend, None to learn one.

    Raises:
        ModelError: the existing tokenizer cannot be loaded or extended, or words to be kept whole do not fit.
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
        return
    theirs = load_tokenizer(existing)
    if config.extend is not None:
        theirs = _around(extended(_fast(theirs, existing), existing, config, corpus), theirs)
    save_completed(theirs, existing, out)


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


def load_backend(name: str) -> Tokenizer:
    """What the tokenizers library runs of a folder's or hub name's tokenizer.

    Raises:
        ModelError: there is nothing of the kind.
    """
    return _fast(load_tokenizer(name), name)


def _fast(tokenizer: PreTrainedTokenizerBase, where: str) -> Tokenizer:
    """What the tokenizers library runs.

    Raises:
        ModelError: there is nothing of the kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelError(
            "the tokenizer has no fast version",
            where=where,
            expected="one that the tokenizers library can run (tokenizer.json)",
            got=type(tokenizer).__name__,
            fix="use a tokenizer with a tokenizer.json, or leave it out to learn one",
        )
    return backend


def _around(backend: Tokenizer, theirs: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Another backend with the roles of their special tokens; what it does is what its `tokenizer.json` says."""
    roles: dict[str, Any] = dict(theirs.special_tokens_map)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=theirs.model_max_length, padding_side=theirs.padding_side, **roles
    )


def save_completed(tokenizer: PreTrainedTokenizerBase, where: str, out: Path) -> None:
    """Write an existing tokenizer with the special tokens that it lacks and our chat template.

    Its own tokens for the beginning, the end and padding stay, where it has them.
    """
    _fast(tokenizer, where)
    complete(tokenizer)
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    tokenizer.save_pretrained(work, save_jinja_files=False)
    for file in sorted(work.iterdir(), key=lambda path: path.name == TOKENIZER):
        file.replace(out / file.name)
    shutil.rmtree(work)
