"""The figures that need rows: choosing synthetic rows, keeping them in a scoring task, computing figures in merge.

A scoring task keeps the rows whose hash is small, and their distances to the real rows. Merge joins the parts. The
choice of rows depends only on the seed, so that any number of tasks gives the same figures.
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
from shardsynth.data.column_roles import person_finding
from shardsynth.data.values import decoded, kind_of, plain_type, without_views
from shardsynth.job import Job
from shardsynth.metrics.attacks import attacks
from shardsynth.metrics.detection import detection
from shardsynth.metrics.persons import with_persons
from shardsynth.metrics.privacy import COMPARED_ROWS, SEARCHED_ROWS, Distances, Reference, Z, compare, privacy
from shardsynth.metrics.survival import survival
from shardsynth.metrics.text_privacy import text_privacy
from shardsynth.metrics.utility import utility
from shardsynth.run.artifacts import Artifacts
from shardsynth.stages.persons import sample_persons
from shardsynth.summaries.rows import hash_rows, share_threshold

#: Fewest training rows, and fewest holdout rows, for privacy figures.
_FEWEST_ROWS = 20
#: Share of the largest number of rows that is aimed at: hashes scatter, and may choose more.
_AIM = 0.97
#: Roles of text whose values can be compared; dates repeat by chance.
_TEXT_ROLES = ("category", "id", "pii")


def real_rows(artifacts: Artifacts) -> tuple[pa.Table, pa.Table]:
    """The row samples of training and holdout rows, with their persons where the job names them."""
    train, holdout = (
        with_persons(artifacts.profile(name).sample, sample_persons(artifacts, name)) for name in ("train", "holdout")
    )
    return train, holdout


def reference(artifacts: Artifacts) -> Reference | None:
    """The real rows with which synthetic rows are compared; None with too few of them."""

    def load() -> Reference | None:
        train, holdout = real_rows(artifacts)
        if min(train.num_rows, holdout.num_rows) < _FEWEST_ROWS:
            return None
        return Reference(artifacts.coder(), train, holdout, artifacts.plan.job.seed)

    shared: Reference | None = artifacts.cached("reference", load)
    return shared


class ScoredRows:
    """The synthetic rows of a scoring task that the row-based figures look at."""

    def __init__(self, artifacts: Artifacts, model: str) -> None:
        self._artifacts, self._salt = artifacts, f"score {model}"
        rows = artifacts.plan.rows
        self._most = np.uint64(_threshold(COMPARED_ROWS, rows))
        self._searched = np.uint64(_threshold(SEARCHED_ROWS, rows))
        schema = artifacts.plan.schema
        self._schema = pa.schema([pa.field(f.name, plain_type(f.type), True) for f in schema])
        self._tables: list[pa.Table] = []
        self._flags: list[npt.NDArray[np.bool_]] = []

    def add(self, batch: pa.RecordBatch, row: int) -> None:
        """Keep the rows of a batch whose hash is small; ``row`` is the global number of its first row."""
        hashes = hash_rows(self._artifacts.plan.job.seed, self._salt, row, batch.num_rows)
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
        real = reference(self._artifacts)
        if real is not None:
            members.update(compare(real, real.space.encode(table), searched).to_arrays())
        archive.write(path, members)


def _threshold(most: int, rows: int) -> int:
    return share_threshold(most if rows <= most else int(_AIM * most), rows)


def joined(artifacts: Artifacts, paths: Sequence[Path]) -> tuple[pa.Table, Distances | None]:
    """The rows that the scoring tasks of a model kept, and with a reference their distances to the real rows."""
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
    train, holdout = real_rows(artifacts)
    figures: dict[str, dict[str, Any]] = {"privacy": {}, "utility": {}, "detection": {}}
    if not table.num_rows:
        return figures
    real = reference(artifacts)
    if real is not None and distances is not None:
        secrets = evaluate.sensitive or ([evaluate.target] if evaluate.target else [])
        attacked = attacks(real.space, real.train_rows, real.holdout_rows, table, secrets, seed, Z)
        figures["privacy"] = privacy(real, real.space.encode(table), distances, plan.rows, attacked)
    if plan.job.privacy is None:
        _add_text_privacy(figures["privacy"], artifacts, train, table)
    if importlib.util.find_spec("sklearn") is not None:
        if evaluate.target is not None and holdout.num_rows:
            figures["utility"] = utility(coder, evaluate.target, train, holdout, table, seed)
        figures["detection"] = detection(coder, train, holdout, table, seed)
    if evaluate.survival is not None:
        survival_options = evaluate.survival
        tables = {"real": train, "synthetic": table, **({"holdout": holdout} if holdout.num_rows else {})}
        least = fewest_rows_shown(plan.job)
        figures["utility"]["survival"] = survival(
            survival_options.time, survival_options.event, survival_options.value, tables, least
        )
    return figures


def _add_text_privacy(figures: dict[str, Any], artifacts: Artifacts, train: pa.Table, table: pa.Table) -> None:
    """Add to a model's privacy figures what its text columns give away."""
    job, profile = artifacts.plan.job, artifacts.profile("train")
    text = [
        c for c in artifacts.columns_of(artifacts.metadata()) if kind_of(c.type) == "text" and c.role in _TEXT_ROLES
    ]
    persons = {}
    for column in text:
        finding = person_finding(column.name, column.type, column.sdtype, train, profile)
        if finding is not None and column.name not in job.pseudonymize:
            persons[column.name] = finding.reason
    learned = {column.name: column.role == "category" for column in text if column.name not in job.pseudonymize}
    by_column, found = text_privacy(train, table, learned, persons, job.rare.min_count)
    if by_column and figures:
        figures["text"] = by_column
    if found:
        figures["findings"] = [*found, *figures.get("findings", [])]


def fewest_rows_shown(job: Job) -> int:
    """Fewest real rows, or persons, of a cell that the page shows: rarer values may be in a model, but not there."""
    return max(5, job.rare.min_count)
