"""One run of all models, made once and read by many tests; who changes a run makes one of its own, or a copy.

All tests that ask for `finished` lie in runs/finished/, which one worker runs (conftest.py): none waits for another.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shardsynth import Job, Run, run_job
from shardsynth.commands.init import write_job
from tests.tables import mixed_table, write_shards

STOCK = {"engine": "sdv", "epochs": 1, "batch_size": 100}
QUICK = {"epochs": 3, "batch_size": 50}
QUICK_GAN = {**QUICK, "normalisation_rows": 2000}
ALL_MODELS = {
    "gaussian_copula": {},
    "stock_copula": {"model": "gaussian_copula", "engine": "sdv"},
    "ctgan": QUICK_GAN,
    "copulagan": QUICK_GAN,
    "tvae": QUICK,
    "autoregressive": {"max_epochs": 3, "embedding": 16, "hidden": 16},
    "stock_tvae": {"model": "tvae", **STOCK},
}
NATIVE_MODELS = {"autoregressive", "gaussian_copula", "ctgan", "copulagan", "tvae"}


def small_job(data: Path, output: Path, **changes) -> Job:
    """500 rows in five parts of the shards' table; the metadata are those beside the shards, or detected."""
    plain = {
        "input": str(data),
        "output": str(output),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 500, "rows_per_shard": 100},
        "cluster": {"rows_per_task": 100},
    }
    given = data.parent / "metadata.json"
    if given.exists():
        plain["metadata"] = str(given)
    return Job.parse({**plain, **changes})


def final_files(root: Path) -> dict[str, bytes]:
    """What a run is for: its models and samples; what a killed attempt left is no part of them."""
    return {
        str(p.relative_to(root)): p.read_bytes()
        for folder in ("models", "samples")
        for p in sorted((root / folder).rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


def checksums(run: Run) -> dict[str, list[str]]:
    """Checksums of each model's parts."""
    return {m: [p["sha256"] for p in run.samples(m).manifest["parts"]] for m in run.plan.job.models}


@pytest.fixture(scope="session")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metadata of the small table as `init` writes them."""
    folder = tmp_path_factory.mktemp("init")
    data = write_shards(mixed_table(), folder / "shards", 2)
    list(write_job(str(data), folder / "job.yaml", None))
    return folder / "job.metadata.json"


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory: pytest.TempPathFactory, detected: Path) -> Path:
    """The small table in five shards, its metadata beside them."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(detected, folder / "metadata.json")
    return write_shards(mixed_table(), folder / "shards", 5)


@pytest.fixture(scope="session")
def finished(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All models, run to the end by worker processes. To be read only."""
    return run_job(small_job(small_shards, tmp_path_factory.mktemp("finished") / "all", models=ALL_MODELS))
