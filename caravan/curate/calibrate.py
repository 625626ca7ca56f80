"""Limits of the rules by language from trusted text: all rules together drop the share of it that is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml
from annotated_types import Le
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from caravan import __version__
from caravan.core.errors import DataError
from caravan.core.files import write_text
from caravan.core.progress import track
from caravan.curate.features import Scale, measure
from caravan.curate.language import Identifier, LanguageStep
from caravan.curate.rules import COLUMNS, DIRECTIONS, MOST, RULES, bounds, scale
from caravan.curate.signatures import sign
from caravan.curate.tails import Tails, Values, cross_fitted, joint_probability
from caravan.curate.trusted import KILOBYTE, read_texts, shards_of
from caravan.recipe.calibration import Calibration
from caravan.recipe.curate import CurateConfig, LanguageRule, TextSource
from caravan.recipe.limits import RuleLimits

DIGITS = 3
COLUMNS_AT_ONCE = 5
GENERAL, BUILT_IN = RuleLimits().model_dump(), CurateConfig()
# That a text is long is no sign of junk, so that these are only widened.
SIZES = np.isin([rule.limit for rule in RULES], ["max_characters", "max_words", "max_line_characters"])
FIELDS = [RuleLimits.model_fields[rule.limit] for rule in RULES]
GREATEST = np.array([
    next((float(str(mark.le)) for mark in info.metadata if isinstance(mark, Le)), np.inf) for info in FIELDS
])  # fmt: skip
SHARES = GREATEST == 1


@dataclass
class Sample:
    """What the rules measure of texts that are drawn from all texts of a language; copies count once.

    Drawn are those whose hash is least, which is random, and the same for the same text.
    """

    most: int
    hashes: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    measured: Values = field(default_factory=lambda: np.empty((0, len(RULES))))

    def add(self, texts: pa.Array, scale: Scale) -> None:
        """Take texts of one language into account."""
        hashes, _ = sign(texts, [""] * len(texts), [1] * len(texts), bands=0, rows=0)
        drawn = np.flatnonzero(hashes <= self.hashes[-1]) if len(self.hashes) == self.most else np.arange(len(hashes))
        measured = measure(texts.take(pa.array(drawn)), np.zeros(len(drawn), np.int32), [scale])[:, COLUMNS]
        self.hashes, first = np.unique(np.concatenate([self.hashes, hashes[drawn]]), return_index=True)
        self.measured = np.concatenate([self.measured, measured])[first[: self.most]]
        self.hashes = self.hashes[: self.most]


class Proposal(NamedTuple):
    """Limits for one language.

    Attributes:
        documents: texts that they follow from.
        limits: as a recipe takes them.
        before, after: share of those texts that the built-in limits drop, and that these do.
    """

    language: str
    documents: int
    limits: dict[str, int | float]
    before: float
    after: float


def draw(sources: Sequence[TextSource], languages: Sequence[str], most: int) -> dict[str, Sample]:
    """Measure a sample of each language's trusted text, in one pass over all of it.

    Languages are identified where they are not known, and text that contradicts its language is left out, as in
    curation.

    Args:
        sources: where it is; paths start at the working folder.

    Raises:
        DataError: no file matches, or one cannot be read.
    """
    shards = shards_of(sources, languages)
    step = LanguageStep(Identifier(languages, LanguageRule()))
    scales = {name: scale(name, BUILT_IN.limits_of(name)) for name in languages}
    samples = {name: Sample(most) for name in languages}
    with track("read", sum(shard.size for shard in shards) // KILOBYTE, "kB") as bar:
        for shard in shards:
            for language, rows in read_texts(shard, step, languages):
                samples[language].add(rows["text"], scales[language])
            bar.advance(shard.size // KILOBYTE)
    return samples


def _outward(values: Values) -> Values:
    """Values so that greater is farther out [n, R], and counts, which span orders of magnitude, as logarithms."""
    return np.where(SHARES, values, np.log1p(values)) * DIRECTIONS


def _inward(values: Values) -> Values:
    """Limits [R] out of such values."""
    values = values * DIRECTIONS
    return np.where(SHARES, values, np.expm1(values))


def _rounded(value: float, info: FieldInfo, direction: int) -> int | float:
    """A limit that is good to read and no tighter, within what a recipe may say."""
    whole = info.annotation is int
    step = 1.0 if whole else 10.0 ** (math.floor(math.log10(max(abs(value), 1e-6))) + 1 - DIGITS)
    # What lies at the limit itself stays; a little is left for the error of the way there and back.
    steps = math.ceil(value / step - 1e-6) if direction == MOST else math.floor(value / step + 1e-6)
    return max(0, steps) if whole else round(max(0.0, steps * step), 9)


def propose(language: str, measured: Values, general: RuleLimits, config: Calibration) -> Proposal:
    """Limits that together drop a share `config.loss` of text like this.

    A limit whose feature few texts have, or that says how long a text may be, is as wide as the general one and as all
    of the text needs.

    Args:
        measured: the feature of each rule [n, R], in random order.
        general: limits that say where the tail of a feature may be expected that the text does not show.
    """
    values, limits = _outward(measured), _outward(bounds(general))
    few = SIZES | ((~np.isnan(measured)).sum(0) < config.least / 2)
    wide = np.fmax(limits, np.fmax.reduce(values, axis=0))
    fitted = values[:, ~few]
    scores = cross_fitted(fitted, limits[~few], config)
    wide[~few] = Tails.fit(fitted, limits[~few], config).limits(joint_probability(scores, config.loss))
    proposed = {
        rule.limit: _rounded(float(value), info, rule.direction)
        for rule, info, value in zip(RULES, FIELDS, np.minimum(_inward(wide), GREATEST), strict=True)
    }
    after = RuleLimits.model_validate({**general.model_dump(), **proposed})
    return Proposal(language, len(measured), proposed, lost(measured, general), lost(measured, after))


def propose_all(samples: Mapping[str, Sample], config: Calibration, *, every: bool = False) -> list[Proposal]:
    """Propose limits for each language with enough text.

    Args:
        every: a language with too little text is an error.

    Raises:
        DataError: there is too little text: in every language, or in one with `every`.
    """
    least = max(config.least, math.ceil(1 / config.loss) - 1)
    enough = {name: sample for name, sample in samples.items() if len(sample.hashes) >= least}
    if len(enough) < (len(samples) if every else 1):
        found = ", ".join(f"{name} {len(sample.hashes)}" for name, sample in samples.items() if name not in enough)
        raise DataError(
            "there is too little text to calibrate with",
            expected=f"{least} different texts in {'each' if every else 'a'} language, for a loss of {config.loss:g}",
            got=found,
            fix="name more text, the right column and languages, or a greater loss",
        )
    return [propose(name, sample.measured, BUILT_IN.limits_of(name), config) for name, sample in enough.items()]


def lost(measured: Values, limits: RuleLimits) -> float:
    """Share of texts that limits drop."""
    return float(((measured - bounds(limits)) * DIRECTIONS > 0).any(1).mean())


def write_limits(proposals: Sequence[Proposal], config: Calibration, output: Path) -> None:
    """Write what `curate.limits` of a recipe takes."""
    head = f"# caravan curate calibrate ({__version__}): limits that drop {config.loss:.2%} of trusted text together\n"
    parts = [
        f"# {proposal.documents} texts: these limits drop {proposal.after:.2%}, general ones {proposal.before:.2%}\n"
        + yaml.safe_dump({proposal.language: proposal.limits}, sort_keys=False)
        for proposal in proposals
    ]
    write_text(output, head + "\n".join(parts))


def show(proposals: Sequence[Proposal], out: Console) -> None:
    """Print the limits, of some languages beside each other."""
    for start in range(0, len(proposals), COLUMNS_AT_ONCE):
        some = proposals[start : start + COLUMNS_AT_ONCE]
        table = Table(pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("limit", no_wrap=True)
        for name in ("general", *(proposal.language for proposal in some)):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_row("texts", "", *(str(proposal.documents) for proposal in some))
        table.add_row("dropped by general limits", "", *(f"{proposal.before:.2%}" for proposal in some))
        table.add_row("dropped by these", "", *(f"{proposal.after:.2%}" for proposal in some), end_section=True)
        for rule in RULES:
            limits = (str(proposal.limits[rule.limit]) for proposal in some)
            table.add_row(rule.limit, str(GENERAL[rule.limit]), *limits)
        out.print(table, "")
