"""From a model's folder to a folder of GGUF files and what is known of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter
from transformers import AutoConfig, AutoTokenizer

from caravan.core.errors import ExportError
from caravan.core.files import atomic_path, read_json, write_json
from caravan.core.log import get_logger
from caravan.engine import gguf_files
from caravan.export.families import Family, context_length, family_of
from caravan.export.gguf_file import describe_file, write_gguf
from caravan.export.language import describe_language, language_tensors
from caravan.export.mmproj import check_senses, describe_mmproj, mmproj_tensors, senses
from caravan.export.parity import Parity, Reference, check_close, check_exact, compare, references
from caravan.export.probes import KINDS, Kind, Probe, dialogue_probes, synthetic_probes
from caravan.export.tokenizer import Vocabulary, describe_vocabulary, read_vocabulary
from caravan.export.weights import Weights
from caravan.media.features import MediaSpec
from caravan.models.adapters import put_on, whole_in_folder
from caravan.models.config import CaravanConfig, media_spec
from caravan.models.generate import ending_ids, stop_ids
from caravan.models.load import load_model
from caravan.recipe.export import ExportConfig, FileType
from caravan.text.tokens import AUDIO_PAD, IMAGE_PAD

log = get_logger(__name__)

FACTS = "export.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_PROOF: set[FileType] = {"f16", "bf16", "q8_0"}
_NEEDS: dict[Kind, set[str]] = {"text": set(), "audio": {"speech"}, "image": {"vision"}, "both": {"speech", "vision"}}


@dataclass(frozen=True)
class Source:
    """A model's folder, opened: `text` is the language model's config, `prefix` begins its weights' names."""

    folder: Path
    config: Any
    text: Any
    family: Family
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
    family = family_of(text, str(folder))
    if fused:
        check_senses(config, str(folder))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    running = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = read_vocabulary(folder, text.vocab_size, running, chats=bool(tokenizer.chat_template))
    if vocabulary.conditions:
        log.warning("llama.cpp reads a text as the tokenizer does if it is %s", " and ".join(vocabulary.conditions))
    return Source(
        folder, config, text, family, "model.language_model." if fused else "model.", Weights(folder), vocabulary
    )


@dataclass(frozen=True)
class Answers:
    """What torch said: the ids that end an answer, the chat template, and answers to compare with."""

    stop: list[int]
    template: str | None
    references: list[Reference]


