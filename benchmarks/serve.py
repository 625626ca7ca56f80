"""Tokens a second through the whole server, beside llama.cpp's own server and beside Hugging Face's generate.

    python benchmarks/serve.py EXPORT [--clients 1 4 16] [--rounds 3] [--prompt 128] [--tokens 32]
                               [--threads 2] [--hf]

EXPORT: a folder that `export` wrote, for its tokenizer. The model is made here: the shape of TinyLlama 1.1B in Q4_0,
with random weights. Both servers have the file, the threads and as many slots as there are clients; they are asked in
turn, the first one changing with each round; with --hf, so are one client of ours and generate. A prompt pass asks all
clients at once for one token after a prompt of their own, a decode pass for many tokens after a short one. Rates are
medians over rounds, by wall clock and by CPU seconds of the server's processes, less what they spend in the same time
when they have nothing to do: other work on the machine draws passes out, and hardly changes CPU seconds where there is
one thread (several wait for each other, and spend the processor on it).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import psutil
from soak import serving

PEER = Path(__file__).parent / "peers" / "llama_cpp_server.py"
LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, VOCABULARY = 22, 2048, 5632, 32, 4, 32_000
CONTEXT, SHORT = 512, 8
UNUSED = 5  # llama.cpp's type of a token that no text has
BLOCK = 32


def tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes [out, in] of the model."""
    kv = HIDDEN // HEADS * KV_HEADS
    yield from (("token_embd.weight", (VOCABULARY, HIDDEN)), ("output.weight", (VOCABULARY, HIDDEN)))
    yield "output_norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        sizes = {
            "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (kv, HIDDEN),
            "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER),
        }  # fmt: skip
        yield from ((f"blk.{layer}.{name}.weight", size) for name, size in sizes.items())


