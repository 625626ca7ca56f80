"""Caravan gives an open language model new languages, ears and eyes."""

from __future__ import annotations

__version__ = "0.1.0"
