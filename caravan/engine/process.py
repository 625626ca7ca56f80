"""llama.cpp as the engine on CPUs, in this process.

llama.cpp's own HTTP server (from the xllamacpp wheel) listens on loopback, behind a key. Prompts arrive rendered: no
chat template of llama.cpp is used, special tokens in the prompt are parsed as such, and nothing is added before them.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caravan.core.errors import MissingDependencyError, ServeError
from caravan.engine.protocol import Completion, EventReader, completion_request, engine_error, read_completion

if TYPE_CHECKING:
    import httpx
    import xllamacpp

HOST = "127.0.0.1"
GGUF_MAGIC = b"GGUF"
BATCH = 2048  # tokens: the longest text that can be embedded
ADAPTER = "adapter.gguf"  # what an exported LoRA adapter is called in its folder


def gguf_files(folder: Path, quantisation: str) -> tuple[Path, Path]:
    """Where a `gguf` artifact has the language model in this quantisation, and its encoders if it has senses."""
    return folder / f"model-{quantisation}.gguf", folder / "mmproj-f16.gguf"


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
    model: Path, mmproj: Path | None, context: int, threads: int, parallel: int, port: int, cache_mib: int, key: str
) -> xllamacpp.CommonParams:
    library = _import_xllamacpp()
    parameters = library.CommonParams()
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
    parameters.endpoint_metrics = True  # how many slots each step fills, without what is said in them
    parameters.cache_ram_mib = cache_mib  # llama.cpp's own default is 8 GB of old prompts
    # Answers stay as they are. A text must fit one physical batch.
    parameters.embedding = True
    parameters.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    parameters.n_ubatch = max(min(context, BATCH), parameters.n_ubatch)
    parameters.warmup = False
    parameters.verbosity = 1  # errors only
    return parameters


def _named(**files: Path | None) -> list[str]:
    return [f"{name} {file}" for name, file in files.items() if file is not None]


class Engine:
    """A GGUF model, with its encoders if `mmproj` is given, ready to answer.

    Args:
        model: the language model's GGUF.
        mmproj: the encoders' and projectors' GGUF.
        context: tokens that each of the parallel slots can hold, at most what the model was trained for.
        threads: CPU threads.
        parallel: how many requests are answered at the same time.
        port: of the loopback server; 0 takes a free one.
        cache_mib: memory for prompts that lost their slot to others, where requests ask for `cache_prompt`.
        adapter: a LoRA adapter's GGUF, added to the language model.

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
        cache_mib: int = 0,
        adapter: Path | None = None,
    ) -> None:
        library = _import_xllamacpp()
        import httpx

        for file in (model, mmproj, adapter):
            if file is not None:
                _check_file(Path(file))
        _check_port(port)
        self.key = secrets.token_urlsafe(24)
        parameters = _parameters(model, mmproj, context, threads, parallel, port, cache_mib, self.key)
        if adapter is not None:
            parameters.lora_adapters = [library.CommonAdapterLoraInfo(str(adapter), 1.0)]
        try:
            self._server: Any = library.Server(parameters)
        except RuntimeError as error:
            raise ServeError(
                "llama.cpp cannot load the model",
                where=str(model),
                expected=" and its ".join(["a GGUF model", *_named(mmproj=mmproj, adapter=adapter)]),
                got=f"{error} (llama.cpp's own words are on standard error)",
                fix="export the model again; give the mmproj that was exported with it, and an adapter of this model",
            ) from error
        self.address: str = self._server.listening_address
        # Kept connections were seen to drop now and then; why is not proven, a new one each time is safe.
        headers = {"Authorization": f"Bearer {self.key}", "Connection": "close"}
        self._client: httpx.Client = httpx.Client(base_url=self.address, headers=headers, timeout=None, trust_env=False)
        properties = self._json("GET", "/props")
        self.marker: str = properties["media_marker"]
        self.context: int = properties["default_generation_settings"]["n_ctx"]
        self.batch = min(parameters.n_ubatch, self.context)
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

    def stream(self, prompt: str, media: Sequence[bytes] = (), **sampling: Any) -> Generator[str, None, None]:
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
