"""Pretraining sequences: packed languages and parallel pairs, mixed by the curriculum and planned for the whole run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from caravan.core.errors import DataError
from caravan.recipe.train import MixtureConfig, PretrainConfig, ReplayConfig
from caravan.text.indexed import IndexedDataset
from caravan.text.tokens import END_OF_TEXT
from caravan.train.mix import Ints, Mixture, hashed
from caravan.train.pack import Plan, assemble, pack, padded, steps_for

PAIR = "pair-"
# Each is said before the source, between source and target, and nothing after; {a} and {b} are the languages' codes.
PAIR_TEMPLATES = (("", "\n"), ("", "\n({b})\n"), ("({a})\n", "\n({b})\n"))


class Source(Protocol):
    """Documents of one kind."""

    name: str

    def __len__(self) -> int: ...

    def lengths(self, document_N: Ints, position_N: Ints) -> Ints:
        """Tokens of documents as they are rendered at these positions of the run."""

    def ids(self, document: int, position: int) -> NDArray[np.integer]:
        """The tokens of one document, rendered for its position."""


class Language:
    """Monolingual documents, as they are stored."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.data = IndexedDataset(path)

    def __len__(self) -> int:
        return len(self.data)

    def lengths(self, document_N: Ints, position_N: Ints) -> Ints:
        length_N: Ints = self.data.lengths[document_N].astype(np.int64)
        return length_N

    def ids(self, document: int, position: int) -> NDArray[np.integer]:
        return self.data[document]


