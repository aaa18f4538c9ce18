"""Rows that a small copula completes under constraints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables import autoregressive
from tests.tables.constrained import CONSTRAINTS, METADATA, constrained_table
from tests.tables.copula import native, profiled

from shardsynth.data.coding import TableCoder
from shardsynth.data.metadata import columns as columns_of
from shardsynth.models.columns.computed import ComputedColumn, completed
from shardsynth.models.columns.formulas import DAY, LinearRelation
from shardsynth.models.columns.known import UnknownCategory
from shardsynth.models.columns.operands import Amount
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.constraints.declared import bind
from shardsynth.sampling.constraints.ordered import needs_anchor
from shardsynth.sampling.constraints.step import ConstrainedColumn
from shardsynth.sampling.constraints.table import TableConstraints
from shardsynth.sources.completion import complete

Held = Callable[[str], ConstrainedColumn]


def fitted(
    real: pa.Table,
    declared: Sequence[dict[str, Any]],
    computed: Callable[[Held], tuple[ComputedColumn, ...]] = lambda held: (),
    metadata: dict[str, Any] | None = None,
) -> tuple[GaussianCopula, TableConstraints]:
    """A copula of the inner table, and the constraints, as a run makes them."""
    profile, detected, columns = profiled(real)
    columns = columns if metadata is None else columns_of(metadata, real.schema)
    coders = {coder.column.name: coder for coder in TableCoder.from_profile(profile, columns).columns}
    sample = {name: profile.sample[name].combine_chunks() for name in real.schema.names}

    def held(name: str) -> ConstrainedColumn:
        coder = coders[name]
        if coder.is_category:
            return ConstrainedColumn(coder.column, coder.precision, emit_nan=coder.emit_nan)
        return ConstrainedColumn(coder.column, coder.precision, coder.low, coder.high, coder.emit_nan)

    steps = bind(declared, held, real.schema.names, anchored=lambda names: needs_anchor(names, sample))
    table = TableConstraints(real.schema, tuple(steps), (), computed(held))
    inner = pa.Table.from_batches([table.transform(batch) for batch in real.combine_chunks().to_batches()])
    return native(inner), table


def test_a_combination_is_chosen_where_an_order_is_broken_too() -> None:
    """Orders are mended afterwards: the choice must not be lost because the first try broke one as well."""
    real = constrained_table(900)
    model, table = fitted(real, CONSTRAINTS, metadata=METADATA)
    low_end = float(np.nanquantile(real["high"].to_pandas(), 0.02))
    country = pa.array(["FR"] * 300).dictionary_encode().cast(real.schema.field("country").type)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = complete(model, table, pa.table({"high": pa.array([low_end] * 300), "country": country}), 0)
    assert made["arm_a"].null_count == 0 and set(made["country"].to_pylist()) == {"FR"}
    assert all(mask.all() for batch in made.combine_chunks().to_batches() for mask in table.valid(batch))


def test_views_of_text_are_completed_as_text_is() -> None:
    def viewed(table: pa.Table) -> pa.Table:
        kinds = [
            pa.string_view() if pa.types.is_string(f.type) or pa.types.is_dictionary(f.type) else f.type
            for f in table.schema
        ]
        arrays = [c.cast(pa.string()).cast(k) if k == pa.string_view() else c for c, k in zip(table.columns, kinds)]
        return pa.table(arrays, names=table.column_names)

    real = viewed(constrained_table(900))
    model, table = fitted(real, CONSTRAINTS, metadata=METADATA)
    known = viewed(pa.table({"country": pa.array(["FR"] * 50 + [None] * 50)}))
    made = complete(model, table, known, 0)
    assert made.schema.field("country").type == pa.string_view()
    assert set(made["country"].to_pylist()[:50]) == {"FR"} and made["country"].null_count == 0
    assert all(mask.all() for batch in made.combine_chunks().to_batches() for mask in table.valid(batch))


@pytest.fixture(scope="module")
def trial() -> tuple[pa.Table, GaussianCopula, TableConstraints]:
    """Start, end and duration; a score, and one that is completed where the first was not measured."""
    rng = np.random.default_rng(0)
    start, days = rng.integers(16_000, 18_000, 1_000).astype(np.int32), rng.integers(0, 200, 1_000)
    score, gone = rng.integers(0, 30, 1_000), rng.random(1_000) < 0.4
    real = pa.table(
        {
            "start": pa.array(start).cast(pa.date32()),
            "end": pa.array((start + days).astype(np.int32)).cast(pa.date32()),
            "days": days,
            "x": np.round(2 * days + rng.normal(0, 20, 1_000), 1),
            "score": pa.array(score, mask=gone),
            "completed": np.where(gone, rng.integers(0, 30, 1_000), score),
        }
    )
    instants = tuple(Amount(name, nanoseconds=DAY) for name in ("end", "start"))

    def computed(held: Held) -> tuple[ComputedColumn, ...]:
        grid = held("days").precision
        relation = LinearRelation(instants, Amount("days"), 0.25, grid, 1_000, (1.0, -1.0))
        return ComputedColumn(relation, held("days")), completed(held("score").column, held("completed"))

    order = {"class_name": "Inequality", "parameters": {"low_column_name": "start", "high_column_name": "end"}}
    return real, *fitted(real, [order], computed)


@pytest.mark.parametrize(
    "names",
    ["end", "days", "start days", "end days", "end x", "days completed", "completed", "score completed", "start end"],
)
def test_completed_rows_keep_their_computed_columns(trial, names: str) -> None:
    real, model, table = trial
    known = real.slice(0, 200).select(names.split())
    known = known.set_column(0, known.schema.field(0).name, _with_gaps(known[0].combine_chunks()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = complete(model, table, known, 3)
    days = [(end - start).days for start, end in zip(made["start"].to_pylist(), made["end"].to_pylist())]
    assert made["days"].to_pylist() == days
    pairs = zip(made["score"].to_pylist(), made["completed"].to_pylist())
    assert all(score in (None, whole) for score, whole in pairs)
    for name in known.column_names:
        given = pc.is_valid(known[name])
        assert made[name].filter(given).equals(known[name].filter(given))
    assert complete(model, table, known.slice(50, 30), 3, 50).equals(made.slice(50, 30))
    if "days" in names:  # the model is told of a known duration
        assert np.corrcoef(made["days"], made["x"])[0, 1] > 0.95


def _with_gaps(array: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(np.arange(len(array)) % 5 == 0), pa.scalar(None, array.type), array)


def test_known_values_that_contradict_each_other_are_named_and_stay(trial) -> None:
    real, model, table = trial
    known = real.slice(0, 20).select(["start", "end", "days"])
    known = known.set_column(2, "days", pc.add(known["days"], pa.array([1] + [0] * 19)))
    with pytest.warns(UnknownCategory, match=r"1 row\(s\) cannot be completed .* \(row 7\)"):
        made = complete(model, table, known, 3, first_row=7)
    assert made.select(known.column_names).equals(known)


def test_a_known_duration_is_told_to_an_autoregressive_model(trial) -> None:
    real, _, table = trial
    inner = pa.Table.from_batches([table.transform(batch) for batch in real.combine_chunks().to_batches()])
    model = autoregressive.fit(autoregressive.prepare(inner, {}), {**autoregressive.QUICK, "max_epochs": 2})
    assert "days" in {relation.name for relation in model.relations}
    known = real.slice(0, 100).select(["days"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = complete(model, table, known, 3)
    days = [(end - start).days for start, end in zip(made["start"].to_pylist(), made["end"].to_pylist())]
    assert made["days"].to_pylist() == days == known["days"].to_pylist()
