"""How many tokens each language takes: of held-out text, beside bytes, characters and other tokenizers."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from caravan.tokenize.bpe import BYTE_PIECES, LETTERS
from caravan.tokenize.corpus import Corpus

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my"})
BYTES_OF = {letter: byte for byte, letter in LETTERS.items()}
OURS, BYTES, CHARACTERS = "caravan", "bytes", "characters"

# Tokens in some texts, and how many of them hold less than a character (or stand for an unknown one).
Counter = Callable[[list[str]], tuple[int, int]]


def counter(tokenizer: Tokenizer) -> Counter:
    """How a tokenizer counts; special tokens that stand in text are read as plain text."""
    tokenizer.encode_special_tokens = True
    below = below_a_character(tokenizer)

    def count(texts: list[str]) -> tuple[int, int]:
        found = [np.array(each.ids) for each in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        ids = np.concatenate([*found, np.zeros(0, np.int64)]).astype(np.int64)
        return len(ids), int(below[ids].sum())

    return count


def below_a_character(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """For each id whether it is a byte, part of the bytes of a character, or the unknown token."""
    raw = json.loads(tokenizer.to_str())
    model, added = raw["model"], {token["content"] for token in raw["added_tokens"]}
    unknown = model.get("unk_token") or (None if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0])
    bytes_inside = '"ByteLevel"' in json.dumps(raw["decoder"])
    vocabulary = tokenizer.get_vocab()
    below = np.zeros(max(vocabulary.values()) + 1, bool)
    for token, index in vocabulary.items():
        if token == unknown or token in BYTE_PIECES:
            below[index] = True
        elif bytes_inside and token not in added:
            below[index] = not _whole(bytes(BYTES_OF[letter] for letter in token if letter in BYTES_OF))
    return below


def _whole(text: bytes) -> bool:
    """Whether bytes are characters, none of them cut."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def measure(corpus: Corpus, counters: dict[str, Counter]) -> dict[str, dict[str, Any]]:
    """Size and tokens of each language's held-out documents.

    Args:
        counters: by name, how each tokenizer counts.

    Returns:
        by language: documents, bytes, characters, words (None where words are not spaced), tokens and byte_tokens by
        name.
    """
    report: dict[str, dict[str, Any]] = {}
    for language in corpus.languages:
        sizes = {"documents": 0, "bytes": 0, "characters": 0, "words": 0}
        tokens, below = dict.fromkeys(counters, 0), dict.fromkeys(counters, 0)
        for _, held in corpus.documents(language):
            sizes["documents"] += len(held)
            sizes["bytes"] += sum(len(text.encode()) for text in held)
            sizes["characters"] += sum(map(len, held))
            sizes["words"] += sum(len(text.split()) for text in held)
            for name, count in counters.items():
                found = count(held) if held else (0, 0)
                tokens[name] += found[0]
                below[name] += found[1]
        if sizes["documents"]:
            words = None if language in UNSPACED else sizes["words"]
            report[language] = {**sizes, "words": words, "tokens": tokens, "byte_tokens": below}
    return report


def rates(sizes: dict[str, Any], tokens: int) -> dict[str, float | None]:
    """Tokens for each byte, character and word, and bytes for each token, rounded."""
    units = {"byte": sizes["bytes"], "character": sizes["characters"], "word": sizes["words"]}
    per = {f"tokens_per_{unit}": round(tokens / size, 4) if size else None for unit, size in units.items()}
    return per | {"bytes_per_token": round(sizes["bytes"] / tokens, 4) if tokens else None}


def _share(part: int | None, whole: int) -> float | None:
    return round(part / whole, 4) if whole and part is not None else None


def fertility(measured: dict[str, dict[str, Any]], baseline: str = BYTES) -> dict[str, dict[str, Any]]:
    """The report: by language the sizes and, by tokenizer, the rates; bytes and characters are counted too.

    Args:
        baseline: name of a tokenizer, or `bytes` or `characters`; `relative` is tokens for each of its tokens.
    """
    report: dict[str, dict[str, Any]] = {}
    for language, sizes in measured.items():
        tokens = sizes["tokens"] | {BYTES: sizes["bytes"], CHARACTERS: sizes["characters"]}
        entries = {
            name: {**rates(sizes, count), "tokens": count, "relative": _share(count, tokens[baseline])}
            for name, count in tokens.items()
        }
        for name, figures in entries.items():
            figures["byte_share"] = _share(sizes["byte_tokens"].get(name), figures["tokens"])
        report[language] = {name: sizes[name] for name in ("documents", "bytes", "characters", "words")}
        report[language]["tokenizers"] = entries
    return report


def plot(report: dict[str, dict[str, Any]], figure: str, words: str, at: str) -> str:
    """A figure by language and tokenizer, as SVG; `at` names the tokenizer that is the line at 1."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name in next(iter(report.values()))["tokenizers"] if name not in (BYTES, at)]
    width = 0.8 / len(names)
    with mpl.rc_context({"svg.hashsalt": "caravan"}):
        drawn, axes = plt.subplots(figsize=(10, 4), layout="constrained")
        for place, name in enumerate(names):
            sizes = [entry["tokenizers"][name][figure] or 0 for entry in report.values()]
            axes.bar([index + place * width for index in range(len(report))], sizes, width, label=name)
        axes.axhline(1, color="gray", linewidth=0.8, label=at)
        axes.set_xticks([index + 0.4 - width / 2 for index in range(len(report))], list(report))
        axes.set_ylabel(words)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(names) + 1, frameon=False)
        buffer = io.StringIO()
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(drawn)
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


HEAD = """<!doctype html><html><head><meta charset="utf-8"><title>Fertility</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #223 }
table { border-collapse: collapse; width: 100% } td, th { padding: .2rem .6rem; border-bottom: 1px solid #e4e6ec }
th { color: #667 } td, th { text-align: right } td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left }
svg { width: 100% }
</style></head><body><h1>Tokens a language takes</h1>
<p>Held-out documents. Fewer tokens for the same text leave more room in the context and make text cheaper.</p>
"""


def page(report: dict[str, dict[str, Any]], baseline: str = BYTES) -> str:
    """The report as one HTML page with its plots."""
    columns = {
        "tokens": "tokens",
        "tokens_per_byte": "tokens per byte",
        "bytes_per_token": "bytes per token",
        "tokens_per_character": "tokens per character",
        "tokens_per_word": "tokens per word",
        "relative": f"tokens per token of {baseline}",
        "byte_share": "share of tokens below a character",
    }
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("language", "tokenizer", *columns.values()))
    rows = "".join(
        f"<tr><td>{html.escape(language)}</td><td>{html.escape(name)}</td>"
        + "".join(f"<td>{'' if figures[column] is None else figures[column]}</td>" for column in columns)
        + "</tr>"
        for language, entry in report.items()
        for name, figures in entry["tokenizers"].items()
    )
    drawing = "<p>No document was held out.</p>"
    if report:
        drawing = plot(report, "bytes_per_token", "bytes per token", BYTES)
        if baseline != BYTES:
            drawing += plot(report, "relative", f"tokens, {baseline} = 1", baseline)
    return f"{HEAD}{drawing}<table><tr>{head}</tr>{rows}</table></body></html>\n"
