"""The same bytes from one model file: 10^7 rows under every CPU generation and thread count.

usage: python benchmarks/same_bytes.py [ROWS]      (default: 1e7)

Adult's copula is fitted once and saved; a process per environment loads the folder, draws rows 0 to ROWS in batches of
its own size and hashes the values of every column. Bar: one hash.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import record

NUMPY = {
    "one thread": {},
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "Nehalem": {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    "SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"},
}
_CHILD = """
import hashlib, sys
from pathlib import Path
import numpy as np
from shardsynth.models.copula.model import GaussianCopula
folder, rows, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
model = GaussianCopula.load(folder)
digests = [(hashlib.sha256(), hashlib.sha256()) for _ in model.schema]  # gaps and values apart: batches differ in size
for first in range(0, rows, step):
    batch = model.draw(11, first, min(step, rows - first))
    for (gaps, held), column in zip(digests, batch.columns):
        values = column.indices if hasattr(column, "indices") else column
        gaps.update(np.ascontiguousarray(column.is_null().to_numpy(zero_copy_only=False)))
        held.update(np.ascontiguousarray(values.fill_null(0).to_numpy(zero_copy_only=False)))
print(hashlib.sha256(b"".join(d.digest() for pair in digests for d in pair)).hexdigest())
"""


def digest(folder: Path, rows: int, step: int, **environment: str) -> tuple[str, float]:
    """Hash of the rows, and the seconds that they took."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "OPENBLAS_", "ATEN_", "NPY_"))}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), str(rows), str(step)],
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), time.perf_counter() - started


def main() -> None:
    """Measure, print, record."""
    from copula import DATA, detect, fit_ours, open_shards, profile_of

    rows = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10_000_000
    dataset = open_shards(str(DATA / "adult"))
    profile = profile_of(dataset)
    model, _ = fit_ours(str(DATA / "adult"), detect(profile.sample, profile, dataset.schema))
    lines, found = [], set()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        model.save(folder)
        for name, environment in NUMPY.items():
            value, seconds = digest(folder, rows, 65_536, **environment)
            found.add(value)
            lines.append(f"  {name:30s} {value[:16]}  {seconds:6.1f} s")
    verdict = "one hash" if len(found) == 1 else f"{len(found)} DIFFERENT HASHES"
    record("same_bytes", [f"{rows:,} rows of Adult's copula, all 15 columns: {verdict}", *lines])
    assert len(found) == 1


if __name__ == "__main__":
    main()
