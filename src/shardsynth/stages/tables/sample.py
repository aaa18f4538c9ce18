"""Sampling: a task makes a range of output parts, each with all rows of its subjects in every table."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from shardsynth.data.writer import PartWriter
from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.tables.views import Tables
from shardsynth.summaries.ranges import ScoreRanges


def sample(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Write a range of output parts of every table, and the exact range of every numeric column."""
    from shardsynth.models.autoregressive.subjects.model import SubjectsModel

    plan, run = artifacts.plan, artifacts.run
    tables = Tables.of(artifacts)
    model: SubjectsModel = artifacts.cached(f"model {task.model}", lambda: SubjectsModel.load(run.model(task.model)))
    head = head_subjects(tables)
    ranges = {
        name: {which: ScoreRanges.empty(view.coder().columns) for which in ("all", "head")}
        for name, view in tables.outer.items()
    }
    entries: dict[str, list[dict[str, Any]]] = {name: [] for name in tables.outer}
    first = plan.part_rows(task.parts[0]).start
    for part in range(*task.parts):
        subjects = plan.part_rows(part)
        with ExitStack() as stack:
            writers = {}
            for name, view in tables.outer.items():
                path = view.run.part(task.model, part)
                writers[name] = stack.enter_context(
                    PartWriter(
                        attempt.output(path),
                        view.own_schema,
                        dictionary_columns=model.dictionary_columns[name],
                        background=False,
                    )
                )
            for name, batch, numbers in model.draw_subjects(plan.job.seed, subjects):
                writers[name].write(batch)
                ranges[name]["all"].update(batch)
                in_head = int(np.searchsorted(numbers, head))
                if in_head:
                    ranges[name]["head"].update(batch.slice(0, in_head))
                if name == next(iter(writers)):
                    progress(max(0, int(numbers[-1]) + 1 - first) if len(numbers) else 0)
            for name, writer in writers.items():
                written = writer.close()
                attempt.checksum(tables.outer[name].run.part(task.model, part), written.sha256)
                entry = {"part": part, "rows": written.rows, "size": written.bytes, "sha256": written.sha256}
                entries[name].append(entry)
    for name, view in tables.outer.items():
        found = {which: score_ranges.to_json() for which, score_ranges in ranges[name].items()}
        attempt.write_json(view.run.ranges_file(task), found)
    subjects_made = plan.part_rows(task.parts[1] - 1).stop - first
    return attempt.commit(rows=subjects_made, tables=entries, device="cpu")


def head_subjects(tables: Tables) -> int:
    """Number of the first synthetic subjects that are scored once more on their own: as many as are held out."""
    root = tables.inner[tables.tree.root.name]
    return root.profile("holdout").rows
