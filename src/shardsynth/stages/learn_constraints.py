"""Learn the constraints of a run on the row sample, and make the inner table.

Under constraints, a run has two tables: the input's, on which all is scored, and the *inner* one, which the models see.
``Artifacts.fit_table`` gives a fit what it needs of the inner table. Without constraints, both tables are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.data.detection import complete
from shardsynth.data.metadata import columns as columns_of
from shardsynth.data.values import axis
from shardsynth.job import Job
from shardsynth.models.columns.computed import ComputedColumn, completed, completed_columns, computed_after, copy_of
from shardsynth.models.columns.fit import ColumnPersons, axis_cells, column_ends, has_tails, reach_of
from shardsynth.models.columns.guess_relations import guess_relations
from shardsynth.models.columns.marginals import Protection
from shardsynth.planning.constraints import declarations
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.constraint_card import FILE, GUESSED
from shardsynth.run.rundir import Attempt
from shardsynth.run.trust import signatures_of
from shardsynth.sampling.constraints.combined import CombinationStep
from shardsynth.sampling.constraints.declared import bind, check_learned, columns_in, is_programmed
from shardsynth.sampling.constraints.ordered import needs_anchor
from shardsynth.sampling.constraints.partial_order import has_roots
from shardsynth.sampling.constraints.programmed import fit_program, save_programs
from shardsynth.sampling.constraints.sdv_constraints import SdvConstraints, check_metadata
from shardsynth.sampling.constraints.step import ConstrainedColumn
from shardsynth.sampling.constraints.table import TableConstraints
from shardsynth.stages.ends import end_rule
from shardsynth.stages.persons import profile_persons
from shardsynth.standalone.signatures import sign
from shardsynth.summaries.persons import Hashes, PersonCells, PersonEnds, distinct_in
from shardsynth.summaries.profile import Profile, ProfileOptions


def learn_constraints(
    artifacts: Artifacts, attempt: Attempt, train: Profile, coder: TableCoder, metadata: dict[str, Any]
) -> tuple[list[Column], TableCoder, pa.Table]:
    """Learn the constraints on the row sample; write them, and the inner table's profile, codes and metadata.

    Returns:
        Columns, codes and row sample of the inner table.

    Raises:
        JobError: SDV refuses a constraint for this table, or a column cannot be constrained.
    """
    job, folder = artifacts.plan.job, artifacts.run.private / "summary"
    declared = declarations(job)
    columns = artifacts.columns_of(metadata)
    for number, declaration in enumerate(declared):
        if not is_programmed(declaration):
            check_learned(declaration, number, [column for column in columns if column.name in columns_in(declaration)])
    check_metadata([declaration for declaration in declared if not is_programmed(declaration)], metadata)
    SdvConstraints(declared, train.sample, columns, metadata)  # SDV accepts the sample
    programs, sample = [], _as_written(train.sample, artifacts.plan.schema)
    current_schema, current_metadata, current_columns = artifacts.plan.schema, metadata, columns
    for number, declaration in enumerate(declared):
        if is_programmed(declaration):
            program = fit_program(
                declaration, number, pa.Table.from_batches([sample]), current_schema, current_columns, current_metadata
            )
            sample = program.transform(sample)
            current_schema, current_metadata, current_columns = (
                program.inner,
                program.metadata,
                list(program.inner_columns),
            )
            programs.append(program)
    persons = profile_persons(artifacts.plan, train)
    table = _bind_steps(job, coder, artifacts.plan.schema, train, programs, persons)
    inner_sample = table.transform(_as_written(train.sample, artifacts.plan.schema))
    rows = inner_sample.num_rows
    options = ProfileOptions(seed=job.seed, total_rows=rows, sample_rows=max(rows, 1), extremes=train.options.extremes)
    profile = Profile.empty(table.inner, options)
    for first in range(0, rows, 1 << 16):
        profile.update(inner_sample.slice(first, 1 << 16), first)
    profile.cut()
    inner_metadata = complete(table.metadata(metadata), profile.sample, profile, table.inner)
    inner_columns = columns_of(inner_metadata, table.inner)
    ends = end_rule(job, artifacts.plan.schema, persons, {name for d in declared for name in columns_in(d)})
    inner_coder = TableCoder.from_profile(profile, inner_columns, min_count=job.rare.min_count, ends=ends)
    profile.save(attempt.output(folder / "inner.profile"))
    inner_coder.save(attempt.output(folder / "inner.coder"))
    attempt.write_json(folder / "inner.metadata.json", inner_metadata)
    card = table.to_json()
    if programs:
        pickled = folder / "constraints.pkl"
        content = save_programs(programs)
        attempt.output(pickled).write_bytes(content)
        sign(signatures_of(artifacts.run.private), hashlib.sha256(content).hexdigest())
    card["programs"] = len(programs)
    attempt.write_json(folder / FILE, card)
    return inner_columns, inner_coder, profile.sample


def guess_computed(
    artifacts: Artifacts, attempt: Attempt, train: Profile, coder: TableCoder, columns: Sequence[Column]
) -> None:
    """Guess, on the row sample, the columns that are computed from columns which constraints restore; write them.

    Args:
        artifacts: Of the run.
        attempt: Of ``profile_merge``.
        train: Profile of the training rows.
        coder: Codes of the table's columns.
        columns: The table's columns.
    """
    plan = artifacts.plan
    declared = declarations(plan.job)
    if plan.job.privacy is not None or any(map(is_programmed, declared)):
        return
    constrained = {name for declaration in declared for name in columns_in(declaration)}
    precisions = {c.column.name: c.precision for c in coder.columns}
    persons = profile_persons(plan, train)
    relations = guess_relations(
        columns, train.sample, precisions, plan.job.rare.min_count, given=constrained, persons=persons
    )
    by_name = {column.name: column for column in columns}

    def held(name: str) -> ConstrainedColumn:
        return _constrained_column(by_name[name], coder, train, plan.job, plan.schema, persons)

    late, copies = list[ComputedColumn](), set[str]()
    for pair in (columns_in(d) for d in declared if d["class_name"] == "Inequality"):
        copy = copy_of(held(pair[0]), held(pair[1]), train.sample) if pair[1] not in copies else None
        if copy is not None:
            late.append(copy)
            copies.add(copy.name)
    late += [ComputedColumn(relation, held(relation.name)) for relation in computed_after(relations, constrained)]
    busy = {*constrained, *(relation.name for relation in relations)}
    for source, target in completed_columns([c for c in columns if c.name not in busy], train.sample):
        late.append(completed(by_name[source], held(target)))
    attempt.write_json(artifacts.run.private / "summary" / GUESSED, [column.to_json() for column in late])


def _bind_steps(
    job: Job,
    coder: TableCoder,
    schema: pa.Schema,
    train: Profile,
    programs: Sequence[Any],
    persons: Hashes | None,
) -> TableConstraints:
    """The steps of the constraints, bound to their columns and to the combinations in the row sample."""
    sample = {name: train.sample.column(name).combine_chunks() for name in schema.names}
    by_name = {column.name: column for column in coder.table}

    def known(step: CombinationStep) -> frozenset[str]:
        labels = step.labels(sample)
        codes = labels.indices.to_numpy()
        rows = np.bincount(codes, minlength=len(labels.dictionary))
        if persons is not None:
            rows = distinct_in(codes.astype(np.int64), persons, len(labels.dictionary))
        least = 1 if job.rare.as_ == "keep" else job.rare.min_count
        return frozenset(x for x, count in zip(labels.dictionary.to_pylist(), rows.tolist()) if count >= least)

    busy = {name for name in schema.names if any(name not in program.untouched for program in programs)}
    steps = bind(
        declarations(job),
        lambda name: _constrained_column(by_name[name], coder, train, job, schema, persons),
        {*schema.names, *(name for program in programs for name in program.inner.names)},
        busy=busy,
        anchored=lambda columns: needs_anchor(columns, sample),
        known=known,
        rooted=lambda names, edges: has_roots(names, edges, sample),
        holds=lambda step: bool(step.valid(sample, train.sample.num_rows).all()),
    )
    return TableConstraints(schema, tuple(steps), tuple(programs))


def _constrained_column(
    column: Column, coder: TableCoder, train: Profile, job: Job, schema: pa.Schema, persons: Hashes | None
) -> ConstrainedColumn:
    """A column with its grid and the two ends between which a model stays."""
    nullable = bool(schema.field(column.name).nullable)
    complete = train[column.name].present == train[column.name].rows > 0
    if column.name not in coder.index:
        return ConstrainedColumn(column, nullable=nullable, complete=complete)
    column_coder = coder.columns[coder.index[column.name]]
    if column_coder.is_category or not column_coder.mass[:-1].sum():
        return ConstrainedColumn(
            column, column_coder.precision, emit_nan=column_coder.emit_nan, nullable=nullable, complete=complete
        )
    protection = Protection(job.rare.min_count, job.rare.as_, job.extremes)
    cells = axis_cells(column_coder, column_coder.mass, protection)
    low, high = column_ends(
        column_coder, cells, train[column.name], protection, _ends_of_sample(column, train, persons)
    )
    if has_tails(column_coder, protection):
        low, high = reach_of(column_coder, column_coder.mass, protection)
    return ConstrainedColumn(column, column_coder.precision, low, high, column_coder.emit_nan, nullable, complete)


def _ends_of_sample(column: Column, train: Profile, persons: Hashes | None) -> ColumnPersons | None:
    """The persons of the row sample with the most extreme values; no rarer than those of all rows."""
    if persons is None:
        return None
    ends = PersonEnds(len(persons))
    ends.add(axis(column, train.sample.column(column.name))[0], persons)
    return ColumnPersons(PersonCells(0, 1), ends)


def _as_written(sample: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """The row sample, in which dictionaries are decoded, in the schema of the table."""
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
