"""A small Whisper, trained to transcribe; its encoder is the stand-in for a large one.

Windows are 30 s as in Whisper. Most steps run on windows cropped to the batch's longest clip and some silence, which
are a prefix of the whole window in both frames and position table; the last steps run on whole windows, so that the
encoder hears what it will be given later. A CTC loss on the encoder's states (Graves et al. 2006; mixed with the
decoder's as by Watanabe et al. 2017) makes them say by themselves what was said. In some batches the decoder hears
means of many states: a language model will read as many at once, and must find in them what each stretch says. Such
means must also tell the words of the clip, each word in some stretch (as in Palaz et al. 2016): the language model
then has words to read, and not letters to put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from caravan.media.audio import SAMPLE_RATE, WINDOW_SECONDS, decode_audio, log_mel
from caravan.recipe.train import SpeechConfig, SpeechShape
from caravan.train.mix import Mixture, hashed
from caravan.train.pack import IGNORED, filled, padded, steps_for
from caravan.train.told import told
from caravan.train.vocabulary import FILL, START, STOP, encode

MELS, FRAMES = 80, 3000
MOST_TOKENS = 128
# Few different shapes: oneDNN keeps a compiled kernel for each that it meets.
ROUND_FRAMES, ROUND_TOKENS = 100, 16
MOST_SILENCE = 1500
STRETCH, WARP = 0.12, 0.12
MASKED_MELS, MASKED_FRAMES = 12, 16
POOLED = (1, 10, 25)
STRETCH_OF_WORDS = 25


def new_whisper(shape: SpeechShape, tokenizer: PreTrainedTokenizerFast) -> WhisperForConditionalGeneration:
    """A Whisper from scratch with a window of 30 s and a vocabulary of its own."""
    known = tokenizer.get_vocab()
    start, stop, fill = known[START], known[STOP], known[FILL]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=MELS,
        d_model=shape.hidden_size,
        encoder_layers=shape.layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.hidden_size,
        decoder_ffn_dim=4 * shape.hidden_size,
        max_source_positions=FRAMES // 2,
        max_target_positions=MOST_TOKENS,
        bos_token_id=start,
        eos_token_id=stop,
        pad_token_id=fill,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return WhisperForConditionalGeneration(config)


def encode_prefix(encoder: WhisperEncoder, mel_BMF: Tensor) -> Tensor:
    """Whisper's encoder on the first F frames of its window, F even: [B, mels, F] -> [B, F / 2, d].

    At F = 3000 it is the encoder's own forward pass, which takes no shorter window.
    """
    x_BdP = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(mel_BMF))))
    x_BPd = x_BdP.transpose(1, 2) + encoder.embed_positions.weight[: x_BdP.shape[2]]
    for layer in encoder.layers:
        x_BPd = layer(x_BPd, None)
    return cast(Tensor, encoder.layer_norm(x_BPd))


def spoken_frames(wave: NDArray[np.float32]) -> tuple[NDArray[np.float16], float]:
    """The frames of a window that touch sound [mels, F], and the constant that the rest of the window is."""
    mel_MF = log_mel(wave, MELS)
    silence = float(mel_MF[0, -1])
    last = int(np.flatnonzero((mel_MF != silence).any(0)).max(initial=0)) + 1
    return mel_MF[:, :last].astype(np.float16), silence


def vary(mel_MF: NDArray[np.float32], silence: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Another speaker's: slower or faster, a longer or shorter vocal tract (Jaitly and Hinton 2013), parts masked."""
    mels, frames = mel_MF.shape
    wanted = max(2, min(FRAMES, round(frames * rng.uniform(1 - STRETCH, 1 + STRETCH))))
    at_F = np.linspace(0, frames - 1, wanted)
    low_F = np.minimum(at_F.astype(int), frames - 2) if frames > 1 else np.zeros(wanted, int)
    share_F = (at_F - low_F).astype(np.float32)
    mel_MF = mel_MF[:, low_F] * (1 - share_F) + mel_MF[:, np.minimum(low_F + 1, frames - 1)] * share_F
    at_M = np.clip(np.arange(mels) * rng.uniform(1 - WARP, 1 + WARP), 0, mels - 1.001)
    low_M = at_M.astype(int)
    share_M = (at_M - low_M).astype(np.float32)[:, None]
    mel_MF = mel_MF[low_M] * (1 - share_M) + mel_MF[low_M + 1] * share_M
    for _ in range(2):
        mel = int(rng.integers(0, mels))
        mel_MF[mel : mel + int(rng.integers(0, MASKED_MELS))] = silence
        frame = int(rng.integers(0, wanted))
        mel_MF[:, frame : frame + int(rng.integers(0, MASKED_FRAMES))] = silence
    return mel_MF.astype(np.float32)


