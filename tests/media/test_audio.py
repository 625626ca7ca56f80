"""Clips: what decodes, what is refused and how, and the spectrogram against Whisper's own."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import MediaError
from caravan.media.audio import (
    MEL_FLOOR,
    SAMPLE_RATE,
    SPEECH_LEVEL,
    AudioLimits,
    Wave,
    decode_audio,
    encode_wav,
    levelled,
    log_mel,
    log_mel_windows,
    mel_filters,
    probe_audio,
    window_count,
)


def speech(seconds: float, amplitude: float = 0.3, rate: int = SAMPLE_RATE) -> Wave:
    """Something that swells and glides as a voice does, with a little noise."""
    t = np.arange(round(seconds * rate)) / rate
    noise = 0.05 * np.random.default_rng(0).standard_normal(t.size)
    tone = np.sin(2 * np.pi * 220 * t * (1 + 0.1 * np.sin(3 * t))) + 0.3 * np.sin(2 * np.pi * 1330 * t) + noise
    return (amplitude * tone * (0.5 + 0.5 * np.sin(2 * np.pi * 1.3 * t)) / 1.5).astype(np.float32)


def written(wave: Wave, rate: int = SAMPLE_RATE, **how: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, **({"format": "WAV", "subtype": "FLOAT"} | how))
    return buffer.getvalue()


class TestDecode:
    def test_wav_at_16_khz_is_read_as_it_is_but_for_its_level(self) -> None:
        wave = speech(0.5)
        np.testing.assert_array_equal(decode_audio(written(wave)), levelled(wave))

    def test_encoded_wav_comes_back_within_two_steps_of_16_bits(self) -> None:
        wave = levelled(speech(0.5))
        # One step from rounding; the level of the rounded clip, found again, moves full scale by less than another.
        assert np.abs(decode_audio(encode_wav(wave)) - wave).max() < 2 / 32768

    @pytest.mark.parametrize(
        "how",
        [
            {"format": "FLAC", "subtype": "PCM_16"},
            {"format": "OGG", "subtype": "VORBIS"},
            {"format": "OGG", "subtype": "OPUS"},
            {"format": "MP3", "subtype": "MPEG_LAYER_III"},
        ],
        ids=lambda how: f"{how['format']}-{how['subtype']}",
    )
    def test_other_formats_sound_the_same(self, how: dict[str, str]) -> None:
        wave = speech(1.0)
        decoded, wave = decode_audio(written(wave, **how)), levelled(wave)
        assert abs(decoded.size - wave.size) < 2500
        # Lossy formats may shift by a frame; the energy stays.
        assert np.abs(decoded).mean() == pytest.approx(np.abs(wave).mean(), rel=0.05)

    def test_stereo_at_44_khz_becomes_the_mean_at_16_khz(self) -> None:
        left, right = speech(1.0, 0.4, rate=44_100), speech(1.0, 0.2, rate=44_100)
        decoded = decode_audio(written(np.stack([left, right], axis=1), rate=44_100))
        wave = levelled(speech(1.0, 0.3))
        assert decoded.dtype == np.float32
        assert decoded.shape == (SAMPLE_RATE,)
        # The noise above 8 kHz is gone, so that the middle is compared with a tolerance of its size.
        assert np.abs(decoded - wave)[500:-500].mean() < 0.02

    def test_louder_than_full_scale_is_clipped(self) -> None:
        loud = speech(0.2) * 50
        np.testing.assert_array_equal(decode_audio(written(loud)), levelled(np.clip(loud, -1.0, 1.0)))

    def test_wav_of_unknown_length_from_a_pipe_is_read(self) -> None:
        data = bytearray(encode_wav(speech(0.5)))
        data[4:8] = b"\xff\xff\xff\xff"
        assert decode_audio(bytes(data)).size == SAMPLE_RATE // 2


class TestLevel:
    @pytest.mark.parametrize("decibel", [-30, -18, 0, 6])
    def test_the_same_words_at_another_level_have_the_same_features(self, decibel: float) -> None:
        """What is left is the rounding of float32."""
        wave = speech(1.0, 0.1)
        other = levelled((wave * 10 ** (decibel / 20)).astype(np.float32))
        assert np.abs(log_mel(other) - log_mel(levelled(wave))).max() < 1e-3

    @given(st.integers(0, 2**32 - 1), st.floats(-70, 0), st.floats(0, 40))
    @settings(max_examples=50, deadline=None)
    def test_a_levelled_clip_is_levelled(self, seed: int, decibel: float, swing: float) -> None:
        rng = np.random.default_rng(seed)
        loudness = 10 ** ((decibel - swing * rng.random(20)) / 20)
        wave = (rng.uniform(-1, 1, 20 * 400) * np.repeat(loudness, 400)).astype(np.float32)
        once = levelled(wave)
        np.testing.assert_allclose(levelled(once), once, rtol=1e-5)

    def test_speech_is_levelled_whatever_silence_is_around_it(self) -> None:
        spoken = (0.02 * np.sin(np.arange(SAMPLE_RATE))).astype(np.float32)
        around = np.concatenate([np.zeros(9 * SAMPLE_RATE, np.float32), spoken, np.zeros(3 * SAMPLE_RATE, np.float32)])
        for wave in (spoken, around):
            found = levelled(wave)
            power = np.square(found[found != 0], dtype=np.float64).mean()
            assert np.sqrt(power) == pytest.approx(SPEECH_LEVEL, rel=1e-3)

    def test_noise_between_words_does_not_count(self) -> None:
        """Noise 20 dB below the words lies under the second gate: the naive mean would be 3 dB lower here."""
        rng = np.random.default_rng(0)
        words = (0.2 * rng.choice([-1, 1], SAMPLE_RATE)).astype(np.float32)
        pause = (0.02 * rng.choice([-1, 1], SAMPLE_RATE)).astype(np.float32)
        found = levelled(np.concatenate([words, pause]))
        assert np.abs(found[:SAMPLE_RATE]).max() == pytest.approx(SPEECH_LEVEL, rel=1e-3)

    def test_silence_and_hiss_stay_as_they_are(self) -> None:
        for loudness in (0.0, 0.0009):
            wave = (loudness * np.random.default_rng(0).choice([-1, 1], SAMPLE_RATE)).astype(np.float32)
            np.testing.assert_array_equal(levelled(wave), wave)

    def test_nothing_is_clipped(self) -> None:
        click = (0.001 * np.sin(np.arange(SAMPLE_RATE))).astype(np.float32)
        click[5000] = 0.5
        assert np.abs(levelled(click)).max() <= 1.0

    @pytest.mark.parametrize("samples", [0, 1, 399, 401])
    def test_clips_of_less_than_a_frame(self, samples: int) -> None:
        wave = np.full(samples, 0.5, np.float32)
        assert levelled(wave).shape == wave.shape


class TestRefuse:
    @pytest.mark.parametrize("samples", [0, 1, 300])
    def test_too_short(self, samples: int) -> None:
        with pytest.raises(MediaError, match=r"clip\.wav: the clip is too short[\s\S]*0\.02 to 300 s"):
            decode_audio(written(np.full(samples, 0.5, np.float32)), where="clip.wav")

    def test_ten_minutes(self) -> None:
        data = written(np.zeros(600 * SAMPLE_RATE, np.float32), subtype="PCM_U8")
        with pytest.raises(MediaError, match=r"too long[\s\S]*got: 600\.0 s"):
            decode_audio(data)

    def test_long_clip_whose_header_does_not_say_so(self) -> None:
        """A FLAC file from a pipe has 0 for its number of samples: decoding stops at the limit."""
        data = bytearray(written(speech(10.0), format="FLAC", subtype="PCM_16"))
        data[21] &= 0xF0
        data[22:26] = bytes(4)
        with pytest.raises(MediaError, match=r"too long[\s\S]*got: 4\.1 s"):
            decode_audio(bytes(data), limits=AudioLimits(max_seconds=2.0))

    def test_long_clip_is_refused_before_it_is_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = written(np.zeros(600 * SAMPLE_RATE, np.float32), format="FLAC", subtype="PCM_16")

        def decoded(*_: object, **__: object) -> None:
            raise AssertionError("decoded")

        monkeypatch.setattr(soundfile.SoundFile, "read", decoded)
        with pytest.raises(MediaError, match="too long"):
            decode_audio(data)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_a_number(self, value: float) -> None:
        wave = speech(0.5)
        wave[100] = value
        with pytest.raises(MediaError, match=r"not numbers[\s\S]*got: 1 NaN or infinite of 8000"):
            decode_audio(written(wave))

    @pytest.mark.parametrize(
        ("data", "got"),
        [
            (b"", "nothing"),
            (b"hello, this is no clip", "22 bytes that start with 68 65"),
            (b"\x1aE\xdf\xa3" + bytes(100), "a WebM or Matroska file"),
            (b"\0\0\0 ftypM4A " + bytes(100), "an MP4 or M4A file"),
            (b"RIFF\x04\0\0\0WAVE", "bytes that start with"),
            (written(speech(0.1), format="AIFF", subtype="PCM_16"), "bytes that start with 46 4f 52 4d"),
        ],
        ids=["empty", "text", "webm", "m4a", "headless", "aiff"],
    )
    def test_not_a_clip(self, data: bytes, got: str) -> None:
        with pytest.raises(MediaError, match=rf"cannot be decoded[\s\S]*WAV, FLAC, OGG[\s\S]*{got}"):
            decode_audio(data)
        with pytest.raises(MediaError, match=rf"cannot be decoded[\s\S]*WAV, FLAC, OGG[\s\S]*{got}"):
            probe_audio(io.BytesIO(data))

    def test_cut_off_wav(self) -> None:
        data = encode_wav(speech(1.0))
        with pytest.raises(MediaError, match=r"cut off[\s\S]*expected: 32044 bytes[\s\S]*got: 16000 bytes"):
            decode_audio(data[:16_000])
        with pytest.raises(MediaError, match=r"cut off[\s\S]*got: 16000 bytes"):
            probe_audio(io.BytesIO(data[:16_000]))

    def test_a_header_is_looked_at_without_decoding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(soundfile.SoundFile, "read", None)
        probe_audio(io.BytesIO(encode_wav(speech(1.0))))
        with pytest.raises(MediaError, match="too long"):
            probe_audio(io.BytesIO(encode_wav(speech(1.0))), limits=AudioLimits(max_seconds=0.5))

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
    def test_cut_off_flac(self, part: float) -> None:
        data = written(speech(10.0), format="FLAC", subtype="PCM_16")
        with pytest.raises(MediaError, match="cannot be decoded") as caught:
            decode_audio(data[: int(len(data) * part)])
        assert "0x" not in str(caught.value)

    def test_strange_sample_rate(self) -> None:
        with pytest.raises(MediaError, match=r"sample rate[\s\S]*4000 to 192000 Hz[\s\S]*got: 100 Hz"):
            decode_audio(written(speech(1.0), rate=100))

    def test_many_channels(self) -> None:
        with pytest.raises(MediaError, match=r"too many channels[\s\S]*got: 17"):
            decode_audio(written(np.zeros((4000, 17), np.float32)))

    @settings(max_examples=60, deadline=None)
    @given(at=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 3000))
    def test_damaged_files_give_a_clip_or_a_media_error(self, at: int, value: int, cut: int) -> None:
        data = bytearray(written(speech(0.1), format="FLAC", subtype="PCM_16"))
        data[at] = value
        try:
            wave = decode_audio(bytes(data[: len(data) - cut]))
        except MediaError:
            return
        assert np.isfinite(wave).all()


def full_log_mel(wave: Wave, floor: float, n_mels: int = 80) -> np.ndarray:
    """All frames of 30 s in float64, straight from the definition."""
    padded = np.concatenate([wave, np.zeros(30 * SAMPLE_RATE - wave.size)]).astype(np.float64)
    padded = np.pad(padded, 200, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:3000] * hann
    power = np.abs(np.fft.rfft(frames)) ** 2
    log = np.log10(np.maximum(mel_filters(n_mels).astype(np.float64) @ power.T, floor))
    return (np.maximum(log, log.max() - 8.0) + 4.0) / 4.0


class TestLogMel:
    @pytest.mark.parametrize("amplitude", [0.3, 0.01, 0.0003])
    @pytest.mark.parametrize("seconds", [0.02, 0.333, 4.0])
    def test_equals_the_full_computation(self, seconds: float, amplitude: float) -> None:
        wave = speech(seconds, amplitude)
        np.testing.assert_allclose(log_mel(wave), full_log_mel(wave, MEL_FLOOR), atol=2e-5)

    def test_equals_whisper_on_loud_speech(self) -> None:
        """Where every bin of every frame is over both floors or under the loudest by 8, the floors do not matter."""
        from transformers import WhisperFeatureExtractor

        wave = speech(29.9, 1.0) + 0.02 * np.random.default_rng(1).standard_normal(478_400).astype(np.float32)
        theirs = WhisperFeatureExtractor()(wave, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0]
        sounding = slice(0, 2985)
        np.testing.assert_allclose(log_mel(wave)[:, sounding], theirs[:, sounding], atol=1e-4)

    def test_floor_is_llamacpps(self) -> None:
        wave = speech(1.0, 1e-5)
        np.testing.assert_allclose(log_mel(wave), (np.log10(2.0**-24) + 4) / 4, atol=1e-6)

    @pytest.mark.parametrize("n_mels", [80, 128])
    def test_filters_are_whispers(self, n_mels: int) -> None:
        from transformers.audio_utils import mel_filter_bank

        theirs = mel_filter_bank(201, n_mels, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        np.testing.assert_allclose(mel_filters(n_mels), theirs.T, atol=1e-8)

    def test_shape_and_type(self) -> None:
        mel = log_mel(speech(1.0), 128)
        assert mel.shape == (128, 3000)
        assert mel.dtype == np.float32
        assert mel.flags.c_contiguous

    @pytest.mark.parametrize(("seconds", "frames"), [(2.0, 202), (29.98, 3000), (40.0, 4002)])
    def test_only_frames_with_sound_are_computed(
        self, monkeypatch: pytest.MonkeyPatch, seconds: float, frames: int
    ) -> None:
        """What makes a clip of 2 s take milliseconds."""
        transformed = []
        rfft = np.fft.rfft
        monkeypatch.setattr(np.fft, "rfft", lambda x: transformed.append(len(x)) or rfft(x))
        log_mel_windows(speech(seconds))
        assert transformed == [frames]

    def test_more_than_a_window_is_refused(self) -> None:
        with pytest.raises(MediaError, match="does not fit one window"):
            log_mel(speech(30.1))


class TestWindows:
    @pytest.mark.parametrize(
        ("seconds", "windows"), [(0.02, 1), (29.98, 1), (29.99, 2), (30.0, 2), (59.98, 2), (59.99, 3), (300.0, 11)]
    )
    def test_count_is_llamacpps(self, seconds: float, windows: int) -> None:
        assert window_count(round(seconds * SAMPLE_RATE)) == windows

    def test_windows_are_pieces_of_one_spectrogram(self) -> None:
        """The loudest bin of the whole clip sets the lowest value of every window."""
        wave = np.concatenate([speech(30.0, 0.9), speech(10.0, 0.02)])
        mel = log_mel_windows(wave)
        assert mel.shape == (2, 80, 3000)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        frame = wave[160 * 3000 - 200 : 160 * 3000 + 200].astype(np.float64) * hann
        log = np.log10(np.maximum(mel_filters(80) @ np.abs(np.fft.rfft(frame)) ** 2, MEL_FLOOR))
        lowest = mel[0].max() * 4 - 4 - 8
        np.testing.assert_allclose(mel[1, :, 0], (np.maximum(log, lowest) + 4) / 4, atol=2e-5)
        for either_order in (mel, log_mel_windows(np.concatenate([speech(30.0, 0.002), speech(10.0, 0.9)]))):
            lows, peak = either_order.min(axis=(1, 2)), either_order.max()
            np.testing.assert_allclose(lows, max(peak - 2.0, (np.log10(MEL_FLOOR) + 4) / 4), atol=1e-6)

    def test_first_window_of_a_long_clip_is_that_of_its_first_30_s(self) -> None:
        wave = speech(40.0)
        loudest = np.abs(wave[: 29 * SAMPLE_RATE]).max()
        wave[29 * SAMPLE_RATE :] *= 0.5 * loudest
        np.testing.assert_allclose(
            log_mel_windows(wave)[0][:, :2990], log_mel(wave[: 30 * SAMPLE_RATE])[:, :2990], atol=1e-6
        )


def test_wav_header_declares_what_is_written() -> None:
    data = encode_wav(speech(0.1))
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert soundfile.info(io.BytesIO(data)).subtype == "PCM_16"
