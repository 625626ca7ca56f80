"""Which files make up the model that is to be served."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from caravan.core.artifact import MANIFEST, Artifact
from caravan.core.errors import ServeError
from caravan.engine import ADAPTER

EXPORT = "export"
PROJECTOR = "mmproj-f16.gguf"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class ServedModel:
    """The files of a model: `tokenizer` is the folder of its tokenizer and chat template, `adapter` a LoRA's GGUF."""

    name: str
    gguf: Path
    mmproj: Path | None
    tokenizer: Path
    adapter: Path | None = None

    def engine_arguments(self, context: int, parallel: int, threads: int, cache_mib: int = 0) -> list[str]:
        """What `python -m caravan.engine` is to be told."""
        numbers = {"context": context, "parallel": parallel, "threads": threads, "cache-mib": cache_mib}
        files = {name: file for name, file in (("mmproj", self.mmproj), ("adapter", self.adapter)) if file}
        return [
            str(self.gguf),
            *(word for name, value in (files | numbers).items() for word in (f"--{name}", str(value))),
        ]


def find_model(path: Path, quantisation: str, mmproj: Path | None = None, adapter: str | None = None) -> ServedModel:
    """Find the files of a model.

    Args:
        path: an exported folder, a run folder that holds one, or a .gguf file with its tokenizer beside it.
        quantisation: which of an exported folder's files.
        mmproj: the encoders of a .gguf file, if it has any.
        adapter: an exported LoRA adapter of the model, or the folder that holds it.

    Raises:
        ServeError: a file is missing.
        ArtifactError: the folder is not a finished export.
    """
    model = _find_files(Path(path), quantisation, mmproj)
    if adapter is None:
        return model
    file = _find_adapter(Path(adapter))
    # A name of its own: it may be compared with its base.
    own = file.resolve().parent.name if file.name == ADAPTER else file.stem
    return replace(model, name=f"{model.name}-{own}", adapter=file)


def _find_adapter(path: Path) -> Path:
    file = path / ADAPTER if path.is_dir() else path
    _require(file, f"export the adapter first: caravan export {path} -o FOLDER")
    return file


def _find_files(path: Path, quantisation: str, mmproj: Path | None) -> ServedModel:
    if path.suffix == ".gguf":
        _require(path, "give the path of a .gguf file")
        if mmproj is not None:
            _require(mmproj, "correct --mmproj")
        _require(path.parent / TOKENIZER, "put the tokenizer that was exported with the model beside it")
        return ServedModel(path.stem, path, mmproj, path.parent)
    if mmproj is not None:
        raise ServeError("--mmproj goes with a .gguf file", expected="MODEL.gguf", got=path, fix="leave --mmproj out")
    exported = path / EXPORT
    folder = exported if not (path / MANIFEST).is_file() and exported.is_dir() else path
    Artifact.open(folder, "gguf")
    gguf, encoders = folder / f"model-{quantisation}.gguf", folder / PROJECTOR
    present = ", ".join(sorted(file.name for file in folder.glob("model-*.gguf")))
    _require(gguf, f"serve one that is there ({present or 'none'}), or export with this quantisation")
    name = folder.resolve().parent.name if folder.name == EXPORT else folder.resolve().name
    return ServedModel(name, gguf, encoders if encoders.is_file() else None, folder)


def _require(file: Path, fix: str) -> None:
    if not file.is_file():
        raise ServeError("a file of the model is missing", where=str(file), expected="a file", got="none", fix=fix)
