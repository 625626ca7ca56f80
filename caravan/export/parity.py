"""Whether an exported file says what torch says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.errors import ExportError
from caravan.core.progress import track
from caravan.engine import Engine
from caravan.export.probes import KINDS, Kind, Probe
from caravan.media.features import MediaSpec, audio_features, image_features
from caravan.models.generate import generate
from caravan.text.chat import encode, prompt_text

# First tokens that are compared: the likeliest of the engine's that torch gives at least this probability. Further
# down the tail, rounding moves logarithms and no answer.
TOP = 20
LIKELY = 1e-3
SPARE_CONTEXT = 64
TINY = 1e-9


@dataclass(frozen=True)
class Reference:
    """What torch in fp32 says to a prompt.

    Attributes:
        kind: which senses the prompt needs.
        prompt: rendered, one pad token for each medium.
        media: the bytes of the media.
        ids: the prompt's ids, pad tokens repeated as often as their medium has features.
        answer: the greedy answer's ids, without the end.
        logprobs: [answer + 1, vocabulary], of each token of the answer and of what comes after it.
    """

    kind: Kind
    prompt: str
    media: list[bytes]
    ids: list[int]
    answer: list[int]
    logprobs: npt.NDArray[np.float32]


def references(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: MediaSpec, probes: Sequence[Probe], length: int
) -> list[Reference]:
    """Torch's greedy answers of up to `length` tokens, and how sure it was of each token."""
    with track("torch's answers", len(probes), "prompt") as bar:
        found = []
        for probe in probes:
            found.append(_reference(model, tokenizer, spec, probe, length))
            bar.advance()
    return found


def _reference(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: MediaSpec, probe: Probe, length: int
) -> Reference:
    # A model that never saw a chat is asked the words alone.
    chats = tokenizer.chat_template is not None
    prompt = prompt_text(tokenizer, probe.messages) if chats else probe.messages[-1].text
    clips = [audio_features(data, spec) for data in probe.audios]
    pictures = [image_features(data, spec) for data in probe.images]
    audio_tokens = [len(clip) * spec.audio_tokens_per_window for clip in clips]
    ids = encode(tokenizer, prompt, audio_tokens, [spec.image_tokens] * len(pictures))
    media = {
        "input_features": np.concatenate(clips) if clips else None,
        "pixel_values": np.stack(pictures) if pictures else None,
    }
    present = {name: value for name, value in media.items() if value is not None}
    lists: dict[str, Any] = {name: [value] for name, value in present.items()}
    answer = generate(model, tokenizer, [ids], max_new_tokens=length, **lists)[0]
    tensors = {name: torch.from_numpy(value) for name, value in present.items()}
    with torch.inference_mode():
        whole = torch.tensor([ids + answer])
        logits_TV = model(input_ids=whole, use_cache=False, logits_to_keep=len(answer) + 1, **tensors).logits[0]
        logprobs = torch.log_softmax(logits_TV.float(), dim=-1).numpy()
    return Reference(probe.kind, prompt, probe.media, ids, answer, logprobs)


@dataclass(frozen=True)
class Parity:
    """How a file compares on the prompts of one kind.

    Attributes:
        prompts: how many were compared.
        logprob_delta: the largest difference of a likely first token's log-probability.
        divergence: of the first token's probabilities from torch's: Kullback-Leibler in nats over the file's likeliest
            tokens and the rest together, the mean.
        agreement: share of prompts whose greedy answer is the same, token for token.
        tie: where answers part, how much likelier torch holds its own next token than the file's; the largest.
    """

    prompts: int
    logprob_delta: float
    divergence: float
    agreement: float
    tie: float


def compare(
    model: Path,
    mmproj: Path | None,
    references: Sequence[Reference],
    stop: Sequence[int],
    length: int,
    threads: int,
    adapter: Path | None = None,
) -> dict[Kind, Parity]:
    """Run a file, with an adapter if there is one, in the engine on every prompt that torch answered.

    Raises:
        ExportError: the engine reads a prompt as other tokens.
    """
    context = max(len(reference.ids) for reference in references) + length + SPARE_CONTEXT
    found: dict[Kind, list[_Compared]] = {}
    with (
        Engine(model, mmproj, context=context, threads=threads, adapter=adapter) as engine,
        track(f"{model.stem} against torch", len(references), "prompt") as bar,
    ):
        for reference in references:
            completion = engine.complete(reference.prompt, reference.media, max_tokens=length)
            _check_tokens(engine, reference, completion.prompt_tokens)
            first = engine.next_logprobs(reference.prompt, reference.media, top=TOP)
            gap = parting(list(completion.tokens), reference, stop, length)
            right = reference.logprobs[0]
            found.setdefault(reference.kind, []).append(_Compared(_delta(first, right), divergence(first, right), gap))
            bar.advance()
    return {kind: _summary(found[kind]) for kind in KINDS if kind in found}


