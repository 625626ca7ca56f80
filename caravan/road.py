"""The road: every stage in order, what it reads and writes, and how a run walks it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from caravan import __version__
from caravan.core.artifact import Artifact, locked, make_artifact
from caravan.core.errors import ArtifactError, CaravanError, UsageError
from caravan.core.files import sha256_obj, write_text
from caravan.core.log import get_logger
from caravan.core.stage import StageContext
from caravan.recipe.recipe import Recipe

log = get_logger(__name__)


@dataclass(frozen=True)
class Stage:
    """A stretch of the road.

    Attributes:
        reads: kinds of artifact it needs; `wants`: kinds it uses when there are some.
        writes: kind of artifact it makes.
        door: module with `run` and `check`, named by suffix where a family has several stages.
    """

    name: str
    reads: tuple[str, ...]
    wants: tuple[str, ...]
    writes: str
    door: str
    words: str

    def function(self, verb: str) -> Callable[..., Any]:
        """`run` or `check` of this stage; imports its door, which leaves torch alone."""
        module, _, suffix = self.door.partition(":")
        return getattr(importlib.import_module(module), f"{verb}_{suffix}" if suffix else verb)


ROAD = (
    Stage("curate", (), (), "corpus", "caravan.curate.stage", "raw text to clean text by language"),
    Stage("tokenize", ("corpus",), (), "tokenizer", "caravan.tokenize.stage", "tokenizer and packed tokens"),
    Stage("pretrain", ("tokenizer",), (), "model", "caravan.train.stage:pretrain", "base language model"),
    Stage("instruct", (), (), "dialogues", "caravan.instruct.stage", "dialogues of text, speech and pictures"),
    Stage("encoders", (), ("dialogues",), "encoders", "caravan.train.stage:encoders", "speech and vision encoders"),
    Stage(
        "align", ("model", "dialogues"), ("encoders",), "model", "caravan.train.stage:align", "ears and eyes attached"
    ),
    Stage("sft", ("model", "dialogues"), ("encoders",), "model", "caravan.train.stage:sft", "assistant"),
    Stage("export", ("model",), ("dialogues",), "gguf", "caravan.export.stage", "GGUF and mmproj, verified"),
    Stage(
        "evaluate",
        ("model", "dialogues"),
        ("tokenizer", "gguf"),
        "report",
        "caravan.evaluate.stage",
        "held-out quality",
    ),
)


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages that a recipe names, in the road's order."""
    return [stage for stage in ROAD if getattr(recipe, stage.name) is not None]


def run_folder(recipe: Recipe) -> Path:
    """Where a recipe's artifacts go."""
    return Path(recipe.output or Path("runs") / recipe.name)


@dataclass(frozen=True)
class Result:
    """What came of one stage in a run."""

    stage: Stage
    artifact: Artifact
    seconds: float
    fresh: bool


