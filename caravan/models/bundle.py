"""The code in a saved model's folder, with which transformers loads it where Caravan is not installed.

`AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` and `AutoProcessor` find the classes by the
`auto_map` of their configs, in files that stand side by side. These are the package's own modules, copied when a model
is saved; only their imports of each other become relative.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

# Module of the package -> file in the folder, without .py. Each imports of the package only what is here too.
FILES: Mapping[str, str] = {
    "core.errors": "errors",
    "media.audio": "audio",
    "media.image": "image",
    "media.features": "features",
    "models.projection": "projection",
    "models.encoders": "encoders",
    "models.projectors": "projectors",
    "models.bundle": "bundle",
    "models.config": "configuration_caravan",
    "models.backbone": "backbone",
    "models.fused": "modeling_caravan",
    "models.processor": "processing_caravan",
}
_MODEL = f"{FILES['models.fused']}.CaravanForConditionalGeneration"
PROCESSOR_MAP: Mapping[str, str] = {"AutoProcessor": f"{FILES['models.processor']}.CaravanProcessor"}
AUTO_MAP: Mapping[str, str] = {
    "AutoConfig": f"{FILES['models.config']}.CaravanConfig",
    "AutoModel": f"{FILES['models.backbone']}.CaravanModel",
    "AutoModelForCausalLM": _MODEL,
    "AutoModelForImageTextToText": _MODEL,
    "AutoModelForMultimodalLM": _MODEL,
    **PROCESSOR_MAP,
}

_IMPORT = re.compile(r"^from caravan\.([\w.]+) import", re.MULTILINE)


def write_code(folder: str | Path) -> None:
    """Write the files into a model's folder.

    From code that was itself loaded from such a folder, those that transformers took from there: a model's alone, or a
    processor's alone.
    """
    here = Path(__file__).parent
    for module, name in FILES.items():
        packaged = here.parent.joinpath(*module.split(".")).with_suffix(".py")
        source = packaged if __package__ == "caravan.models" else here / f"{name}.py"
        if source.is_file():
            text = _IMPORT.sub(lambda match: f"from .{FILES[match[1]]} import", source.read_text(encoding="utf-8"))
            Path(folder, f"{name}.py").write_text(text, encoding="utf-8")
