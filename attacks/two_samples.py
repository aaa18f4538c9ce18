"""Claim: of two `sample` commands that begin in one folder at once, one wins; no rows are reserved twice.

The same for `export` and `pack`: while one writes, another with the same output says who writes.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict

import shardsynth as ss
from shardsynth.api import export_model
from shardsynth.commands import sample as command
from shardsynth.errors import ShardsynthError


def attack(folder: Path) -> list[str]:
    """What was reserved twice, or not told; empty if the promise held."""
    broken: list[str] = []
    pq.write_table(pa.table({"a": list(range(60)), "b": ["x", "y"] * 30}), folder / "s.parquet")
    job = {"input": str(folder / "s.parquet"), "output": str(folder / "run"), "models": {"gaussian_copula": {}}}
    run = ss.run_job(ss.Job.parse({**job, "sample": {"rows": 20}, "cluster": {"workers": 1}}))
    model = run.dir.model("gaussian_copula")
    wanted = command.SampleRequest(model, folder / "rows", 10, go_on=True)
    # Both have checked and planned before either writes: what a fast machine does by chance.
    both = [command.prepare(wanted), command.prepare(wanted)]
    errors: list[str] = []

    def write(sample: command.ModelSample) -> None:
        try:
            sample.write()
        except ShardsynthError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=write, args=(sample,)) for sample in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reserved = [json.loads(path.read_text()) for path in sorted((model / "ledger").glob("*.json"))]
    if len(reserved) != 1:
        broken.append(f"{len(reserved)} reservations for one folder of rows")
    if len(errors) != 1:
        broken.append(f"{len(errors)} of two calls said that another writes")
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
