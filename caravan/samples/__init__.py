"""The sample world: a small, deterministic source of text, speech and pictures in 18 languages.

Everything is a pure function of (seed, split, number), so any row can be made alone, on any machine. The test
split asks for what training never showed: combinations of colour and shape, drawing styles, hands, voices,
phrasings and facts; `group` of a test dialogue says which. `heldout: validation` takes its rows from a second
held-out side, for choosing settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from caravan.core.errors import RecipeError
from caravan.recipe.samples import SamplesConfig
from caravan.records import LANGUAGES, Dialogue, Document, Pair
from caravan.samples import dialogues as _dialogues
from caravan.samples import text as _text
from caravan.samples.dialogues import Clip, Picture
from caravan.samples.voices import speak
from caravan.samples.world import SPOKEN
from caravan.samples.world import Split as Side

Split = Literal["train", "test"]

__all__ = ["SPOKEN", "Clip", "Picture", "clips", "dialogues", "documents", "pairs", "pictures", "sample_encoder"]


def _languages(config: SamplesConfig) -> tuple[str, ...]:
    languages = tuple(config.languages or LANGUAGES)
    unknown = [code for code in (*languages, *(config.spoken or ())) if code not in LANGUAGES]
    if unknown:
        raise RecipeError(
            "the sample world does not speak every language asked for",
            expected=f"languages of {', '.join(LANGUAGES)}",
            got=", ".join(unknown),
            fix="leave them out of `languages` and `spoken`",
        )
    return languages


def _spoken(config: SamplesConfig) -> tuple[str, ...]:
    """The languages with speech: those asked for, or by default those that espeak-ng speaks well."""
    chosen = SPOKEN if config.spoken is None else config.spoken
    return tuple(code for code in chosen if code in _languages(config))


def _side(config: SamplesConfig, split: Split) -> Side:
    return "train" if split == "train" else config.heldout


def documents(config: SamplesConfig, seed: int) -> Iterator[Document]:
    """`config.documents` documents; a tenth is junk and some repeat others: `source` starts `samples/clean`,
    `samples/junk/...` or `samples/dup/...`."""
    languages = _languages(config)
    return (_text.document(seed, number, languages) for number in range(config.documents))


def pairs(config: SamplesConfig, seed: int) -> Iterator[Pair]:
    """`config.pairs` parallel sentences; none when fewer than two languages are asked for."""
    languages = _languages(config)
    count = config.pairs if len(languages) > 1 else 0
    return (_text.pair(seed, number, languages) for number in range(count))


def dialogues(config: SamplesConfig, seed: int, split: Split) -> Iterator[Dialogue]:
    """Dialogues of the tasks chat, picture, speech and both.

    Training gives `config.dialogues` of them, mixed; the test split `config.test` for each task and language.

    Raises:
        MissingDependencyError: Pillow, or what speech needs, is not installed (`spoken: []` does without speech).
    """
    languages, spoken, side = _languages(config), _spoken(config), _side(config, split)
    count = config.dialogues
    if split == "test" and count:
        count = config.test * len(_dialogues.cells_of(languages, spoken))
    plans = (
        _dialogues.plan_dialogue(seed, side, number, languages, spoken, config.test) for number in range(count)
    )  # fmt: skip
    for plan, audio in speak((plan, plan.utterance) for plan in plans):
        yield _dialogues.build_dialogue(plan, audio, languages)


def clips(config: SamplesConfig, seed: int, split: Split) -> Iterator[Clip]:
    """Spoken sentences: `config.clips` in training voices, or `config.test` for each language in unseen ones.

    Raises:
        MissingDependencyError: what speech needs is not installed.
    """
    spoken, side = _spoken(config), _side(config, split)
    count = config.clips if split == "train" else min(config.clips, config.test * len(spoken))
    plans = (_dialogues.plan_clip(seed, side, number, spoken) for number in range(count if spoken else 0))
    for (text, utterance), audio in speak(((text, utterance), utterance) for text, utterance in plans):
        yield Clip(audio, text, utterance.language, utterance.voice)


def pictures(config: SamplesConfig, seed: int, split: Split) -> Iterator[Picture]:
    """Pictures: `config.pictures` for training, or four times `config.test` of unseen combinations and styles."""
    languages, side = _languages(config), _side(config, split)
    count = config.pictures if split == "train" else min(config.pictures, 4 * config.test)
    return (_dialogues.picture(seed, side, number, languages) for number in range(count))


# The names that recipes give to the stand-ins.
SHIPPED = {"sample-whisper": "speech", "sample-clip": "vision"}


def sample_encoder(sense: str) -> Path:
    """The folder of the small pretrained stand-in encoder for "speech" or "vision"."""
    return Path(__file__).parent / "encoders" / sense