def q4_0(shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray[Any, Any]:
    """Random Q4_0 rows: of each 32 weights a float16 scale and 16 bytes; of unit gain."""
    rows, blocks = shape[0], shape[1] // BLOCK
    data = draw.integers(0, 256, (rows, blocks, 18), dtype=np.uint8)
    scale = np.float16(shape[1] ** -0.5 / 4.6)  # a nibble less 8 has a deviation of 4.6
    data[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return data.reshape(rows, blocks * 18)


def make_model(export: Path, folder: Path) -> Path:
    """A GGUF of the shape, with the tokenizer of an export, padded."""
    like = gguf.GGUFReader(next(iter(sorted(export.glob("model-*.gguf")))))
    writer = gguf.GGUFWriter(folder / "shape.gguf", "llama")
    for name, field in like.fields.items():
        if name.startswith("tokenizer.") and not name.endswith((".tokens", ".token_type", ".scores")):
            value, kinds = field.contents(), field.types
            writer.add_key_value(name, value, kinds[0], kinds[-1] if kinds[0] is gguf.GGUFValueType.ARRAY else None)
    words = list(like.fields["tokenizer.ggml.tokens"].contents())
    kinds_of = list(like.fields["tokenizer.ggml.token_type"].contents())
    more = VOCABULARY - len(words)
    writer.add_token_list(words + [f"[UNUSED {number}]" for number in range(more)])
    writer.add_token_types(kinds_of + [UNUSED] * more)
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    draw = np.random.default_rng(7)
    for name, shape in tensors():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            writer.add_tensor(name, q4_0(shape, draw), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for file in export.iterdir():
        if file.suffix in (".json", ".jinja") and "manifest" not in file.name:
            shutil.copy(file, folder)
    return folder / "shape.gguf"


@contextlib.contextmanager
def peer(model: Path, threads: int, parallel: int) -> Iterator[tuple[str, int]]:
    """llama.cpp's own server: its URL and its process id."""
    command = [sys.executable, str(PEER), str(model), *map(str, (threads, parallel, CONTEXT))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def cpu_seconds(process: int) -> float:
    """Of a process and its children."""
    parent = psutil.Process(process)
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def idle_rates(servers: Iterable[tuple[str, int]], seconds: float = 10.0) -> dict[int, float]:
    """CPU seconds a second that servers spend when they have nothing to do, by process id."""
    before = {process: cpu_seconds(process) for _, process in servers}
    time.sleep(seconds)
    return {process: (cpu_seconds(process) - spent) / seconds for process, spent in before.items()}


@dataclass
class Pass:
    """One pass of all clients: seconds by the wall and of the processor, and each client's to its first piece."""

    wall: float
    cpu: float
    first: list[float]
    tokens: int


async def ask(url: str, prompt: list[int], tokens: int) -> tuple[float, int]:
    """Seconds to the first piece, and how many tokens came."""
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "cache_prompt": False}
    body["stream_options"] = {"include_usage": True}
    started, first, count = time.monotonic(), 0.0, 0
    async with (
        httpx.AsyncClient(timeout=1200, trust_env=False) as http,
        http.stream("POST", f"{url}/v1/completions", json=body) as reply,
    ):
        assert reply.status_code == 200, await reply.aread()
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.monotonic() - started
                count = (json.loads(line[6:]).get("usage") or {}).get("completion_tokens", count)
    return first, count


async def run(server: tuple[str, int], idle: float, clients: int, length: int, tokens: int, seed: str) -> Pass:
    """All clients at once; `idle` of each second of the processor's is not theirs."""
    url, process = server
    draw = random.Random(seed)
    prompts = [[draw.randrange(300, 2000) for _ in range(length)] for _ in range(clients)]
    cpu, wall = cpu_seconds(process), time.monotonic()
    found = await asyncio.gather(*(ask(url, prompt, tokens) for prompt in prompts))
    wall, cpu = time.monotonic() - wall, cpu_seconds(process) - cpu
    return Pass(wall, cpu - idle * wall, [first for first, _ in found], sum(count for _, count in found))


def compare(model: Path, clients: int, options: argparse.Namespace) -> dict[str, Any]:
    """Both servers in turn: rates, ratios of ours to theirs, and times to the first piece."""
    settings = [f"parallel={clients}", f"context={CONTEXT}", f"threads={options.threads}", "cache_mib=0"]
    seen: dict[tuple[str, str], list[Pass]] = {}
    with serving(str(model), settings) as ours, peer(model, options.threads, clients) as theirs:
        servers = [("ours", ours), ("llama.cpp", theirs)]
        idle = idle_rates([ours, theirs])
        for number in range(-1, options.rounds):
            for name, server in servers if number % 2 else servers[::-1]:
                for kind, length, tokens in (("prompt", options.prompt, 1), ("decode", SHORT, options.tokens)):
                    once = asyncio.run(run(server, idle[server[1]], clients, length, tokens, f"{number} {kind}"))
                    if number >= 0:  # the first warms up
                        seen.setdefault((name, kind), []).append(once)
    rates = {f"idle, CPU seconds a second, {name}": idle[process] for name, (_, process) in servers}
    return {"clients": clients} | rates | summary(seen, clients, options.prompt)


def summary(seen: dict[tuple[str, str], list[Pass]], clients: int, length: int) -> dict[str, Any]:
    """Medians."""
    told: dict[str, Any] = {}
    for kind in ("prompt", "decode"):
        for clock in ("wall", "cpu"):
            rates = {}
            for name in ("ours", "llama.cpp"):
                counts = [clients * length if kind == "prompt" else one.tokens for one in seen[name, kind]]
                spent = [getattr(one, clock) for one in seen[name, kind]]
                rates[name] = statistics.median(n / s for n, s in zip(counts, spent, strict=True))
            told[f"{kind}, tokens a second, {clock}"] = rates | {"ratio": rates["ours"] / rates["llama.cpp"]}
    for name in ("ours", "llama.cpp"):
        first = sorted(value for one in seen[name, "prompt"] for value in one.first)
        told[f"first piece, s, {name}"] = {"p50": statistics.median(first), "p95": first[int(len(first) * 0.95)]}
    return told


class HuggingFace:
    """Hugging Face's generate at the same shape, in bfloat16."""

    def __init__(self, threads: int) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.set_num_threads(threads)
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, dtype=torch.bfloat16,
        )  # fmt: skip
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        self.model = model.to_empty(device="cpu").to(torch.bfloat16).eval()
        for weight in (*self.model.parameters(), *self.model.buffers()):
            weight.data.fill_(0.01)
        self.prompt = torch.arange(300, 300 + SHORT)[None]

    def decode(self, tokens: int) -> Pass:
        """So many tokens after a short prompt."""
        wall, cpu = time.monotonic(), time.process_time()
        self.model.generate(self.prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        return Pass(time.monotonic() - wall, time.process_time() - cpu, [], tokens)


def beside_hugging_face(model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Our server and Hugging Face's generate in turn, one client: tokens decoded a second, and ratios."""
    settings = ["parallel=1", f"context={CONTEXT}", f"threads={options.threads}", "cache_mib=0"]
    peer, seen = HuggingFace(options.threads), []
    with serving(str(model), settings) as ours:
        idle = idle_rates([ours])[ours[1]]
        for number in range(-1, options.rounds):
            once = asyncio.run(run(ours, idle, 1, SHORT, options.tokens, f"{number} decode"))
            passes = once, peer.decode(options.tokens)
            if number >= 0:  # the first warms up
                seen.append(passes)
    told = {}
    for clock in ("wall", "cpu"):
        rates = [
            statistics.median(one.tokens / getattr(one, clock) for one in side) for side in zip(*seen, strict=True)
        ]
        told[clock] = {"ours": rates[0], "hugging face bf16": rates[1], "ratio": rates[0] / rates[1]}
    return {"decode, tokens a second": told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hf", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(options.export, Path(folder))
        print(f"{model.stat().st_size / 2**20:.0f} MiB", flush=True)
        for clients in options.clients:
            print(json.dumps(compare(model, clients, options), indent=2), flush=True)
        if options.hf:
            print(json.dumps(beside_hugging_face(model, options), indent=2))


if __name__ == "__main__":
    main()
