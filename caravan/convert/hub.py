"""Models from and to the Hugging Face hub, or another server that speaks its API (`HF_ENDPOINT`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from caravan.core.artifact import KEY
from caravan.core.errors import StoreError

SCHEME = "hf://"
# The client's library of HTTP has changed its name; its own errors descend from that library's.
_HTTP_ERROR: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


def on_hub(name: str) -> bool:
    """Whether a name is one of the hub: `hf://owner/name`, with `@revision` where not the latest is meant."""
    return name.startswith(SCHEME)


def pull(name: str) -> Path:
    """A folder with a repository's files; those that were fetched before are not fetched again.

    Raises:
        StoreError: the hub cannot be reached or refuses.
    """
    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    with _named(name):
        return Path(_api().snapshot_download(repository, revision=revision or None))


def push(folder: Path, name: str, *, private: bool) -> str:
    """Put a folder's files into a repository, which is made if need be, in one commit; its address.

    Raises:
        StoreError: the hub cannot be reached or refuses.
    """
    repository = name.removeprefix(SCHEME)
    with _named(name):
        _api().create_repo(repository, private=private, exist_ok=True)
        commit = _api().upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Caravan", ignore_patterns=[KEY, ".*.tmp"]
        )
    return str(commit.repo_url)


def staging(name: str) -> Path:
    """Where a model stands on this machine before it is pushed."""
    return Path(constants.HF_HOME) / "caravan" / name.removeprefix(SCHEME).replace("/", "--")


def _api() -> HfApi:
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RuntimeError, _HTTP_ERROR) as error:
        raise StoreError(
            "the hub refuses or cannot be reached",
            where=name,
            expected="hf://owner/name, and for what is not public a token",
            got=" ".join(
                str(each).strip().splitlines()[0] for each in (error, error.__cause__) if str(each or "").strip()
            ),
            fix="correct the name; `hf auth login` or HF_TOKEN gives a token, HF_ENDPOINT another server",
        ) from error