class Pairs:
    """Parallel pairs, stored as source (even) and target (odd); direction and template follow from the position."""

    def __init__(self, path: Path, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self.name = path.stem
        self.seed = seed
        self.data = IndexedDataset(path)
        first, second = self.name.removeprefix(PAIR).split("-")
        self.end = tokenizer.get_vocab()[END_OF_TEXT]
        self.said: list[list[NDArray[np.int64]]] = []
        for a, b in ((first, second), (second, first)):
            for template in PAIR_TEMPLATES:
                texts = [text.format(a=a, b=b) for text in template]
                self.said.append(
                    [np.array(tokenizer(text, add_special_tokens=False)["input_ids"], np.int64) for text in texts]
                )

    def __len__(self) -> int:
        return len(self.data) // 2

    def form(self, position_N: Ints) -> Ints:
        """Which direction and template a pair takes at each position; the second half of `said` is backwards."""
        form_N: Ints = (hashed(self.seed, 1, position_N) % np.uint64(len(self.said))).astype(np.int64)
        return form_N

    def lengths(self, document_N: Ints, position_N: Ints) -> Ints:
        overhead = np.array([sum(map(len, said)) + 1 for said in self.said])
        pairs = self.data.lengths[2 * document_N].astype(np.int64) + self.data.lengths[2 * document_N + 1]
        length_N: Ints = pairs + overhead[self.form(position_N)]
        return length_N

    def ids(self, document: int, position: int) -> NDArray[np.integer]:
        form = int(self.form(np.array([position]))[0])
        before, between = self.said[form]
        first, second = self.data[2 * document], self.data[2 * document + 1]
        if form >= len(self.said) // 2:
            first, second = second, first
        return np.concatenate([before, first, between, second, [self.end]]).astype(np.int64)


def open_sources(folder: Path, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[Source]:
    """Every packed language and pair of a tokenizer artifact that has documents.

    Raises:
        DataError: there are none.
    """
    sources: list[Source] = []
    for file in sorted(folder.glob("*.idx")):
        path = file.with_suffix("")
        source = Pairs(path, tokenizer, seed) if path.name.startswith(PAIR) else Language(path)
        if len(source):
            sources.append(source)
    if not sources:
        raise DataError(
            "nothing to train on",
            where=str(folder),
            expected="packed tokens, NAME.bin and NAME.idx",
            got="none with documents",
            fix="run curate and tokenize on data that passes the filters",
        )
    return sources


def shares_with(mixture: MixtureConfig, replay: ReplayConfig | None, tokens: Mapping[str, int]) -> dict[str, float]:
    """`token_shares` of the mixture for what is not replayed, beside the fixed share of what is.

    Raises:
        DataError: a weight, or replay, for a language without packed tokens; or nothing but what is replayed.
    """
    if replay is None:
        return token_shares(mixture, tokens)
    _check_known(replay.languages, tokens)
    known = {name: tokens[name] ** mixture.alpha for name in replay.languages}
    rest = {name: count for name, count in tokens.items() if name not in known}
    if not rest:
        raise DataError("every language is replayed", expected="languages beside them", got=", ".join(tokens))
    shares = {name: share * (1 - replay.share) for name, share in token_shares(mixture, rest).items()}
    return shares | _divide(replay.share, list(known), known)


def token_shares(mixture: MixtureConfig, tokens: Mapping[str, int]) -> dict[str, float]:
    """Share of each source in the training tokens; they add to 1.

    Args:
        tokens: how many tokens each source holds.

    Raises:
        DataError: a weight for a language without packed tokens.
    """
    _check_known(mixture.weights, tokens)
    damped = {name: count**mixture.alpha for name, count in tokens.items()}
    named = dict(mixture.weights)
    rest = [name for name in tokens if name not in named and not name.startswith(PAIR)]
    pairs = [name for name in tokens if name.startswith(PAIR)]
    languages = _divide(max(0.0, 1.0 - sum(named.values())), rest, damped)
    shares = {**named, **languages}
    scale = sum(shares.values())
    for_pairs = mixture.pairs if pairs and scale else float(bool(pairs))
    shares = {name: share / scale * (1 - for_pairs) for name, share in shares.items() if scale}
    return shares | _divide(for_pairs, pairs, damped)


def _check_known(names: Iterable[str], tokens: Mapping[str, int]) -> None:
    if unknown := [name for name in names if name not in tokens]:
        raise DataError(
            "weight for a language without data",
            expected=", ".join(name for name in tokens if not name.startswith(PAIR)),
            got=", ".join(sorted(unknown)),
            fix="remove it from the weights, or give documents in that language",
        )


def _divide(total: float, names: Sequence[str], by: Mapping[str, float]) -> dict[str, float]:
    whole = sum(by[name] for name in names)
    return {name: total * by[name] / whole for name in names}


@dataclass(frozen=True)
class TextRows:
    """The sequences of a pretraining run; `drawn` is the source and the document at each of its positions."""

    sources: Sequence[Source]
    drawn: tuple[Ints, Ints]
    plan: Plan
    rows: int
    pad: int

    @property
    def tokens(self) -> Ints:
        return padded(self.plan.tokens, self.rows)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Ints]:
        pieces = []
        source_N, document_N = self.drawn
        for position, start, size in self.plan.pieces(row):
            ids = self.sources[source_N[position]].ids(int(document_N[position]), position)
            pieces.append((ids[start : start + size], None))
        return assemble(pieces, self.plan.length, self.pad)

    def shares(self) -> dict[str, float]:
        """Share of each language, and of all parallel pairs together, in the tokens that are trained on."""
        tokens = np.bincount(self.drawn[0][self.plan.documents], self.plan.sizes, len(self.sources))
        shares: dict[str, float] = {}
        for source, count in zip(self.sources, tokens / tokens.sum(), strict=True):
            name = "pairs" if source.name.startswith(PAIR) else source.name
            shares[name] = round(shares.get(name, 0.0) + float(count), 6)
        return shares


def plan_text(
    sources: Sequence[Source], config: PretrainConfig, seed: int, pad: int, *, alone: bool = False
) -> TextRows:
    """Plan a whole pretraining run: which document, rendered how, stands where in which sequence.

    With `alone`, each document has sequences of its own.
    """
    everything = [np.arange(len(source)) for source in sources]
    totals = {s.name: int(s.lengths(all_, all_).sum()) for s, all_ in zip(sources, everything, strict=True)}
    mean_S = np.array([totals[source.name] / len(source) for source in sources])
    # The mixture draws documents: a source of long documents needs fewer for the same share of the tokens.
    start, end = (
        tuple((np.array([shares.get(source.name, 0.0) for source in sources]) / mean_S).tolist())
        for shares in (shares_with(mixture, config.replay, totals) for mixture in (config.start, config.end))
    )
    wanted = None if config.steps is None else config.steps * config.batch
    tokens = config.epochs * sum(totals.values()) if wanted is None else wanted * config.length
    per_document = np.mean([np.dot(weights, mean_S) / sum(weights) for weights in (start, end)])
    sizes = tuple(len(source) for source in sources)
    positions = int(np.ceil(tokens / per_document))
    if alone and wanted is not None:
        positions = int(np.ceil(wanted / max(1.0, per_document / config.length)))
    mixture = Mixture(sizes, start, end, positions, config.change_from, config.change_to, seed)
    while True:
        drawn = mixture.draw(0, positions)
        plan = pack(_lengths(sources, *drawn), config.length, split=True, rows=wanted, alone=alone)
        if wanted is None or len(plan) >= wanted:
            break
        positions += positions // 8 + 64
    return TextRows(sources, drawn, plan, steps_for(len(plan), config.batch) * config.batch, pad)


def _lengths(sources: Sequence[Source], source_N: Ints, document_N: Ints) -> Ints:
    length_N = np.zeros(len(source_N), np.int64)
    for index, source in enumerate(sources):
        here = np.flatnonzero(source_N == index)
        length_N[here] = source.lengths(document_N[here], here)
    return length_N
