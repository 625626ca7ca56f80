"""llama.cpp as the engine on CPUs: in this process, or as a process of its own (`python -m caravan.engine MODEL`).

llama.cpp's own HTTP server (from the xllamacpp wheel) listens on loopback, behind a key. Prompts arrive rendered: no
chat template of llama.cpp is used, special tokens in the prompt are parsed as such, and nothing is added before them.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caravan.core.errors import CaravanError, MissingDependencyError, PlaceholderError, ServeError

if TYPE_CHECKING:
    import httpx
    import xllamacpp

HOST = "127.0.0.1"
CUT = "\ufffd"  # what an answer that stops inside a character ends with; it is left out, streamed or not
GGUF_MAGIC = b"GGUF"
# One of these stands in a prompt for each medium: the pad tokens of the chat template.
PLACEHOLDER = re.compile(r"<\|(?:audio|image)_pad\|>")
RANDOM_SEED = 2**32 - 1  # llama.cpp reads this value as "draw one"
PARENT_POLL_SECONDS = 0.5


def gguf_files(folder: Path, quantisation: str) -> tuple[Path, Path]:
    """Where a `gguf` artifact has the language model in this quantisation, and its encoders if it has senses."""
    return folder / f"model-{quantisation}.gguf", folder / "mmproj-f16.gguf"


class EngineRequestError(ServeError):
    """The engine is well, but this request cannot be answered: too long, or media that it cannot decode."""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer.

    Attributes:
        text: what was written, special tokens left out.
        tokens: its ids, the end token included where there is one.
        finish_reason: "stop" (end token or stop string) or "length" (max_tokens or a full context).
        prompt_tokens: length of the prompt, media included.
        completion_tokens: how many tokens were generated.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def completion_request(
    prompt: str,
    media: Sequence[bytes],
    marker: str,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    seed: int | None = None,
    stream: bool = False,
    cache_prompt: bool = False,
) -> dict[str, Any]:
    """The body of a request to llama.cpp's `/completion`.

    Args:
        prompt: rendered text with one pad token for each medium.
        media: WAV (16 kHz mono) and PNG bytes, in the order of their pad tokens.
        marker: what this engine reads as "a medium goes here" (`Engine.marker`).
        cache_prompt: start from what the slot still knows of an earlier prompt. Faster in a conversation; rounding, and
            so a greedy answer at a near tie, then depends on what came before.

    Raises:
        PlaceholderError: more or fewer pad tokens than media, or nothing after the last.
    """
    found = PLACEHOLDER.findall(prompt)
    if len(found) != len(media):
        raise PlaceholderError(
            "placeholders and media do not match",
            expected=f"{len(found)} media for {len(found)} placeholders in the prompt",
            got=f"{len(media)} media",
            fix="give one clip or picture for each placeholder",
        )
    if found and prompt.endswith(found[-1]):
        # llama.cpp aborts the whole process: it starts to generate from a text token.
        raise PlaceholderError(
            "the prompt ends with a medium", expected="text after it, such as the assistant's turn", got=found[-1]
        )
    rendered: str | dict[str, Any] = prompt
    if media:
        encoded = [base64.b64encode(item).decode("ascii") for item in media]
        rendered = {"prompt_string": PLACEHOLDER.sub(lambda _: marker, prompt), "multimodal_data": encoded}
    return {
        "prompt": rendered,
        "n_predict": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        # llama.cpp's further cuts are on by default: off, so that temperature and top_p mean what OpenAI's mean.
        "top_k": 0,
        "min_p": 0.0,
        "seed": RANDOM_SEED if seed is None else seed % RANDOM_SEED,
        "stop": [text for text in stop if text],
        "stream": stream,
        "cache_prompt": cache_prompt,
        "return_tokens": True,
    }


def read_completion(reply: dict[str, Any]) -> Completion:
    """The answer in a reply of `/completion`, or in the last event of a streamed one (whose text is then empty)."""
    return Completion(
        text=reply["content"].rstrip(CUT),
        tokens=tuple(reply["tokens"]),
        finish_reason="length" if reply["stop_type"] == "limit" else "stop",
        prompt_tokens=reply["tokens_evaluated"],
        completion_tokens=reply["tokens_predicted"],
    )


def engine_error(status: int, body: bytes) -> ServeError:
    """The error in a reply whose status is not 200: EngineRequestError if the request is at fault."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = {"message": body[:200].decode("utf-8", "replace")}
    if error.get("type") == "exceed_context_size_error":
        return EngineRequestError(
            "the prompt does not fit into the context",
            expected=f"at most {error['n_ctx']} tokens",
            got=f"{error['n_prompt_tokens']} tokens",
            fix="shorten the conversation, or serve with a larger context",
        )
    kind = EngineRequestError if 400 <= status < 500 else ServeError
    return kind("the engine refused a request", got=f"{status}: {error['message']}", fix="correct the request")


