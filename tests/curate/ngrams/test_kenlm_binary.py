from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from caravan.curate.ngrams.arpa import read_arpa, write_arpa
from caravan.curate.ngrams.kenlm_binary import write_binary
from caravan.curate.ngrams.kneser_ney import Level
from tests.curate.ngrams.test_model import TEXT, trained

WORDS = "a über слово\nb bb internationalisation über a\n"  # of 1 to 20 bytes

# SHA-256 of what KenLM's `build_binary model.arpa model.bin` makes of these models (github.com/kpu/kenlm, 4cb443e).
BUILT = {
    2: "9065b853bc938eaa1436ada99cf6568378fbbca5b2348bb289a208503e187675",
    3: "299d075d7ab150798feb94690abfbfb5893a22b0284698bfdd9301abeb72579c",
    5: "4581e04942f126d063466f6a6d32ec8b51681c94ac4307338a0160ecd669e684",
}


def model(order: int) -> tuple[list[str], list[Level]]:
    """A model whose values are the same on every machine; every third n-gram has no backoff weight."""
    names, levels = trained([TEXT, WORDS], order, [0] * (order - 1))
    for level in levels:
        row = np.arange(len(level.values))
        level.values[:, 0] = -(row * 37 % 997 + 1) / 128
        level.values[:, 1] = np.where(row % 3, -(row * 11 % 97) / 64, 0) if level is not levels[-1] else 0
    return names, levels


@pytest.mark.parametrize("order", [2, 3, 5])
def test_a_file_is_to_the_byte_what_kenlm_builds(tmp_path: Path, order: int) -> None:
    names, levels = model(order)
    write_arpa(tmp_path / "model.arpa", names, levels)
    write_binary(tmp_path / "model.bin", *read_arpa(tmp_path / "model.arpa"))
    assert hashlib.sha256((tmp_path / "model.bin").read_bytes()).hexdigest() == BUILT[order]
