"""The door of the tokenize stage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caravan.core.errors import CaravanError, ModelError
from caravan.core.files import read_json, write_json, write_text
from caravan.core.stage import StageContext
from caravan.recipe.tokenize import TokenizeConfig
from caravan.tokenize.chinese import need_segmenter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from caravan.tokenize.corpus import Corpus


def run(config: TokenizeConfig, ctx: StageContext) -> dict[str, Any]:
    """Make the tokenizer, pack the corpus and measure fertility; finished files of a killed attempt are kept.

    Raises:
        DataError: the corpus has no text.
        ModelError: a tokenizer of the recipe cannot be loaded.
    """
    # Read by the tokenizers library when it first encodes; unset, it warns and falls back to one thread.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from caravan.tokenize.corpus import Corpus
    from caravan.tokenize.pack import load_fast, pack
    from caravan.tokenize.vocabulary import TOKENIZER_CONFIG, make_tokenizer

    corpus = Corpus(ctx.need("corpus").path, config.heldout)
    origin = config.existing or config.extend
    make_tokenizer(config, corpus, None if origin is None else ctx.located(origin), ctx.out)
    tokenizer = load_fast(ctx.out)
    end = _content(read_json(ctx.out / TOKENIZER_CONFIG)["eos_token"])
    tokens = pack(corpus, tokenizer, end, ctx.out / "packed")
    measured = _write_fertility(config, corpus, tokenizer, ctx)
    return {
        "vocabulary": tokenizer.get_vocab_size(),
        "tokens": sum(tokens.values()),
        "tokens_by_file": tokens,
        "bytes_per_token": {
            language: round(sizes["bytes"] / sizes["tokens"]["caravan"], 3) for language, sizes in measured.items()
        },
    }


def check(config: TokenizeConfig, ctx: StageContext) -> list[CaravanError]:
    """See that tokenizers which the recipe gives as a folder are there; hub names are not asked for."""
    faults: list[CaravanError] = []
    if config.chinese is not None:
        try:
            need_segmenter()
        except CaravanError as error:
            faults.append(error)
    for name in filter(None, [config.existing, config.extend, *config.compare]):
        path = Path(ctx.located(name))
        if path.is_dir() and not (path / "tokenizer.json").is_file():
            faults.append(
                ModelError(
                    "no tokenizer in this folder",
                    where=str(path),
                    expected="tokenizer.json",
                    got=", ".join(sorted(file.name for file in path.iterdir())[:8]) or "an empty folder",
                    fix="give a Hugging Face tokenizer folder or hub name",
                )
            )
    return faults


def _content(token: str | dict[str, Any]) -> str:
    """Text of a token in a tokenizer's settings."""
    return token if isinstance(token, str) else str(token["content"])


def _write_fertility(config: TokenizeConfig, corpus: Corpus, tokenizer: Tokenizer, ctx: StageContext) -> dict[str, Any]:
    """Measure and write `fertility.json`, `fertility.html` and the sizes of held-out text for bits per byte."""
    from caravan.tokenize.fertility import BYTES, OURS, counter, fertility, measure, page
    from caravan.tokenize.vocabulary import load_backend

    out, baseline = ctx.out, config.baseline or BYTES
    counters = {OURS: counter(tokenizer)} | {name: counter(load_backend(ctx.located(name))) for name in config.compare}
    measured = measure(corpus, counters)
    report = fertility(measured, baseline)
    heldout = {
        language: {name: sizes[name] for name in ("documents", "bytes", "characters")}
        for language, sizes in measured.items()
    }
    write_json(out / "packed" / "heldout.json", heldout)
    write_json(out / "fertility.json", report)
    write_text(out / "fertility.html", page(report, baseline))
    return measured
