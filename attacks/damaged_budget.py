"""Claim: noise of differential privacy is drawn once in a run, whatever is damaged: restored, or refused with exit 2.

Each record, and each output that holds noise, is damaged in several ways; the run is resumed after each.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict

import shardsynth as ss
from shardsynth.errors import ShardsynthError
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import missing_tasks
from shardsynth.stages.task import TaskRunner

#: Those up to the fit; the stages after it do not draw noise.
STAGES = ("profile", "profile_merge", "count", "count_merge", "fit")

COLUMNS = {
    "a": {"sdtype": "numerical", "range_min": 0, "range_max": 9},
    "b": {"sdtype": "categorical", "range_values": ["x", "y"]},
}
METADATA = {"METADATA_SPEC_VERSION": "V2", "relationships": [], "tables": {"t": {"columns": COLUMNS}}}


def _run(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    pq.write_table(pa.table({"a": rng.integers(0, 9, 900), "b": rng.choice(["x", "y"], 900)}), folder / "s.parquet")
    (folder / "metadata.json").write_text(json.dumps(METADATA))
    job = {
        "input": str(folder / "s.parquet"),
        "output": str(folder / "run"),
        "metadata": str(folder / "metadata.json"),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 50},
        "privacy": {"epsilon": 20, "delta": 1e-6},
        "cluster": {"workers": 1},
    }
    return ss.run_job(ss.Job.parse(job)).dir.root


def _noise(root: Path) -> bytes:
    return (root / "private" / "summary" / "private_tables").read_bytes()


def attack(folder: Path) -> list[str]:
    """Damages after which the noise was another one, or an error of the wrong kind; empty if the promise held."""
    whole, broken = _run(folder), []
    drawn = _noise(whole)
    files = ["tasks/count_merge/0/0.json", "private/summary/private_tables", "noise/count_merge-0.json"]
    damages = {
        "truncated": lambda content: content[: len(content) // 2],
        "emptied": lambda content: b"",
        "null": lambda content: b"null",
        "flipped": lambda content: content[:-30] + bytes([content[-30] ^ 1]) + content[-29:],
        "deleted": None,
    }
    for name in (*files, "both records"):
        for kind, damage in damages.items():
            if (name, kind) == ("both records", "deleted"):
                continue  # nothing is left that could know of the first draw
            copy = shutil.copytree(whole, folder / "copy")
            for each in files[::2] if name == "both records" else [name]:
                path = copy / each
                if damage is None:
                    path.unlink(missing_ok=True)
                elif path.exists():
                    path.write_bytes(damage(path.read_bytes()))
                    os.utime(path, (1, 1))
            shutil.rmtree(copy / "tasks" / "fit")
            try:
                for task in [task for task in missing_tasks(ss.Run(copy).plan, RunDir(copy)) if task.stage in STAGES]:
                    TaskRunner(copy).run_task(task.stage, task.index)
            except ShardsynthError as error:
                if error.exit_code != 2:
                    broken.append(f"{name} {kind}: {error}")
            except Exception as error:
                broken.append(f"{name} {kind}: {type(error).__name__}")
            else:
                if _noise(copy) != drawn:
                    broken.append(f"{name} {kind}: other noise")
            shutil.rmtree(copy)
    return broken


if __name__ == "__main__":
    sys.exit(verdict(attack))
