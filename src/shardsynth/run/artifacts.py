"""A run's plan and what its earlier stages wrote, loaded once per process.

It only reads: tasks are run by ``stages.task``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.errors import RunError
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.constraint_card import COMPUTED, FILE, load_constraints
from shardsynth.run.documents import MADE_AGAIN
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import read_json

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.models.dp.tables import NoisyTables
    from shardsynth.sampling.constraints.table import TableConstraints
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.profile import Profile
    from shardsynth.summaries.ranges import ScoreRanges


@dataclass(frozen=True)
class FitTable:
    """What a model is fitted on: the input's table or, under constraints, the *inner* table.

    Attributes:
        schema: Arrow schema of the table.
        columns: Its columns, with sdtype and role.
        metadata: Its SDV metadata.
        profile: Merged profile of the training rows.
        coder: Bins and categories of the columns.
        counts: Merged counts of the training rows on these bins.
        relations: Relations between columns, guessed on the row sample.
    """

    schema: pa.Schema
    columns: list[Column]
    metadata: dict[str, Any]
    profile: Profile
    coder: TableCoder
    counts: Counts
    relations: list[Any]


class Artifacts:
    """A run's plan and what its stages wrote.

    Args:
        root: The run directory.

    Raises:
        RunError: The directory holds no plan.
    """

    def __init__(self, root: Path) -> None:
        run = RunDir.at(Path(root))
        self.plan = Plan.from_json(run.read_plan())
        self.run = RunDir(run.root, parts_beside=self.plan.sampling is not None)
        self._cache: dict[str, Any] = {}

    def find(self, stage: str, index: int) -> Task:
        """The task of the plan with this stage and number; RunError if there is none."""
        tasks = self.plan.tasks.get(stage)
        if tasks is None:
            raise RunError(f"{self.run.root}: no stage is called {stage!r}; stages: {', '.join(self.plan.tasks)}")
        if not 0 <= index < len(tasks):
            raise RunError(f"{self.run.root}: stage {stage} has tasks 0 to {len(tasks) - 1}, not {index}")
        return tasks[index]

    def cached(self, key: str, load: Callable[[], Any]) -> Any:
        """What ``load`` returned at the first call with this key in this process."""
        if key not in self._cache:
            self._cache[key] = load()
        return self._cache[key]

    def summary(self, name: str) -> Path:
        """Path of a merged summary of real rows."""
        return self.run.private / "summary" / name

    def profile(self, name: str) -> Profile:
        """Merged profile of the ``train`` or ``holdout`` rows."""
        from shardsynth.summaries.profile import Profile

        profile: Profile = self.cached(f"profile {name}", lambda: Profile.load(self.summary(f"profile.{name}")))
        return profile

    def coder(self) -> TableCoder:
        """Bins and categories of the columns, set by pass 1."""
        from shardsynth.data.coding import TableCoder

        coder: TableCoder = self.cached("coder", lambda: TableCoder.load(self.summary("coder")))
        return coder

    def public_coder(self) -> TableCoder:
        """Bins and categories that the metadata alone give; used under differential privacy."""
        from shardsynth.data.coding import TableCoder

        coder: TableCoder = self.cached("public coder", lambda: TableCoder.load(self.summary("coder.public")))
        return coder

    def noisy_tables(self) -> NoisyTables:
        """The noisy counts of a run under differential privacy."""
        from shardsynth.models.dp.tables import NoisyTables

        path = self.summary("private_tables")
        tables: NoisyTables = self.cached("noisy tables", lambda: NoisyTables.load(path))
        return tables

    def counts(self, name: str) -> Counts:
        """Merged counts of the ``train`` or ``holdout`` rows."""
        from shardsynth.summaries.counts import Counts

        path = self.summary(f"counts.{name}")
        counts: Counts = self.cached(f"counts {name}", lambda: Counts.load(path, self.coder()))
        return counts

    def metadata(self) -> dict[str, Any]:
        """The table's SDV metadata with exact ranges: they are values of real rows."""
        metadata: dict[str, Any] = self.cached("metadata", lambda: read_json(self.summary("metadata.json")))
        return metadata

    def columns_of(self, metadata: dict[str, Any]) -> list[Column]:
        """The input's columns as SDV metadata describe them."""
        from shardsynth.data.metadata import columns

        return columns(metadata, self.plan.schema)

    def relations(self) -> list[Any]:
        """Relations between columns, guessed on the row sample."""
        from shardsynth.models.columns.relations import relation_from_json

        def load() -> list[Any]:
            return [relation_from_json(data) for data in read_json(self.summary("relations.json"))]

        relations: list[Any] = self.cached("relations", load)
        return relations

    def synthetic_ranges(self, model: str) -> dict[str, ScoreRanges]:
        """Exact ranges of a model's columns over all synthetic rows, and over as many as the holdout has."""
        from shardsynth.summaries.ranges import ScoreRanges

        def load() -> dict[str, ScoreRanges]:
            merged: dict[str, ScoreRanges] = {}
            for task in self.plan.model_tasks("sample", model):
                path = self.run.ranges_file(task)
                try:
                    for name, data in read_json(path).items():
                        part = ScoreRanges.from_json(data)
                        merged[name] = merged[name].merge(part) if name in merged else part
                except (ValueError, TypeError, LookupError, AttributeError, IsADirectoryError) as error:
                    raise RunError(f"{path}: damaged: not the ranges of columns; {MADE_AGAIN}") from error
            return merged

        ranges: dict[str, ScoreRanges] = self.cached(f"ranges {model}", load)
        return ranges

    def constraints(self) -> TableConstraints:
        """The constraints of this run, as learned on the row sample; computed columns once all rows were counted."""
        counted = self.summary(COMPUTED).exists()

        def load() -> TableConstraints:
            computed = {"computed": read_json(self.summary(COMPUTED))} if counted else {}
            return load_constraints({**read_json(self.summary(FILE)), **computed}, self.run)

        constraints: TableConstraints = self.cached(f"constraints {counted}", load)
        return constraints

    def inner_coder(self) -> TableCoder:
        """Bins and categories of the inner table's columns."""
        from shardsynth.data.coding import TableCoder

        coder: TableCoder = self.cached("inner coder", lambda: TableCoder.load(self.summary("inner.coder")))
        return coder

    def fit_table(self) -> FitTable:
        """What a model of this run is fitted on."""
        if not self.plan.job.constraints:
            metadata = self.metadata()
            return FitTable(
                self.plan.schema,
                self.columns_of(metadata),
                metadata,
                self.profile("train"),
                self.coder(),
                self.counts("train"),
                self.relations(),
            )
        from shardsynth.data.metadata import columns
        from shardsynth.summaries.counts import Counts
        from shardsynth.summaries.profile import Profile

        metadata = self.cached("inner metadata", lambda: read_json(self.summary("inner.metadata.json")))
        schema = self.constraints().inner
        coder = self.inner_coder()
        return FitTable(
            schema,
            columns(metadata, schema),
            metadata,
            self.cached("inner profile", lambda: Profile.load(self.summary("inner.profile"))),
            coder,
            self.cached("inner counts", lambda: Counts.load(self.summary("counts.inner"), coder)),
            self.relations(),
        )
