"""Running a task: check its needs, call the function of its stage, which writes and commits, and keep its log.

This is the same for every way to start a task: the local pool, submitit, an sbatch script or a person.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from shardsynth.errors import RunError, ShardsynthError, of_library
from shardsynth.job import STAGES
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.integrity import damage_is_named
from shardsynth.run.rundir import Attempt, Progress, RunDir
from shardsynth.run.trust import check_classes
from shardsynth.standalone.access import readable_by_group
from shardsynth.standalone.files import no_space_is_clear
from shardsynth.standalone.regular import open_to_append

StageFunction = Callable[[Artifacts, Task, Attempt, Progress], dict[str, Any]]


def stage_function(stage: str, *, of_model: bool = False, of_tables: bool = False) -> StageFunction:
    """The function of a stage; only the module of this stage is imported.

    Args:
        stage: The stage.
        of_model: Whether the plan is one of `shardsynth sample`.
        of_tables: Whether it is one of several tables.

    Raises:
        ValueError: There is no such stage.
    """
    if stage not in STAGES:
        raise ValueError(f"no stage is called {stage!r}")
    module = "model_rows" if of_model else stage.removesuffix("_merge")
    module = f"tables.{module}" if of_tables else module
    function: StageFunction = getattr(import_module(f"shardsynth.stages.{module}"), stage)
    return function


class TaskRunner:
    """Runs tasks of a plan one after the other; what they share stays in memory.

    Args:
        root: The run directory.

    Raises:
        RunError: The run directory has no plan, or its job names classes of somebody else.
    """

    def __init__(self, root: Path) -> None:
        self.artifacts = Artifacts(root)
        self.run, self.plan = self.artifacts.run, self.artifacts.plan
        check_classes(self.run.private, [constraint.class_name for constraint in self.plan.job.constraints])
        self._complete: set[tuple[str, str]] = set()  # committed groups: 10^4 records are read once, not per task

    def run_task(self, stage: str, index: int, progress: Progress = lambda rows: None) -> dict[str, Any]:
        """Run one task unless it is committed; returns its commit record.

        Raises:
            RunError: A task that it needs is not committed.
        """
        task = self.artifacts.find(stage, index)
        record = self.run.committed(stage, index)
        if record is not None:
            return record
        self._check_needs(task)
        try:
            with (
                readable_by_group(self.plan.job.access == "group"),
                self.run.attempt(stage, index) as attempt,
                no_space_is_clear(*_space_needed(self.run, self.plan, task)),
                damage_is_named(self.plan, self.run, task),
            ):
                function = stage_function(
                    stage, of_model=self.plan.sampling is not None, of_tables=self.plan.tables is not None
                )
                return function(self.artifacts, task, attempt, progress)
        except Exception:
            # Another attempt may have committed in the meantime, and deleted what this one was reading.
            record = self.run.committed(stage, index)
            if record is None:
                raise
            return record

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


def run_logged(
    runner: TaskRunner, stage: str, index: int, *, progress: Progress = lambda rows: None, debug: bool = False
) -> dict[str, Any]:
    """Run a task with its output in its log.

    Returns:
        The answer for the executor: ``ok`` and ``seconds``, with ``rows``, or ``error`` and ``exit_code``. No exception
        is raised.
    """
    started = time.monotonic()
    answer: dict[str, Any]
    with _logged(runner.run.log(stage, index)):
        try:
            record = runner.run_task(stage, index, progress)
            answer = {"ok": True, "rows": record["rows"]}
        except ShardsynthError as error:
            if debug:
                traceback.print_exc()
            print(f"shardsynth: {error}", file=sys.stderr)
            answer = {"ok": False, "error": str(error), "exit_code": error.exit_code}
        except Exception as error:  # a failed task must not take the worker with it
            traceback.print_exc()
            answer = {"ok": False, "error": of_library(error), "exit_code": 1}
        sys.stdout.flush()
        sys.stderr.flush()
    return {**answer, "seconds": round(time.monotonic() - started, 3)}


@contextlib.contextmanager
def _logged(path: Path) -> Any:
    """Send the output of this process to a task's log, also that of C libraries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.replace(
            path.with_suffix(f".{os.getpid()}.moved")
        )  # a link, a folder, or a FIFO, which would wait for a reader
    handle = open_to_append(path)
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
    """Where a task writes, and about how many bytes: of a sampling task, its rows at the input's bytes per row."""
    if task.stage != "sample":
        return run.root, None
    rows = sum(len(plan.part_rows(part)) for part in range(*task.parts))
    size = sum(shard.size for shard in plan.shards)
    return run.part(task.model, task.parts[0]), int(rows * size / max(1, plan.input_rows))
