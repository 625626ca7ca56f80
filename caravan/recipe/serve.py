"""What `caravan serve` and `caravan chat` can be told."""

from __future__ import annotations

from pydantic import Field, model_validator

from caravan.recipe.base import Section
from caravan.recipe.export import FileType


class LimitsConfig(Section):
    """What one request may carry. All of it is checked before the engine sees anything."""

    request_bytes: int = Field(64 << 20, gt=0, description="bytes of one request, media in base64 included")
    all_bytes: int = Field(256 << 20, gt=0, description="bytes of all requests that are being read or answered")
    text: int = Field(200_000, gt=0, description="characters of text in one request")
    media: int = Field(16, ge=0, description="clips and pictures in one request")
    seconds: float = Field(300.0, gt=0, description="length of all clips of one request")
    pixels: int = Field(40_000_000, gt=0, description="size of all pictures of one request, known before decoding")
    tokens: int = Field(4096, gt=0, description="length of an answer, whatever the request says")


class TimeoutsConfig(Section):
    """How long each part of a request may take, in seconds."""

    body: float = Field(60.0, gt=0, description="between two pieces of a request's body; then 408")
    queue: float = Field(120.0, gt=0, description="waiting for a turn; then 429")
    silence: float = Field(300.0, gt=0, description="of the engine, with a request in hand; then 504")
    answer: float = Field(900.0, gt=0, description="of the whole answer; then it ends as 504, or with an error event")
    send: float = Field(60.0, gt=0, description="until a client takes a piece of its answer; then it is given up")


class ServeConfig(Section):
    """An OpenAI-compatible endpoint and a web chat over the exported model."""

    quantisation: FileType = Field("q4_k_m", description="which of the exported files to serve")
    adapter: str | None = Field(
        None, description="a LoRA adapter's .gguf file, or the folder that holds it, added to the model as it is served"
    )
    upstream: str | None = Field(
        None,
        pattern=r"^https?://",
        description="an OpenAI-compatible server that answers in place of llama.cpp, such as vLLM: http://gpu:8000/v1",
    )
    upstream_key: str | None = Field(
        None, description="API key of that server; null for the environment's CARAVAN_UPSTREAM_KEY, if it has one"
    )
    compare: str | None = Field(
        None, description="a second model, to be compared with the first in the web chat: as the first is given"
    )
    preferences: str | None = Field(
        None, description="folder in which preferences.jsonl tells which model was preferred; null for a mere count"
    )
    preferences_content: bool = Field(False, description="write what was asked and answered there, too")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every network of this machine")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 for any that is free")
    api_key: str | None = Field(
        None,
        description="who does not give it is refused; empty for no key; null for the environment's CARAVAN_API_KEY, "
        "else no key on loopback, and on any other address one that is made and printed",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names under which the server may be asked for; on loopback, its own are always among them"
    )
    media_hosts: tuple[str, ...] = Field(
        (), description="hosts from which pictures may be fetched; never from private addresses, and none by default"
    )
    context: int = Field(2048, ge=64, description="tokens of one conversation: prompt, media and answer")
    parallel: int = Field(2, ge=1, description="requests answered at the same time; others wait")
    queue: int = Field(32, ge=0, description="requests that may wait; more are refused with 429")
    threads: int | None = Field(None, ge=1, description="threads of the engine; null for one per core")
    max_tokens: int = Field(256, ge=1, description="length of an answer where the request does not say")
    temperature: float = Field(0.0, ge=0, le=2, description="where the request does not say; 0 is greedy")
    loop_characters: int = Field(
        400,
        ge=0,
        description="an answer that runs away, so many characters of one thing over and over, at least four times, is "
        "ended; 0: never",
    )
    cache_prompt: bool = Field(
        True,
        description="start from what is still known of the conversation: faster, but rounding, and so an answer at a "
        "near tie, then depends on what came before",
    )
    cache_mib: int = Field(256, ge=0, description="memory for conversations that are not being answered right now")
    log_content: bool = Field(False, description="write what is asked and answered to the log, media left out")
    limits: LimitsConfig = Field(LimitsConfig(), description="what one request may carry")
    timeouts: TimeoutsConfig = Field(TimeoutsConfig(), description="how long each part of a request may take")

    @model_validator(mode="after")
    def _adapter_is_of_this_machine(self) -> ServeConfig:
        if self.adapter is not None and self.upstream is not None:
            raise ValueError(
                "an adapter is added by the engine of this machine: load it in the server that `upstream` names"
            )
        return self
