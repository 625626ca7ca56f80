"""Export to GGUF: CPU seconds and peak memory, beside llama.cpp's own converter and quantiser, on random weights.

    python benchmarks/export.py FOLDER [--shape 1.1b | 7b] [--layers N] [--types q4_0 ...] [--threads 2]
        [--converter llama.cpp/convert_hf_to_gguf.py --library libllama.so]

FOLDER gets the model (kept for the next run) and, for a while, the files. The peer is left out where it is not given:
its converter makes an f16 file, its library quantises that (`llama_model_quantize`). The converter lies in llama.cpp's
repository and in the source package of llama-cpp-python, a prebuilt library in llama-cpp-python or the npm package
@node-llama-cpp/linux-x64. Each step is a process of its own; CPU seconds are those of user and system, peak memory is
the largest resident set, mapped pages included, as the kernel counts them (wait4). `start` is a process that imports
what an export imports and does nothing. Tensors of both files are compared byte by byte.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, LlamaFileType
from rich.console import Console
from rich.table import Table

TINYLLAMA = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4,
}  # fmt: skip
LLAMA_2 = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32,
}  # fmt: skip
SHAPES = {"1.1b": TINYLLAMA, "7b": LLAMA_2}
VOCABULARY = 32000
DRAWN = 15_485_863
START = "import torch, caravan.export.convert"
QUANTISE = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
class Parameters(ctypes.Structure):  # larger than llama.cpp's: only the first two fields are touched
    _fields_ = [("threads", ctypes.c_int32), ("type", ctypes.c_int32), ("rest", ctypes.c_char * 504)]
library.llama_model_quantize_default_params.restype = Parameters
library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
library.llama_model_quantize.restype = ctypes.c_uint32
library.llama_backend_init()
parameters = library.llama_model_quantize_default_params()
parameters.type, parameters.threads = int(sys.argv[4]), int(sys.argv[5])
sys.exit(library.llama_model_quantize(sys.argv[2].encode(), sys.argv[3].encode(), ctypes.byref(parameters)))
"""


def write_model(folder: Path, shape: dict[str, int]) -> None:
    """A Llama in bfloat16, its weights random and repeated every `DRAWN`, a file for each layer, and a tokenizer."""
    if (folder / "config.json").is_file():
        return
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder)
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    keys = width // shape["num_attention_heads"] * shape["num_key_value_heads"]
    matrices: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    parts = [{f"model.layers.{layer}.{name}.weight": size for name, size in matrices.items()}
             for layer in range(shape["num_hidden_layers"])]  # fmt: skip
    parts.append({"model.embed_tokens.weight": (VOCABULARY, width), "lm_head.weight": (VOCABULARY, width)})
    parts.append({"model.norm.weight": (width,)})
    noise = torch.empty(DRAWN, dtype=torch.bfloat16).normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    index: dict[str, str] = {}
    for number, part in enumerate(parts):
        file = f"model-{number + 1:05d}-of-{len(parts):05d}.safetensors"
        tensors = {
            name: noise.repeat(prod(size) // DRAWN + 1)[: prod(size)].reshape(size) for name, size in part.items()
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    LlamaConfig(
        **shape, vocab_size=VOCABULARY, architectures=["LlamaForCausalLM"], max_position_embeddings=2048,
        tie_word_embeddings=False, dtype="bfloat16",
    ).save_pretrained(folder)  # fmt: skip


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens[:3]])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    name: str
    cpu: float
    seconds: float
    peak: int


def measure(name: str, command: list[str], **variables: str) -> Cost:
    """Run a command to its end; its output is shown where it fails."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name} failed:\n{said[-3000:]}")
    print(f"{name}: {used.ru_utime + used.ru_stime:.1f} CPU seconds", flush=True)
    return Cost(name, used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss << 10)


def peer(options: argparse.Namespace, model: Path, kind: str, whole: Path, file: Path) -> Iterator[Cost]:
    """llama.cpp's own way: the converter to f16, then the quantiser."""
    python = [sys.executable]
    paths = os.pathsep.join([str(options.converter.parent / "gguf-py"), os.environ.get("PYTHONPATH", "")])
    if not whole.exists():
        command = [*python, str(options.converter), str(model), "--outfile", str(whole), "--outtype", "f16"]
        yield measure("llama.cpp: convert to f16", command, PYTHONPATH=paths)
    number = getattr(LlamaFileType, f"MOSTLY_{kind.upper()}")
    command = [*python, "-c", QUANTISE, str(options.library), str(whole), str(file), str(int(number))]
    yield measure(f"llama.cpp: quantise to {kind}", [*command, str(options.threads)])


def equal_tensors(ours: Path, theirs: Path) -> str:
    """How many tensors are the same, byte for byte."""
    found: list[dict[str, Any]] = [{t.name: t for t in GGUFReader(path).tensors} for path in (ours, theirs)]
    names = found[0].keys() | found[1].keys()
    both = found[0].keys() & found[1].keys()
    same = sum(np.array_equal(found[0][name].data, found[1][name].data) for name in both)
    return f"{same} of {len(names)} tensors the same, byte for byte"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    parser.add_argument("--types", nargs="+", default=["q4_0"])
    parser.add_argument("--layers", type=int, help="fewer or more than the shape has")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--converter", type=Path)
    parser.add_argument("--library", type=Path)
    options = parser.parse_args()
    shape = dict(SHAPES[options.shape])
    shape["num_hidden_layers"] = options.layers or shape["num_hidden_layers"]
    title = f"{options.shape} with {shape['num_hidden_layers']} layers"
    model = options.folder / title.replace(" ", "-")
    # In a process of its own: what is started after it would count this one's memory as its own.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(write_model, model, shape).result()
    costs = [measure("start", [sys.executable, "-c", START])]
    notes = []
    whole = options.folder / "peer-f16.gguf"
    for kind in options.types:
        out = options.folder / f"out-{kind}"
        command = [sys.executable, "-m", "caravan", "export", str(model), "-o", str(out), "--types", kind]
        costs.append(measure(f"caravan export to {kind}", [*command, "prompts=0", f"threads={options.threads}"]))
        if options.converter and options.library:
            file = options.folder / f"peer-{kind}.gguf"
            costs += peer(options, model, kind, whole, file)
            notes.append(f"{kind}: {equal_tensors(out / f'model-{kind}.gguf', file)}")
            file.unlink()
        for file in (*out.iterdir(), out):
            file.rmdir() if file.is_dir() else file.unlink()
    whole.unlink(missing_ok=True)
    table = Table("step", "CPU seconds", "seconds", "peak MiB", title=f"{title}, {options.threads} threads")
    for cost in costs:
        table.add_row(cost.name, f"{cost.cpu:.1f}", f"{cost.seconds:.1f}", f"{cost.peak / 2**20:,.0f}")
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note)


if __name__ == "__main__":
    main()
