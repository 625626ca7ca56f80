"""espeak-ng in a process of its own: run as a program with a folder of voices, it reads utterances and writes speech.

Each line of the standard input is a JSON list of `[voice, rate, pitch, text]`; the answer is, for each of them, four
bytes of length (little endian) and that many bytes of 16-bit mono samples at 22.05 kHz, then it waits for the next
line. The library is GPL, and a fault in it ends this process alone.

The synthesiser's state carries over from one utterance to the next, so each one is spoken by a fork of the freshly
opened library: the same utterance gives the same samples, whatever came before.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

import espeakng_loader

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _PITCH = 1, 3  # espeakRATE in words a minute, espeakPITCH of 0 to 100
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

Speaker = Callable[[str, int, int, str], bytes]


def open_library(data: str) -> Speaker:
    """Load espeak-ng with its data folder; returns a function from (voice, rate, pitch, text) to samples."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    if library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), 0) < 0:
        raise SystemExit("espeak-ng cannot read its voices")
    chunks: list[bytes] = []

    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)

    def speak(voice: str, rate: int, pitch: int, text: str, _alive: object = callback) -> bytes:
        chunks.clear()
        library.espeak_ng_SetRandSeed(1)  # breathy voices draw noise, by default from the clock
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SystemExit(f"espeak-ng has no voice {voice}")
        library.espeak_SetParameter(_RATE, rate, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        encoded = text.encode() + b"\0"
        library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        return b"".join(chunks)

    return speak


def in_fork(speak: Speaker, utterance: tuple[str, int, int, str]) -> bytes:
    """What a fork of this process says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(speak(*utterance))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        samples = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0 or not samples:
        raise SystemExit(f"espeak-ng failed on {utterance}")
    return samples


def serve(data: str, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer every line of utterances until the input ends."""
    speak = open_library(data)
    for line in source:
        spoken = [in_fork(speak, tuple(utterance)) for utterance in json.loads(line)]
        sink.write(b"".join(struct.pack("<I", len(samples)) + samples for samples in spoken))
        sink.flush()


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
