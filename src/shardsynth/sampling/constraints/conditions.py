"""Conditions under constraints: what the model can be asked for, and what is tested on finished rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.values import decoded, kind_of
from shardsynth.errors import ConditionError
from shardsynth.sampling.conditions import Condition, Conditions
from shardsynth.sampling.constraints.combined import JOINT, CombinationStep, OneHotStep
from shardsynth.sampling.constraints.rejection import Test
from shardsynth.sampling.constraints.step import Mask, missing_of
from shardsynth.sampling.constraints.table import TableConstraints

_COMPARE = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}


def divided(conditions: Conditions, table: TableConstraints, model: Any) -> tuple[Conditions | None, Test | None]:
    """Conditions on the columns that the model has, and a test for the others.

    Columns that a FixedCombinations or a OneHotEncoding stands for become a choice of its categories, which the model
    draws exactly; any other constrained column is tested when the row is finished.

    Raises:
        ConditionError: No combination that the model holds meets the conditions, or there is no such column.
    """
    for name in conditions.columns:
        if name not in table.schema.names:
            raise ConditionError(f"condition: no column is called {name!r}")
    asked = [test for test in conditions.tests if test.column in table.inner.names]
    later = [test for test in conditions.tests if test.column not in table.inner.names]
    for step in table.steps:
        mine = [test for test in later if test.column in step.taken]
        if mine and isinstance(step, (CombinationStep, OneHotStep)):
            categories = _categories(model, step.name)
            if categories is not None:
                asked.append(_choice(step, mine, categories))
                later = [test for test in later if test not in mine]
    test: Test | None = None
    if later:
        test = lambda batch: meets(later, batch)  # noqa: E731
    return (Conditions(tuple(asked)) if asked else None), test


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
    fine = meets(tests, pa.RecordBatch.from_arrays(list(columns.values()), list(columns))) & ~broken
    if not fine.any():
        raise ConditionError(f"condition {' and '.join(map(str, tests))}: no combination that the model holds meets it")
    return Condition(step.name, "in", tuple(labels.filter(pa.array(fine)).to_pylist()))


def meets(tests: Sequence[Condition], batch: pa.RecordBatch) -> Mask:
    """Rows that pass all tests, bool[n]; a missing value passes none but ``isnull``.

    Raises:
        ConditionError: A value cannot be compared with the column.
    """
    fine = np.ones(batch.num_rows, np.bool_)
    for test in tests:
        array = decoded(batch.column(test.column))
        missing = missing_of(array)
        if test.operator == "null":
            fine &= missing == bool(test.values[0])
            continue
        try:
            found = _compared(test, array)
        except (pa.ArrowException, ValueError, TypeError):
            raise ConditionError(
                f"condition {test}: a column of type {array.type} cannot be compared with such a value"
            ) from None
        fine &= np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_) & ~missing
    return fine


def _compared(test: Condition, array: pa.Array) -> Any:
    nature = kind_of(array.type)
    if nature == "text" and test.operator in _COMPARE:
        raise TypeError
    if nature in ("integer", "boolean", "decimal") and any(isinstance(v, float) for v in test.values):
        array = array.cast(pa.float64())
    elif nature == "integer" and array.type != pa.uint64():
        array = array.cast(pa.int64())  # 300 is more than any int8
    if nature == "boolean":
        array = array.cast(pa.int8())
    values = pa.array([int(v) if isinstance(v, bool) and nature != "text" else v for v in test.values])
    values = values.cast(array.type)
    if test.operator in ("in", "not in"):
        found = pc.is_in(array, value_set=values)
        return pc.invert(found) if test.operator == "not in" else found
    return _COMPARE[test.operator](array, values[0])
