"""The figures that need rows: which synthetic rows are looked at, what a scoring task keeps, what merge makes of it.

A scoring task keeps the rows whose hash is small and their distances to the real rows; merge joins the parts. Which
rows those are depends on the seed alone, so that any number of tasks gives the same figures.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data import archive
from shardsynth.data.values import decoded, plain_type, without_views
from shardsynth.job import Job
from shardsynth.metrics.attacks import attacks
from shardsynth.metrics.detection import detection
from shardsynth.metrics.privacy import COMPARED_ROWS, SEARCHED_ROWS, Distances, Reference, Z, compare, privacy
from shardsynth.metrics.survival import survival
from shardsynth.metrics.utility import utility
from shardsynth.run.artifacts import Artifacts
from shardsynth.summaries.rows import hash_rows, share_threshold

#: Rows that a privacy figure needs of either real side.
_FEWEST_ROWS = 20
#: Hashes scatter: so many fewer rows than the most are aimed at.
_AIM = 0.97


def reference(artifacts: Artifacts) -> Reference | None:
    """The real rows that synthetic ones are compared with; None without a holdout, or without torch."""

    def load() -> Reference | None:
        train, held = artifacts.profile("train").sample, artifacts.profile("holdout").sample
        if min(train.num_rows, held.num_rows) < _FEWEST_ROWS or importlib.util.find_spec("torch") is None:
            return None
        return Reference(artifacts.coder(), train, held, artifacts.plan.job.seed)

    found: Reference | None = artifacts.cached("reference", load)
    return found


class ScoredRows:
    """The synthetic rows of a scoring task that the row-based figures look at."""

    def __init__(self, artifacts: Artifacts, model: str) -> None:
        self._worker, self._salt = artifacts, f"score {model}"
        rows = artifacts.plan.rows
        self._most = np.uint64(_threshold(COMPARED_ROWS, rows))
        self._searched = np.uint64(_threshold(SEARCHED_ROWS, rows))
        schema = artifacts.plan.schema
        self._schema = pa.schema([pa.field(f.name, plain_type(f.type), True) for f in schema])
        self._tables: list[pa.Table] = []
        self._flags: list[npt.NDArray[np.bool_]] = []

    def add(self, batch: pa.RecordBatch, row: int) -> None:
        """Keep those of a batch's rows whose hash is small; ``row``: global number of the first."""
        hashes = hash_rows(self._worker.plan.job.seed, self._salt, row, batch.num_rows)
        chosen = np.flatnonzero(hashes <= self._most)
        if not len(chosen):
            return
        picked = without_views(batch).take(pa.array(chosen))
        self._tables.append(pa.Table.from_arrays([decoded(a) for a in picked.columns], schema=self._schema))
        self._flags.append(hashes[chosen] <= self._searched)

    def save(self, path: Path) -> None:
        """Write the rows and their distances to the real ones."""
        table = pa.concat_tables(self._tables) if self._tables else self._schema.empty_table()
        searched = np.concatenate([np.zeros(0, np.bool_), *self._flags])
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd")
        members: dict[str, archive.Member] = {"rows.parquet": out.getvalue()}
        real = reference(self._worker)
        if real is not None:
            members.update(compare(real, real.space.encode(table), searched).to_arrays())
        archive.write(path, members)


def _threshold(most: int, rows: int) -> int:
    return share_threshold(most if rows <= most else int(_AIM * most), rows)


def joined(artifacts: Artifacts, paths: Sequence[Path]) -> tuple[pa.Table, Distances | None]:
    """What the scoring tasks of a model kept: the rows, and their distances where there is a reference."""
    parts = [archive.read(path) for path in paths]
    table = pa.concat_tables([pq.read_table(io.BytesIO(part.pop("rows.parquet"))) for part in parts])
    return table.combine_chunks(), Distances.joined(parts) if reference(artifacts) is not None else None


def row_figures(artifacts: Artifacts, table: pa.Table, distances: Distances | None) -> dict[str, dict[str, Any]]:
    """``privacy``, ``utility`` and ``detection`` of a model, in the form of ``metrics/<model>.json``.

    Args:
        artifacts: Of the run.
        table: Synthetic rows, a uniform sample.
        distances: Of these rows to the real ones.
    """
    plan, coder = artifacts.plan, artifacts.coder()
    evaluate, seed = plan.job.evaluate, plan.job.seed
    train, held = artifacts.profile("train").sample, artifacts.profile("holdout").sample
    found: dict[str, dict[str, Any]] = {"privacy": {}, "utility": {}, "detection": {}}
    if not table.num_rows:
        return found
    real = reference(artifacts)
    if real is not None and distances is not None:
        secrets = evaluate.sensitive or ([evaluate.target] if evaluate.target else [])
        attacked = attacks(real.space, real.train_rows, real.holdout_rows, table, secrets, seed, Z)
        found["privacy"] = privacy(real, real.space.encode(table), distances, plan.rows, attacked)
    if importlib.util.find_spec("sklearn") is not None:
        if evaluate.target is not None and held.num_rows:
            found["utility"] = utility(coder, evaluate.target, train, held, table, seed)
        found["detection"] = detection(coder, train, held, table, seed)
    if evaluate.survival is not None:
        asked = evaluate.survival
        tables = {"real": train, "synthetic": table, **({"holdout": held} if held.num_rows else {})}
        least = least_told(plan.job)
        found["utility"]["survival"] = survival(asked.time, asked.event, asked.value, tables, least)
    return found


def least_told(job: Job) -> int:
    """Fewest real rows of a cell on the page: a job may keep rarer values in its model, but never shows them."""
    return max(5, job.rare.min_count)