class EventReader:
    """Server-sent events from chunks of bytes that may end anywhere; split at newline bytes, never at U+2028."""

    def __init__(self) -> None:
        self._rest = b""
        self._held = ""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Events completed by this chunk.

        Raises:
            ServeError: an event says that generation failed.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"error":
                raise engine_error(500, b'{"error":' + value + b"}")
            if field == b"data" and value.strip() != b"[DONE]":
                event = json.loads(value)
                if "error" in event:
                    raise engine_error(int(event["error"].get("code", 500)), value)
                if "content" in event:
                    text = self._held + event["content"]
                    event["content"] = text.rstrip(CUT)
                    self._held = text[len(event["content"]) :]
                events.append(event)
        return events


def _import_xllamacpp() -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingDependencyError("xllamacpp", "serve", needed_for="running a GGUF model") from error
    return xllamacpp


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(GGUF_MAGIC))
    except OSError as error:
        raise ServeError(
            "the model file cannot be read", where=str(path), expected="a GGUF file", got=error.strerror
        ) from error
    if magic != GGUF_MAGIC:
        raise ServeError("not a GGUF file", where=str(path), expected=GGUF_MAGIC, got=magic, fix="export the model")


def _check_port(port: int) -> None:
    """llama.cpp does not say why it cannot listen, so try first."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServeError(
                f"port {port} cannot be used",
                expected="a free port",
                got=error.strerror,
                fix="stop what uses it, or choose another port (0 takes any)",
            ) from error


def _parameters(
    model: Path, mmproj: Path | None, context: int, threads: int, parallel: int, port: int, key: str
) -> xllamacpp.CommonParams:
    parameters = _import_xllamacpp().CommonParams()
    parameters.model.path = str(model)
    if mmproj is not None:
        parameters.mmproj.path = str(mmproj)
    parameters.n_parallel = parallel
    parameters.n_ctx = context * parallel  # llama.cpp divides it among the slots
    parameters.cpuparams.n_threads = threads
    parameters.port = port
    parameters.hostnames = [HOST]
    # Any page in a browser can reach loopback; without a key it could go round the validating front end.
    parameters.api_keys = [key]
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.cache_ram_mib = 0  # the default keeps up to 8 GB of old prompts
    parameters.warmup = False
    parameters.verbosity = 1  # errors only
    return parameters


class Engine:
    """A GGUF model, with its encoders if `mmproj` is given, ready to answer.

    Args:
        model: the language model's GGUF.
        mmproj: the encoders' and projectors' GGUF.
        context: tokens that each of the parallel slots can hold, at most what the model was trained for.
        threads: CPU threads.
        parallel: how many requests are answered at the same time.
        port: of the loopback server; 0 takes a free one.

    Raises:
        ServeError: a file that is not a loadable GGUF, or a port in use.
        MissingDependencyError: xllamacpp is not installed.
    """

    def __init__(
        self,
        model: Path,
        mmproj: Path | None = None,
        *,
        context: int = 2048,
        threads: int = 2,
        parallel: int = 1,
        port: int = 0,
    ) -> None:
        library = _import_xllamacpp()
        import httpx

        for file in (model, mmproj):
            if file is not None:
                _check_file(Path(file))
        _check_port(port)
        self.key = secrets.token_urlsafe(24)
        parameters = _parameters(model, mmproj, context, threads, parallel, port, self.key)
        try:
            self._server: Any = library.Server(parameters)
        except RuntimeError as error:
            raise ServeError(
                "llama.cpp cannot load the model",
                where=str(model),
                expected="a GGUF model" + (f" and its mmproj {mmproj}" if mmproj else ""),
                got=f"{error} (llama.cpp's own words are on standard error)",
                fix="export the model again; give the mmproj that was exported with it",
            ) from error
        self.address: str = self._server.listening_address
        # Kept connections were seen to drop now and then; why is not proven, a new one each time is safe.
        headers = {"Authorization": f"Bearer {self.key}", "Connection": "close"}
        self._client: httpx.Client = httpx.Client(base_url=self.address, headers=headers, timeout=None, trust_env=False)
        properties = self._json("GET", "/props")
        self.marker: str = properties["media_marker"]
        self.context: int = properties["default_generation_settings"]["n_ctx"]
        self.senses: frozenset[str] = frozenset(name for name, on in properties["modalities"].items() if on)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and free the model."""
        self._client.close()
        self._server = None

    def complete(self, prompt: str, media: Sequence[bytes] = (), **sampling: Any) -> Completion:
        """Answer a rendered prompt; the keywords are those of `completion_request`.

        Raises:
            PlaceholderError: more or fewer pad tokens than media.
            EngineRequestError: the prompt does not fit, or a medium cannot be decoded.
            ServeError: the engine failed.
        """
        body = completion_request(prompt, media, self.marker, **sampling)
        return read_completion(self._json("POST", "/completion", body))

    def stream(self, prompt: str, media: Sequence[bytes] = (), **sampling: Any) -> Iterator[str]:
        """Answer piece by piece, whole characters only; the pieces join to what `complete` gives. Raises as it does."""
        body = completion_request(prompt, media, self.marker, stream=True, **sampling)
        with _connection_named(), self._client.stream("POST", "/completion", json=body) as reply:
            if reply.status_code != 200:
                raise engine_error(reply.status_code, reply.read())
            reader = EventReader()
            for chunk in reply.iter_bytes():
                yield from (event["content"] for event in reader.feed(chunk) if event["content"])

    def next_logprobs(self, prompt: str, media: Sequence[bytes] = (), *, top: int) -> dict[int, float]:
        """Log-probabilities of the `top` likeliest next tokens, from the model's own logits. Raises as `complete` does.

        llama.cpp leaves out steps whose token ends inside a character. So a whole letter is forced; the reported
        probabilities are those before that.
        """
        letter = self.tokenize("a")[0]
        # The same prompt was often completed just before: its media need not be encoded again.
        body = completion_request(prompt, media, self.marker, max_tokens=1, cache_prompt=True)
        body |= {"n_probs": top, "logit_bias": [[letter, 1e6]]}
        step = self._json("POST", "/completion", body)["completion_probabilities"][0]
        return {item["id"]: item["logprob"] for item in step["top_logprobs"]}

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text as the engine reads it, special tokens parsed."""
        body = {"content": text, "add_special": True, "parse_special": True}
        return list(self._json("POST", "/tokenize", body)["tokens"])

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        with _connection_named():
            reply = self._client.request(method, path, json=body)
        if reply.status_code != 200:
            raise engine_error(reply.status_code, reply.content)
        return reply.json()


@contextlib.contextmanager
def _connection_named() -> Iterator[None]:
    """Turn a broken connection into a ServeError."""
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        raise ServeError("the engine does not answer", got=str(error), fix="start it again") from error


def _wait_for_the_end(parent: int) -> None:
    """Return when the process that started this one is gone."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)


def main(arguments: Iterable[str] | None = None) -> int:
    """Serve a model until the parent process ends; one line of JSON says that it is ready."""
    parser = argparse.ArgumentParser(prog="python -m caravan.engine", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    options = vars(parser.parse_args(None if arguments is None else list(arguments)))
    parent = os.getppid()
    os.environ["GGML_NO_BACKTRACE"] = "1"  # an abort would wait for a debugger to print what nobody reads
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        engine = Engine(options.pop("model"), options.pop("mmproj"), **options)
        ready = {"address": engine.address, "key": engine.key, "marker": engine.marker, "context": engine.context}
        print(json.dumps(ready | {"senses": sorted(engine.senses)}), flush=True)
        with engine:
            _wait_for_the_end(parent)
    except CaravanError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
