"""Constraints in a run: learned on the row sample, and models fitted to the table in which they are steps.

Two tables then run through a job: the input's, on which all is scored, and the *inner* one, which the models see.
``side`` gives what a fit needs of it; without constraints both are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.values import kind_of
from shardsynth.errors import ModelError
from shardsynth.job import Job
from shardsynth.pipeline.files import read_json
from shardsynth.pipeline.rundir import Attempt, RunDir

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.pipeline.tasks import Worker
    from shardsynth.sampling.constraints.step import Held
    from shardsynth.sampling.constraints.table import TableConstraints
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.profile import Profile

#: File of a model folder that says how its rows become rows of the table.
FILE = "constraints.json"


def declarations(job: Job) -> list[dict[str, Any]]:
    """The job's constraints in SDV's form."""
    return [{"class_name": one.class_name, "parameters": dict(one.parameters)} for one in job.constraints]


def adapted(metadata: dict[str, Any], job: Job, schema: pa.Schema) -> dict[str, Any]:
    """Detected metadata in which the columns of constraints on numbers are numbers: SDV calls flags ordinal."""
    from shardsynth.sampling.constraints.declared import columns_in

    (table,) = metadata["tables"].values()
    for one in declarations(job):
        if one["class_name"] in ("Inequality", "Range", "FixedIncrements"):
            for name in columns_in(one):
                if table["columns"][name]["sdtype"] == "ordinal":
                    digits = {"decimal_places": 0} if kind_of(schema.field(name).type) == "integer" else {}
                    nullable = table["columns"][name].get("range_is_nullable", True)
                    table["columns"][name] = {"sdtype": "numerical", "range_is_nullable": nullable, **digits}
    return metadata


# --- learning, after the first pass ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """What a model is fitted on: the input's table, or the inner one."""

    schema: pa.Schema
    columns: list[Column]
    metadata: dict[str, Any]
    profile: Profile
    coder: TableCoder
    counts: Counts
    relations: list[Any]


def learn(
    worker: Worker, attempt: Attempt, train: Profile, coder: TableCoder, metadata: dict[str, Any]
) -> tuple[list[Column], TableCoder, pa.Table]:
    """Learn the constraints on the row sample; write them, and the inner table's profile, codes and metadata.

    Returns:
        Columns, codes and row sample of the inner table.

    Raises:
        JobError: SDV refuses a constraint for this table, or a column cannot be constrained.
    """
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.detection import complete
    from shardsynth.data.metadata import columns as columns_of
    from shardsynth.sampling.constraints.by_sdv import Arbiter, check_metadata
    from shardsynth.sampling.constraints.declared import check_learned, columns_in, is_programmed
    from shardsynth.sampling.constraints.programmed import fit_program, save_programs
    from shardsynth.summaries.profile import Profile, ProfileOptions

    job, folder = worker.plan.job, worker.run.private / "summary"
    declared = declarations(job)
    columns = worker.columns_of(metadata)
    for number, one in enumerate(declared):
        if not is_programmed(one):
            check_learned(one, number, [column for column in columns if column.name in columns_in(one)])
    check_metadata([one for one in declared if not is_programmed(one)], metadata)
    Arbiter(declared, train.sample, columns, metadata)  # SDV accepts the sample
    programs, sample = [], _as_written(train.sample, worker.plan.schema)
    schema, described, seen = worker.plan.schema, metadata, columns
    for number, one in enumerate(declared):
        if is_programmed(one):
            program = fit_program(one, number, pa.Table.from_batches([sample]), schema, seen, described)
            sample = program.transform(sample)
            schema, described, seen = program.inner, program.metadata, list(program.inner_columns)
            programs.append(program)
    table = _bound(job, coder, worker.plan.schema, train, programs)
    inner_sample = table.transform(_as_written(train.sample, worker.plan.schema))
    rows = inner_sample.num_rows
    options = ProfileOptions(seed=job.seed, total_rows=rows, sample_rows=max(rows, 1), extremes=train.options.extremes)
    profile = Profile.empty(table.inner, options)
    for first in range(0, rows, 1 << 16):
        profile.update(inner_sample.slice(first, 1 << 16), first)
    profile.cut()
    inner_metadata = complete(table.metadata(metadata), profile.sample, profile, table.inner)
    inner_columns = columns_of(inner_metadata, table.inner)
    inner_coder = TableCoder.from_profile(profile, inner_columns, min_count=job.rare.min_count)
    profile.save(attempt.output(folder / "inner.profile"))
    inner_coder.save(attempt.output(folder / "inner.coder"))
    _write(attempt.output(folder / "inner.metadata.json"), inner_metadata)
    card = table.to_json()
    if programs:
        pickled = folder / "constraints.pkl"
        attempt.output(pickled).write_bytes(save_programs(programs))
    card["programs"] = len(programs)
    _write(attempt.output(folder / FILE), card)
    return inner_columns, inner_coder, profile.sample


