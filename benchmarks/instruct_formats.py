"""Reading data for ears and eyes: rows a second of CPU time, and whether memory stays flat as the data grows.

    python benchmarks/instruct_formats.py [--rows 10000 40000]

Each format is written with so many rows about one picture or clip, and read in a process of its own as
`caravan validate` does: every row built, every medium's header opened. Memory is the peak resident set.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from caravan.core.stage import StageContext
from caravan.instruct.validate import examine
from caravan.media.audio import encode_wav
from caravan.recipe.instruct import DataSource
from caravan.records import LANGUAGES

NAMES = ("llava.json", "llava.jsonl", "llava.parquet", "table.tsv", "webdataset.tar", "aishell")


def llava(number: int) -> dict[str, object]:
    question = f"<image>\nWhat is in picture {number}? " + "Please describe it at length. " * 5
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "A red square. " * 20}]
    return {"id": str(number), "image": "a.png", "conversations": turns}


def write(name: str, folder: Path, rows: int) -> None:
    """Write one data set of a format."""
    path = folder / name
    match name:
        case "llava.json":
            with path.open("w") as stream:
                stream.write("[")
                for number in range(rows):
                    stream.write(f"{',' if number else ''}{json.dumps(llava(number), indent=1)}")
                stream.write("]")
        case "llava.jsonl":
            with path.open("w") as stream:
                stream.writelines(json.dumps(llava(number)) + "\n" for number in range(rows))
        case "llava.parquet":
            table = pa.Table.from_pylist([llava(number) for number in range(rows)])
            pq.write_table(table, path, row_group_size=2000)
        case "table.tsv":
            lines = (f"a.wav\tsentence number {number}\ten\n" for number in range(rows))
            path.write_text("path\tsentence\tlang\n" + "".join(lines))
        case "webdataset.tar":
            png = (folder / "a.png").read_bytes()
            with tarfile.open(path, "w") as tar:
                for number in range(rows):
                    for suffix, data in (("png", png), ("txt", b"a red square")):
                        info = tarfile.TarInfo(f"{number:08d}.{suffix}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
        case "aishell":
            wav, transcript = path / "wav/train/S0002", path / "transcript/aishell_transcript_v0.8.txt"
            wav.mkdir(parents=True)
            transcript.parent.mkdir(parents=True)
            transcript.write_text("".join(f"BAC009S0002W{number:06d} 你 好\n" for number in range(rows)))
            for number in range(rows):
                (wav / f"BAC009S0002W{number:06d}.wav").hardlink_to(folder / "a.wav")


def measure(path: Path) -> None:
    """Read a data set; print rows, CPU seconds and peak memory in MiB as JSON."""
    context = StageContext(Path(), {}, Path(), 0, LANGUAGES, "validate")
    started = time.process_time()
    source = {"path": str(path), "media": str(path.parent) if path.suffix == ".tar" else None}
    if path.name.startswith(("llava", "web")):
        source["language"] = "en"
    found = examine(DataSource.model_validate({k: v for k, v in source.items() if v}), context, limit=1)
    assert not found.faults, found.faults
    # Not getrusage: what it says of a new process begins with its parent's peak.
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    print(json.dumps([found.rows, time.process_time() - started, peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    table = Table("format", *(f"{rows:,} rows: rows/s, MiB" for rows in arguments.rows))
    for name in NAMES:
        cells = []
        for rows in arguments.rows:
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                Image.new("RGB", (64, 64), "red").save(folder / "a.png")
                (folder / "a.wav").write_bytes(encode_wav((0.3 * np.sin(np.arange(16_000) * 0.2)).astype(np.float32)))
                write(name, folder, rows)
                command = [sys.executable, __file__, "--measure", str(folder / name)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                count, seconds, peak = json.loads(done.stdout)
                cells.append(f"{count / seconds:,.0f}, {peak:.0f}")
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
