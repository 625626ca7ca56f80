"""Blocks that come again and again cost the system nothing, in every thread."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from caravan.core.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def work():
    for _ in range(20):
        np.empty(72 << 20, np.uint8).fill(1)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = faults()
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
    thread.join()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_blocks_are_used_again_in_every_thread() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given back")
    )
    # 40 blocks of 72 MiB each; kept, the first touch of one or two of them and of small pages is all.
    assert kept < given_back / 2
