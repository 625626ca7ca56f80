"""The steps of `benchmarks/curate.py` in Data-Juicer, run by the Python that has it, on one core.

    python datajuicer_curate.py INPUT OUT MODEL

INPUT: a folder of Parquet files with columns id and text. MODEL: lid.176.ftz. Limits are Data-Juicer's own.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import yaml

LANGUAGES = ["zh", "en", "ru", "es", "fr", "pt", "de", "it", "nl", "pl", "ar", "tr", "he", "ja", "ko", "th", "vi", "id"]
BANDS, ROWS, SHINGLE = 14, 8, 5
PROCESS = [
    {"language_id_score_filter": {"lang": LANGUAGES, "min_score": 0.5}},
    {"text_length_filter": {"min_len": 8, "max_len": 1_000_000}},
    {"average_line_length_filter": {}},
    {"maximum_line_length_filter": {}},
    {"alphanumeric_filter": {}},
    {"special_characters_filter": {}},
    {"character_repetition_filter": {}},
    {"word_repetition_filter": {}},
    {"words_num_filter": {"min_num": 1}},
    {
        "document_minhash_deduplicator": {
            "tokenization": "space", "window_size": SHINGLE, "num_permutations": BANDS * ROWS, "num_bands": BANDS,
            "num_rows_per_band": ROWS,
        }
    },
]  # fmt: skip


def main(source: Path, out: Path, model: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # Where Data-Juicer looks for the model that it would download.
    models = out / "models"
    models.mkdir(exist_ok=True)
    shutil.copy(model, models / "lid.176.bin")
    os.environ["DATA_JUICER_MODELS_CACHE"] = str(models)
    os.environ["HF_HOME"] = str(out / "cache")
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor

    recipe = {
        "project_name": "curate", "dataset_path": str(source), "export_path": str(out / "kept.jsonl"), "np": 1,
        "text_keys": "text", "process": PROCESS, "open_monitor": False, "use_cache": False, "op_fusion": False,
    }  # fmt: skip
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    DefaultExecutor(init_configs(["--config", str(out / "recipe.yaml")])).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
