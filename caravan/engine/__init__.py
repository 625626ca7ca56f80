"""llama.cpp as the engine on CPUs: in this process (`Engine`), or as one of its own (`python -m caravan.engine`)."""

from caravan.engine.process import ADAPTER, Engine, gguf_files
from caravan.engine.protocol import (
    Completion,
    EngineRequestError,
    EventReader,
    completion_request,
    engine_error,
    read_completion,
)

__all__ = [
    "ADAPTER",
    "Completion",
    "Engine",
    "EngineRequestError",
    "EventReader",
    "completion_request",
    "engine_error",
    "gguf_files",
    "read_completion",
]
