"""The native copula draws the same bytes in every process: whatever the CPU and the threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.tables.copula_by_hand import adult_copula

SCRIPT = """
import hashlib, sys
from pathlib import Path
import pyarrow as pa
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions
folder, where = Path(sys.argv[1]), sys.argv[2]
model = GaussianCopula.load(folder)
for conditions in (None, model.prepare(parse_conditions(where))):
    digest = hashlib.sha256()
    for first in (0, 30_000, 10**12):
        batch = model.draw(11, first, 30_000, conditions)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        digest.update(sink.getvalue())
    print(digest.hexdigest())
"""
WHERE = 'sex == "Female" and 30 <= age < 60 and fnlwgt > 250000'


class Digests(NamedTuple):
    """Hashes of 90,000 rows each."""

    plain: str
    conditioned: str


def digests(folder: Path, **environment: str) -> Digests:
    """Of rows without and with conditions, both drawn by one other process under an environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "OPENBLAS_", "ATEN_", "NPY_"))}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), WHERE],
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return Digests(*result.stdout.split())


CPUS = {
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "Nehalem": {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    "SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"},
}


@pytest.fixture(scope="module")
def saved(adult_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    adult_copula(adult_dir).save(folder)
    return folder


@pytest.fixture(scope="module")
def wanted(saved: Path) -> Digests:
    """On this CPU, in one thread."""
    found = digests(saved)
    assert found.plain != found.conditioned
    return found


@pytest.mark.parametrize("cpu", CPUS)
def test_every_cpu_gives_the_same_bytes_also_under_conditions(saved: Path, wanted: Digests, cpu: str) -> None:
    assert digests(saved, **CPUS[cpu]) == wanted


def test_loading_and_drawing_need_neither_sdv_nor_torch(saved: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from shardsynth.models.copula.model import GaussianCopula\n"
        f"GaussianCopula.load(Path({str(saved)!r})).draw(0, 0, 1000)\n"
        "assert not {'sdv', 'torch', 'scipy', 'pandas'} & set(sys.modules), set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
