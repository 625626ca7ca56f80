"""A model card in the hub's form: what a model is, what it was made of, and what it reaches.

Everything comes from manifests of the run that made it; what they do not tell is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from caravan.convert.folder import Model
from caravan.core.artifact import MANIFEST, Artifact
from caravan.core.files import write_text

CARD = "README.md"
# Keys of a source that name what is read.
_NAMES = ("path", "hub", "speech", "pictures", "spoken_pictures", "chat", "translated", "samples", "text")
# Keys of a recipe that name models which this one continues, or hears and sees with.
_BASES = (("pretrain", "from"), ("align", "text"), ("align", "speech"), ("align", "vision"))


def run_manifests(source: Path) -> list[Artifact]:
    """The finished artifacts of the run that a model's folder belongs to, its own last."""
    if not (source / MANIFEST).is_file():
        return []
    own = Artifact.open(source)
    others = [Artifact.open(file.parent) for file in source.parent.glob(f"*/{MANIFEST}") if file.parent != source]
    return [*sorted(others, key=lambda artifact: artifact.manifest.stage), own]


def write_card(
    out: Path, model: Model, source: Path, name: str, *, licence: str | None, licenses: Mapping[str, str]
) -> None:
    """Write the card of a converted model.

    Args:
        licence: of the model, as the hub abbreviates it.
        licenses: of data, by the name that a source of the recipe has.
    """
    run = run_manifests(source)
    recipe = {key: value for artifact in run for key, value in artifact.manifest.recipe.items() if key != "data"}
    head = {
        "library_name": "transformers",
        "license": licence or "other",
        "language": recipe.get("languages"),
        "base_model": sorted(set(_bases(recipe))),
        "datasets": sorted({source["hub"] for _, source in _sources(recipe) if source.get("hub")}),
        "pipeline_tag": _task(model.settings),
        "tags": ["caravan", str(model.settings.get("model_type"))],
    }
    told = {key: value for key, value in head.items() if value}
    parts = [
        f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---\n",
        f"# {name}\n",
        _model_words(model),
        _results(run),
        _data(recipe, licenses),
        _recipe(recipe),
    ]
    write_text(out / CARD, "\n".join(part for part in parts if part))


def _task(settings: Mapping[str, Any]) -> str:
    kind = settings.get("model_type")
    return {"llava": "image-text-to-text", "ultravox": "audio-text-to-text"}.get(str(kind), "text-generation")


def _model_words(model: Model) -> str:
    text = model.settings.get("text_config") or model.settings
    count = sum(_size(lazy.shape) for lazy in model.weights.values())
    types = sorted({str(lazy.dtype).removeprefix("torch.") for lazy in model.weights.values()})
    shape = (
        f"{text.get('num_hidden_layers')} layers, width {text.get('hidden_size')}, vocabulary {text.get('vocab_size')}"
    )
    kind = (model.settings.get("architectures") or [model.settings.get("model_type")])[0]
    return (
        f"`{kind}`, {count:,} parameters in {', '.join(types)}; language model `{text.get('model_type')}`: {shape}.\n"
    )


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _results(run: list[Artifact]) -> str:
    rows = [row for artifact in run if artifact.kind == "report" for row in artifact.counts.get("table", [])]
    if not rows:
        return "## Results\n\nNot evaluated.\n"
    lines = [f"| {row['name']} | {row['value']:.4g} | {row.get('count') or ''} |" for row in rows]
    return "\n".join(["## Results\n", "| on held-out items | measured | items |", "|---|---|---|", *lines, ""])


def _data(recipe: Mapping[str, Any], licenses: Mapping[str, str]) -> str:
    found = {(stage, _name(source)): source for stage, source in _sources(recipe)}
    if not found:
        return "## Data\n\nNot told.\n"
    lines = [f"| {name} | {stage} | {licenses.get(name, 'not told')} |" for stage, name in found]
    return "\n".join(["## Data\n", "| source | stage | licence |", "|---|---|---|", *lines, ""])


def _sources(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every data source of a recipe with the stage that reads it."""
    for stage, section in recipe.items():
        if isinstance(section, Mapping):
            yield from ((stage, source) for source in section.get("sources") or () if isinstance(source, Mapping))


def _name(source: Mapping[str, Any]) -> str:
    named = next((source[key] for key in _NAMES if source.get(key)), None)
    return named if isinstance(named, str) else json.dumps(dict(source), ensure_ascii=False)[:80]


def _bases(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Models of the hub that a recipe names; folders of this machine mean nothing elsewhere."""
    for stage, key in _BASES:
        named = (recipe.get(stage) or {}).get(key)
        if isinstance(named, str) and named.count("/") == 1 and not named.startswith((".", "/", "~")):
            yield named


def _recipe(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    text = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)
    return f"## Recipe\n\nMade with Caravan; every setting as it was:\n\n```yaml\n{text}```\n"
