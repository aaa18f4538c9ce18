"""Claim: of two `sample` commands that begin in one folder at once, one wins; no rows are reserved twice.

Two processes call the command together, round after round, each round with a new folder. The same for `export` and
`pack`: while one writes, another with the same output says who writes.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict

import shardsynth as ss
from shardsynth.api import export_model
from shardsynth.cli import app
from shardsynth.errors import ShardsynthError

ROUNDS = 25


def sample(model: Path, folder: Path, together: Any, made: Any) -> None:
    """Sample into a folder a round, each time at the same moment as the other process; ``made`` gets the successes."""
    for number in range(ROUNDS):
        words = ["sample", str(model), "--rows", "10", "--output", str(folder / f"rows{number}"), "--continue"]
        together.wait(60)
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                app(words, standalone_mode=False)
        except (ShardsynthError, SystemExit, OSError):
            continue
        made.put(number)
    made.put(None)


def attack(folder: Path) -> list[str]:
    """What was reserved twice, or not told; empty if the promise held."""
    broken: list[str] = []
    pq.write_table(pa.table({"a": list(range(60)), "b": ["x", "y"] * 30}), folder / "s.parquet")
    job = {"input": str(folder / "s.parquet"), "output": str(folder / "run"), "models": {"gaussian_copula": {}}}
    run = ss.run_job(ss.Job.parse({**job, "sample": {"rows": 20}, "cluster": {"workers": 1}}))
    model = run.dir.model("gaussian_copula")
    processes = get_context("spawn")
    together, made = processes.Barrier(2), processes.Queue()
    both = [processes.Process(target=sample, args=(model, folder, together, made)) for _ in range(2)]
    for process in both:
        process.start()
    ended, wins = 0, []
    while ended < len(both):
        number = made.get(timeout=300)
        ended += number is None
        wins += [] if number is None else [number]
    for process in both:
        process.join()
    entries = [json.loads(path.read_text()) for path in sorted((model / "ledger").glob("*.json"))]
    if len(entries) != ROUNDS:
        broken.append(f"{len(entries)} reservations for {ROUNDS} folders of rows")
    if lost := set(range(ROUNDS)) - set(wins):
        broken.append(f"{len(lost)} of {ROUNDS} times nobody won")
    try:
        from shardsynth.standalone.locks import sole_writer
    except ImportError:
        return [*broken, "pack and export have no lock"]
    for name, write_it in (
        ("pack", run.pack),
        ("export", lambda output: list(export_model(model, output))),
    ):
        output = folder / f"{name}.out"
        with sole_writer(output, name):
            try:
                write_it(output)
                broken.append(f"{name}: two wrote one output")
            except ShardsynthError as error:
                if "writes it already: process" not in str(error):
                    broken.append(f"{name}: {error}")
    return broken


if __name__ == "__main__":
    sys.exit(verdict(attack))
