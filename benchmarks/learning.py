"""Does it learn: the curriculum, parallel data, an extended vocabulary and replay, each with and without, on real text.

    OMP_NUM_THREADS=1 python benchmarks/learning.py DATA [extension] [curriculum] [pairs] [--steps 120] [--out FOLDER]

DATA holds `text/LANGUAGE.parquet` and `parallel/tatoeba_en_xx.parquet`; of each language 600,000 bytes are taken, every
so-manyth row. Every arm is a run of the road with the same seed and as many tokens as the others of its question; done
stages are skipped, so a killed benchmark goes on. Bits per byte are those of held-out documents. Translations: of ten
sentences that nobody trained on, the one that the model finds likeliest after the English one and the template of pairs
(less what it finds without the English one), and the one whose mean hidden state is nearest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.artifact import Artifact
from caravan.core.files import read_json, write_json
from caravan.evaluate.bits import measure
from caravan.recipe.recipe import Recipe
from caravan.road import Walk
from caravan.text.chat import load_tokenizer

CANDIDATES, MEASURED_BYTES, LENGTH = 10, 12_000, 128
ENGLISH_AND_MORE = ["en", "zh", "ru", "de", "th", "vi", "he"]
Figures = dict[str, dict[str, float]]


def walked(given: argparse.Namespace, name: str, languages: Sequence[str], stages: dict[str, Any]) -> Path:
    """The folder of a run, made unless it is there."""
    out = given.out / name
    recipe = Recipe.model_validate(
        {"name": name, "data": str(given.out / "data"), "output": str(out), "languages": list(languages), **stages}
    )
    for result in Walk(recipe).run():
        print(f"{name} {result.stage.name}: {result.seconds:.0f} s", flush=True)
    return out


def taken(given: argparse.Namespace) -> None:
    """A little of every language, and of the pairs with English."""
    out = given.out / "data"
    for language in ENGLISH_AND_MORE:
        rows = pq.read_table(given.data / f"text/{language}.parquet", columns=["text"])
        every = max(1, sum(len(text.encode()) for text in rows["text"].to_pylist()) // given.bytes)
        out.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.take(list(range(0, len(rows), every))), out / f"{language}.parquet")
    pairs = pq.read_table(given.data / "parallel/tatoeba_en_xx.parquet")
    pq.write_table(pairs.filter(pc.field("lang") == "de"), out / "pairs.parquet")


def corpus(pairs: bool = False) -> dict[str, Any]:
    sources: list[dict[str, Any]] = [{"path": "{language}.parquet"}]
    if pairs:
        columns = {"columns": {"en": "en", "xx": "xx"}, "language_column": "lang"}
        sources.append({"pairs": "pairs.parquet", **columns})
    return {"curate": {"sources": sources}, "tokenize": {"vocab_size": 2048, "heldout": 0.04}}


def pretrain(given: argparse.Namespace, **changed: Any) -> dict[str, Any]:
    shape = {"hidden_size": 128, "layers": 3, "heads": 4}
    batch = {"batch": 16, "micro_batch": 16, "length": LENGTH, "steps": given.steps}
    return {"model": shape, **batch, "optimizer": "muon", "tracker": "none", **changed}


def bits(run: Path, tokenizer: Path, languages: Sequence[str]) -> dict[str, float]:
    model = AutoModelForCausalLM.from_pretrained(run / "pretrain").eval()
    own = load_tokenizer(run / "pretrain")
    heldout = Artifact.open(tokenizer, "tokenizer")
    return measure(model, own, heldout, languages, most_bytes=MEASURED_BYTES, length=LENGTH)


def curriculum(given: argparse.Namespace) -> Figures:
    """English 70 % throughout, from 70 to 40 % (PolyLM's), and 55 % throughout, which is as much English in all."""
    languages = ENGLISH_AND_MORE
    data = walked(given, "curriculum-data", languages, corpus())
    arms = {"70 % throughout": (0.7, 0.7), "70 to 40 %": (0.7, 0.4), "55 % throughout": (0.55, 0.55)}
    found = {}
    for name, (first, last) in arms.items():
        ends = {"start": {"weights": {"en": first}}, "end": {"weights": {"en": last}}}
        stages = {"inputs": {"tokenizer": str(data / "tokenize")}, "pretrain": pretrain(given, **ends)}
        run = walked(given, f"curriculum-{round(first * 100)}-{round(last * 100)}", languages, stages)
        found[name] = bits(run, data / "tokenize", languages)
    return found


def pairs(given: argparse.Namespace) -> Figures:
    """A fifth of the tokens parallel (Tatoeba), and none."""
    languages = ["en", "de"]
    data = walked(given, "pairs-data", languages, corpus(pairs=True))
    found = {}
    for share in (0.2, 0.0):
        ends = {"start": {"pairs": share}, "end": {"pairs": share}}
        stages = {"inputs": {"tokenizer": str(data / "tokenize")}, "pretrain": pretrain(given, **ends)}
        run = walked(given, f"pairs-{share}", languages, stages)
        model = AutoModelForCausalLM.from_pretrained(run / "pretrain").eval()
        figures = {f"bits {key}": value for key, value in bits(run, data / "tokenize", languages).items()}
        for language in languages[1:]:
            figures |= translations(model, load_tokenizer(run / "pretrain"), given.data, language)
        found[f"{share:.0%} parallel"] = figures
    return found


def translations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Path, language: str, count: int = 150
) -> dict[str, float]:
    """Share of English sentences whose translation is the likeliest, or nearest, of ten; chance is 0.1.

    The sentences are LASER's test of Tatoeba, without those that the training pairs hold.
    """
    seen = set(pq.read_table(data / "parallel/tatoeba_en_xx.parquet")["en"].to_pylist())
    rows = pq.read_table(data / "parallel/tatoeba_laser_test.parquet").to_pylist()
    rows = [row for row in rows if row["lang"] == language and row["en"] not in seen][:count]
    likeliest = nearest = 0
    for block in (rows[first : first + CANDIDATES] for first in range(0, len(rows) - CANDIDATES + 1, CANDIDATES)):
        english, other = ([row[key] for row in block] for key in ("en", "xx"))
        source, target = states(model, tokenizer, english), states(model, tokenizer, other)
        alike = torch.nn.functional.normalize(source) @ torch.nn.functional.normalize(target).T
        nearest += int((alike.argmax(1) == torch.arange(len(block))).sum())
        for index, sentence in enumerate(english):
            scores = likelihoods(model, tokenizer, f"(en)\n{sentence}\n({language})\n", other)
            alone = likelihoods(model, tokenizer, f"(en)\n\n({language})\n", other)
            likeliest += int((scores - alone).argmax() == index)
    asked = len(rows) // CANDIDATES * CANDIDATES
    return {f"likeliest {language}": likeliest / asked, f"nearest {language}": nearest / asked}


