"""Conditions under constraints: those that the model can meet itself, and those that are tested on finished rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.values import column_native, decoded, instant_of
from shardsynth.errors import ConditionError, did_you_mean
from shardsynth.sampling.conditions import Condition, Conditions, check_no_number, said
from shardsynth.sampling.constraints.combined import JOINT, CombinationStep, OneHotStep
from shardsynth.sampling.constraints.comparison import compared
from shardsynth.sampling.constraints.rejection import RowTest
from shardsynth.sampling.constraints.step import Mask, missing_of
from shardsynth.sampling.constraints.table import TableConstraints


def split_conditions(
    conditions: Conditions, table: TableConstraints, model: Any
) -> tuple[Conditions | None, RowTest | None]:
    """Conditions on the columns that the model has, and a test for the others.

    A FixedCombinations or a OneHotEncoding replaces its columns by a joint one. Conditions on its columns become a
    choice of joint categories, which the model draws exactly. Any other constrained column is tested when the row is
    finished.

    Args:
        conditions: On columns of the table.
        table: The constraints.
        model: The model of the inner table.

    Returns:
        Conditions on the inner table, or None; a test of finished rows, or None.

    Raises:
        ConditionError: No combination that the model holds meets the conditions, or there is no such column.
    """
    for name in conditions.columns:
        if name not in table.schema.names:
            raise ConditionError(f"condition: no column is called {name!r}{did_you_mean(name, table.schema.names)}")
    late = table.finished_late
    by_model = [test for test in conditions.tests if test.column in table.inner.names and test.column not in late]
    later = [test for test in conditions.tests if test not in by_model]
    for step in table.steps:
        replaced = [test for test in later if test.column in step.replaced]
        if replaced and isinstance(step, (CombinationStep, OneHotStep)):
            categories = _categories(model, step.name)
            if categories is not None:
                by_model.append(_choice(step, replaced, categories))
                later = [test for test in later if test not in replaced]
    test: RowTest | None = None
    if later:
        held = [getattr(step, "constrained", ()) for step in table.steps]
        constrained = [c for one in held for c in (one if isinstance(one, tuple) else (one,))]
        constrained += [column.held for column in table.computed]
        layouts = {c.column.name: c.datetime_format for c in constrained if c.datetime_format is not None}
        test = lambda batch: meets(later, batch, layouts)  # noqa: E731
    return (Conditions(tuple(by_model)) if by_model else None), test


def _categories(model: Any, name: str) -> pa.Array | None:
    for column in getattr(model, "columns", ()):
        if column.name == name:
            return getattr(column, "categories", None)
    return None


def _choice(step: CombinationStep | OneHotStep, tests: Sequence[Condition], categories: pa.Array) -> Condition:
    """The categories whose columns meet the tests, as a condition on the joint column."""
    n = len(categories)
    labels = pa.array(categories.to_pylist(), pa.string())
    joint = pa.DictionaryArray.from_arrays(pa.array(np.arange(n, dtype=np.int32)), labels).cast(JOINT)
    columns, broken = step.restore({step.name: joint}, n)
    chosen = meets(tests, pa.RecordBatch.from_arrays(list(columns.values()), list(columns))) & ~broken
    if not chosen.any():
        raise ConditionError(f"condition {said(tests)}: no combination that the model holds meets it")
    return Condition(step.name, "in", tuple(labels.filter(pa.array(chosen)).to_pylist()), from_data=True)


def meets(tests: Sequence[Condition], batch: pa.RecordBatch, layouts: Mapping[str, str] | None = None) -> Mask:
    """bool[n]: rows that pass all tests. A missing value passes only ``isnull``.

    Args:
        tests: Of columns of the batch.
        batch: Rows.
        layouts: Of columns that hold instants as text or integers: their format.

    Raises:
        ConditionError: A value cannot be compared with the column.
    """
    passed = np.ones(batch.num_rows, np.bool_)
    for test in tests:
        array = decoded(batch.column(test.column))
        missing = missing_of(array)
        if test.operator == "null":
            passed &= missing == bool(test.values[0])
            continue
        layout = (layouts or {}).get(test.column)
        check_no_number(test.column, test.values, array.type, layout)
        try:
            outcome = compared(test, array) if layout is None else _compared_instants(test, array, layout)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            raise ConditionError(
                f"condition {test.said}: a column of type {array.type} cannot be compared with such a value"
            ) from None
        passed &= np.asarray(pc.fill_null(outcome, False).to_numpy(zero_copy_only=False), np.bool_) & ~missing
    return passed


def _compared_instants(test: Condition, array: pa.Array, layout: str) -> Any:
    """The test of values that are held as text or integers of a layout."""
    column = Column(test.column, array.type, "datetime", "datetime", {"datetime_format": layout})
    values, missing = column_native(column, array)
    wanted = [instant_of(value, layout) for value in test.values]
    instants = pa.array(values, mask=missing)
    return compared(Condition(test.column, test.operator, tuple(wanted)), instants)
