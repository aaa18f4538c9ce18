"""Choose the codes of a column from its exact counts and the row sample."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.column_codes import ColumnCoder
from shardsynth.data.columns import Column
from shardsynth.data.cuts import coarse_codes, cuts_of
from shardsynth.data.ends import EndRule, Ends
from shardsynth.data.grid import Grid, grid_for, precision_of
from shardsynth.data.layouts import layout_from, layout_of
from shardsynth.data.values import (
    Array,
    axis_of_native,
    column_native,
    datetime_unit,
    decoded,
    instant_of,
    kind_of,
    needs_parsing,
)
from shardsynth.errors import MetadataError

if TYPE_CHECKING:
    from shardsynth.data.tallies import NumberTally, Tally

#: Most categories that get a code of their own when a column has too many distinct values to count.
CATEGORIES = 10_000
#: Most values that are atoms whatever their share.
_MOST_APART = 4_000
#: Decimals to which SDMetrics rounds values before it compares two distributions.
DECIMALS = 14


def choose_coder(
    column: Column, tally: Tally, sample: pa.ChunkedArray, min_count: int, ends: EndRule | None = None
) -> ColumnCoder:
    """Codes of one learned column.

    Args:
        column: Role ``category``, ``number`` or ``datetime``.
        tally: The column's exact counts in the profile.
        sample: The column's values in the row sample.
        min_count: See ``TableCoder.from_profile``.
        ends: Likewise.
    """
    if column.role == "category":
        return _category_coder(column, tally, sample, min_count)
    return _axis_coder(column, tally, sample, ends)


def _category_coder(column: Column, tally: Tally, sample: pa.ChunkedArray, min_count: int) -> ColumnCoder:
    values = tally.values_as_arrow()
    missing = tally.rows - tally.present
    if values is not None:
        counted = tally.value_counts()
        assert counted is not None
        counts, other = counted[1], None
    else:
        values, counts, other = _common_values(decoded(sample), min_count)
    order = _category_order(column, values)
    values, counts = values.take(pa.array(order)), counts[order]
    mass = np.concatenate([counts, [] if other is None else [other]]).astype(np.int64)
    coarse = coarse_codes(mass, ordered=column.ordered)
    return ColumnCoder(
        column,
        values,
        other is not None,
        np.zeros(0),
        _with_missing(coarse),
        np.append(mass, missing),
        emit_nan=tally.nans > 0 and tally.nulls == 0,
    )


def _common_values(sample: pa.Array, min_count: int) -> tuple[pa.Array, npt.NDArray[np.int64], int]:
    """The most frequent values of a sample, their counts, and the count of all others."""
    present = pc.drop_null(sample)
    if pa.types.is_floating(present.type):
        present = present.filter(pc.invert(pc.is_nan(present)))
    pairs = present.value_counts()
    values, counts = pairs.field("values"), pairs.field("counts").to_numpy()
    order = pc.sort_indices(values).to_numpy()
    values, counts = values.take(pa.array(order)), counts[order]
    frequent = np.argsort(-counts, kind="stable")[:CATEGORIES]
    common = frequent[counts[frequent] >= min_count]
    common = np.sort(common if len(common) else frequent)
    return values.take(pa.array(common)), counts[common], int(counts.sum() - counts[common].sum())


def _category_order(column: Column, values: pa.Array) -> npt.NDArray[np.int64]:
    """Index of the category of each code: in the order of ``range_values`` for an ordinal column, else by value."""
    declared = column.options.get("range_values") if column.ordered else None
    if not declared:
        return np.arange(len(values), dtype=np.int64)
    rank = {v: i for i, v in enumerate(declared)}
    ranks = [rank.get(v, rank.get(_as_number(v), len(rank))) for v in values.to_pylist()]
    return np.argsort(np.array(ranks, np.int64), kind="stable")


def _as_number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _axis_coder(column: Column, tally: Tally, sample: pa.ChunkedArray, rule: EndRule | None) -> ColumnCoder:
    values, counts, grid, exact = _axis_counts(column, tally, sample, tally.value_counts())
    ends = None
    if rule is not None and not _apart(column, axis_of_native(values, column.value_type)):
        ends = _ends_of(column, tally, sample, rule, values, counts, exact)
    if ends is not None and rule is not None and exact:
        numbers = axis_of_native(values, column.value_type)
        if int(((numbers > ends.low) & (numbers < ends.high)).sum()) > tally.limit - 2 * rule.rank:
            # Here the values beyond the ends would decide whether there are too many values to count.
            values, counts, grid, exact = _axis_counts(column, tally, sample, None)
    reach = tally.axis_range if hasattr(tally, "axis_range") and not needs_parsing(column) else None
    floats = axis_of_native(values, column.value_type)
    low, high = reach or ((float(floats[0]), float(floats[-1])) if len(floats) else (np.nan, np.nan))
    atoms = (low, high)
    if ends is not None:
        atoms = (ends.low, ends.high)
        floats, place = np.unique(ends.clipped(floats), return_inverse=True)
        counts = np.bincount(place.reshape(-1), weights=counts, minlength=len(floats)).astype(np.int64)
    decimals = _decimals(column, max(abs(atoms[0]), abs(atoms[1])))
    if decimals is not None:
        floats = np.round(floats, decimals)
        low, high = (float(v) for v in np.round(np.array([low, high]), decimals))
        atoms = (float(np.round(atoms[0], decimals)), float(np.round(atoms[1], decimals)))
        ends = None if ends is None else replace(ends, low=atoms[0], high=atoms[1])
    declared = declared_bounds(column)
    if decimals is not None:
        declared = (float(np.round(declared[0], decimals)), float(np.round(declared[1], decimals)))
    bounds = tuple(end if np.isnan(bound) else bound for bound, end in zip(declared, (low, high)))
    apart = _apart(column, floats)
    if apart:  # these lie where no bound of plain dates or numbers holds
        bounds = (min(bounds[0], apart[0]), max(bounds[1], apart[-1]))
    # Beyond the ends, low and high are cuts for the figures alone: no fit sees them.
    forced = [bound for bound in (bounds if ends is None else (*bounds, low, high)) if not np.isnan(bound)]
    cuts = cuts_of(floats, counts, *atoms, bounds=[*forced, *apart], exact=exact)
    mass = np.bincount(np.searchsorted(cuts, floats, side="right"), weights=counts, minlength=len(cuts) + 1)
    mass = mass.astype(np.int64)
    coarse = coarse_codes(mass, ordered=True)
    if ends is not None:
        first, last = np.searchsorted(cuts, [ends.low, ends.high], side="right")
        coarse[:first], coarse[last + 1 :] = coarse[first], coarse[last]
    return ColumnCoder(
        column=column,
        values=None,
        other=False,
        cuts=cuts,
        coarse=_with_missing(coarse),
        mass=np.append(mass, tally.rows - tally.present),
        precision=precision_of(grid, _axis_type(column)),
        emit_nan=tally.nans > 0 and tally.nulls == 0,
        low=low,
        high=high,
        bounds=(bounds[0], bounds[1]),
        decimals=decimals,
        ends=ends,
    )


def _ends_of(
    column: Column,
    tally: Tally,
    sample: pa.ChunkedArray,
    rule: EndRule,
    values: Array,
    counts: npt.NDArray[np.int64],
    exact: bool,
) -> Ends | None:
    """The ends of a column: of all rows where these are counted, else (persons, text) of the row sample."""
    type_ = column.value_type
    if rule.persons is None and not needs_parsing(column):
        lowest, highest = cast("NumberTally", tally).lowest, cast("NumberTally", tally).highest
        return rule.of_counts(
            column.name, (axis_of_native(lowest[0], type_), lowest[1]), (axis_of_native(highest[0], type_), highest[1])
        )
    if rule.persons is None and exact:
        counted = (axis_of_native(values, type_), counts)
        return rule.of_counts(column.name, counted, counted)
    native, nulls = column_native(column, decoded(sample))
    floats = axis_of_native(native, type_)
    return rule.of_rows(column.name, floats if nulls is None else np.where(nulls, np.nan, floats), rule.persons)


def declared_bounds(column: Column) -> tuple[float, float]:
    """The metadata's ``range_min`` and ``range_max`` on the axis; NaN where the metadata has none.

    A bound is first rounded to the column's own float type, as pandas does when it compares.

    Raises:
        MetadataError: A bound is not a value of the column's type.
    """
    low, high = (_bound(column, column.options.get(name)) for name in ("range_min", "range_max"))
    return low, high


def _bound(column: Column, value: Any) -> float:
    type_ = column.value_type
    if value is None or pa.types.is_time(type_) or pa.types.is_duration(type_):
        return float("nan")
    try:
        if column.role == "datetime":
            return _instant(column, value)
        return float(np.dtype(type_.to_pandas_dtype()).type(value)) if pa.types.is_floating(type_) else float(value)
    except (ValueError, TypeError, OverflowError):
        raise MetadataError(
            f"column {column.name!r}: its range_min or range_max is no value of the Arrow type {type_}; "
            "correct it in the metadata or leave it out"
        ) from None


def _instant(column: Column, value: Any) -> float:
    """A datetime of the metadata as a count of the column's unit."""
    import pandas as pd

    type_, text = column.value_type, layout_of(column)
    if needs_parsing(column) and text is not None:
        return float(instant_of(str(value), text))
    stamp = pd.Timestamp(value)
    zone = type_.tz if pa.types.is_timestamp(type_) else None
    if zone is not None and stamp.tzinfo is None:
        stamp = stamp.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    if stamp.tzinfo is not None:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    unit = datetime_unit(type_) if kind_of(type_) == "temporal" else "ns"
    return float(stamp.to_datetime64().astype(f"datetime64[{unit}]").astype(np.int64))


