"""Which part of a column's quantile function passes its tests.

A category or an atom passes or fails as a whole. A segment over which values are spread may pass in part: the share
that counts is the share of its length, because places inside a segment are uniform. On a grid, each value takes half a
step on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.values import Precision, axis_of_native, instant_of, kind_of, native
from shardsynth.data.written import written_units
from shardsynth.errors import ConditionError, cells, did_you_mean
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.forms import StorageForm
from shardsynth.sampling.conditions import Condition, Scalar, check_no_number, said

Floats = NDArray[np.float64]

_POINT = 1e-9  # length that stands for a single value where there is no grid, as a share of the column's range


@dataclass(frozen=True)
class Selection:
    """The part of a quantile function that passes.

    Attributes:
        parts: By segment: its pieces ``(lo, hi, share of the segment)``. A segment that does not pass is not in it.
    """

    parts: dict[int, list[tuple[float, float, float]]]


def select(column: FittedColumn, form: StorageForm, tests: Sequence[Condition]) -> Selection:
    """Segments of a column's marginal that pass all tests.

    Args:
        column: With a marginal.
        form: How its values are held.
        tests: Of the column; none of them tests for missing.

    Raises:
        ConditionError: A test needs a value that the column cannot have, or nothing passes. The message names the
            nearest possible value.
    """
    parts = _select_categories(column, tests) if column.categories is not None else _select_axis(column, form, tests)
    if not parts:
        raise ConditionError(f"column {column.name!r}: {said(tests)} leaves no value{cells(_possible(column, form))}")
    return Selection(parts)


def wanted_missing(tests: Sequence[Condition]) -> bool | None:
    """Whether the tests of a column want it missing (True), present (False), or do not say (None).

    Raises:
        ConditionError: They want both.
    """
    answers = {bool(test.values[0]) for test in tests if test.operator == "null"}
    if len(answers) == 2:
        raise ConditionError(f"column {tests[0].column!r}: cannot be both missing and not missing")
    return answers.pop() if answers else None


def nearest_name(name: str, names: Sequence[str]) -> str:
    """The end of an error about an unknown name: the nearest of the names, or the first eight of them."""
    return did_you_mean(name, names) or f"; there are {', '.join(map(repr, list(names)[:8]))}"


def _select_categories(column: FittedColumn, tests: Sequence[Condition]) -> dict[int, list[tuple[float, float, float]]]:
    assert column.categories is not None and column.marginal is not None
    passes = np.ones(len(column.categories), np.bool_)
    for test in tests:
        passes &= _category_mask(column, test)
    codes = column.marginal.lo
    return {k: [(c, c, 1.0)] for k, c in enumerate(codes.tolist()) if passes[int(c)]}


def _category_mask(column: FittedColumn, test: Condition) -> NDArray[np.bool_]:
    """Categories that pass one test."""
    categories: pa.Array = column.categories
    check_no_number(column.name, test.values, categories.type)
    values = categories.to_pylist()
    if test.operator in ("in", "not in"):
        mask = np.zeros(len(values), np.bool_)
        for wanted in test.values:
            converted = _converted(wanted, categories.type)
            codes = [
                i
                for i, value in enumerate(values)
                if value == converted and isinstance(value, str) == isinstance(converted, str)
            ]
            if not codes:
                raise ConditionError(
                    f"column {column.name!r}: no category {test.quoted(wanted)} in the model"
                    f"{cells(_nearest_category(values, wanted))}"
                )
            mask[codes] = True
        return mask if test.operator == "in" else ~mask
    if isinstance(values[0], (str, bytes)):
        raise ConditionError(
            f"column {column.name!r}: its categories have no order; use == or in instead of {test.operator}"
        )
    bound = _converted(test.values[0], categories.type)
    try:
        return np.array([_compare(value, test.operator, bound) for value in values], np.bool_)
    except TypeError:
        raise ConditionError(
            f"column {column.name!r} ({categories.type}) cannot be compared with {test.quoted(test.values[0])}"
        ) from None


def _compare(value: Any, operator: str, bound: Any) -> bool:
    if operator == "<":
        return bool(value < bound)
    if operator == "<=":
        return bool(value <= bound)
    return bool(value > bound) if operator == ">" else bool(value >= bound)


def _converted(value: Scalar, data_type: pa.DataType) -> Any:
    """A value as the Python type of the column: dates from ISO text, decimals from floats; unchanged where it fails."""
    if isinstance(value, (int, float)) and not pa.types.is_decimal(data_type):
        return value
    try:
        if kind_of(data_type) == "temporal" and isinstance(value, str):
            count = written_units(value, data_type)
            plain = pa.int32() if data_type.bit_width == 32 else pa.int64()
            return pa.scalar(int(count), plain).cast(data_type).as_py() if count.denominator == 1 else value
        text = str(value) if pa.types.is_decimal(data_type) else value
        scalar = pa.scalar(text)
        return (scalar if scalar.type == data_type else scalar.cast(data_type)).as_py()
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return value


def _nearest_category(values: list[Any], wanted: Scalar) -> str:
    """The nearest possible category, for an error."""
    if isinstance(wanted, str):
        if hint := did_you_mean(wanted, map(str, values), 0.3):
            return hint
    elif isinstance(values[0], (int, float)):
        return f"; the nearest is {min(values, key=lambda v: (abs(float(v) - float(wanted)), v))!r}"  # type: ignore[arg-type]
    return f"; there are {', '.join(map(repr, values[:8]))}{', ...' if len(values) > 8 else ''}"


def _select_axis(
    column: FittedColumn, form: StorageForm, tests: Sequence[Condition]
) -> dict[int, list[tuple[float, float, float]]]:
    """Pieces of each segment of an axis marginal."""
    marginal = column.marginal
    assert marginal is not None
    step = grid_step(column.precision)
    allowed = allowed_intervals(column, form, tests, step)
    length = max(float(marginal.hi.max() - marginal.lo.min()), 1.0)
    parts: dict[int, list[tuple[float, float, float]]] = {}
    for k, (lo, hi) in enumerate(zip(marginal.lo.tolist(), marginal.hi.tolist())):
        pieces: list[tuple[float, float, float]] = []
        for low, high in allowed:
            if lo == hi:
                inside = low - 0.25 * step <= lo <= high + 0.25 * step
                if inside and not pieces:
                    pieces.append((lo, hi, 1.0))
                continue
            margin = form.coarser or -0.5 * step
            a, b = max(lo, low + margin), min(hi, high - margin)
            if a < b:
                pieces.append((a, b, (b - a) / (hi - lo)))
            elif a == b and low == high:
                pieces.append((a, b, _POINT * length / (hi - lo)))
        if pieces:
            parts[k] = pieces
    return parts


def allowed_intervals(
    column: FittedColumn, form: StorageForm, tests: Sequence[Condition], step: float
) -> list[tuple[float, float]]:
    """Closed intervals of the axis in which all tests hold, in order.

    Raises:
        ConditionError: A value cannot be compared with the column, or the column never has it.
    """
    allowed = [(-inf, inf)]
    for test in tests:
        numbers = [_number(column, form, value) for value in test.values]
        if test.operator == "in":
            for value, number in zip(test.values, numbers):
                _check_possible(column, form, value, number, step)
            passing = [(number, number) for number in sorted(set(numbers))]
        elif test.operator == "not in":
            passing, start = [], -inf
            for number in sorted(set(numbers)):
                passing.append((start, _below(number, step)))
                start = _above(number, step)
            passing.append((start, inf))
        elif test.operator in (">", ">="):
            passing = [(_above(numbers[0], step) if test.operator == ">" else _onto(numbers[0], step, column, +1), inf)]
        else:
            passing = [
                (-inf, _below(numbers[0], step) if test.operator == "<" else _onto(numbers[0], step, column, -1))
            ]
        if test.operator in (">", "<") and step:
            number = numbers[0]
            snapped = float((column.precision or Precision()).snap(np.array([number]))[0])
            if abs(snapped - number) > 1e-6 * step:  # between two points of the grid: no point is left out
                passing = (
                    [(_onto(number, step, column, +1), inf)]
                    if test.operator == ">"
                    else [(-inf, _onto(number, step, column, -1))]
                )
        allowed = [(max(a, c), min(b, d)) for a, b in allowed for c, d in passing if max(a, c) <= min(b, d)]
    return sorted(allowed)


def grid_step(precision: Precision | None) -> float:
    """Distance of neighbouring values; 0 without a grid."""
    if precision is None or precision.kind == "float":
        return 0.0
    return float(precision.unit) if precision.kind == "integer" else float(10.0**-precision.digits)


def _above(number: float, step: float) -> float:
    """The next value above a point of the grid, or the next float64."""
    return number + step if step else float(np.nextafter(number, inf))


def _below(number: float, step: float) -> float:
    return number - step if step else float(np.nextafter(number, -inf))


def _onto(number: float, step: float, column: FittedColumn, side: int) -> float:
    """The first value at or beyond a number, on its upper (+1) or lower (-1) side."""
    if not step or not np.isfinite(number):
        return number
    snapped = float((column.precision or Precision()).snap(np.array([number]))[0])
    return snapped + side * step if side * (number - snapped) > 1e-6 * step else snapped


def _number(column: FittedColumn, form: StorageForm, value: Scalar) -> float:
    """A value on the column's axis."""
    check_no_number(column.name, [value], form.type, form.datetime_format)
    data_type = form.type.value_type if pa.types.is_dictionary(form.type) else form.type
    if isinstance(value, (int, float)) and form.datetime_format is None:
        return float(value)
    try:
        if form.datetime_format is not None:
            return float(instant_of(value, form.datetime_format))
        if kind_of(data_type) == "temporal":
            return float(written_units(value, data_type))
        if pa.types.is_integer(data_type) or pa.types.is_floating(data_type):
            return float(str(value))
        scalar = pa.scalar(value).cast(data_type)
        values, _ = native(pa.array([scalar.as_py()], data_type))
        return float(axis_of_native(values, data_type)[0])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError, TypeError, OverflowError):
        raise ConditionError(f"column {column.name!r} ({data_type}) cannot be compared with {value!r}") from None


