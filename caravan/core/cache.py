"""What was made at a price, kept on disk until its work is finished: a table of bytes by key."""

from __future__ import annotations

import errno
import sqlite3
import threading
from hashlib import blake2b
from pathlib import Path

from caravan.core.files import full_disk_named


class Cache:
    """Bytes by what they were made of, in one file; what `put` has returned from outlives a kill of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with full_disk_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._table.execute("PRAGMA journal_mode = WAL")
        self._table.execute("CREATE TABLE IF NOT EXISTS made (mark BLOB PRIMARY KEY, value BLOB)")

    def get(self, *key: object) -> bytes | None:
        with self._lock:
            row = self._table.execute("SELECT value FROM made WHERE mark = ?", (_mark(key),)).fetchone()
        return row[0] if row else None

    def put(self, value: bytes, *key: object) -> None:
        """Keep a value.

        Raises:
            DiskFullError: no space left.
        """
        try:
            with self._lock:
                self._table.execute("INSERT OR REPLACE INTO made VALUES (?, ?)", (_mark(key), value))
        except sqlite3.OperationalError as error:
            with full_disk_named(self.path):
                if "full" in str(error):
                    raise OSError(errno.ENOSPC, str(error)) from error
                raise

    def close(self) -> None:
        self._table.close()


def _mark(key: tuple[object, ...]) -> bytes:
    return blake2b("\x1f".join(map(str, key)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