@dataclass(frozen=True)
class _Compared:
    """What one prompt told; `gap` is None where the answers are the same."""

    delta: float
    divergence: float
    gap: float | None


def _summary(found: Sequence[_Compared]) -> Parity:
    gaps = [one.gap for one in found if one.gap is not None]
    return Parity(
        prompts=len(found),
        logprob_delta=round(max(one.delta for one in found), 6),
        divergence=round(sum(one.divergence for one in found) / len(found), 6),
        agreement=round(1 - len(gaps) / len(found), 4),
        tie=round(max(gaps, default=0.0), 6),
    )


def parting(tokens: list[int], reference: Reference, stop: Sequence[int], length: int) -> float | None:
    """None where the answers are the same; else how torch's log-probabilities differ where they part."""
    ours = _with_end(tokens, stop, length)
    theirs = _with_end(reference.answer, stop, length)
    for place, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            ends = list(stop)
            sure = [reference.logprobs[place][ends if token is None else token].max() for token in (their, our)]
            return float(sure[0] - sure[1])
    return None


def _with_end(tokens: Sequence[int], stop: Sequence[int], length: int) -> list[int | None]:
    """An answer that ended before its limit, followed by None: whichever end token it was."""
    answer: list[int | None] = [token for token in tokens if token not in stop]
    return answer if len(answer) >= length else [*answer, None]


def _check_tokens(engine: Engine, reference: Reference, prompt_tokens: int) -> None:
    """Ids where there is text alone; with media, that they make as many tokens as features."""
    ids = engine.tokenize(reference.prompt) if not reference.media else None
    if prompt_tokens != len(reference.ids) or (ids is not None and ids != reference.ids):
        raise ExportError(
            "the exported tokenizer or media read a prompt otherwise",
            where=reference.prompt[:80],
            expected=f"{len(reference.ids)} tokens: {reference.ids[:20]}",
            got=f"{prompt_tokens} tokens: {(ids or [])[:20]}",
            fix="train with a tokenizer of the tokenize stage",
        )


def _delta(found: dict[int, float], logprobs: npt.NDArray[np.float32]) -> float:
    likely = [token for token in found if logprobs[token] >= np.log(LIKELY)]
    return max((abs(found[token] - float(logprobs[token])) for token in likely), default=float("inf"))


def divergence(found: dict[int, float], logprobs: npt.NDArray[np.float32]) -> float:
    """Kullback-Leibler divergence, in nats, of a file's log-probabilities of some tokens from torch's of all.

    The tokens that the file does not tell of count as one: that is never more than the divergence over all.
    """
    file = np.array(list(found.values()), np.float64)
    torch_ = logprobs[list(found)].astype(np.float64)
    ours, theirs = (np.append(logs, np.log(max(1 - np.exp(logs).sum(), TINY))) for logs in (file, torch_))
    return max(float((np.exp(theirs) * (theirs - ours)).sum()), 0.0)


def check_exact(parity: dict[Kind, Parity], file: Path, max_delta: float) -> None:
    """See that a file says what torch says: answers may part only where torch itself is undecided.

    Two tokens whose log-probabilities are each off by `max_delta` can change places if they are 2 `max_delta` apart.

    Raises:
        ExportError: log-probabilities differ by more, or answers part where torch was sure.
    """
    wrong = [
        f"{kind}: log-probabilities differ by {figures.logprob_delta:.4f}; {figures.agreement:.0%} of answers agree, "
        f"the others part where torch's tokens are {figures.tie:.4f} apart"
        for kind, figures in parity.items()
        if figures.logprob_delta > max_delta or figures.tie > 2 * max_delta
    ]
    expected = f"log-probabilities within {max_delta}, and answers that part only within {2 * max_delta}"
    _refuse(wrong, file, expected, "raise max_logprob_delta only if you know why")


def check_close(parity: dict[Kind, Parity], file: Path, max_divergence: float) -> None:
    """See that a file of rounded weights is still the same model.

    Raises:
        ExportError: its probabilities diverge from torch's.
    """
    wrong = [
        f"{kind}: probabilities diverge by {figures.divergence:.4f} nats"
        for kind, figures in parity.items()
        if not figures.divergence <= max_divergence
    ]
    _refuse(wrong, file, f"at most {max_divergence} nats", "export a type of more bits, or raise max_divergence")


def _refuse(wrong: list[str], file: Path, expected: str, advice: str) -> None:
    if wrong:
        raise ExportError(
            "the exported file does not say what torch says",
            where=str(file),
            expected=expected,
            got="; ".join(wrong),
            fix=f"look for weights far out of the usual range; {advice}",
        )
