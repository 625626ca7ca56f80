"""From a model's folder to a folder of GGUF files and what is known of them."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter
from transformers import AutoConfig

from caravan.core.errors import ExportError
from caravan.core.files import atomic_path, write_json
from caravan.core.log import get_logger
from caravan.core.stage import StageContext
from caravan.engine import gguf_files
from caravan.export.gguf_file import describe_file, write_gguf
from caravan.export.llama import check_llama, describe_llama, llama_tensors
from caravan.export.mmproj import check_senses, describe_mmproj, mmproj_tensors, senses
from caravan.export.parity import Parity, Reference, check_bounds, compare, references
from caravan.export.probes import KINDS, Kind, Probe, dialogue_probes, synthetic_probes
from caravan.export.tokenizer import Vocabulary, describe_vocabulary, read_vocabulary
from caravan.export.weights import Weights
from caravan.media.features import MediaSpec
from caravan.models.adapters import whole_in_folder
from caravan.models.config import CaravanConfig, media_spec
from caravan.models.generate import stop_ids
from caravan.models.load import load_model
from caravan.recipe.export import ExportConfig
from caravan.text.tokens import AUDIO_PAD, IMAGE_PAD

log = get_logger(__name__)

FACTS = "export.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_NEEDS: dict[Kind, set[str]] = {"text": set(), "audio": {"speech"}, "image": {"vision"}, "both": {"speech", "vision"}}


@dataclass(frozen=True)
class Source:
    """A model's folder, opened: `text` is the language model's config, `prefix` begins its weights' names."""

    folder: Path
    config: Any
    text: Any
    prefix: str
    weights: Weights
    vocabulary: Vocabulary


def open_source(folder: Path) -> Source:
    """Open a model's folder.

    Raises:
        ExportError: llama.cpp has no exact form of this model or its tokenizer.
        TokenizerMismatchError: the tokenizer has more tokens than the model.
        ModelError: a prefix or prompt is part of the model.
    """
    whole_in_folder(folder)
    config = AutoConfig.from_pretrained(folder)
    fused = isinstance(config, CaravanConfig)
    text = config.text_config if fused else config
    check_llama(text, str(folder))
    if fused:
        check_senses(config, str(folder))
    vocabulary = read_vocabulary(folder, text.vocab_size)
    return Source(folder, config, text, "model.language_model." if fused else "model.", Weights(folder), vocabulary)


@dataclass(frozen=True)
class Answers:
    """What torch said: the ids that end an answer, the chat template, and answers to compare with."""

    stop: list[int]
    template: str | None
    references: list[Reference]


def export(config: ExportConfig, ctx: StageContext) -> dict[str, Any]:
    """See `caravan.export.stage.run`."""
    source = open_source(ctx.need("model").path)
    answers = ask_torch(config, ctx, source)
    has_senses = isinstance(source.config, CaravanConfig) and any(senses(source.config))
    mmproj = gguf_files(ctx.out, "f16")[1] if has_senses else None
    if mmproj is not None:
        _write_mmproj(source, mmproj)
    parity: dict[str, dict[Kind, Parity]] = {}
    for mixture in ("f16", *config.quantisations):
        file, _ = gguf_files(ctx.out, mixture)
        write_model(source, answers, mixture, file, config.threads)
        parity[mixture] = compare(file, mmproj, answers.references, answers.stop, config.new_tokens, config.threads)
        if mixture == "f16":
            check_bounds(parity[mixture], file, config.max_logprob_delta)
    _copy_tokenizer(source.folder, ctx.out)
    facts = _facts(source, ctx.out, parity)
    write_json(ctx.out / FACTS, facts)
    return {"files": facts["files"], "parity": facts["parity"]}


def ask_torch(config: ExportConfig, ctx: StageContext, source: Source) -> Answers:
    """Load the model in fp32, ask it every prompt, and let go of it: file and model are never in memory together."""
    model, tokenizer = load_model(source.folder)
    spec = MediaSpec(**media_spec(source.config))
    found = references(model, tokenizer, spec, choose_probes(config, ctx, source.config), config.new_tokens)
    room = source.text.max_position_embeddings - config.new_tokens
    fitting = [reference for reference in found if len(reference.ids) <= room]
    if not fitting:
        raise ExportError(
            "no prompt fits into the model's context", expected=f"at most {room} tokens", got="longer ones"
        )
    return Answers(stop_ids(model, tokenizer), tokenizer.chat_template or None, fitting)


def choose_probes(config: ExportConfig, ctx: StageContext, model: Any) -> list[Probe]:
    """Prompts from the run's own test rows; drawn ones of the kinds that those lack."""
    there = {sense for sense, _ in senses(model)} if isinstance(model, CaravanConfig) else set()
    kinds = [kind for kind in KINDS if _NEEDS[kind] <= there]
    dialogues = ctx.inputs.get("dialogues")
    found = dialogue_probes(dialogues.path, kinds, config.prompts) if dialogues else []
    missing = [kind for kind in kinds if not any(probe.kind == kind for probe in found)]
    return found + synthetic_probes(missing, config.prompts, ctx.seed)


def write_model(source: Source, answers: Answers, mixture: str, path: Path, threads: int) -> None:
    """Write the language model in one mixture of types, unless the file is there."""
    if path.exists():
        log.info("%s is there already", path.name)
        return

    def describe(writer: GGUFWriter) -> None:
        writer.add_name(source.folder.name)
        describe_llama(writer, source.text, mixture)
        describe_vocabulary(writer, source.vocabulary, answers.stop, answers.template)

    tensors = llama_tensors(source.text, source.weights, source.prefix, mixture)
    write_gguf(path, "llama", describe, tensors, threads)


def _write_mmproj(source: Source, path: Path) -> None:
    if path.exists():
        log.info("%s is there already", path.name)
        return

    def describe(writer: GGUFWriter) -> None:
        writer.add_name(source.folder.name)
        describe_mmproj(writer, source.config)

    write_gguf(path, "clip", describe, mmproj_tensors(source.config, source.weights))


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Prompts are rendered by whoever serves the files, with the model's own tokenizer and template."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            with atomic_path(target / name) as temporary:
                shutil.copyfile(source / name, temporary)


def _facts(source: Source, out: Path, parity: dict[str, dict[Kind, Parity]]) -> dict[str, Any]:
    spec = MediaSpec(**media_spec(source.config))
    return {
        "context": source.text.max_position_embeddings,
        "media": {"spec": spec.to_json(), "placeholders": {"audio": AUDIO_PAD, "image": IMAGE_PAD}},
        "files": {file.name: describe_file(file) for file in sorted(out.glob("*.gguf"))},
        "parity": {
            mixture: {kind: asdict(figures) for kind, figures in kinds.items()} for mixture, kinds in parity.items()
        },
    }