def _bound(job: Job, coder: TableCoder, schema: pa.Schema, train: Profile, programs: Sequence[Any]) -> TableConstraints:
    """The steps, with what the profile knows of their columns."""
    from shardsynth.sampling.constraints.combined import CombinationStep
    from shardsynth.sampling.constraints.declared import bind
    from shardsynth.sampling.constraints.ordered import needs_anchor
    from shardsynth.sampling.constraints.table import TableConstraints

    sample = {name: train.sample.column(name).combine_chunks() for name in schema.names}
    by_name = {column.name: column for column in coder.table}

    def known(step: CombinationStep) -> frozenset[str]:
        labels = step.labels(sample)
        rows = np.bincount(labels.indices.to_numpy(), minlength=len(labels.dictionary))
        least = 1 if job.rare.as_ == "keep" else job.rare.min_count
        return frozenset(x for x, count in zip(labels.dictionary.to_pylist(), rows.tolist()) if count >= least)

    busy = {name for name in schema.names if any(name not in program.untouched for program in programs)}
    steps = bind(
        declarations(job),
        lambda name: _facts(by_name[name], coder, train, job, schema),
        {*schema.names, *(name for program in programs for name in program.inner.names)},
        busy=busy,
        anchored=lambda columns: needs_anchor(columns, sample),
        known=known,
    )
    return TableConstraints(schema, tuple(steps), tuple(programs))


def _facts(column: Column, coder: TableCoder, train: Profile, job: Job, schema: pa.Schema) -> Held:
    """A column with its grid and the ends that a model may not go beyond."""
    from shardsynth.models.columns.fit import column_ends
    from shardsynth.models.columns.marginals import Protection, cells_of_histogram
    from shardsynth.sampling.constraints.step import Held

    nullable = bool(schema.field(column.name).nullable)
    if column.name not in coder.index:
        return Held(column, nullable=nullable)
    found = coder.columns[coder.index[column.name]]
    if found.is_category or not found.mass[:-1].sum():
        return Held(column, found.precision, emit_nan=found.emit_nan, nullable=nullable)
    cells = cells_of_histogram(found.mass[:-1], found.cuts, found.low, found.high, found.precision)
    protection = Protection(job.rare.min_count, job.rare.as_, job.extremes == "clip")
    low, high = column_ends(found, cells, train[column.name], protection)
    return Held(column, found.precision, low, high, found.emit_nan, nullable)


def _as_written(sample: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """The row sample, whose dictionaries are decoded, in the schema of the table."""
    arrays = []
    for field in schema:
        array = sample.column(field.name).combine_chunks()
        array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
        if pa.types.is_dictionary(field.type):
            coded = array.dictionary_encode()
            array = pa.DictionaryArray.from_arrays(
                coded.indices.cast(field.type.index_type), coded.dictionary, ordered=field.type.ordered
            )
        elif array.type != field.type:
            array = array.cast(field.type)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- reading what was learned ----------------------------------------------------------------------------------------


def side(worker: Worker) -> Side:
    """What a model of this run is fitted on."""
    from shardsynth.data.metadata import columns as columns_of

    if not worker.plan.job.constraints:
        metadata = worker.metadata()
        return Side(
            worker.plan.schema,
            worker.columns_of(metadata),
            metadata,
            worker.profile("train"),
            worker.coder(),
            worker.counts("train"),
            worker.relations(),
        )
    metadata = worker.cached("inner metadata", lambda: read_json(worker._summary("inner.metadata.json")))
    schema = constraints(worker).inner
    return Side(
        schema,
        columns_of(metadata, schema),
        metadata,
        worker.cached("inner profile", lambda: _profile(worker._summary("inner.profile"))),
        inner_coder(worker),
        worker.cached("inner counts", lambda: _counts(worker._summary("counts.inner"), inner_coder(worker))),
        worker.relations(),
    )


def _profile(path: Path) -> Profile:
    from shardsynth.summaries.profile import Profile

    return Profile.load(path)


def _counts(path: Path, coder: TableCoder) -> Counts:
    from shardsynth.summaries.counts import Counts

    return Counts.load(path, coder)


def inner_coder(worker: Worker) -> TableCoder:
    """Codes of the inner table."""
    from shardsynth.data.coding import TableCoder

    found: TableCoder = worker.cached("inner coder", lambda: TableCoder.load(worker._summary("inner.coder")))
    return found


def constraints(worker: Worker) -> TableConstraints:
    """The constraints of this run, learned."""
    found: TableConstraints = worker.cached("constraints", lambda: _load(read_json(worker._summary(FILE)), worker.run))
    return found


def _load(card: Mapping[str, Any], run: RunDir | None) -> TableConstraints:
    from shardsynth.sampling.constraints.programmed import load_programs
    from shardsynth.sampling.constraints.table import TableConstraints

    if not card.get("programs"):
        return TableConstraints.from_json(card)
    path = (run.private if run is not None else Path()) / "summary" / "constraints.pkl"
    record = None if run is None else run.last_record("profile_merge", 0)
    recorded = [o["sha256"] for o in (record or {"outputs": []})["outputs"] if o["path"].endswith("constraints.pkl")]
    if not recorded or not path.exists():
        raise ModelError(
            "the job's own constraints lie as a pickle under the run's private/summary: a model under them can be "
            "sampled where the run is, not elsewhere"
        )
    return TableConstraints.from_json(card, load_programs(path.read_bytes(), recorded[0]))


# --- in a model's folder ---------------------------------------------------------------------------------------------


def write_card(worker: Worker, attempt: Attempt, folder: Path) -> None:
    """Copy the constraints into a model's folder."""
    if worker.plan.job.constraints:
        attempt.output(folder / FILE).write_bytes(worker._summary(FILE).read_bytes())


def keeps(folder: Path) -> bool:
    """Whether the model of a folder was fitted under constraints."""
    return (folder / FILE).exists()


def read_card(folder: Path) -> TableConstraints | None:
    """Constraints of a model folder; None where it has none."""
    path = folder / FILE
    if not path.exists():
        return None
    card = read_json(path)
    run: RunDir | None = None
    if card.get("programs"):
        run = RunDir(folder.resolve().parents[1])
    return _load(card, run)
