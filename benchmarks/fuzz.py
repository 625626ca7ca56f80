"""Made-up requests against the whole server, and made-up files against the decoders: nothing ends as it should not.

    python benchmarks/fuzz.py api MODEL [--examples 300] [SETTING ...]
    python benchmarks/fuzz.py decoders [--seconds 60] [--corpus FOLDER]

The first has schemathesis make requests from the server's own OpenAPI description; any answer of 500 and above but the
stated 503 is a fault. The second has atheris (libFuzzer) change small valid files of each accepted format; anything
but a decoded clip or picture, or a MediaError, is a fault, and so are two gigabytes or five seconds for one file.
`pip install schemathesis atheris`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from soak import serving

from caravan.core.errors import MediaError
from caravan.media.audio import AudioLimits, decode_audio
from caravan.media.image import ImageLimits, decode_image

SOUNDS = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None))
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def api(model: str, examples: int, settings: list[str]) -> int:
    """Requests by the description, each route in turn; returns the number of faults."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import settings as hypothesis_settings

    outcomes: Counter[str] = Counter()
    faults = []
    with serving(model, settings) as (url, _):
        for result in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
            operation = result.ok()

            @hypothesis_settings(
                max_examples=examples, deadline=None, database=None, derandomize=True,
                suppress_health_check=[*HealthCheck], phases=[Phase.explicit, Phase.generate],
            )  # fmt: skip
            @given(case=operation.as_strategy())
            def ask(case: schemathesis.Case) -> None:
                reply = case.call(timeout=300)
                outcomes[f"{case.operation.label} {reply.status_code}"] += 1
                if reply.status_code >= 500 and '"engine_unavailable"' not in reply.text:
                    faults.append(f"{case.as_curl_command()}\n  {reply.status_code} {reply.text[:300]}")

            ask()
    for label, count in sorted(outcomes.items()):
        print(f"{count:6} {label}")
    print(*faults, f"{sum(outcomes.values())} requests, {len(faults)} faults", sep="\n")
    return len(faults)


def seeds(folder: Path) -> None:
    """A small valid file of each format."""
    wave = 0.3 * np.sin(np.arange(2400) / 7)
    for number, (form, subtype) in enumerate(SOUNDS):
        soundfile.write(folder / f"{number}.{form.lower()}", wave, 16_000, format=form, subtype=subtype)
    for form in PICTURES:
        buffer = io.BytesIO()
        Image.new("RGB", (9, 7), "red").save(buffer, form)
        (folder / f"a.{form.lower()}").write_bytes(buffer.getvalue())


def decoders(seconds: int, corpus: Path) -> None:
    """Files, changed, to both decoders; atheris ends the process, with a trace and the file if there is a fault."""
    import atheris

    picture, sound = atheris.instrument_func(decode_image), atheris.instrument_func(decode_audio)

    def one(data: bytes) -> None:
        with contextlib.suppress(MediaError):
            picture(data, limits=ImageLimits(max_pixels=1_000_000))
        with contextlib.suppress(MediaError):
            sound(data, limits=AudioLimits(max_seconds=5.0))

    seeds(corpus)
    arguments = [
        f"-max_total_time={seconds}",
        "-rss_limit_mb=2048",
        "-timeout=5",
        "-max_len=20000",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("api", "decoders"))
    parser.add_argument("words", nargs="*")
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_intermixed_args()
    if options.what == "api":
        model, *settings = options.words
        return 1 if api(model, options.examples, settings) else 0
    decoders(options.seconds, options.corpus or Path(tempfile.mkdtemp(prefix="caravan-fuzz-")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
