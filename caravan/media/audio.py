"""Speech: decoding to 16 kHz mono, and Whisper's log-mel spectrogram as llama.cpp computes it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from caravan.core.errors import MediaError, MissingDependencyError

if TYPE_CHECKING:
    import soundfile

Wave = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
WINDOW_SECONDS = 30
WINDOW_FRAMES = 3000
# llama.cpp's floor, 2^-24, where Hugging Face's extractor has 1e-10. Training must use the floor that serving uses:
# otherwise the features of quiet speech differ by a half.
MEL_FLOOR = 2.0**-24
_FFT, _HOP = 400, 160
_BLOCK_FRAMES = 1 << 16
_ACCEPTED = "WAV, FLAC, OGG (Vorbis or Opus) or MP3"
# libsndfile reads two dozen more, of which cut off files cannot be told from whole ones.
_FORMATS = frozenset({"WAV", "WAVEX", "FLAC", "OGG", "MP3"})
# Whisper's spectrogram keeps how loud a clip is: at another level the same words have other features.
SPEECH_LEVEL = 0.1
_QUIET, _RELATIVE_GATE = 1e-3, 0.1


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What a clip may be: seconds of sound, and samples a second and channels of its file."""

    min_seconds: float = 0.02
    max_seconds: float = 300.0
    min_rate: int = 4_000
    max_rate: int = 192_000
    max_channels: int = 16


def decode_audio(data: bytes, *, where: str = "", limits: AudioLimits | None = None) -> Wave:
    """Decode a clip to float32 [n], mono, 16 kHz, within [-1, 1], its speech at one level (`levelled`).

    The header's duration is checked before anything is decoded, and decoding stops at the limit, so that a small
    file cannot become a large array.

    Raises:
        MediaError: not one of the accepted formats, corrupt, cut off, too short, too long, or not finite.
        MissingDependencyError: soundfile or soxr is not installed.
    """
    soundfile, _ = _libraries()
    limits = limits or AudioLimits()
    _check_container(data, where, len(data))
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _FORMATS:
                raise _undecodable(data, len(data), f"its format is {file.format}", where)
            _check_header(file, limits, where)
            rate = int(file.samplerate)
            wave = _read_mono(file, limits, where)
    except soundfile.SoundFileError as error:
        raise _undecodable(data, len(data), getattr(error, "error_string", str(error)), where) from error
    return as_heard(wave, rate, where=where, limits=limits)


def as_heard(wave: Wave, rate: int = SAMPLE_RATE, *, where: str = "", limits: AudioLimits | None = None) -> Wave:
    """Mono samples [n] at any rate as `decode_audio` gives them.

    Raises:
        MediaError: too short, too long, or not finite.
        MissingDependencyError: soxr is not installed, and the rate is another than 16 kHz.
    """
    if not np.isfinite(wave).all():
        raise MediaError(
            "the clip has samples that are not numbers",
            where=where or None,
            expected="finite samples",
            got=f"{np.count_nonzero(~np.isfinite(wave))} NaN or infinite of {wave.size}",
            fix="export the clip again",
        )
    _check_duration(wave.size / rate, limits or AudioLimits(), where)
    if rate != SAMPLE_RATE:
        _, soxr = _libraries()
        wave = soxr.resample(wave, rate, SAMPLE_RATE)
    return levelled(np.clip(wave, -1.0, 1.0).astype(np.float32, copy=False))


def probe_audio(stream: BinaryIO, *, where: str = "", limits: AudioLimits | None = None) -> None:
    """See by its header that a clip can be decoded, without decoding it; the stream must be seekable.

    Raises:
        MediaError: not one of the accepted formats, cut off as far as the header tells, too short or too long.
        MissingDependencyError: soundfile or soxr is not installed.
    """
    soundfile, _ = _libraries()
    head, size = stream.read(16), stream.seek(0, io.SEEK_END)
    _check_container(head, where, size)
    stream.seek(0)
    try:
        with soundfile.SoundFile(stream) as file:
            if file.format not in _FORMATS:
                raise _undecodable(head, size, f"its format is {file.format}", where)
            _check_header(file, limits or AudioLimits(), where)
    except soundfile.SoundFileError as error:
        raise _undecodable(head, size, getattr(error, "error_string", str(error)), where) from error


