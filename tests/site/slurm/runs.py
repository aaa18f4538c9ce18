"""Runs as a login shell starts them, and what must be equal whoever ran a job."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

SHARDSYNTH = [sys.executable, "-m", "shardsynth.cli"]


def write_small_shards(folder):
    """Four small shards of 500 rows: an int, a category, a decimal with missing values; the folder."""
    rng = np.random.default_rng(0)
    for i in range(4):
        table = pa.table(
            {
                "age": pa.array(rng.integers(20, 90, 500), pa.int8()),
                "sex": pa.array(rng.choice(["F", "M"], 500)).dictionary_encode(),
                "hb": pa.array(rng.normal(10, 2, 500).round(1), mask=rng.random(500) < 0.1),
            }
        )
        pq.write_table(table, folder / f"part-{i}.parquet", row_group_size=250)
    return folder


def write_job(path, shards, output, **changes):
    """A job file over the small shards; keys are given as in YAML; its path."""
    job = {
        "input": str(shards),
        "output": str(output),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 3000, "rows_per_shard": 100},
        "evaluate": {"holdout": 0.2},
        "cluster": {"rows_per_task": 500, "pack": 5, **changes.pop("cluster", {})},
        **changes,
    }
    path.write_text(yaml.safe_dump(job))
    return path


def shardsynth(*arguments, code=0, **options):
    """The command line in a process of its own, as a login shell would call it."""
    done = subprocess.run(
        [*SHARDSYNTH, *(str(a) for a in arguments)],
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def outcome(root):
    """Checksums of what may leave the house and must not depend on who ran it."""
    root = Path(root)
    files = [p for name in ("samples", "models") for p in (root / name).rglob("*") if p.is_file()]
    wanted = [p for p in files if p.suffix in (".parquet", ".safetensors") or p.name == "model.json"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted}


def element_processes(root):
    """Python processes on this machine that run elements of a run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if (
                "submitit.core._submit" in words
                and str(root / "private/slurm/submitit") in words
                or "shardsynth.executors.slurm.element" in words
                and str(root) in words
            ):
                found.append(int(folder.name))
    return found


def held_element(root, stage):
    """Hold an element of a stage that works (SIGSTOP); its job's number and its node, or None."""
    for pid in element_processes(root):
        try:
            os.kill(pid, signal.SIGSTOP)
            variables = dict(
                item.split("=", 1) for item in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in item
            )
        except (OSError, ValueError):
            continue
        if variables.get("SLURM_JOB_NAME", "").endswith(f"-{stage}"):
            return variables["SLURM_JOB_ID"], variables["SLURMD_NODENAME"]
        os.kill(pid, signal.SIGCONT)
    return None


def commit_all(run):
    """Fabricate commit records, and outputs of the recorded size, for every task of a plan."""
    content = b"not a part"
    for stage, tasks in run.plan.tasks.items():
        for task in tasks:
            outputs = [run.dir.part(task.model, part) for part in range(*task.parts)] if stage == "sample" else []
            for path in outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            listed = [
                {
                    "path": str(p.relative_to(run.dir.root)),
                    "temporary": f".{p.name}.x.tmp",
                    "size": len(content),
                    "sha256": "",
                }
                for p in outputs
            ]
            record = {"stage": stage, "index": task.index, "rows": 20, "outputs": listed, "seconds": 0.1}
            path = run.dir.record(stage, task.index)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))
