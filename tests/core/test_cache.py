from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from caravan.core.cache import Cache


def test_what_was_put_outlives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from caravan.core.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "for number in range(50): cache.put(b'%d' % number, 'n', number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.db")], check=False)
    assert done.returncode == -9
    cache = Cache(tmp_path / "c.db")
    assert [cache.get("n", number) for number in range(51)] == [*(b"%d" % n for n in range(50)), None]
    cache.close()


def test_keys_of_several_parts_are_told_apart(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "a/c.db")
    cache.put(b"1", "a", "bc")
    cache.put(b"2", "ab", "c")
    cache.put(b"3", "a", "bc")
    assert (cache.get("a", "bc"), cache.get("ab", "c"), cache.get("abc")) == (b"3", b"2", None)
    cache.close()
