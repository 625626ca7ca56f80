"""How many tokens each language takes: of held-out text, beside bytes, characters and other tokenizers."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import Any

from caravan.tokenize.corpus import Corpus

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my"})
OURS, BYTES, CHARACTERS = "caravan", "bytes", "characters"

# Number of tokens in each of some texts.
Counter = Callable[[list[str]], int]


def measure(corpus: Corpus, counters: dict[str, Counter]) -> dict[str, dict[str, Any]]:
    """Size and tokens of each language's held-out documents.

    Args:
        counters: by name, how each tokenizer counts.

    Returns:
        by language: documents, bytes, characters, words (None where words are not spaced), and tokens by name.
    """
    report: dict[str, dict[str, Any]] = {}
    for language in corpus.languages:
        sizes = {"documents": 0, "bytes": 0, "characters": 0, "words": 0}
        tokens = dict.fromkeys(counters, 0)
        for _, held in corpus.documents(language):
            sizes["documents"] += len(held)
            sizes["bytes"] += sum(len(text.encode()) for text in held)
            sizes["characters"] += sum(map(len, held))
            sizes["words"] += sum(len(text.split()) for text in held)
            for name, count in counters.items():
                tokens[name] += count(held) if held else 0
        if sizes["documents"]:
            words = None if language in UNSPACED else sizes["words"]
            report[language] = {**sizes, "words": words, "tokens": tokens}
    return report


def rates(sizes: dict[str, Any], tokens: int) -> dict[str, float | None]:
    """Tokens for each byte, character and word, rounded."""
    units = {"byte": sizes["bytes"], "character": sizes["characters"], "word": sizes["words"]}
    return {f"tokens_per_{unit}": round(tokens / size, 4) if size else None for unit, size in units.items()}


def fertility(measured: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The report: by language the sizes and, by tokenizer, the rates; bytes and characters are the baselines."""
    return {
        language: {
            **{name: sizes[name] for name in ("documents", "bytes", "characters", "words")},
            "tokenizers": {
                name: {"tokens": tokens, **rates(sizes, tokens)}
                for name, tokens in {
                    **sizes["tokens"],
                    BYTES: sizes["bytes"],
                    CHARACTERS: sizes["characters"],
                }.items()
            },
        }
        for language, sizes in measured.items()
    }


def plot(report: dict[str, dict[str, Any]]) -> str:
    """Bytes of text for each token, by language and tokenizer, as SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name in next(iter(report.values()))["tokenizers"] if name != BYTES]
    width = 0.8 / len(names)
    with mpl.rc_context({"svg.hashsalt": "caravan"}):
        figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
        for place, name in enumerate(names):
            sizes = [1 / entry["tokenizers"][name]["tokens_per_byte"] for entry in report.values()]
            axes.bar([index + place * width for index in range(len(report))], sizes, width, label=name)
        axes.axhline(1, color="gray", linewidth=0.8, label=BYTES)
        axes.set_xticks([index + 0.4 - width / 2 for index in range(len(report))], list(report))
        axes.set_ylabel("bytes per token")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(names) + 1, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


HEAD = """<!doctype html><html><head><meta charset="utf-8"><title>Fertility</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #223 }
table { border-collapse: collapse; width: 100% } td, th { padding: .2rem .6rem; border-bottom: 1px solid #e4e6ec }
th { color: #667 } td, th { text-align: right } td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left }
svg { width: 100% }
</style></head><body><h1>Tokens a language takes</h1>
<p>Held-out documents. Fewer tokens for the same text leave more room in the context and make text cheaper.</p>
"""


def page(report: dict[str, dict[str, Any]]) -> str:
    """The report as one HTML page with its plot."""
    columns = ("tokens", "tokens_per_byte", "tokens_per_character", "tokens_per_word")
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("language", "tokenizer", *columns))
    rows = "".join(
        f"<tr><td>{html.escape(language)}</td><td>{html.escape(name)}</td>"
        + "".join(f"<td>{'' if figures[column] is None else figures[column]}</td>" for column in columns)
        + "</tr>"
        for language, entry in report.items()
        for name, figures in entry["tokenizers"].items()
    )
    drawing = plot(report) if report else "<p>No document was held out.</p>"
    return f"{HEAD}{drawing}<table><tr>{head}</tr>{rows}</table></body></html>\n"
