"""Claim: a damaged file of a run is named, or made again; no command ends in a traceback, and none tries for ever.

Plan, commit record, ledgers and figures are damaged one after the other; a command that reads them is called.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict

import shardsynth as ss

#: File, how it is damaged, and the command that is called then.
CASES = (
    ("plan.json", "other types", "status"),
    ("plan.json", "FIFO", "status"),
    ("tasks/sample/0/0.json", "broken link", "resume"),
    ("models/gaussian_copula/ledger/000000.json", "null", "sample"),
    ("metrics/gaussian_copula.json", "other types", "report"),
    ("private/slurm/jobs.jsonl", "other types", "status"),
)
SECONDS = 60


def _damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if kind == "null":
        path.write_bytes(b"null\n")
    elif kind == "other types":
        path.write_text(json.dumps({key: [] for key in json.loads(content)}) + "\n")
    elif kind == "broken link":
        path.symlink_to(path.with_name("nothing"))
    else:
        os.mkfifo(path)
    if kind in ("null", "other types"):
        os.utime(path, (1, 1))


def attack(folder: Path) -> list[str]:
    """Commands that gave a traceback, or did not end; empty if the promise held."""
    broken: list[str] = []
    pq.write_table(pa.table({"a": list(range(60)), "b": ["x", "y"] * 30}), folder / "s.parquet")
    job = {"input": str(folder / "s.parquet"), "output": str(folder / "run"), "models": {"gaussian_copula": {}}}
    run = ss.run_job(ss.Job.parse({**job, "sample": {"rows": 20}, "cluster": {"workers": 1}}))
    ledger = run.dir.model("gaussian_copula") / "ledger"
    ledger.mkdir()
    entry = {"first_row": 20, "rows": 5, "seed": 0, "where": None}
    (ledger / "000000.json").write_text(json.dumps(entry))
    kept = folder / "kept"
    shutil.copytree(run.dir.root, kept)
    for name, kind, command in CASES:
        shutil.rmtree(run.dir.root)
        shutil.copytree(kept, run.dir.root)
        if name.endswith("jobs.jsonl"):
            (run.dir.private / "slurm").mkdir()
            line = {"name": "a", "stage": "sample", "model": "gaussian_copula", "asked": {}}
            (run.dir.root / name).write_text(json.dumps(line) + "\n")
        _damage(run.dir.root / name, kind)
        said = _said(folder, command)
        if said:
            broken.append(f"{name}, {kind}, {command}: {said}")
    return broken


def _said(folder: Path, command: str) -> str:
    """What is wrong with how a command ended; empty if nothing."""
    first, *rest = command.split()
    words = [first, "run", *rest]
    if first == "sample":
        words = [first, "run/models/gaussian_copula", "--rows", "5", "--output", "rows", "--continue"]
        shutil.rmtree(folder / "rows", ignore_errors=True)
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
        return f"did not end in {SECONDS} s"
    text = done.stdout + done.stderr
    odd = "Traceback" in text or ": a bug;" in text or done.returncode not in (0, 1, 2)
    return f"exit code {done.returncode}: {text.strip()[-120:]}" if odd else ""


if __name__ == "__main__":
    sys.exit(verdict(attack))