def levelled(wave: Wave) -> Wave:
    """A clip [n] with its speech at an RMS of SPEECH_LEVEL, or below it where its peaks would be clipped.

    The level is that of the frames (25 ms) within 10 dB of the mean of all, the relative gate of ITU-R BS.1770, so that
    pauses do not count. A clip below -60 dB holds no speech and stays as it is. A levelled clip is levelled.
    """
    frames_FN = wave[: len(wave) // _FFT * _FFT].reshape(-1, _FFT)
    power_F = np.square(frames_FN, dtype=np.float64).mean(axis=1)
    if not power_F.size or power_F.max() < _QUIET**2:
        return wave
    level = np.sqrt(power_F[power_F >= _RELATIVE_GATE * power_F.mean()].mean())
    gain = min(SPEECH_LEVEL / level, 1.0 / float(np.abs(wave).max()))
    return (wave * np.float32(gain)).astype(np.float32, copy=False)


def encode_wav(wave: Wave) -> bytes:
    """16 kHz mono samples within [-1, 1] as a 16-bit PCM WAV file: what the engine is handed."""
    return _encoded(wave, "WAV")


def encode_flac(wave: Wave) -> bytes:
    """16 kHz mono samples within [-1, 1] as a 16-bit FLAC file: half as large, and nothing is lost."""
    return _encoded(wave, "FLAC")


def _encoded(wave: Wave, kind: str) -> bytes:
    soundfile, _ = _libraries()
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def window_count(samples: int) -> int:
    """How many 30 s windows llama.cpp makes of a clip of `samples` samples at 16 kHz.

    A clip that ends within the last frame of a window (from 29.99 s) gets one more, silent one.
    """
    return (samples // _HOP + 1) // WINDOW_FRAMES + 1


def log_mel_windows(wave: Wave, n_mels: int = 80) -> Wave:
    """Whisper's log-mel spectrogram of a whole clip, cut into windows of 30 s: float32 [W, n_mels, 3000].

    As llama.cpp does it: one spectrogram of the whole clip, centred frames of 25 ms every 10 ms reflected at the
    start, zeros after the end, floor 2^-24, everything below the clip's loudest bin minus 8 raised to it, then
    (x + 4) / 4. Only frames that touch sound are computed; the others are the floor's constant.
    """
    wave = np.asarray(wave, dtype=np.float32)
    windows = window_count(wave.size)
    total = windows * WINDOW_FRAMES
    half = _FFT // 2
    frames = min(total, (wave.size + half - 1) // _HOP + 1)
    padded = np.zeros(max((frames - 1) * _HOP + _FFT, half + wave.size), dtype=np.float32)
    padded[half : half + wave.size] = wave
    padded[:half] = padded[2 * half : half : -1]
    framed_FN = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP][:frames] * _hann()
    power_FK = np.abs(np.fft.rfft(framed_FN)) ** 2
    log_MF = np.log10(np.maximum(mel_filters(n_mels) @ power_FK.T, MEL_FLOOR))
    lowest = max(float(log_MF.max()) - 8.0, float(np.log10(MEL_FLOOR)))
    mel_MT = np.full((n_mels, total), (lowest + 4.0) / 4.0, dtype=np.float32)
    mel_MT[:, :frames] = (np.maximum(log_MF, lowest) + 4.0) / 4.0
    return np.ascontiguousarray(mel_MT.reshape(n_mels, windows, WINDOW_FRAMES).transpose(1, 0, 2))


def log_mel(wave: Wave, n_mels: int = 80) -> Wave:
    """The log-mel spectrogram of a clip of at most 30 s: float32 [n_mels, 3000]. See `log_mel_windows`.

    Raises:
        MediaError: the clip is longer than 30 s.
    """
    if wave.size > WINDOW_SECONDS * SAMPLE_RATE:
        raise MediaError(
            "the clip does not fit one window",
            expected=f"at most {WINDOW_SECONDS} s",
            got=f"{wave.size / SAMPLE_RATE:.2f} s",
            fix="use log_mel_windows",
        )
    return log_mel_windows(wave, n_mels)[0]


def wave_windows(wave: Wave, samples: int, normalised: bool) -> Wave:
    """A whole clip cut into windows of 30 s for an encoder of waves: float32 [W, samples], zeros after each.

    There are as many as `log_mel_windows` makes. With `normalised`, what a window holds of the clip has mean 0 and
    deviation 1, as transformers' Wav2Vec2FeatureExtractor makes it.
    """
    length = WINDOW_SECONDS * SAMPLE_RATE
    windows_WN = np.zeros((window_count(wave.size), samples), dtype=np.float32)
    for window_N, begin in zip(windows_WN, range(0, wave.size, length), strict=False):
        heard = wave[begin : begin + length]
        window_N[: heard.size] = (heard - heard.mean()) / np.sqrt(heard.var() + 1e-7) if normalised else heard
    return windows_WN


@cache
def mel_filters(n_mels: int) -> Wave:
    """Whisper's mel filter bank, float32 [n_mels, 201]: triangles on Slaney's mel scale (linear below 1 kHz,
    logarithmic above), each of area 2 / width, from 0 to 8 kHz."""
    linear_slope, corner, log_step = 3.0 / 200.0, 1000.0, np.log(6.4) / 27.0
    corner_mel = corner * linear_slope
    top_mel = corner_mel + np.log(SAMPLE_RATE / 2 / corner) / log_step
    mels = np.linspace(0.0, top_mel, n_mels + 2)
    edges = np.where(mels < corner_mel, mels / linear_slope, corner * np.exp((mels - corner_mel) * log_step))
    bins_K = np.arange(_FFT // 2 + 1) * (SAMPLE_RATE / _FFT)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles_MK = np.minimum((bins_K - left) / (centre - left), (right - bins_K) / (right - centre))
    return (np.maximum(triangles_MK, 0.0) * (2.0 / (right - left))).astype(np.float32)


@cache
def _hann() -> Wave:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError as error:
        raise MissingDependencyError(error.name or "soundfile", "speech", needed_for="decoding audio") from error
    return soundfile, soxr


def _undecodable(data: bytes, size: int, reason: str, where: str) -> MediaError:
    kind = f"{size} bytes that start with {data[:8].hex(' ')}" if data else "nothing"
    if data.startswith(b"\x1aE\xdf\xa3"):
        kind = "a WebM or Matroska file"
    elif data[4:8] == b"ftyp":
        kind = "an MP4 or M4A file"
    return MediaError(
        f"the clip cannot be decoded ({reason.removeprefix('Error : ').rstrip('.')})",
        where=where or None,
        expected=_ACCEPTED,
        got=kind,
        fix="convert it: ffmpeg -i CLIP -ar 16000 -ac 1 clip.wav",
    )


def _check_container(head: bytes, where: str, size: int) -> None:
    """A WAV file that is shorter than its header says was cut off; libsndfile would read what is left in silence."""
    if len(head) < 12 or head[:4] != b"RIFF":
        return
    declared = int.from_bytes(head[4:8], "little") + 8
    unknown = declared in (8, 0xFFFFFFFF + 8)  # written by a program that could not seek back
    if not unknown and declared > size + 1:
        raise MediaError(
            "the clip is cut off",
            where=where or None,
            expected=f"{declared} bytes, as its header says",
            got=f"{size} bytes",
            fix="copy or record it again",
        )


def _check_header(file: soundfile.SoundFile, limits: AudioLimits, where: str) -> None:
    if not limits.min_rate <= file.samplerate <= limits.max_rate:
        raise MediaError(
            "the clip's sample rate is out of range",
            where=where or None,
            expected=f"{limits.min_rate} to {limits.max_rate} Hz",
            got=f"{file.samplerate} Hz",
            fix="resample it: ffmpeg -i CLIP -ar 16000 -ac 1 clip.wav",
        )
    if file.channels > limits.max_channels:
        raise MediaError(
            "the clip has too many channels",
            where=where or None,
            expected=f"at most {limits.max_channels}",
            got=file.channels,
            fix="mix it down: ffmpeg -i CLIP -ac 1 clip.wav",
        )
    # A file that cannot say its length has 2^63 - 1 frames; reading it stops at the limit.
    if 0 < file.frames < 2**62:
        _check_duration(file.frames / file.samplerate, limits, where)


def _check_duration(seconds: float, limits: AudioLimits, where: str) -> None:
    if not limits.min_seconds <= seconds <= limits.max_seconds:
        short = seconds < limits.min_seconds
        raise MediaError(
            f"the clip is too {'short' if short else 'long'}",
            where=where or None,
            expected=f"{limits.min_seconds:g} to {limits.max_seconds:g} s",
            got=f"{seconds:.4f} s" if short else f"{seconds:.1f} s",
            fix="record some speech" if short else "cut it into pieces",
        )


def _read_mono(file: soundfile.SoundFile, limits: AudioLimits, where: str) -> Wave:
    """Read in blocks and mix down, and stop as soon as the clip is longer than it may be.

    A FLAC file that is cut off ends in libsndfile's own error.
    """
    most = int(limits.max_seconds * file.samplerate)
    blocks: list[Wave] = []
    count = 0
    while (block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)).size:
        blocks.append(block.mean(axis=1, dtype=np.float32))
        count += len(block)
        if count > most:
            _check_duration(count / file.samplerate, limits, where)
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