def export(
    config: ExportConfig, folder: Path, out: Path, dialogues: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """See `caravan.export.stage.run`; `dialogues` is a folder whose test rows are asked."""
    source = open_source(folder)
    answers = ask_torch(config, source, choose_probes(config, source.config, dialogues, seed))
    mmproj = write_senses(source, out, config.threads)
    parity: dict[str, dict[Kind, Parity]] = {}
    for kind in with_proof(config) if answers.references else config.types:
        file, _ = gguf_files(out, kind)
        write_model(source, answers, kind, file, config.threads)
        if answers.references:
            parity[kind] = compare(file, mmproj, answers.references, answers.stop, config.new_tokens, config.threads)
            _check(config, kind, parity[kind], file)
        if kind not in config.types:
            file.unlink()
    _copy_tokenizer(source.folder, out)
    facts = _facts(source, out, parity, config)
    write_json(out / FACTS, facts)
    return {"files": facts["files"], "parity": facts["parity"], "bounds": facts["bounds"]}


def with_proof(config: ExportConfig) -> tuple[FileType, ...]:
    """The types to compare with torch: those wanted, and q8_0 first if all of them round so far that they hide a fault.

    With a fault that moved answers of a tiny model by 0.04 nats, q8_0 moved them by the same, and by 0.0002 without;
    q4_0 moved them by up to 0.3 with or without.
    """
    return config.types if _PROOF.intersection(config.types) else ("q8_0", *config.types)


def _check(config: ExportConfig, kind: FileType, parity: dict[Kind, Parity], file: Path) -> None:
    if kind == "f16":
        check_exact(parity, file, config.max_logprob_delta)
    else:
        check_close(parity, file, config.max_divergence[kind])


def ask_torch(config: ExportConfig, source: Source, probes: Sequence[Probe], adapter: Path | None = None) -> Answers:
    """Load the model in fp32, ask it every prompt, and let go of it: file and model are never in memory together."""
    if not probes:
        known = AutoTokenizer.from_pretrained(source.folder)
        return Answers(ending_ids(_configured_ends(source), known), known.chat_template or None, [])
    # Only eager attention caps its scores.
    capped = getattr(source.text, "attn_logit_softcapping", None) is not None
    model, tokenizer = load_model(source.folder, **({"attn_implementation": "eager"} if capped else {}))
    if adapter is not None:
        model = put_on(model, adapter).eval()
    spec = MediaSpec(**media_spec(source.config))
    found = references(model, tokenizer, spec, probes, config.new_tokens)
    room = context_length(source.text, source.family) - config.new_tokens
    fitting = [reference for reference in found if len(reference.ids) <= room]
    if not fitting:
        raise ExportError(
            "no prompt fits into the model's context", expected=f"at most {room} tokens", got="longer ones"
        )
    return Answers(stop_ids(model, tokenizer), tokenizer.chat_template or None, fitting)


def _configured_ends(source: Source) -> Any:
    """What transformers would take for the ids that end an answer."""
    file = source.folder / "generation_config.json"
    return read_json(file).get("eos_token_id") if file.is_file() else source.text.eos_token_id


def choose_probes(config: ExportConfig, model: Any, dialogues: Path | None, seed: int) -> list[Probe]:
    """Prompts from the run's own test rows; drawn ones of the kinds that those lack."""
    there = {sense for sense, _ in senses(model)} if isinstance(model, CaravanConfig) else set()
    kinds = [kind for kind in KINDS if _NEEDS[kind] <= there]
    found = dialogue_probes(dialogues, kinds, config.prompts) if dialogues else []
    missing = [kind for kind in kinds if not any(probe.kind == kind for probe in found)]
    return found + synthetic_probes(missing, config.prompts, seed)


def write_model(source: Source, answers: Answers, mixture: str, path: Path, threads: int) -> None:
    """Write the language model in one mixture of types, unless the file is there."""
    if path.exists():
        log.info("%s is there already", path.name)
        return

    def describe(writer: GGUFWriter) -> None:
        writer.add_name(source.folder.name)
        describe_language(writer, source.text, source.family, mixture)
        describe_vocabulary(writer, source.vocabulary, answers.stop, answers.template)

    tensors = language_tensors(source.text, source.family, source.weights, source.prefix, mixture)
    write_gguf(path, source.family.architecture, describe, tensors, threads)


def write_senses(source: Source, out: Path, threads: int) -> Path | None:
    """The file of the encoders and projectors, written unless it is there; None for a model of text alone."""
    if not (isinstance(source.config, CaravanConfig) and any(senses(source.config))):
        return None
    path = gguf_files(out, "f16")[1]
    if path.exists():
        log.info("%s is there already", path.name)
        return path

    def describe(writer: GGUFWriter) -> None:
        writer.add_name(source.folder.name)
        describe_mmproj(writer, source.config)

    gain = source.text.hidden_size**-0.5 if source.family.scales_features else 1.0
    write_gguf(path, "clip", describe, mmproj_tensors(source.config, source.weights, gain), threads)
    return path


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Prompts are rendered by whoever serves the files, with the model's own tokenizer and template."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            with atomic_path(target / name) as temporary:
                shutil.copyfile(source / name, temporary)


def _facts(source: Source, out: Path, parity: dict[str, dict[Kind, Parity]], config: ExportConfig) -> dict[str, Any]:
    spec = MediaSpec(**media_spec(source.config))
    return {
        "tokenizer": {"exact_for_text": list(source.vocabulary.conditions) or ["of any kind"]},
        "context": context_length(source.text, source.family),
        "media": {"spec": spec.to_json(), "placeholders": {"audio": AUDIO_PAD, "image": IMAGE_PAD}},
        "files": {file.name: describe_file(file) for file in sorted(out.glob("*.gguf"))},
        "parity": {
            mixture: {kind: asdict(figures) for kind, figures in kinds.items()} for mixture, kinds in parity.items()
        },
        "bounds": {
            kind: {"logprob_delta": config.max_logprob_delta, "tie": 2 * config.max_logprob_delta}
            if kind == "f16"
            else {"divergence": config.max_divergence[kind]}
            for kind in with_proof(config)
        },
    }
