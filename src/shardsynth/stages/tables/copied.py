"""Lists that are copied as they are: one part, and its manifest."""

from __future__ import annotations

import pyarrow as pa

from shardsynth._version import __version__
from shardsynth.data.columns import schema_to_text
from shardsynth.data.shards import read_batches
from shardsynth.data.writer import PartWriter
from shardsynth.planning.tables import shards_of
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt
from shardsynth.standalone import signals


def copy_lists(artifacts: Artifacts, model: str, attempt: Attempt) -> None:
    """Write each list beside a model's samples, in the order of its shards."""
    plan = artifacts.plan
    assert plan.tables is not None
    for table in plan.tables.copied:
        folder = artifacts.run.samples(model) / table.name
        path = folder / "part-00000.parquet"
        with PartWriter(attempt.output(path), table.schema, background=False) as writer:
            for shard in shards_of(plan, table):
                for batch in read_batches(shard, table.schema):
                    signals.check(0)
                    writer.write(batch)
            written = writer.close()
        entry = {"path": path.name, "part": 0, "rows": written.rows, "size": written.bytes, "sha256": written.sha256}
        manifest = {
            "model": model,
            "table": table.name,
            "copied": True,
            "rows": written.rows,
            "seed": plan.job.seed,
            "schema": schema_to_text(table.schema),
            "columns": [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in table.schema],
            "versions": {"shardsynth": __version__, "pyarrow": pa.__version__},
            "parts": [entry],
        }
        attempt.write_json(folder / "_manifest.json", manifest)
