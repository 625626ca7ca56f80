"""The door of the export stage: a model to GGUF files that say what torch says."""

from __future__ import annotations

import importlib.util
from typing import Any

from caravan.core.errors import CaravanError, MissingDependencyError
from caravan.core.stage import StageContext
from caravan.recipe.export import ExportConfig


def _need_libraries() -> None:
    for package in ("gguf", "xllamacpp"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, "serve", needed_for="exporting to GGUF")


def run(config: ExportConfig, ctx: StageContext) -> dict[str, Any]:
    """Write the f16 file, the quantised ones and the mmproj, and compare each with torch.

    Files that an earlier attempt finished are kept; the comparison is always done.

    Raises:
        ExportError: the model cannot be exported exactly, or the f16 file does not agree with torch.
        MissingDependencyError: gguf or xllamacpp is not installed.
    """
    _need_libraries()
    from caravan.export.convert import export

    return export(config, ctx)


def check(config: ExportConfig, ctx: StageContext) -> list[CaravanError]:
    """What is known to fail before anything is run: a missing library, or a tokenizer that llama.cpp cannot match."""
    try:
        _need_libraries()
        if "model" in ctx.inputs:
            from caravan.core.files import read_json
            from caravan.export.tokenizer import read_vocabulary

            folder = ctx.inputs["model"].path
            model = read_json(folder / "config.json")
            read_vocabulary(folder, model.get("text_config", model)["vocab_size"])
    except CaravanError as error:
        return [error]
    return []
