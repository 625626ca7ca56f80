"""Logging for people: one console, on standard error, shared with the progress bars."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

console = Console(stderr=True)


def get_logger(name: str) -> logging.Logger:
    """The logger of a module."""
    return logging.getLogger(name)


def setup_logging(verbose: bool = False) -> None:
    """Send the package's log to the console; other libraries only speak from WARNING on."""
    handler = RichHandler(console=console, show_path=False, rich_tracebacks=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("caravan").setLevel(logging.DEBUG if verbose else logging.INFO)
    # On a CPU it asks everybody, on import, for a package that only its 4-bit layers would use.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
