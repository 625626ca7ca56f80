"""The door of the export stage: a model to GGUF files that say what torch says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from caravan import __version__
from caravan.core.artifact import Artifact, locked, make_artifact
from caravan.core.errors import CaravanError, MissingDependencyError, ModelError
from caravan.core.files import sha256_obj
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

    dialogues = ctx.inputs.get("dialogues")
    return export(config, ctx.need("model").path, ctx.out, dialogues.path if dialogues else None, ctx.seed)


def export_folder(config: ExportConfig, folder: Path, out: Path) -> Artifact:
    """Export any model's folder into another, which becomes a `gguf` artifact; done once, it is not done again.

    The folder of a LoRA adapter of peft becomes an `adapter`.

    Raises:
        ModelError: there is no model.
        ExportError, MissingDependencyError: as `run` does.
    """
    _need_libraries()
    adapts = (folder / "adapter_config.json").is_file()
    if not adapts and not (folder / "config.json").is_file():
        raise ModelError(
            "no model to export",
            where=str(folder),
            expected="the folder of a Hugging Face model, with config.json",
            got="no such file",
            fix="correct the path; a run's models are in RUN/pretrain, RUN/align and RUN/sft",
        )
    section = config.model_dump(mode="json")
    files = [(file.name, (facts := file.stat()).st_size, facts.st_mtime_ns) for file in sorted(folder.iterdir())]
    key = sha256_obj({"version": __version__, "config": section, "model": str(folder.resolve()), "files": files})

    def make(work: Path) -> dict[str, Any]:
        from caravan.export.adapter import export_adapter
        from caravan.export.convert import export

        return export_adapter(config, folder, work) if adapts else export(config, folder, work)

    kind = "adapter" if adapts else "gguf"
    with locked(out.parent, f".{out.name}.lock"):
        artifact, _ = make_artifact(
            out, key, kind=kind, stage="export", parents={}, recipe={"export": section}, make=make
        )
    return artifact


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
