"""Drift between shards: by hand, over merges, and through a run."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from tests.here import run_here
from tests.tables import write_shards

from shardsynth import Job


def test_a_run_finds_the_shard_that_differs_whatever_the_tasks(tmp_path) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=1200)
    values[800:] += 2.0
    data = write_shards(pa.table({"x": values, "y": rng.choice(["a", "b"], 1200)}), tmp_path / "d", 3)
    found = []
    for rows in (100, 10_000):
        plain = {"input": str(data), "models": {"gaussian_copula": {}}, "sample": {"rows": 100}}
        run = run_here(Job.parse({**plain, "output": str(tmp_path / f"r{rows}"), "cluster": {"rows_per_task": rows}}))
        found.append(json.loads((run.dir.private / "summary" / "drift.json").read_text()))
        assert 'id="shards"' in run.report.read_text()
    assert found[0] == found[1]
    x, y = found[0]["columns"]["x"], found[0]["columns"]["y"]
    assert np.argmax(x["distance"]) == 2 and x["excess"] > 0.3 > 0.1 > y["excess"]
