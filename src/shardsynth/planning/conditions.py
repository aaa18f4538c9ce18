"""Check conditions against the input before any task starts: refuse those that no model of it can meet.

Each condition is tested column by column on the rows, and only the columns of the conditions are read. What depends on
the fitted model (a combination that a relation rules out) is an error of the fit, before any sampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.shards import Dataset, read_batches
from shardsynth.data.values import axis_of_native, decoded, kind_of, native
from shardsynth.errors import ConditionError, JobError, cells, did_you_mean
from shardsynth.job import Job
from shardsynth.sampling.conditions import Condition, check_no_number, parse_conditions
from shardsynth.sampling.constraints.conditions import meets
from shardsynth.sampling.constraints.step import missing_of

#: Largest number of rows that are read before any task starts. For a longer table, no row is read.
CHECKED_AT_ONCE = 20_000_000
#: A column of more distinct texts is not taken for a column of categories.
_MOST_VALUES = 100_000
_ORDER = ("<", "<=", ">", ">=")


def check_conditions(job: Job, dataset: Dataset, columns: Sequence[Column] | None) -> None:
    """Check ``sample.conditions`` and ``sample.balance``.

    Args:
        job: The job; the columns that it names are known to be there.
        dataset: Its shards.
        columns: The columns as the job's metadata describe them; None without metadata.

    Raises:
        JobError: A condition contradicts itself, has a value that cannot be compared with its column, or is met by no
            row.
    """
    conditions = [(f"sample.conditions[{n}]", parse_conditions(q.where)) for n, q in enumerate(job.sample.conditions)]
    by_name = {column.name: column for column in columns or ()}
    names_to_read = {name for _, where in conditions for name in where.columns}
    if job.sample.balance is not None:
        names_to_read.add(job.sample.balance)
        _check_balance(job.sample.balance, by_name)
    names_to_read -= set(job.pseudonymize)  # their conditions name pseudonyms, which are not in the input
    for place, where in conditions:
        for name in where.columns:
            _check_learned(place, name, job, by_name)
            if name in names_to_read:
                _check_without_rows(place, where.on(name), dataset.schema.field(name).type)
    if (
        not names_to_read or dataset.rows > CHECKED_AT_ONCE or job.privacy is not None
    ):  # under dp, no row may be read here
        return
    values = {name: _ColumnValues(dataset.schema.field(name).type) for name in names_to_read}
    _read_values(dataset, values)
    for place, where in conditions:
        for name in where.columns:
            if name in names_to_read:
                _check_values(place, where.on(name), values[name], by_name.get(name), job)


def _check_balance(name: str, by_name: dict[str, Column]) -> None:
    if name in by_name and by_name[name].role != "category":
        raise JobError(
            f"sample.balance: {name!r} is no column of categories, but {by_name[name].sdtype!r} in the metadata; "
            "give sample.conditions with ranges"
        )


def _check_learned(place: str, name: str, job: Job, by_name: dict[str, Column]) -> None:
    generated = name in job.anonymize or (name in by_name and by_name[name].role in ("id", "pii"))
    if generated and name not in job.pseudonymize:
        raise JobError(f"{place}: column {name!r} is made up, not learned: no condition can be put on it")


def _check_without_rows(place: str, tests: Sequence[Condition], type_: pa.DataType) -> None:
    """JobError where the tests of one column contradict each other, or cannot be compared with its type."""
    shown = " and ".join(map(str, tests))
    ordered = [test for test in tests if test.operator in _ORDER]
    if not _may_be_instants(type_, tests):  # dates may be text: only the fit knows their format
        field = pa.field("column", type_)
        try:
            for test in tests:
                check_no_number(test.column, test.values if test.operator != "null" else (), type_)
        except ConditionError as error:
            raise JobError(f"{place}: {error}") from None
        empty = pa.RecordBatch.from_arrays([pa.nulls(0, type_)], schema=pa.schema([field]))
        try:
            meets([Condition("column", test.operator, test.values) for test in tests], empty)
        except ConditionError:
            raise JobError(f"{place}: {shown}: a column of type {type_} cannot be compared with such a value") from None
    nulls = {bool(test.values[0]) for test in tests if test.operator == "null"}
    if len(nulls) == 2 or (True in nulls and len(tests) > sum(test.operator == "null" for test in tests)):
        raise JobError(f"{place}: {shown}: no value can be both missing and not")
    chosen = [set(test.values) for test in tests if test.operator == "in"]
    allowed = set.intersection(*chosen) if chosen else None
    whole = kind_of(type_) == "integer"
    if allowed is not None and whole:
        allowed = {value for value in allowed if not isinstance(value, float) or value.is_integer()}
    for test in tests:
        if allowed is not None and test.operator == "not in":
            allowed -= set(test.values)
    if allowed is not None:
        try:
            allowed = {value for value in allowed if all(_holds(value, test) for test in ordered)}
        except TypeError:
            return  # an instant and its ISO text: the check against the rows decides
    low, high = _interval(ordered, type_)
    empty_range = low > high or (whole and _finite(low, high) and math.ceil(low) > math.floor(high))
    if allowed == set() or empty_range:
        raise JobError(f"{place}: {shown}: no value of the column can pass all of it")


def _finite(low: float, high: float) -> bool:
    return math.isfinite(low) and math.isfinite(high)


def _may_be_instants(type_: pa.DataType, tests: Sequence[Condition]) -> bool:
    """Whether the column may hold instants as text; only the fit knows their format and can compare them."""
    return kind_of(type_) == "text" and any(test.operator in _ORDER for test in tests)


def _holds(value: Any, test: Condition) -> bool:
    bound: Any = test.values[0]
    return bool(
        {"<": lambda: value < bound, "<=": lambda: value <= bound, ">": lambda: value > bound}.get(
            test.operator, lambda: value >= bound
        )()
    )


def _interval(tests: Sequence[Condition], type_: pa.DataType) -> tuple[float, float]:
    """Ends between which a number or an instant must lie; for ``<`` and ``>``, the end is the next float64."""
    low, high = -math.inf, math.inf
    for test in tests:
        value = _on_axis(test.values[0], type_)
        if value is None:
            continue
        if test.operator in (">", ">="):
            low = max(low, value if test.operator == ">=" else float(np.nextafter(value, np.inf)))
        else:
            high = min(high, value if test.operator == "<=" else float(np.nextafter(value, -np.inf)))
    return low, high


def _on_axis(value: Any, type_: pa.DataType) -> float | None:
    if isinstance(value, (int, float)):
        return float(value)
    if kind_of(type_) != "temporal":
        return None
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    return float(axis_of_native(native(pa.array([value]).cast(plain))[0], plain)[0])


class _ColumnValues:
    """What is counted of a column: rows by distinct text or flag; of numbers and instants, the two ends."""

    def __init__(self, type_: pa.DataType) -> None:
        self.type = type_
        self.rows = self.missing = 0
        self.ends: pa.Array | None = None
        self.counts: dict[Any, int] | None = {} if kind_of(type_) in ("text", "boolean") else None

    def update(self, array: pa.Array) -> None:
        array = decoded(array)
        missing = missing_of(array)
        self.rows += len(array)
        self.missing += int(missing.sum())
        if self.counts is not None:
            for entry in pc.value_counts(array.drop_null()).to_pylist():
                self.counts[entry["values"]] = self.counts.get(entry["values"], 0) + entry["counts"]
            if len(self.counts) > _MOST_VALUES:
                self.counts = None
            return
        if kind_of(array.type) in ("text", "boolean") or missing.all():
            return
        present = array.filter(pa.array(~missing))
        values = present if self.ends is None else pa.concat_arrays([present, self.ends])
        ends = pc.min_max(values)
        self.ends = pa.array([ends["min"].as_py(), ends["max"].as_py()], array.type)


def _read_values(dataset: Dataset, values: dict[str, _ColumnValues]) -> None:
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema, names=set(values)):
            for name, column_values in values.items():
                column_values.update(batch.column(name))


def _check_values(
    place: str, tests: Sequence[Condition], values: _ColumnValues, column: Column | None, job: Job
) -> None:
    shown, name = " and ".join(map(str, tests)), tests[0].column
    for test in tests:
        if test.operator == "null" and values.missing == (0 if test.values[0] else values.rows):
            never = "missing" if test.values[0] else "anything but missing"
            raise JobError(f"{place}: {shown}: column {name!r} is never {never} in the input")
    valued = [test for test in tests if test.operator != "null"]
    if not valued:
        return
    category = column is None or column.role == "category"
    if values.counts is not None and category and not _may_be_instants(values.type, valued):
        _check_categories(place, valued, values, job)
    elif values.ends is not None and not _may_exceed_ends(job, name):
        least, most = (pa.RecordBatch.from_arrays([values.ends.slice(k, 1)], [name]) for k in (0, 1))
        ordered = [test for test in valued if test.operator in _ORDER]
        outside = any(not meets([test], most if ">" in test.operator else least).any() for test in ordered)
        chosen = [value for test in valued if test.operator == "in" for value in test.values]
        outside |= bool(chosen) and not any(_within_ends(name, value, least, most) for value in chosen)
        if outside:
            raise JobError(f"{place}: {shown}: no row of the input reaches it; no model does, either")


def _within_ends(name: str, value: Any, least: pa.RecordBatch, most: pa.RecordBatch) -> bool:
    try:
        return bool(
            meets([Condition(name, "<=", (value,))], least).any()
            and meets([Condition(name, ">=", (value,))], most).any()
        )
    except ConditionError:
        return True


def _may_exceed_ends(job: Job, name: str) -> bool:
    """Whether an option lets a model go beyond the ends of the column's values."""
    for model in job.models.values():
        column_options = (model.options.get("columns") or {}).get(name) or {}
        if model.options.get("enforce_min_max_values") is False or {"min", "max", "enforce_min_max"} & set(
            column_options
        ):
            return True
    return False


def _check_categories(place: str, tests: Sequence[Condition], values: _ColumnValues, job: Job) -> None:
    assert values.counts is not None
    name, least = tests[0].column, 1 if job.rare.as_ == "keep" else max(1, job.rare.min_count)
    if any({"rare"} & set(model.options) for model in job.models.values()):
        least = 1
    categories = [value for value, rows in values.counts.items() if rows >= least]
    if job.rare.as_ == "other" and kind_of(values.type) == "text":
        categories.append("other")
    type_ = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if categories and meets(tests, pa.RecordBatch.from_arrays([pa.array(categories, type_)], [name])).any():
        return
    shown = " and ".join(map(str, tests))
    condition_values = [str(value) for test in tests if test.operator == "in" for value in test.values]
    hint = cells(did_you_mean(condition_values[0], map(str, categories), 0.6)) if condition_values else ""
    rows = "" if least == 1 else f" that at least {least} rows have"
    raise JobError(f"{place}: {shown}: the input has no such category{rows}{hint}")
