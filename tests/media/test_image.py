"""Pictures: what decodes, what is refused and how, and the fit into a square against an independent one."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from caravan.core.errors import MediaError
from caravan.media.image import ImageLimits, decode_image, encode_png, prepare_image, probe_image

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def picture(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def written(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


class TestDecode:
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG", "GIF"])
    def test_formats(self, kind: str) -> None:
        decoded = decode_image(written(picture(), kind))
        assert decoded.mode == "RGB"
        difference = np.abs(np.asarray(decoded, int) - np.asarray(picture(), int)).mean()
        assert difference < (0.01 if kind in ("PNG", "BMP", "TIFF") else 12)

    def test_png_round_trip(self) -> None:
        np.testing.assert_array_equal(np.asarray(decode_image(encode_png(picture()))), np.asarray(picture()))

    def test_transparency_is_over_white(self) -> None:
        image = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
        image.putpixel((1, 0), (200, 0, 0, 255))
        decoded = decode_image(written(image))
        assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]

    def test_transparent_palette_is_over_white(self) -> None:
        image = Image.new("P", (1, 1), 0)
        image.putpalette([10, 20, 30] + [0] * 765)
        assert decode_image(written(image, transparency=0)).getpixel((0, 0)) == (255, 255, 255)

    def test_camera_orientation(self) -> None:
        image = picture(6, 4)
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned a quarter
        decoded = decode_image(written(image, exif=exif))
        np.testing.assert_array_equal(np.asarray(decoded), np.rot90(np.asarray(image), -1))

    def test_grey_of_16_bits_is_scaled(self) -> None:
        image = Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))
        decoded = decode_image(written(image))
        assert [decoded.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK"])
    def test_other_modes(self, mode: str) -> None:
        kind = "TIFF" if mode == "CMYK" else "PNG"
        assert decode_image(written(picture().convert(mode), kind)).mode == "RGB"


class TestRefuse:
    @pytest.mark.parametrize("side", [7_000, 10_000, 20_000], ids=["over", "pillow-warns", "pillow-refuses"])
    def test_bomb_is_refused_by_its_header(self, side: int) -> None:
        """A black 1-bit picture of 400 million pixels is 50 kB of PNG and would be 1.2 GB."""
        data = written(Image.new("1", (side, side)))
        assert len(data) < 200_000
        tracemalloc.start()
        with pytest.raises(
            MediaError, match=r"a\.png: the picture is too large[\s\S]*at most 40,000,000 pixels\s+got: \d+ "
        ):
            decode_image(data, where="a.png")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000

    def test_a_bmp_that_leaps_over_lines_is_refused(self) -> None:
        """A kilobyte with run lengths was 2 GB in Pillow, or three seconds for lines that end at once."""
        sizes = struct.pack("<IiiHHIIiiII", 40, 4_000_000, 10, 1, 8, 1, 0, 0, 0, 256, 0)
        file = b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + sizes + bytes(1024) + bytes([0, 2, 0, 255])
        with pytest.raises(MediaError, match="run-length encoded"):
            decode_image(file)

    def test_limit_can_be_set(self) -> None:
        with pytest.raises(MediaError, match=r"got: 60 x 40"):
            decode_image(written(picture()), limits=ImageLimits(max_pixels=2399))
        decode_image(written(picture()), limits=ImageLimits(max_pixels=2400))

    @pytest.mark.parametrize(
        ("data", "got"),
        [(b"", "nothing"), (b"hello", "5 bytes"), (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "bytes")],
        ids=["empty", "text", "postscript"],
    )
    def test_not_a_picture(self, data: bytes, got: str) -> None:
        with pytest.raises(MediaError, match=rf"cannot be decoded[\s\S]*PNG, JPEG[\s\S]*got: .*{got}"):
            decode_image(data)
        with pytest.raises(MediaError, match=rf"cannot be decoded[\s\S]*PNG, JPEG[\s\S]*got: .*{got}"):
            probe_image(io.BytesIO(data))

    def test_a_header_is_looked_at_without_decoding(self) -> None:
        probe_image(io.BytesIO(written(picture())[:60]))
        with pytest.raises(MediaError, match=r"got: 60 x 40"):
            probe_image(io.BytesIO(written(picture())), limits=ImageLimits(max_pixels=2399))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
    def test_cut_off(self, kind: str) -> None:
        data = written(picture(200, 200), kind)
        with pytest.raises(MediaError, match="cannot be decoded"):
            decode_image(data[: len(data) // 2])

    def test_corrupt(self) -> None:
        data = bytearray(written(picture()))
        middle = len(data) // 2
        data[middle : middle + 20] = bytes(20)
        with pytest.raises(MediaError, match="cannot be decoded"):
            decode_image(bytes(data))

    @settings(max_examples=80, deadline=None)
    @given(at=st.integers(0, 400), value=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]))
    @pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow on odd TIFF tags
    def test_damaged_files_give_a_picture_or_a_media_error(self, at: int, value: int, kind: str) -> None:
        data = bytearray(written(picture(20, 20), kind))
        data[at % len(data)] = value
        with contextlib.suppress(MediaError):
            assert decode_image(bytes(data)).mode == "RGB"


def antialiased(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Bicubic (a = -1/2) with its support widened by the reduction, in float64: [height, width, 3]."""

    def matrix(source: int, target: int) -> np.ndarray:
        step = source / target
        widening = max(step, 1.0)
        centres = (np.arange(target) + 0.5) * step
        x = np.abs((np.arange(source) + 0.5)[None] - centres[:, None]) / widening
        weights = np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))
        return weights / weights.sum(axis=1, keepdims=True)

    pixels = np.asarray(image, np.float64)
    across = np.clip(np.einsum("wx,yxc->ywc", matrix(image.width, width), pixels).round(), 0, 255)
    return np.clip(np.einsum("hy,ywc->hwc", matrix(image.height, height), across), 0, 255)


