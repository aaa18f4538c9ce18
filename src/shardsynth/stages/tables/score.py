"""Scoring: a task counts a range of synthetic parts on the bins of the real rows, table by table and by subjects."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data import archive
from shardsynth.errors import MergeError
from shardsynth.metrics.sequences import Sequences
from shardsynth.metrics.subjects import MOST_SUBJECTS
from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.row_figures import ScoredRows
from shardsynth.stages.tables.sample import head_subjects
from shardsynth.stages.tables.subject_rows import SeenSubjects, link, seen
from shardsynth.stages.tables.views import Tables, with_rows
from shardsynth.standalone import signals
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.rows import hash_rows, share_threshold

#: Rows of a part are numbered from this multiple of its number: of another part, none has the same.
_PART_NUMBERS = 1 << 40
_BATCH = 65_536


def score(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Count a range of parts, keep the rows and subjects for figures that need them, and check how the tables fit."""
    plan, run = artifacts.plan, artifacts.run
    tables = sampled_tables(artifacts, task.model)
    head = head_subjects(tables)
    counted: dict[str, dict[str, Counts]] = {}
    scored = {}
    for name, view in tables.outer.items():
        ranges = view.synthetic_ranges(task.model)
        counted[name] = {w: Counts.empty(view.coder(), fit=False, score=ranges[w]) for w in ("all", "head")}
        scored[name] = ScoredRows(view, task.model)
    threshold = np.uint64(share_threshold(MOST_SUBJECTS, plan.rows))
    kept: list[SeenSubjects] = []
    broken: dict[str, Counter[str]] = {name: Counter() for name in tables.outer}
    rows_seen = 0
    first = plan.part_rows(task.parts[0]).start
    for part in range(*task.parts):
        subjects = plan.part_rows(part)
        rows = {name: _read(view.run.part(task.model, part), view.own_schema) for name, view in tables.outer.items()}
        linked = link(tables.tree, rows)
        if linked.subjects != len(subjects):
            raise MergeError(
                f"{run.samples(task.model)}: part {part} holds {linked.subjects:,} subjects, {len(subjects):,} were "
                f"planned; delete it, then `shardsynth resume {run.root}` makes it again"
            )
        for name, found in linked.broken.items():
            broken[name].update(found)
        chosen = hash_rows(plan.job.seed, f"subjects {task.model}", subjects.start, len(subjects)) <= threshold
        if chosen.any():
            kept.append(seen(tables, linked, chosen))
        for name, view in tables.outer.items():
            numbers = subjects.start + linked.subject[name]
            schema = view.plan.schema
            own = pa.Table.from_arrays([*linked.rows[name].columns, pa.array(numbers)], schema=schema)
            row = part * _PART_NUMBERS
            for batch in own.unify_dictionaries().combine_chunks().to_batches(max_chunksize=_BATCH):
                signals.check(0)
                counted[name]["all"].update(batch, row)
                scored[name].add(batch, row)
                in_head = int(np.searchsorted(batch.column(len(schema) - 1).to_numpy(), head))
                if in_head:
                    counted[name]["head"].update(batch.slice(0, in_head), row)
                row += batch.num_rows
                rows_seen += batch.num_rows
            progress(subjects.stop - first)
    for name, view in tables.outer.items():
        for which, counts in counted[name].items():
            counts.save(attempt.output(view.run.score_part(task, which)))
        scored[name].save(attempt.output(view.run.score_part(task, "rows")))
    archive.write(attempt.output(run.score_part(task, "subjects")), subjects_members(kept))
    wrong = {name: dict(each) for name, each in broken.items()}
    return attempt.commit(rows=plan.part_rows(task.parts[1] - 1).stop - first, broken=wrong, rows_of_tables=rows_seen)


def subjects_members(kept: list[SeenSubjects]) -> dict[str, Any]:
    """Subjects as arrays by name, for ``data.archive``."""
    members: dict[str, Any] = {"values": np.concatenate([s.table.values for s in kept]) if kept else np.zeros((0, 0))}
    for place, name in enumerate(kept[0].sequences if kept else ()):
        merged = reduce(Sequences.merge, (each.sequences[name] for each in kept))
        members |= {f"{place} {key}": values for key, values in merged.members().items()}
    return members


def sampled_tables(artifacts: Artifacts, model: str) -> Tables:
    """The tables of a run, their outer views with the numbers of rows that a model has made."""
    tables = Tables.of(artifacts)

    def load() -> Counter[str]:
        rows: Counter[str] = Counter()
        for each in artifacts.plan.model_tasks("sample", model):
            made = (artifacts.run.last_record("sample", each.index) or {"tables": {}})["tables"]
            rows.update({name: sum(part["rows"] for part in parts) for name, parts in made.items()})
        return rows

    rows = artifacts.cached(f"sampled rows {model}", load)  # 10^4 records are read once, not per task
    for name, view in tables.outer.items():
        with_rows(view, rows[name])
    return tables


def _read(path: Any, schema: pa.Schema) -> pa.Table:
    try:
        return pq.read_table(path, use_threads=False, partitioning=None).cast(schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise MergeError(
            f"{path}: the part cannot be read ({str(error).splitlines()[0]}); delete it, then `shardsynth resume` "
            "makes it again"
        ) from None
