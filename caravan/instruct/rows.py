"""Rows of data files, each knowing where it stands, so that every fault names file, row and field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from caravan.core.errors import DataError
from caravan.instruct.media import media_of
from caravan.records import LANGUAGES, Dialogue


class Item(NamedTuple):
    """A dialogue for the `train` or the `test` split."""

    split: str
    dialogue: Dialogue


class Dropped(NamedTuple):
    """A dialogue that is left out, and why."""

    reason: str


class BrokenRowError(DataError):
    """Everything that is wrong with one row; it speaks as its first fault."""

    def __init__(self, faults: Sequence[DataError]) -> None:
        self.faults = tuple(faults)
        first = faults[0]
        super().__init__(first.problem, expected=first.expected, got=first.got, fix=first.fix, where=first.where)


def faults_of(error: DataError) -> tuple[DataError, ...]:
    """The faults of a row, or the one of a file."""
    return error.faults if isinstance(error, BrokenRowError) else (error,)


def placed(error: DataError, where: str) -> DataError:
    """The same error, said of another place: file, row and field."""
    return type(error)(error.problem, expected=error.expected, got=error.got, fix=error.fix, where=where)


@dataclass(slots=True)
class Row:
    """One row of a data file.

    Attributes:
        number: counts from 0; lines from 1.
        unit: what is counted: row, item, line or sample.
        folder: to which paths of media are relative.
        split: of the data set that the row belongs to, such as `train` or `dev`; empty where it has none.
        faults: what has been found wrong with it.
    """

    file: Path
    number: int
    values: dict[str, Any]
    unit: Literal["row", "item", "line", "sample"] = "line"
    folder: Path = Path()
    split: str = ""
    faults: list[DataError] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder == Path():
            self.folder = self.file.parent

    def where(self, field: str = "") -> str:
        place = f"{self.file}, {self.unit} {self.number}"
        return f"{place}, field {field}" if field else place

    def fault(
        self, problem: str, field: str, *, expected: object, got: object, fix: str, kind: type[DataError] = DataError
    ) -> None:
        """Note a fault of the row and go on: all of them are told together."""
        shown = got if isinstance(got, str) else repr(got)
        self.faults.append(kind(problem, where=self.where(field), expected=expected, got=shown[:240], fix=fix))

    def text(self, field: str) -> str:
        """A text that is not empty.

        Raises:
            DataError: missing, empty or no text.
        """
        value = self.values.get(field)
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise DataError("no text", where=self.where(field), expected="text that is not empty", got=repr(value)[:80])

    def media(self, field: str) -> bytes:
        """The encoded bytes of a clip or picture: a cell of bytes, of a path, or of a struct of both.

        Raises:
            DataError: missing, empty, or a path that cannot be read.
        """
        try:
            return media_of(self.values.get(field), self.folder).read()
        except DataError as error:
            raise placed(error, self.where(field)) from error

    def language(self, field: str, languages: Sequence[str]) -> str | None:
        """The row's language, None where the run does not have it; a language's code as `field` holds for all rows."""
        language = field if field in LANGUAGES else self.text(field)
        return language if language in languages else None

    def heldout(self, columns: dict[str, list[str]]) -> str:
        """The group of the test that the row belongs to, such as `unseen speaker`; empty for training."""
        unseen = [column for column, values in columns.items() if str(self.values.get(column)) in values]
        return f"unseen {'+'.join(unseen)}" if unseen else ""