class Walk:
    """One run of a recipe through its stages."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.folder = run_folder(recipe)
        self.stages = stages_of(recipe)

    def run(self, names: Sequence[str] = ()) -> Iterator[Result]:
        """Run the named stages (all without names), skipping what is up to date and resuming what is unfinished.

        Raises:
            UsageError: a name that the recipe does not have.
            LockedError: another run is at work in the folder.
            CaravanError: whatever a stage raises.
        """
        chosen = self.choose(names)
        with locked(self.folder):
            for stage in chosen:
                yield self._run_stage(stage)

    def choose(self, names: Sequence[str]) -> list[Stage]:
        """The stages of these names, in the road's order."""
        own = [stage.name for stage in self.stages]
        for name in names:
            if name not in own:
                raise UsageError(
                    f"the recipe has no stage {name}",
                    expected=" | ".join(own),
                    got=name,
                    fix=f"add `{name}:` to the recipe, or leave it out",
                )
        return [stage for stage in self.stages if not names or stage.name in names]

    def inputs(self, stage: Stage) -> dict[str, Artifact]:
        """What a stage reads: by kind the latest earlier stage's artifact, else the recipe's `inputs`.

        Raises:
            ArtifactError: an input is unfinished, or there is none of a kind that the stage needs.
        """
        earlier = self.stages[: self.stages.index(stage)] if stage in self.stages else self.stages
        found: dict[str, Artifact] = {}
        replaced = getattr(self.recipe, stage.name).replaces() if stage in self.stages else ()
        for kind in (kind for kind in (*stage.reads, *stage.wants) if kind not in replaced):
            makers = [other for other in earlier if other.writes == kind]
            if makers:
                found[kind] = Artifact.open(self.folder / makers[-1].name, kind)
            elif kind in self.recipe.inputs:
                found[kind] = Artifact.open(Path(self.recipe.inputs[kind]), kind)
            elif kind in stage.reads:
                raise ArtifactError(
                    f"{stage.name} has no {kind} to read",
                    expected=f"an earlier stage that writes {kind}, or `inputs: {{{kind}: FOLDER}}` in the recipe",
                    got=f"stages {', '.join(other.name for other in earlier) or 'none'}",
                    fix=f"add {next((s.name for s in ROAD if s.writes == kind), kind)} to the recipe",
                )
        named = getattr(self.recipe, stage.name).artifacts() if stage in self.stages else {}
        located = self.context(stage, {}, self.folder).located
        return found | {kind: Artifact.open(Path(located(path)), kind) for kind, path in named.items()}

    def context(self, stage: Stage, inputs: dict[str, Artifact], out: Path) -> StageContext:
        """What the stage is given."""
        return StageContext(
            out=out,
            inputs=inputs,
            base=Path(self.recipe.data),
            seed=self.recipe.seed,
            languages=tuple(self.recipe.languages),
            name=stage.name,
        )

    def _run_stage(self, stage: Stage) -> Result:
        config = getattr(self.recipe, stage.name)
        inputs = self.inputs(stage)
        parents = {kind: artifact.manifest.key for kind, artifact in inputs.items()}
        section = config.model_dump(mode="json", by_alias=True)
        basis = {"data": self.recipe.data, "seed": self.recipe.seed, "languages": self.recipe.languages}
        key = sha256_obj(
            {"stage": stage.name, "version": __version__, "config": config.basis(), "parents": parents, **basis}
        )

        def make(work: Path) -> dict[str, Any]:
            write_text(work / "recipe.yaml", resolved(self.recipe))
            log.info("%s: %s", stage.name, stage.words)
            counts: dict[str, Any] = stage.function("run")(config, self.context(stage, inputs, work))
            return counts

        artifact, fresh = make_artifact(
            self.folder / stage.name,
            key,
            kind=stage.writes,
            stage=stage.name,
            parents=parents,
            recipe={**basis, stage.name: section},
            make=make,
        )
        return Result(stage, artifact, artifact.manifest.seconds, fresh)


def walked(recipe: Recipe, names: Sequence[str] = ()) -> Iterator[Result]:
    """`Walk.run`; of processes that torchrun starts together, the first walks, and the others train with it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield from Walk(recipe).run(names)
        return
    from caravan.train.processes import crew

    with crew():
        yield from Walk(recipe).run(names)


def resolved(recipe: Recipe) -> str:
    """The recipe with every default written out: a run from it gives the same artifacts."""
    sections = recipe.model_dump(mode="json", by_alias=True)
    # A stage without a value runs on its defaults, so one that is left out must not be there; below, null is a choice.
    named = {name: section for name, section in sections.items() if section is not None}
    return yaml.safe_dump(named, sort_keys=False, allow_unicode=True)


def check(recipe: Recipe) -> list[CaravanError]:
    """Look at a sample of every data set that the recipe names; nothing is run."""
    walk = Walk(recipe)
    faults: list[CaravanError] = []
    for stage in walk.stages:
        context = walk.context(stage, {}, walk.folder / stage.name)
        faults += stage.function("check")(getattr(recipe, stage.name), context)
    return faults
