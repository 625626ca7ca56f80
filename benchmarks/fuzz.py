"""Made-up requests against the whole server, and made-up files against the decoders: nothing ends as it should not.

    python benchmarks/fuzz.py api MODEL [--examples 300] [SETTING ...]
    python benchmarks/fuzz.py decoders [FORMAT ...] [--seconds 60]

The first has schemathesis make requests from the server's own OpenAPI description; any answer of 500 and above but the
stated 503 is a fault. The second has atheris (libFuzzer) change a small valid file of each format, for so many seconds
each, led by the branches that Pillow and our own code take; anything but a decoded clip or picture, or a MediaError, is
a fault, and so are two gigabytes or five seconds for one file.
`pip install schemathesis atheris`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FunctionType

import numpy as np
import soundfile
from PIL import Image
from soak import serving

from caravan.core.errors import MediaError
from caravan.media.audio import AudioLimits, decode_audio
from caravan.media.image import ImageLimits, decode_image

SOUNDS = ("WAV PCM_16", "WAV FLOAT", "FLAC PCM_16", "OGG VORBIS", "OGG OPUS", "MP3")
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


def seed(form: str) -> bytes:
    """A small valid file."""
    buffer = io.BytesIO()
    if form in PICTURES:
        Image.new("RGB", (9, 7), "red").save(buffer, form)
    else:
        kind, _, subtype = form.partition(" ")
        wave = 0.3 * np.sin(np.arange(2400) / 7)
        soundfile.write(buffer, wave, 16_000, format=kind, subtype=subtype or None)
    return buffer.getvalue()


def instrument(*packages: str) -> None:
    """Have atheris see the branches of the functions in these packages, as far as they are loaded."""
    import atheris

    for name, module in [*sys.modules.items()]:
        if name.startswith(packages):
            owners = [module, *(one for one in vars(module).values() if isinstance(one, type))]
            for value in [value for owner in owners for value in vars(owner).values()]:
                if isinstance(value, FunctionType) and value.__module__ == name:
                    atheris.instrument_func(value)


def decoder(form: str, seconds: int) -> None:
    """Files, changed, to both decoders; atheris ends the process, with a trace and the file if there is a fault."""
    import atheris

    Image.init()
    instrument("PIL.", "caravan.media.", "soundfile")

    def one(data: bytes) -> None:
        with contextlib.suppress(MediaError):
            decode_image(data, limits=ImageLimits(max_pixels=1_000_000))
        with contextlib.suppress(MediaError):
            decode_audio(data, limits=AudioLimits(max_seconds=5.0))

    with tempfile.TemporaryDirectory(prefix="caravan-fuzz-") as corpus:
        (Path(corpus) / "seed").write_bytes(seed(form))
        limits = ["-rss_limit_mb=2048", "-timeout=5", "-max_len=20000", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *limits, corpus], one)
        atheris.Fuzz()


def decoders(forms: list[str], seconds: int) -> int:
    """Each format in a process of its own; returns the number of faults."""
    faults = 0
    for form in forms or [*SOUNDS, *PICTURES]:
        command = [sys.executable, __file__, "decoder", form, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stderr.splitlines()
        figures = [line.split()[-1] for line in lines if "number_of_executed_units" in line or "peak_rss_mb" in line]
        seen = [line.partition("cov: ")[2].split()[0] for line in lines if "cov: " in line]
        print(
            f"{form}: {figures[0]} files, {seen[-1]} branches, {figures[-1]} MiB, status {done.returncode}", flush=True
        )
        if done.returncode:
            faults += 1
            print(*lines[-40:], sep="\n")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("api", "decoders", "decoder"))
    parser.add_argument("words", nargs="*")
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_intermixed_args()
    if options.what == "api":
        model, *settings = options.words
        return 1 if api(model, options.examples, settings) else 0
    if options.what == "decoders":
        return 1 if decoders(options.words, options.seconds) else 0
    decoder(*options.words, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
