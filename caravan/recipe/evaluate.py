"""The evaluate stage: what is measured, on how much, and what it should reach."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, PositiveInt

from caravan.recipe.base import Section
from caravan.recipe.services import Service


class Target(Section):
    """One line of the last table: rows of the test, what is measured on them, and what it should reach."""

    name: str = Field(description="the line's words")
    metric: Literal["accuracy", "int4 = fp32", "HTTP = in-process"] = Field(
        "accuracy",
        description="accuracy: exact answers, the mean over languages; the others: share of equal answers over rows",
    )
    task: str | None = Field(None, description="only rows of this task; default: all")
    group: str | None = Field(None, description="only rows of this held-out group; default: all")
    source: str | None = Field(None, description="only rows of this source; default: all")
    languages: list[str] | None = Field(None, description="only rows of these languages; default: all")
    at_least: float | None = Field(None, ge=0, le=1, description="what it should reach; default: it is only reported")


TARGETS = [
    Target(
        name="what is in the picture (unseen combination and style)",
        task="picture",
        group="unseen combination+style",
        source="samples/picture/object",
        at_least=0.85,
    ),
    Target(name="spoken request (unseen voice)", task="speech", group="unseen voice", at_least=0.85),
    Target(name="spoken question about a picture", task="both", at_least=0.75),
    Target(name="int4 answers as fp32", metric="int4 = fp32", at_least=0.95),
    Target(name="HTTP answers as in-process", metric="HTTP = in-process", at_least=1.0),
]


Probe = Literal[
    "silence", "noise", "music", "other clip", "transcript", "asked in another language", "code-switched",
    "blank picture", "other picture",
]  # fmt: skip


class ProbesConfig(Section):
    """What the senses do with what no test holds: no speech, other media than asked about, two languages at once."""

    kinds: list[Probe] = Field(list(get_args(Probe)), min_length=1, description="which probes")
    limit: PositiveInt = Field(4, description="rows of each task, language and held-out group that each probe takes")
    max_new_tokens: PositiveInt = Field(96, description="longest answer, in tokens: a loop needs room to show")
    turns: PositiveInt = Field(12, description="probes on the page, with their sound and pictures")


class Transcriptions(Service):
    """Any OpenAI-compatible `/audio/transcriptions`."""

    url: str = Field(pattern=r"^https?://", description="its address, up to and with /audio/transcriptions")
    model: str = Field("whisper-1", description="model")


class CascadeConfig(Section):
    """The same clips by a recogniser and then a language model: what is right, and how soon the first token comes."""

    recogniser: str | Transcriptions = Field(
        "self",
        description="who writes the clips down: `self` (the model that is evaluated), `sample-whisper`, a folder or hub"
        " name of a Whisper, or {url: …} of a service",
    )
    model: str | None = Field(
        None, description="language model that answers: folder or hub name; default: the model that is evaluated"
    )
    limit: PositiveInt = Field(4, description="rows with a clip of each task, language and held-out group")
    timed: PositiveInt = Field(12, description="of these, rows that are timed, one at a time")
    max_new_tokens: PositiveInt = Field(96, description="longest transcript, in tokens")
    turns: PositiveInt = Field(6, description="clips on the page on which the two differ")


class EvaluateConfig(Section):
    """Held-out quality of the model, and of the export where there is one."""

    limit: PositiveInt = Field(12, description="test rows for each task, language and held-out group")
    int4_limit: PositiveInt = Field(2, description="of these, rows that the exported model answers too")
    http_limit: PositiveInt = Field(1, description="of these, rows that are also asked over HTTP")
    tasks: list[str] | None = Field(None, description="tasks to measure; default: all that the test has")
    batch: PositiveInt = Field(16, description="prompts answered together")
    max_new_tokens: PositiveInt = Field(32, description="longest answer, in tokens")
    quantisation: Literal["q4_0", "q4_k_m"] = Field("q4_k_m", description="the exported file that is compared")
    heldout_bytes: PositiveInt = Field(16_000, description="held-out text for each language, for bits per byte")
    length: PositiveInt = Field(256, description="tokens of context for bits per byte")
    before: str | None = Field(
        None,
        description="folder (relative to `data`) or hub name of the model that was continued; its bits per byte stand"
        " beside, so that what was forgotten of each language shows",
    )
    turns: PositiveInt = Field(24, description="sample turns on the page")
    probes: ProbesConfig | None = Field(
        None, description="how ears and eyes behave at their limits; default: not asked"
    )
    cascade: CascadeConfig | None = Field(
        None, description="a recogniser and then a language model on the same clips; default: not compared"
    )
    targets: list[Target] = Field(TARGETS, description="the lines of the last table")
