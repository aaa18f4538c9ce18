"""One function per stage. A task reads committed files, writes an attempt's outputs and commits them.

Everything here is the same whatever started the task: the embedded pool, submitit, an sbatch script or a person.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardsynth.errors import RunError, ShardsynthError
from shardsynth.pipeline.files import no_space_is_clear, read_json
from shardsynth.pipeline.plan import Plan, Task
from shardsynth.pipeline.rundir import RunDir

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.columns import Column
    from shardsynth.models.copula.private_tables import PrivateTables
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.profile import Profile
    from shardsynth.summaries.ranges import ScoreRanges

Progress = Callable[[int], None]


class Worker:
    """Runs a plan's tasks one after the other and keeps what they share in memory."""

    def __init__(self, root: Path) -> None:
        self.run = RunDir(Path(root))
        self.plan = Plan.from_json(self.run.read_plan())
        self._cache: dict[str, Any] = {}
        self._complete: set[tuple[str, str]] = set()  # groups seen committed: 10^4 records are read once, not per task

    def find(self, stage: str, index: int) -> Task:
        """The planned task; RunError when there is none."""
        tasks = self.plan.tasks.get(stage)
        if tasks is None:
            raise RunError(f"{self.run.root}: no stage is called {stage!r}; stages: {', '.join(self.plan.tasks)}")
        if not 0 <= index < len(tasks):
            raise RunError(f"{self.run.root}: stage {stage} has tasks 0 to {len(tasks) - 1}, not {index}")
        return tasks[index]

    def run_task(self, stage: str, index: int, progress: Progress = lambda rows: None) -> dict[str, Any]:
        """Run one task unless it is committed; returns its commit record."""
        task = self.find(stage, index)
        found = self.run.committed(stage, index)
        if found is not None:
            return found
        self._check_needs(task)
        from shardsynth.pipeline.stages import STAGE_FUNCTIONS

        try:
            with (
                self.run.attempt(stage, index) as attempt,
                no_space_is_clear(*_space_needed(self.run, self.plan, task)),
            ):
                return STAGE_FUNCTIONS[stage](self, task, attempt, progress)
        except Exception:
            # Another attempt may have committed meanwhile, and deleted what this one was reading.
            found = self.run.committed(stage, index)
            if found is None:
                raise
            return found

    def _check_needs(self, task: Task) -> None:
        for stage, model in self.plan.needs(task.group):
            if (stage, model) in self._complete:
                continue
            for need in self.plan.model_tasks(stage, model):
                if self.run.committed(stage, need.index) is None:
                    raise RunError(
                        f"task {task.stage} {task.index} needs {stage} {need.index}, which is not committed; "
                        f"`shardsynth resume {self.run.root}` runs what is missing"
                    )
            self._complete.add((stage, model))

    def cached(self, key: str, load: Callable[[], Any]) -> Any:
        """A shared object, loaded once per process."""
        if key not in self._cache:
            self._cache[key] = load()
        return self._cache[key]

    def _summary(self, name: str) -> Path:
        return self.run.private / "summary" / name

    def profile(self, name: str) -> Profile:
        """Merged profile of the ``train`` or ``holdout`` rows."""
        from shardsynth.summaries.profile import Profile

        found: Profile = self.cached(f"profile {name}", lambda: Profile.load(self._summary(f"profile.{name}")))
        return found

    def coder(self) -> TableCoder:
        """The bins of pass 1."""
        from shardsynth.data.coding import TableCoder

        found: TableCoder = self.cached("coder", lambda: TableCoder.load(self._summary("coder")))
        return found

    def public_coder(self) -> TableCoder:
        """Codes that follow from the metadata alone (differential privacy)."""
        from shardsynth.data.coding import TableCoder

        found: TableCoder = self.cached("public coder", lambda: TableCoder.load(self._summary("coder.public")))
        return found

    def private_tables(self) -> PrivateTables:
        """The noisy counts of a run with differential privacy."""
        from shardsynth.models.copula.private_tables import PrivateTables

        path = self._summary("private_tables")
        found: PrivateTables = self.cached("private tables", lambda: PrivateTables.load(path))
        return found

    def counts(self, name: str) -> Counts:
        """Merged counts of the ``train`` or ``holdout`` rows."""
        from shardsynth.summaries.counts import Counts

        path = self._summary(f"counts.{name}")
        found: Counts = self.cached(f"counts {name}", lambda: Counts.load(path, self.coder()))
        return found

    def metadata(self) -> dict[str, Any]:
        """SDV metadata, exact: it holds values of real rows."""
        found: dict[str, Any] = self.cached("metadata", lambda: read_json(self._summary("metadata.json")))
        return found

    def columns_of(self, metadata: dict[str, Any]) -> list[Column]:
        """The table's columns by the metadata."""
        from shardsynth.data.metadata import columns

        return columns(metadata, self.plan.schema)

    def relations(self) -> list[Any]:
        """Relations guessed on the row sample."""
        from shardsynth.models.relations import relation_from_json

        def load() -> list[Any]:
            return [relation_from_json(data) for data in read_json(self._summary("relations.json"))]

        found: list[Any] = self.cached("relations", load)
        return found

    def synthetic_ranges(self, model: str) -> dict[str, ScoreRanges]:
        """Exact ranges of all synthetic rows and of the first ones (as many as the holdout has)."""
        from shardsynth.pipeline.stages import ranges_file
        from shardsynth.summaries.ranges import ScoreRanges

        def load() -> dict[str, ScoreRanges]:
            merged: dict[str, ScoreRanges] = {}
            for task in self.plan.model_tasks("sample", model):
                for name, data in read_json(ranges_file(self.run, task)).items():
                    part = ScoreRanges.from_json(data)
                    merged[name] = merged[name].merge(part) if name in merged else part
            return merged

        found: dict[str, ScoreRanges] = self.cached(f"ranges {model}", load)
        return found


def run_logged(
    worker: Worker, stage: str, index: int, *, progress: Progress = lambda rows: None, debug: bool = False
) -> dict[str, Any]:
    """Run a task with its output in its log; the answer that executors collect, never an exception."""
    started = time.monotonic()
    answer: dict[str, Any]
    with _logged(worker.run.log(stage, index)):
        try:
            record = worker.run_task(stage, index, progress)
            answer = {"ok": True, "rows": record["rows"]}
        except ShardsynthError as error:
            if debug:
                traceback.print_exc()
            print(f"shardsynth: {error}", file=sys.stderr)
            answer = {"ok": False, "error": str(error), "exit_code": error.exit_code}
        except Exception as error:  # a failed task must not take the worker with it
            traceback.print_exc()
            reason = (str(error).strip() or "no message").splitlines()[0]
            answer = {"ok": False, "error": f"{type(error).__name__}: {reason}", "exit_code": 1}
        sys.stdout.flush()
        sys.stderr.flush()
    return {**answer, "seconds": round(time.monotonic() - started, 3)}


@contextlib.contextmanager
def _logged(path: Path) -> Any:
    """Send this process's output, that of libraries in C included, to a task's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for number in (handle, *saved):
            os.close(number)


def _space_needed(run: RunDir, plan: Plan, task: Task) -> tuple[Path, int | None]:
    """Where a task writes, and roughly the bytes: a sampling task's rows at the input's bytes per row."""
    if task.stage != "sample":
        return run.root, None
    rows = sum(len(plan.part_rows(part)) for part in range(*task.parts))
    size = sum(shard.size for shard in plan.shards)
    return run.part(task.model, task.parts[0]), int(rows * size / max(1, plan.input_rows))