def _axis_counts(
    column: Column, tally: Tally, sample: pa.ChunkedArray, counted: tuple[Any, npt.NDArray[np.int64]] | None
) -> tuple[Array, npt.NDArray[np.int64], Grid, bool]:
    """Distinct native values in order, their counts, their grid, and whether these are all values of the column.

    ``counted`` are the tally's counts; None: the values of the sample are counted.
    """
    parse = needs_parsing(column)
    if counted is not None and not parse:
        return counted[0], counted[1], _grid(tally), True
    if counted is not None:
        array, counts = tally.values_as_arrow(), counted[1]
    else:
        array = decoded(sample)
        if parse and tally.low is not None:
            # Text that starts with the year sorts as its instants do: then the range is exact.
            array = pa.concat_arrays([array, pa.array([tally.low, tally.high], array.type)])
        counts = np.ones(len(array), np.int64)
    values, nulls = column_native(column, array)
    present = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), np.bool_)
    if nulls is not None:
        present &= ~nulls
    distinct, inverse = np.unique(values[present], return_inverse=True)
    totals = np.bincount(inverse, weights=counts[present], minlength=len(distinct)).astype(np.int64)
    grid = grid_for(_axis_type(column)).extended(distinct) if parse else _grid(tally)
    return distinct, totals, grid, counted is not None


def _axis_type(column: Column) -> pa.DataType:
    """Arrow type whose values are as those of the axis: for text, whole units of time or float64."""
    if not needs_parsing(column):
        return column.value_type
    return pa.timestamp("ns") if column.role == "datetime" else pa.float64()


def _apart(column: Column, floats: npt.NDArray[np.float64]) -> list[float]:
    """Values that must be atoms: places of texts that are no plain dates or numbers."""
    text = layout_of(column)
    if text is None or not needs_parsing(column):
        return []
    layout = layout_from(text)
    return list(floats[layout.apart(floats.astype(layout.dtype))][:_MOST_APART].tolist())


def _grid(tally: Tally) -> Grid:
    """Grid of a column of numbers: text has an axis only where it is parsed, and then this is not called."""
    return cast("NumberTally", tally).grid


def _decimals(column: Column, largest: float) -> int | None:
    """Decimals to round to: ``DECIMALS`` where that can make two float64 values equal and loses no digit, else None."""
    return DECIMALS if column.value_type == pa.float64() and 1e-6 <= largest < 90.0 else None


def _with_missing(coarse: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    return np.append(coarse, np.int16(coarse.max() + 1 if len(coarse) else 0)).astype(np.int16)
