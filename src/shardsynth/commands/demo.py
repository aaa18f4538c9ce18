"""The demo: a job with four models on the Wisconsin breast-cancer table, which is part of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.api import Run, run_job
from shardsynth.errors import InputError
from shardsynth.job import Job
from shardsynth.standalone.files import replacing

N_SHARDS = 4


def demo_table() -> pa.Table:
    """The table, 569 rows x 31 columns: thirty measurements (float64) and the diagnosis (a dictionary of text).

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        raise InputError("the demo needs scikit-learn and SDV: pip install 'shardsynth[all]'") from None
    data = load_breast_cancer()
    columns = {str(name): pa.array(data.data[:, i]) for i, name in enumerate(data.feature_names)}
    diagnosis = pa.DictionaryArray.from_arrays(
        pa.array(data.target, pa.int8()), pa.array([str(n) for n in data.target_names])
    )
    return pa.table({**columns, "diagnosis": diagnosis})


def write_demo_shards(folder: Path) -> None:
    """Write the table as ``N_SHARDS`` shards. They are the same each time, and one that exists is not written again."""
    table = demo_table()
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(N_SHARDS):
        first, last = table.num_rows * index // N_SHARDS, table.num_rows * (index + 1) // N_SHARDS
        path = folder / f"part-{index:05d}.parquet"
        if not path.exists():
            with replacing(path) as temporary:
                pq.write_table(table.slice(first, last - first), temporary)


def demo_job(data: Path, output: Path) -> Job:
    """A job with all four models and few epochs: it takes seconds, and the scores of trained models are low.

    Args:
        data: Folder of the shards.
        output: Run directory.
    """
    return Job.parse(
        {
            "input": str(data),
            "output": str(output),
            "models": {
                "gaussian_copula": {},
                "copulagan": {"epochs": 10},
                "ctgan": {"epochs": 10},
                "tvae": {"epochs": 30},
            },
            "sample": {"rows": 5000, "rows_per_shard": 2500},
            "evaluate": {"holdout": 0.2, "target": "diagnosis"},
        },
        "demo job",
    )


def run_demo(output: Path, *, console: Any = None, debug: bool = False) -> Run:
    """Write the shards into ``<output>-data``, beside the run directory, and run the job.

    Args:
        output: Run directory.
        console: Shows progress; None: no progress.
        debug: Show the traceback of a task that fails.

    Raises:
        InputError: scikit-learn is not installed.
        TaskError: A task failed.
    """
    data = output.parent / f"{output.name}-data"
    write_demo_shards(data)
    return run_job(demo_job(data, output), console=console, debug=debug)
