"""Claim: an odd value in a job file is one error that names its key, and ten million parts are planned in 500 MB.

Each value is a job file of its own, which is loaded and planned; nothing runs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict

import shardsynth as ss
from shardsynth.errors import ShardsynthError

#: Key of the job file, its value, and what the error has to name.
ODD: list[tuple[str, str, str]] = [
    ("seed", "-1", "seed"),
    ("seed", "1" + "0" * 40, "seed"),
    ("sample.rows", "[]", "sample.rows"),
    ("sample.rows", "'" + "9" * 400 + "x'", "sample.rows"),
    ("sample.rows_per_shard", "0", "sample.rows_per_shard"),
    ("fit.sample_rows", "-.inf", "fit.sample_rows"),
    ("cluster.defaults.mem_gb", "1e400", "cluster.defaults.mem_gb"),
    ("cluster.defaults.mem_gb", ".inf", "cluster.defaults.mem_gb"),
    ("privacy.epsilon", ".inf", "privacy.epsilon"),
    ("input", "[]", "input"),
    ("input", "''", "input"),
    ("output", "x" * 300, "output"),
    ("output", '"a\\0b"', "output"),
    ("output", '"\\uD800"', "output"),
    ("models", "{a/b: {model: tvae}}", "models"),
    ("evaluate.sensitive", "&a [*a]", "evaluate.sensitive"),
    ("metadata", "2020-99-99", "date that does not exist"),
]
_PLAN = """
import resource, sys
from shardsynth import Job, plan_job
plan_job(Job.load(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _job(folder: Path, **changes: Any) -> dict[str, Any]:
    job = {"input": str(folder / "s.parquet"), "output": str(folder / "run"), "models": {"gaussian_copula": {}}}
    return {**job, **changes}


def attack(folder: Path) -> list[str]:
    """Values whose error was another one; empty if the promise held."""
    broken = []
    pq.write_table(pa.table({"a": list(range(60)), "b": ["x", "y"] * 30}), folder / "s.parquet")
    path = folder / "job.yaml"
    for number, (key, value, named) in enumerate(ODD):
        plain = {name: each for name, each in _job(folder).items() if name != key}
        first, _, rest = key.partition(".")
        text = value
        for part in reversed(rest.split(".") if rest else []):
            text = f"{{{part}: {text}}}"
        path.write_text("".join(f"{name}: {json.dumps(each)}\n" for name, each in plain.items()) + f"{first}: {text}\n")
        try:
            ss.plan_job(ss.Job.load(path))
            shutil.rmtree(folder / "run", ignore_errors=True)
            broken.append(f"{number} ({key}): planned")
        except ShardsynthError as error:
            if error.exit_code != 2 or named not in str(error) or "\n" in str(error):
                broken.append(f"{number} ({key}): {str(error)[:120]}")
        except Exception as error:
            broken.append(f"{number} ({key}): {type(error).__name__}")
    path.write_text(json.dumps(_job(folder, sample={"rows": 10_000_000, "rows_per_shard": 1})))
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n{_PLAN}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", limited, str(path)], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode or int(done.stdout.split()[-1]) > 500_000:
            broken.append(f"ten million parts: exit code {done.returncode}, {done.stdout.strip()} kB")
    except subprocess.TimeoutExpired:
        broken.append("ten million parts: more than two minutes")
    return broken


if __name__ == "__main__":
    sys.exit(verdict(attack))
