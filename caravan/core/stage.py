"""What a stage is given."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caravan.core.artifact import Artifact
from caravan.core.errors import ArtifactError, DataError


@dataclass(frozen=True)
class StageContext:
    """Where a stage works and what it reads.

    Attributes:
        out: the working folder; it becomes the artifact when the runner writes its manifest.
        inputs: artifacts by kind (`corpus`, `tokenizer`, `model`, `dialogues`, `encoders`, `gguf`).
        base: data paths of the recipe are relative to this folder.
        seed: the run's seed.
        languages: the run's languages, ISO 639-1.
    """

    out: Path
    inputs: Mapping[str, Artifact]
    base: Path
    seed: int
    languages: tuple[str, ...]
    name: str = field(default="")

    def need(self, kind: str) -> Artifact:
        """The input of this kind.

        Raises:
            ArtifactError: no earlier stage made one and the recipe names none.
        """
        if kind not in self.inputs:
            raise ArtifactError(
                f"{self.name or 'this stage'} has no {kind} to read",
                expected=f"an earlier stage of the recipe that writes {kind}",
                got=f"inputs: {', '.join(sorted(self.inputs)) or 'none'}",
                fix=f"add that stage to the recipe, or name a finished one under `inputs: {{{kind}: path}}`",
            )
        return self.inputs[kind]

    def located(self, name: str) -> str:
        """A folder, relative to the recipe's data if there is one, else the name as it is: of a hub."""
        for folder in (self.base / Path(name).expanduser(), Path(name).expanduser()):
            if folder.is_dir():
                return str(folder)
        return name

    def resolve(self, pattern: str) -> list[Path]:
        """Files that a path or glob of the recipe names, sorted.

        Raises:
            DataError: nothing matches.
        """
        found = self.matches(pattern)
        if not found:
            raise DataError(
                "no file matches",
                where=self.full(pattern),
                expected="at least one file",
                got="none",
                fix="correct the path, or give the data folder on the command line: data=FOLDER",
            )
        return found

    def matches(self, pattern: str) -> list[Path]:
        """Files that a path or glob of the recipe names, sorted; none if there is none."""
        return sorted(Path(name) for name in glob.glob(self.full(pattern), recursive=True))

    def full(self, pattern: str) -> str:
        """The pattern below the data folder, unless it stands by itself."""
        return str(self.base / Path(pattern).expanduser())
