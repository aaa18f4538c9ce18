"""Claim: what is no file is refused by name, and a packed file that unpacks to too much is stopped; nothing waits.

The FIFOs have no writer; the packed table is small, and so is the limit.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict

SECONDS = 45


def attack(folder: Path) -> list[str]:
    """Commands that waited, or gave another error; empty if the promise held."""
    pq.write_table(pa.table({"a": list(range(60))}), folder / "a.parquet")
    (folder / "shards").mkdir()
    os.link(folder / "a.parquet", folder / "shards" / "a.parquet")
    for name in ("shards/b.parquet", "pipe.yaml", "pipe.json", "pipe.csv"):
        os.mkfifo(folder / name)
    job = f"input: {folder}/a.parquet\noutput: {folder}/run\nmodels: [gaussian_copula]\nmetadata: {folder}/pipe.json\n"
    (folder / "job.yaml").write_text(job)
    (folder / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 50_000))
    (folder / "long.csv").write_text("x" * 4_000_000)
    (folder / "bad.csv").write_text("a,b\n" + "1,2\n" * 1000 + "1,2,3\n" + "1,2\n" * 4_000_000)
    tries = {
        "a glob that matches a FIFO": (["init", f"{folder}/shards/*.parquet", "-o", "x.yaml"], "is a FIFO"),
        "a FIFO as job file": (["run", "pipe.yaml"], "is a FIFO"),
        "a FIFO as metadata": (["run", "job.yaml"], "is a FIFO"),
        "a FIFO as old configuration": (["init", "--from-config", "pipe.yaml", "-o", "y.yaml"], "is a FIFO"),
        "a FIFO as table": (["import", "pipe.csv", "-o", "o1"], "is a FIFO"),
        "a device as table": (["init", "/dev/zero", "-o", "z.yaml"], "is a device"),
        "200 kB in a packed text": (
            ["import", "t.csv.gz", "-o", "o2", "--max-unpacked", "10kB"],
            "unpack to more than",
        ),
        "a header of 4 MB": (["import", "long.csv", "-o", "o3"], "the header is longer"),
        "an error in a large text": (["import", "bad.csv", "-o", "o4"], "row 1001"),
    }
    broken = []
    for name, (words, said) in tries.items():
        try:
            done = subprocess.run(
                [sys.executable, "-m", "shardsynth.cli", *words],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            broken.append(f"{name}: waited")
            continue
        if done.returncode != 2 or said not in done.stderr:
            broken.append(f"{name}: exit code {done.returncode}: {done.stderr.strip()[-150:]}")
    return broken


if __name__ == "__main__":
    sys.exit(verdict(attack))
