"""Every constraint class: the way there and back, SDV's opinion of the result, whatever a model draws."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tests.tables.constrained import CONSTRAINTS, METADATA, constrained_table

from shardsynth.data.metadata import columns as columns_of
from shardsynth.data.values import Precision
from shardsynth.sampling.constraints.declared import bind
from shardsynth.sampling.constraints.ordered import needs_anchor
from shardsynth.sampling.constraints.sdv_constraints import SdvConstraints
from shardsynth.sampling.constraints.step import ConstrainedColumn
from shardsynth.sampling.constraints.table import TableConstraints


def table_of(data: pa.Table, declared, metadata=METADATA, facts=None) -> TableConstraints:
    columns = {c.name: c for c in columns_of(metadata, data.schema)}
    arrays = {name: data[name].combine_chunks() for name in data.column_names}
    steps = bind(
        declared,
        lambda name: ConstrainedColumn(columns[name], **(facts or {}).get(name, {})),
        data.column_names,
        anchored=lambda names: needs_anchor(names, arrays),
        known=lambda step: frozenset(step.labels(arrays).dictionary.to_pylist()),
    )
    return TableConstraints(data.schema, tuple(steps))


def batch_of(data: pa.Table) -> pa.RecordBatch:
    return data.combine_chunks().to_batches()[0]


FACTS = {
    "low": {"precision": Precision("decimal", digits=1)},
    "mid": {"precision": Precision("decimal", digits=1)},
    "high": {"precision": Precision("decimal", digits=2)},
}


def test_sdv_accepts_what_is_restored_from_made_columns_drawn_independently():
    """The worst model there is: every inner column shuffled on its own."""
    data = constrained_table()
    table = table_of(data, CONSTRAINTS, facts=FACTS)
    inner = table.transform(batch_of(data))
    rng = np.random.default_rng(1)
    arrays = [a.take(pa.array(rng.permutation(len(a)))) for a in inner.columns]
    restored, fine = table.restore(pa.RecordBatch.from_arrays(arrays, schema=inner.schema))
    assert fine.all()
    arbiter = SdvConstraints(CONSTRAINTS, data, columns_of(METADATA, data.schema), METADATA)
    assert [int(mask.sum()) for mask in arbiter.valid(restored).values()] == [len(data)] * 5


def test_sdv_and_ours_find_the_same_rows_invalid():
    """Columns shuffled on their own break every constraint; our check of real rows agrees with SDV's, row by row."""
    data = constrained_table()
    rng = np.random.default_rng(2)
    arrays = [data[n].combine_chunks().take(pa.array(rng.permutation(len(data)))) for n in data.column_names]
    broken = pa.RecordBatch.from_arrays(arrays, schema=data.schema)
    ours = {
        step.declared["class_name"]: mask
        for step, mask in zip(table_of(data, CONSTRAINTS).steps, table_of(data, CONSTRAINTS).valid(broken))
    }
    theirs = SdvConstraints(CONSTRAINTS, data, columns_of(METADATA, data.schema), METADATA).valid(broken)
    for number, one in enumerate(CONSTRAINTS):
        name = one["class_name"]
        if name not in ("FixedCombinations", "FixedIncrements"):  # the first has nothing to check in real rows
            assert 0 < ours[name].sum() < len(data)
            assert np.array_equal(ours[name], theirs[number]), name