@torch.inference_mode()
def states(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> torch.Tensor:
    """Mean hidden state of each text in the middle of the model, less the mean of all."""
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        layers = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        found.append(layers[len(layers) // 2][0].mean(0))
    stacked = torch.stack(found)
    return stacked - stacked.mean(0)


@torch.inference_mode()
def likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, before: str, texts: Sequence[str]
) -> torch.Tensor:
    """Log-probability of each text after what stands before it."""
    first = tokenizer(before, add_special_tokens=False)["input_ids"]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([first + row + [0] * (longest - len(row)) for row in rows])
    logits = model(input_ids=ids, use_cache=False).logits[:, len(first) - 1 : -1].float().log_softmax(-1)
    each = logits.gather(-1, ids[:, len(first) :, None])[..., 0]
    return torch.stack([line[: len(row)].sum() for line, row in zip(each, rows, strict=True)])


def extension(given: argparse.Namespace) -> Figures:
    """English and Chinese, gone on with in Thai, Hebrew and Vietnamese: new tokens or none, the old replayed or not."""
    known, new = ["en", "zh"], ["th", "he", "vi"]
    base = walked(given, "base", known, {**corpus(), "pretrain": pretrain(given)})
    model = str((base / "pretrain").resolve())
    found = {"before": {"bits en": bits(base, base / "tokenize", known)["en"]}}
    everything = walked(given, "new-corpus", [*known, *new], {"curate": corpus()["curate"]})
    for vocabulary, own in (("extended", {"extend": model, "new_pieces": 1500}), ("own", {"existing": model})):
        tokenize = {"tokenize": {**own, "heldout": 0.04, "baseline": "characters"}}
        inputs = {"inputs": {"corpus": str(everything / "curate")}}
        data = walked(given, f"{vocabulary}-data", [*known, *new], {**inputs, **tokenize})
        fertility = read_json(data / "tokenize" / "fertility.json")
        for replay in (None, {"languages": known, "share": 0.2}):
            weights = {"weights": dict.fromkeys(new, 1.0) | ({} if replay else dict.fromkeys(known, 0.0))}
            options = {"from": model, "replay": replay, "start": weights, "end": weights, "learning_rate": 1e-3}
            stages = {"inputs": {"tokenizer": str(data / "tokenize")}, "pretrain": pretrain(given, **options)}
            run = walked(given, f"{vocabulary}-{'replay' if replay else 'alone'}", [*known, *new], stages)
            figures = bits(run, data / "tokenize", [*known, *new])
            found[f"{vocabulary}, {'a fifth replayed' if replay else 'no replay'}"] = {
                **{f"bits {key}": value for key, value in figures.items()},
                **{f"tokens/char {key}": fertility[key]["tokenizers"]["caravan"]["relative"] for key in new},
            }
    return found


QUESTIONS = {"extension": extension, "curriculum": curriculum, "pairs": pairs}


def tables(found: dict[str, Figures]) -> Iterator[Table]:
    for question, arms in found.items():
        columns = list(dict.fromkeys(key for figures in arms.values() for key in figures))
        table = Table("", *columns, title=question)
        for name, figures in arms.items():
            table.add_row(name, *(f"{figures[key]:.3f}" if key in figures else "" for key in columns))
        yield table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("questions", nargs="*", default=list(QUESTIONS), help=" | ".join(QUESTIONS))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--bytes", type=int, default=600_000, help="of each language")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    given = parser.parse_args()
    given.data = given.data.resolve()
    torch.set_num_threads(1)
    taken(given)
    found: dict[str, Figures] = {}
    for question in given.questions:
        found[question] = QUESTIONS[question](given)
        write_json(given.out / f"{question}.json", found[question])
    for table in tables(found):
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
