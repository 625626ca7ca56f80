"""peft's models: how they are made and loaded, and which of them are part of a model's folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caravan.core.errors import MissingDependencyError, ModelError

# In a model's folder: a prefix or prompt in front of its input, which is part of the model.
VIRTUAL = "virtual"


def wrap(model: Any, config: Any) -> Any:
    """The model with a new adapter."""
    with _peft("adapters") as peft:
        return peft.get_peft_model(model, config)


def put_on(model: Any, folder: Path) -> Any:
    """The model with an adapter from a folder.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    with _peft(f"the adapter in {folder}") as peft:
        return peft.PeftModel.from_pretrained(model, folder)


def whole_in_folder(path: str | Path) -> None:
    """See that a model is in its weights alone, for what cannot take a prefix or prompt along.

    Raises:
        ModelError: it has one.
    """
    if (Path(path) / VIRTUAL).is_dir():
        raise ModelError(
            "a prefix or prompt is part of this model, and only answering takes it along",
            where=str(Path(path) / VIRTUAL),
            expected="a model that is whole in its weights",
            got="one tuned by the method prefix or prompt",
            fix="train with the method full, lora or qlora",
        )


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without what peft warns of at every use, right as it is."""
    with warnings.catch_warnings():
        # It asks for it under the name that transformers 5 gave up.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # Answers to one prompt alone need none.
        warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
        yield


@contextmanager
def _peft(needed_for: str) -> Iterator[Any]:
    try:
        import peft
    except ImportError as error:
        raise MissingDependencyError("peft", "tune", needed_for=needed_for) from error
    with quiet_peft():
        yield peft
