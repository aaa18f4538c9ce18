"""``ScoreRanges``: the exact minimum and maximum of every numeric column of one table.

SDMetrics cuts numeric columns into ten equal-width bins on *each table's own* range, so scoring a table takes its range
first: from its ``Profile``, or gathered while its parts are written. A commutative monoid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.values import Array, axis_of_native, column_native, decoded, needs_parsing
from shardsynth.errors import MergeError

if TYPE_CHECKING:
    from shardsynth.summaries.profile import Profile

Edges = npt.NDArray[np.float64]


@dataclass
class Range:
    """Range of one column.

    Attributes:
        dtype: NumPy dtype in which pandas would hold the column without missing values (float64 for decimals).
        low: Minimum, exact; None without values.
        high: Maximum.
        missing: Rows with null or NaN.
    """

    dtype: str
    low: Any = None
    high: Any = None
    missing: int = 0

    @property
    def constant(self) -> bool:
        """Whether exactly one value occurs."""
        return self.low is not None and bool(self.low == self.high)

    def edges(self) -> Edges | None:
        """SDMetrics' eleven bin edges, float64[11].

        NumPy computes them in the column's own dtype: that of a column of integers with nulls is float64 in pandas.

        Returns:
            None where NumPy cannot cut the range into ten bins.
        """
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu" and self.missing:
            dtype = np.dtype(np.float64)
        values = np.array([] if self.low is None else [self.low, self.high], dtype=dtype)
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return np.asarray(np.histogram_bin_edges(values), np.float64)
        except ValueError:
            return None

    def widen(self, low: Any, high: Any) -> None:
        """Take in two more values."""
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)


class ScoreRanges:
    """Ranges of the numeric columns (roles ``number`` and ``datetime``) of a table, by name.

    Attributes:
        rows: Rows seen.
        by_name: ``Range`` per numeric column, in table order.
    """

    def __init__(self, columns: Iterable[Any] = ()) -> None:
        self._columns = [c for c in (getattr(c, "column", c) for c in columns) if c.role in ("number", "datetime")]
        self.rows = 0
        self.by_name = {c.name: Range(_dtype(c)) for c in self._columns}

    @classmethod
    def empty(cls, columns: Iterable[Any]) -> ScoreRanges:
        """Of no rows.

        Args:
            columns: ``Column`` or ``ColumnCoder`` objects; those that are not numeric are passed over.
        """
        return cls(columns)

    @classmethod
    def from_profile(cls, profile: Profile, columns: Iterable[Any]) -> ScoreRanges:
        """Of the rows that a profile saw.

        Datetimes held as text are exact up to 10,000 distinct values; beyond, where the text sorts like the instants
        (year first), else as wide as the row sample.
        """
        ranges = cls(columns)
        ranges.rows = profile.rows
        for column in ranges._columns:
            tally = profile[column.name]
            found = ranges.by_name[column.name]
            found.missing = tally.rows - tally.present
            if tally.low is None:
                continue
            if needs_parsing(column):
                counted = tally.values_as_arrow()
                if counted is None:
                    sample = decoded(profile.sample[column.name])
                    counted = pa.concat_arrays([pa.array([tally.low, tally.high], sample.type), sample])
                values, nulls = column_native(column, counted)
                values = values if nulls is None else values[~nulls]
                if len(values):
                    found.widen(int(values.min()), int(values.max()))
            else:
                found.widen(*_exact(tally.low, tally.high, column))
        return ranges

    def update(self, batch: pa.RecordBatch) -> ScoreRanges:
        """Take in a batch; returns itself."""
        self.rows += batch.num_rows
        for column in self._columns:
            self._update_column(column, batch.column(column.name))
        return self

    def _update_column(self, column: Column, array: pa.Array) -> None:
        found = self.by_name[column.name]
        values, nulls = column_native(column, decoded(array))
        if nulls is not None:
            found.missing += int(nulls.sum())
            values = values[~nulls]
        if not len(values):
            return
        if values.dtype.kind == "f":
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
            if np.isnan(low):
                found.missing += len(values)
                return
            found.missing += int(np.isnan(values).sum())
            low, high = low + 0.0, high + 0.0
        else:
            low, high = values.min(), values.max()
        found.widen(*_exact(low.item(), high.item(), column))

    def merge(self, other: ScoreRanges) -> ScoreRanges:
        """Take in another part of the same table; returns itself."""
        if list(other.by_name) != list(self.by_name):
            raise MergeError("ranges of different columns cannot be merged: sample again")
        self.rows += other.rows
        for name, found in self.by_name.items():
            more = other.by_name[name]
            found.missing += more.missing
            if more.low is not None:
                found.widen(more.low, more.high)
        return self

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"rows": self.rows, "columns": {name: dict(r.__dict__) for name, r in self.by_name.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ScoreRanges:
        """Inverse of ``to_json``; the result can be merged and read, not updated."""
        ranges = cls()
        ranges.rows = data["rows"]
        ranges.by_name = {name: Range(**fields) for name, fields in data["columns"].items()}
        return ranges


def _dtype(column: Column) -> str:
    type_ = column.value_type
    if pa.types.is_decimal(type_):
        return "float64"
    if not needs_parsing(column) and (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
        return str(np.dtype(type_.to_pandas_dtype()))
    return "uint8" if pa.types.is_boolean(type_) else "int64"


def _exact(low: Any, high: Any, column: Column) -> tuple[Any, Any]:
    """Native Python ends as they are compared: decimals on the axis."""
    if not pa.types.is_decimal(column.value_type):
        return low, high
    ends: Array = np.array([low, high], np.float64 if isinstance(low, float) else np.int64)
    ends = axis_of_native(ends, column.value_type)
    return float(ends[0]), float(ends[1])