class TestPrepare:
    @pytest.mark.parametrize(
        ("width", "height", "fitted"),
        [(300, 200, (112, 75)), (200, 300, (75, 112)), (100, 60, (112, 68)), (112, 112, (112, 112)), (5, 3, (112, 68))],
    )
    def test_fit_is_centred_on_black(self, width: int, height: int, fitted: tuple[int, int]) -> None:
        prepared = prepare_image(picture(width, height), 112, (0, 0, 0), (1, 1, 1))
        left, top = (112 - fitted[0]) // 2, (112 - fitted[1]) // 2
        expected = np.zeros((112, 112, 3))
        expected[top : top + fitted[1], left : left + fitted[0]] = antialiased(picture(width, height), *fitted)
        # Pillow rounds to whole levels after each of its two passes.
        difference = np.abs(prepared * 255 - expected.transpose(2, 0, 1))
        assert difference.max() < 2
        assert difference.mean() < 0.3

    def test_values_are_normalised(self) -> None:
        white = prepare_image(Image.new("RGB", (9, 9), "white"), 8, MEAN, STD)
        np.testing.assert_allclose(white[:, 4, 4], (1 - np.array(MEAN)) / STD, rtol=1e-6)
        padded = prepare_image(Image.new("RGB", (18, 9), "white"), 8, MEAN, STD)
        np.testing.assert_allclose(padded[:, 0, 0], -np.array(MEAN) / STD, rtol=1e-6)
        assert padded.dtype == np.float32
        assert padded.flags.c_contiguous

    @given(width=st.integers(1, 400), height=st.integers(1, 400), size=st.sampled_from([28, 112, 224]))
    @settings(max_examples=60, deadline=None)
    def test_any_shape_fits(self, width: int, height: int, size: int) -> None:
        prepared = prepare_image(Image.new("RGB", (width, height), "white"), size, (0, 0, 0), (1, 1, 1))
        assert prepared.shape == (3, size, size)
        filled = (prepared[0] > 0.5).sum()
        assert filled >= size
        assert max((prepared[0] > 0.5).sum(0).max(), (prepared[0] > 0.5).sum(1).max()) == size
