"""What a layout of another framework keeps for the way back: the config and tokenizer of Hugging Face."""

from __future__ import annotations

from pathlib import Path

from caravan.convert.folder import Model, copy_beside
from caravan.core.errors import ModelError
from caravan.core.files import write_json
from caravan.models.grow import CONFIG

KEPT = "huggingface"


def keep_folder(model: Model, folder: Path) -> None:
    """Write config and tokenizer, for other programs to pass over."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_beside(model.folder, folder)
    write_json(folder / CONFIG, model.settings)


def kept_folder(folder: Path) -> Path | None:
    """Where such a folder is, if there is one."""
    return folder / KEPT if (folder / KEPT / CONFIG).is_file() else None


def need_folder(folder: Path, like: Path | None) -> Path:
    """The folder that tells what the weights alone do not.

    Raises:
        ModelError: there is none.
    """
    found = like or kept_folder(folder)
    if found is None or not (found / CONFIG).is_file():
        raise ModelError(
            "nothing tells what kind of model this is",
            where=str(like or folder),
            expected=f"{CONFIG} of Hugging Face",
            got="none",
            fix="give the folder of a model of the same shape: like=FOLDER",
        )
    return found
