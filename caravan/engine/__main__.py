"""The engine as a process of its own: `python -m caravan.engine MODEL`. One line of JSON says that it is ready."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from caravan.core.errors import CaravanError
from caravan.engine.process import Engine
from caravan.engine.senses import media_tokens

PARENT_POLL_SECONDS = 0.5


def _wait_for_the_end(parent: int) -> None:
    """Return when the process that started this one is gone."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)


def main(arguments: Iterable[str] | None = None) -> int:
    """Serve a model until the parent process ends; one line of JSON says that it is ready."""
    parser = argparse.ArgumentParser(prog="python -m caravan.engine", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cache-mib", type=int, default=0)
    options = vars(parser.parse_args(None if arguments is None else list(arguments)))
    parent = os.getppid()
    os.environ["GGML_NO_BACKTRACE"] = "1"  # an abort would wait for a debugger to print what nobody reads
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        model, mmproj = options.pop("model"), options.pop("mmproj")
        engine = Engine(model, mmproj, **options)
        ready = {"address": engine.address, "key": engine.key, "marker": engine.marker, "context": engine.context}
        ready |= {"senses": sorted(engine.senses), "batch": engine.batch, **media_tokens(mmproj)}
        print(json.dumps(ready), flush=True)
        with engine:
            _wait_for_the_end(parent)
    except CaravanError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