def other_microphone(mel_MF: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The same sound in another room: some bands louder, and steady noise of a chance colour.

    The noise is 12 to 70 dB below the loudest; a dB is 1/40 in Whisper's units, (log10 of the power + 4) / 4.
    """
    mels, frames = mel_MF.shape
    at_M = np.arange(mels)
    heard_MF = mel_MF + np.interp(at_M, np.linspace(0, mels - 1, 6), rng.normal(0, 5 / 40, 6))[:, None]
    colour_M = np.interp(at_M, np.linspace(0, mels - 1, 5), rng.normal(0, 8 / 40, 5))
    noise_MF = heard_MF.max() - rng.uniform(12, 70) / 40 + colour_M[:, None] + rng.normal(0, 3 / 40, (mels, frames))
    power = 4 * np.log(10)
    return (np.logaddexp(heard_MF * power, noise_MF * power) / power).astype(np.float32)


class SpeechItems:
    """Clips of at most 30 s as spectrograms, held in memory as float16, and their transcripts as ids."""

    def __init__(self, table: pa.Table, tokenizer: PreTrainedTokenizerFast, lexicon: PreTrainedTokenizerFast) -> None:
        self.texts: list[str] = []
        self.mels: list[tuple[NDArray[np.float16], float]] = []
        for row in range(len(table)):
            wave = decode_audio(table["media"][row].as_py(), where=f"clip {row}")
            if len(wave) <= WINDOW_SECONDS * SAMPLE_RATE:
                self.texts.append(table["texts"][row][0]["text"].as_py())
                self.mels.append(spoken_frames(wave))
        self.ids = [np.array(encode(tokenizer, text, MOST_TOKENS), np.int64) for text in self.texts]
        self.words = [np.unique(encode(lexicon, text, MOST_TOKENS)[1:-1]) for text in self.texts]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class SpeechRows:
    """Clips in the order of a run; the last share of the steps is on whole windows."""

    items: SpeechItems
    order: NDArray[np.int64]
    rows: int
    batch: int
    full_from: int
    seed: int
    noise: float = 0.0

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Frames that touch sound, the measure of the work."""
        return padded(np.array([self.items.mels[item][0].shape[1] for item in self.order], np.int64), self.rows)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        item = int(self.order[row % len(self.order)])
        rng = np.random.default_rng(int(hashed(self.seed, 2, row)))
        mel_MF, silence = self.items.mels[item]
        varied = vary(mel_MF.astype(np.float32), silence, rng)
        if rng.random() < self.noise:
            varied = other_microphone(varied, rng)
        silent = int(MOST_SILENCE * np.random.default_rng(int(hashed(self.seed, 4, row // self.batch))).random() ** 8)
        frames = FRAMES if row >= self.full_from else varied.shape[1] + silent
        pooled = POOLED[int(hashed(self.seed, 5, row // self.batch)) % len(POOLED)]
        return {
            "mel": varied,
            "silence": silence,
            "frames": min(FRAMES, frames),
            "ids": self.items.ids[item],
            "words": self.items.words[item],
            "pooled": pooled,
        }


def plan_speech(items: SpeechItems, config: SpeechConfig, seed: int) -> SpeechRows:
    """The order of a run: `epochs` permutations of the clips, or as many as `steps` needs."""
    count = config.steps * config.batch if config.steps else round(config.epochs * len(items))
    _, order = Mixture((len(items),), (1.0,), (1.0,), count, seed=seed).draw(0, count)
    steps = steps_for(count, config.batch)
    full_from = (steps - round(config.full_windows * steps)) * config.batch
    return SpeechRows(items, order, steps * config.batch, config.batch, full_from, seed, config.noise)


def collate_speech(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """mel [B, 80, F] and ids [B, T], filled with silence and -100 to a round number; words [B, W]; pooled []."""
    frames = min(FRAMES, -(-max(row["frames"] for row in rows) // ROUND_FRAMES) * ROUND_FRAMES)
    return {
        "mel": _windows([(row["mel"], row["silence"]) for row in rows], frames),
        "ids": torch.from_numpy(filled([row["ids"] for row in rows], ROUND_TOKENS)),
        "words": torch.from_numpy(filled([row["words"] for row in rows], ROUND_TOKENS)),
        "pooled": torch.tensor(rows[0]["pooled"]),
    }


def _windows(mels: Sequence[tuple[NDArray[np.floating], float]], frames: int) -> Tensor:
    """Spectrograms with the silence that fills them up: [B, mels, frames]."""
    mel_BMF = np.stack([np.full((MELS, frames), silence, np.float32) for _, silence in mels])
    for window_MF, (mel_MF, _) in zip(mel_BMF, mels, strict=True):
        window_MF[:, : mel_MF.shape[1]] = mel_MF
    return torch.from_numpy(mel_BMF)


class Transcriber(nn.Module):
    """Whisper with two heads on its encoder that are used in training only: letters by CTC, and `lexicon` words."""

    def __init__(self, whisper: WhisperForConditionalGeneration, ctc: float, lexicon: int) -> None:
        super().__init__()
        self.whisper, self.ctc = whisper, ctc
        config: Any = whisper.config
        self.head = nn.Linear(config.d_model, config.vocab_size)
        self.words = nn.Linear(config.d_model, lexicon)
        self.blank, self.stop = int(config.pad_token_id), int(config.eos_token_id)

    def forward(self, mel: Tensor, ids: Tensor, words: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        """The mixed loss of a batch: mel [B, 80, F], ids [B, T] from start to stop, words [B, W], the decoder's means
        of `pooled`."""
        # Short windows are faster without the fused kernel on a CPU; whole ones would not fit in memory.
        self.whisper.set_attn_implementation("sdpa" if mel.is_cuda or mel.shape[2] == FRAMES else "eager")
        states_BPd = encode_prefix(self.whisper.model.encoder, mel)
        inputs_BT = ids[:, :-1].masked_fill(ids[:, :-1] == IGNORED, self.blank)
        decoded_BTd = self.whisper.model.decoder(
            input_ids=inputs_BT, encoder_hidden_states=means(states_BPd, int(pooled)), use_cache=False
        ).last_hidden_state
        logits_BTV = self.whisper.proj_out(decoded_BTd).float()
        said = functional.cross_entropy(logits_BTV.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=IGNORED)
        log_PBV = self.head(states_BPd).float().log_softmax(-1).transpose(0, 1)
        words_BT = ids[:, 1:].masked_fill(ids[:, 1:] == self.stop, IGNORED)
        lengths_B = (words_BT != IGNORED).sum(1)
        ctc = functional.ctc_loss(
            log_PBV,
            words_BT.clamp(min=0),
            torch.full_like(lengths_B, log_PBV.shape[0]),
            lengths_B,
            blank=self.blank,
            zero_infinity=True,
        )
        told = told_words(self.words(means(states_BPd, STRETCH_OF_WORDS)).float(), words)
        return {"loss": (1 - self.ctc) * said + self.ctc * ctc + told}


def told_words(logits_BPV: Tensor, words_BW: Tensor) -> Tensor:
    """Minus the mean log chance that a word is told in at least one stretch; a stretch divides its chance among words.

    Args:
        logits_BPV: of every word in every stretch.
        words_BW: the words of each clip, filled with -100.
    """
    told_BV, _ = told(logits_BPV.softmax(-1))
    told_BW = told_BV.gather(1, words_BW.clamp(min=0))
    known_BW = words_BW != IGNORED
    return -(told_BW * known_BW).sum() / known_BW.sum().clamp(min=1)


def means(states_BPd: Tensor, pooled: int) -> Tensor:
    """The means of every `pooled` states, the last of what is left over: [B, P, d] -> [B, ceil(P / pooled), d]."""
    if pooled == 1:
        return states_BPd
    return functional.avg_pool1d(states_BPd.transpose(1, 2), pooled, ceil_mode=True).transpose(1, 2)


@torch.no_grad()
def transcribe(
    whisper: WhisperForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, mel_BMF: Tensor, pooled: int = 1
) -> list[str]:
    """Greedy transcripts of windows [B, 80, F], heard as means of `pooled` states."""
    states_BPd = means(encode_prefix(whisper.model.encoder, mel_BMF), pooled)
    known = tokenizer.get_vocab()
    start, stop = known[START], known[STOP]
    ids_BT = torch.full((len(mel_BMF), 1), start)
    ended_B = torch.zeros(len(mel_BMF), dtype=torch.bool)
    while ids_BT.shape[1] < MOST_TOKENS and not ended_B.all():
        decoded = whisper.model.decoder(input_ids=ids_BT, encoder_hidden_states=states_BPd, use_cache=False)
        next_B = whisper.proj_out(decoded.last_hidden_state[:, -1]).argmax(-1)
        ended_B |= next_B == stop
        ids_BT = torch.cat([ids_BT, next_B.masked_fill(ended_B, stop)[:, None]], 1)
    return [text.strip() for text in tokenizer.batch_decode(ids_BT, skip_special_tokens=True)]


def error_rate(
    whisper: WhisperForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    items: SpeechItems,
    pooled: int = 1,
    batch: int = 16,
) -> float:
    """Character error rate of greedy transcripts on whole 30 s windows, heard as means of `pooled` states."""
    from rapidfuzz.distance import Levenshtein

    errors = 0
    for first in range(0, len(items), batch):
        mel_BMF = _windows(items.mels[first : first + batch], FRAMES)
        said = transcribe(whisper.eval(), tokenizer, mel_BMF, pooled)
        errors += sum(Levenshtein.distance(a, b) for a, b in zip(said, items.texts[first : first + batch], strict=True))
    return errors / max(1, sum(map(len, items.texts)))
