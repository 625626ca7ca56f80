"""Sample turns for people to look at: right and wrong ones of every task, with their sound and pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from caravan.core.files import sha256_obj
from caravan.evaluate.metrics import FP32, INT4, right
from caravan.evaluate.probes import Probed
from caravan.evaluate.rows import Row
from caravan.records import AudioPart, ImagePart, TextPart

KINDS = (
    (b"RIFF", "audio/wav"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def data_uri(data: bytes) -> str:
    """A clip or a picture inside the page itself."""
    kind = next((kind for start, kind in KINDS if data.startswith(start)), "application/octet-stream")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def choose_turns(rows: Sequence[Row], answers: Mapping[str, str], most: int, seed: int) -> list[Row]:
    """Up to `most` rows, in turn from the right and the wrong of each task, spread over the languages by a hash."""
    piles: dict[tuple[str, bool], list[Row]] = {}
    for row in sorted(rows, key=lambda row: sha256_obj([seed, "turn", row.id])):
        piles.setdefault((row.task, right(answers[row.id], row)), []).append(row)
    order = [piles[key] for key in sorted(piles, key=lambda key: (key[0], not key[1]))]
    chosen: list[Row] = []
    while len(chosen) < most and any(order):
        for pile in order:
            if pile and len(chosen) < most:
                chosen.append(pile.pop(0))
    return sorted(chosen, key=lambda row: (row.task, not right(answers[row.id], row), row.language))


def choose_probes(probed: Sequence[Probed], most: int, seed: int) -> list[Probed]:
    """Up to `most` rows of probes, in turn from each probe, spread over the languages by a hash."""
    piles: dict[str, list[Probed]] = {one.probe: [] for one in probed}
    for one in sorted(probed, key=lambda one: sha256_obj([seed, "turn", one.row.id])):
        piles[one.probe].append(one)
    layers = zip_longest(*piles.values())
    return [one for layer in layers for one in layer if one is not None][:most]


def shown(row: Row, answers: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What the page needs of a row."""
    parts = [
        {"type": part.type, "role": message.role}
        | ({"text": part.text} if isinstance(part, TextPart) else {})
        | ({"uri": data_uri(part.audio.read())} if isinstance(part, AudioPart) else {})
        | ({"uri": data_uri(part.image.read())} if isinstance(part, ImagePart) else {})
        for message in row.messages
        for part in message.content
    ]
    answer = answers[FP32][row.id]
    return {
        "task": row.task,
        "group": row.group,
        "language": row.language,
        "parts": parts,
        "expected": row.reference,
        "answer": answer,
        "int4": answers.get(INT4, {}).get(row.id, answer),
        "right": right(answer, row),
    }
