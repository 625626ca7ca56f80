"""The tree of errors. Each says what was wrong, what was expected, what was got, and what to do next.

CaravanError
├── UsageError                 wrong command line                        exit 2
│   └── RecipeError            wrong recipe                              exit 2
├── DataError                  a file, row or field that cannot be used
│   ├── MediaError             audio or image that cannot be decoded
│   ├── StoreError             files elsewhere that cannot be reached
│   ├── PlaceholderError       placeholders and media do not match
│   └── UnsupervisedError      a dialogue without a token to learn from
├── EndpointError              a service over HTTP that refuses or does not answer
├── ArtifactError              a folder on the road that cannot be used
│   ├── LockedError            another run is at work in it
│   └── DiskFullError          no space left
├── ModelError                 a model that cannot be used as asked
│   └── TokenizerMismatchError tokenizer and model do not belong together
├── ExportError                an export that is not exact
├── ServeError                 the server or its engine
└── MissingDependencyError     an optional part is not installed
"""

from __future__ import annotations


class CaravanError(Exception):
    """Base of every error that Caravan raises on purpose.

    Args:
        problem: one sentence, what went wrong.
        expected: what would have been right.
        got: what was found instead.
        fix: what to do next.
        where: file, row and field, as far as they are known.
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
        where: str | None = None,
    ) -> None:
        self.problem = problem
        self.expected = None if expected is None else str(expected)
        self.got = None if got is None else str(got)
        self.fix = fix
        self.where = where
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.problem}" if self.where else self.problem
        rest = [
            f"  {name}: {value}"
            for name, value in (("expected", self.expected), ("got", self.got), ("fix", self.fix))
            if value is not None
        ]
        return "\n".join([head, *rest])


class UsageError(CaravanError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class RecipeError(UsageError):
    """The recipe cannot be read or does not hold together."""


class DataError(CaravanError):
    """A data file, row or field cannot be used."""


class MediaError(DataError):
    """An audio clip or an image cannot be decoded, or exceeds a limit."""


class StoreError(DataError):
    """A store of files, such as S3 or the Hugging Face hub, cannot be reached; the files themselves may be whole."""


class PlaceholderError(DataError):
    """The number of media placeholders differs from the number of media."""


class UnsupervisedError(DataError):
    """A dialogue has no token that carries loss."""


class EndpointError(CaravanError):
    """A service that is asked over HTTP refuses, or does not answer."""


class ArtifactError(CaravanError):
    """A folder of the road is missing, unfinished or of the wrong kind."""


class LockedError(ArtifactError):
    """Another process is at work in this run folder."""


class DiskFullError(ArtifactError):
    """The disk is full; what was complete before is still there."""


class ModelError(CaravanError):
    """A model cannot be used as asked."""


class TokenizerMismatchError(ModelError):
    """A tokenizer and a model do not belong together."""


class ExportError(CaravanError):
    """A model cannot be exported exactly, or the exported file disagrees with it."""


class ServeError(CaravanError):
    """The server cannot start, or its engine failed."""


class MissingDependencyError(CaravanError):
    """An optional dependency is not installed; names the extra that brings it."""

    def __init__(self, package: str, extra: str, *, needed_for: str) -> None:
        self.extra = extra
        super().__init__(
            f"{needed_for} needs {package}",
            expected=f"{package} installed",
            got="not installed",
            # A model's folder carries a copy of this file, for where Caravan is not installed.
            fix=f'pip install "caravan[{extra}]"' if __name__ == "caravan.core.errors" else f"pip install {package}",
        )
