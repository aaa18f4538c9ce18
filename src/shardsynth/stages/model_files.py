"""The files of a fitted model, as outputs of an attempt at its fit."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.planning.plan import Plan
from shardsynth.run.rundir import Attempt, RunDir


def save_files(run: RunDir, model: Any, folder: Path, attempt: Attempt) -> None:
    """Write a native model's files as outputs of the attempt."""
    with tempfile.TemporaryDirectory(dir=run.private) as temporary:
        model.save(Path(temporary))
        for path in sorted(Path(temporary).iterdir()):
            shutil.copyfile(path, attempt.output(folder / path.name))


def write_losses(path: Path, losses: pa.Table | None, attempt: Attempt) -> None:
    """Write the loss history of a training, if there is one."""
    if losses is not None:
        pq.write_table(losses, attempt.output(path))


def write_provenance(plan: Plan, model: str, path: Path, guarantee: dict[str, Any] | None = None) -> None:
    """Write ``run.json``: the seed, chunk size and rows of the run, which the command `sample` reads.

    Args:
        plan: Of the run.
        model: The model's name.
        path: Of the file.
        guarantee: That of dp, for a model under dp.
    """
    card: dict[str, Any] = {"name": model, "seed": plan.job.seed, "chunk_rows": plan.chunk_rows, "rows": plan.rows}
    if guarantee is not None:
        card["privacy"] = guarantee
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