def _check_possible(column: FittedColumn, form: StorageForm, value: Scalar, number: float, step: float) -> None:
    """ConditionError for a value that no segment holds; it names the nearest value."""
    marginal = column.marginal
    assert marginal is not None
    near = 0.25 * step if step else 0.0
    on_grid = not step or abs(_onto(number, step, column, 1) - number) <= 1e-6 * step
    if on_grid and ((marginal.lo - near <= number) & (number <= marginal.hi + near)).any():
        return
    inside = np.clip(number, marginal.lo, marginal.hi)
    if column.precision is not None:
        inside = column.precision.snap(inside)
    nearest = inside[np.argmin(np.abs(inside - number))]
    raise ConditionError(
        f"column {column.name!r} is never {value!r} in the model{cells(f'; the nearest is {_text(nearest, form)}')}"
    )


def _possible(column: FittedColumn, form: StorageForm) -> str:
    """What the column can be, for an error."""
    marginal = column.marginal
    assert marginal is not None
    if column.categories is not None:
        values = [column.categories[int(code)].as_py() for code in marginal.lo]
        return f"; the model has {', '.join(map(repr, values[:8]))}{', ...' if len(values) > 8 else ''}"
    ends = np.array([marginal.lo.min(), marginal.hi.max()])
    if column.precision is not None:
        ends = column.precision.snap(ends)
    return f"; the model goes from {_text(ends[0], form)} to {_text(ends[1], form)}"


def _text(axis_value: float, form: StorageForm) -> str:
    """A value of the axis as text, as the table writes it."""
    value = form.array(form.of_raw(np.array([axis_value])), None)[0].as_py()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
