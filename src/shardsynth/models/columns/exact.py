"""Conditions on integers that float64 cannot tell apart: the rows get exactly the values that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.values import decoded, native
from shardsynth.sampling.conditions import Condition, Conditions

#: Integers up to this one are float64 numbers.
_EXACT = 2**53


def with_exact_integers(batch: pa.RecordBatch, conditions: Conditions) -> pa.RecordBatch:
    """Rows that were drawn under conditions, their large integers moved by less than a float's distance to meet them.

    Args:
        batch: Drawn rows.
        conditions: What they were drawn under.
    """
    for place, field in enumerate(batch.schema):
        if not pa.types.is_integer(field.type):
            continue
        tests = [test for test in conditions.on(field.name) if _large(test)]
        if tests:
            values, nulls = native(decoded(batch.column(place)))
            for test in tests:
                values = _moved(values, test)
            array = pa.array(values, field.type, mask=nulls)
            columns = [*batch.columns[:place], array, *batch.columns[place + 1 :]]
            batch = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
    return batch


def _large(test: Condition) -> bool:
    return test.operator != "null" and any(isinstance(v, int) and abs(v) > _EXACT for v in test.values)


def _moved(values: Any, test: Condition) -> Any:
    limits = np.iinfo(values.dtype)
    wanted = [int(v) for v in test.values if isinstance(v, int) and limits.min <= v <= limits.max]
    if not wanted:
        return values
    if test.operator == "in":
        listed = np.array(sorted(wanted), values.dtype)
        above = np.clip(np.searchsorted(listed, values), 0, len(listed) - 1)
        below = np.maximum(above - 1, 0)
        nearer = np.abs(values.astype(np.float64) - listed[below]) < np.abs(listed[above].astype(np.float64) - values)
        return np.where(listed[above] == values, values, np.where(nearer, listed[below], listed[above]))
    if test.operator == "not in":
        return np.where(np.isin(values, np.array(wanted, values.dtype)), values + 1, values)
    bound = wanted[0]
    if test.operator in (">", ">="):
        return np.maximum(values, np.array(bound + (test.operator == ">"), values.dtype))
    return np.minimum(values, np.array(bound - (test.operator == "<"), values.dtype))
