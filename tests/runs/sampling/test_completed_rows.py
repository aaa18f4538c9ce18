"""Rows that a small copula completes under constraints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tests.tables.constrained import CONSTRAINTS, METADATA, constrained_table
from tests.tables.copula import native, profiled

from shardsynth.data.coding import TableCoder
from shardsynth.data.metadata import columns as columns_of
from shardsynth.models.columns.computed import ComputedColumn
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
