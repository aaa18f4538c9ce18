"""``ScoreRanges``: the exact minimum and maximum of every numeric column of one table.

SDMetrics cuts numeric columns into ten bins of equal width on *each table's own* range. So the ranges of a table must
be known before it is scored: from its ``Profile``, or collected while its parts are written. A commutative monoid.
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
        low: Exact minimum; None without values.
        high: Exact maximum; None without values.
        missing: Number of rows with null or NaN.
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

        NumPy computes them in the dtype of the column in pandas: float64 for a column of integers with nulls.

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
        """Extend the range by the values ``low`` and ``high``."""
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)


class ScoreRanges:
    """Ranges of the numeric columns (roles ``number`` and ``datetime``) of a table, by name.

    Attributes:
        rows: Number of rows counted.
        by_name: ``Range`` per numeric column, in table order.
    """

    def __init__(self, columns: Iterable[Any] = ()) -> None:
        self._columns = [c for c in (getattr(c, "column", c) for c in columns) if c.role in ("number", "datetime")]
        self.rows = 0
        self.by_name = {c.name: Range(_dtype(c)) for c in self._columns}

    @classmethod
    def empty(cls, columns: Iterable[Any]) -> ScoreRanges:
        """Ranges of no rows.

        Args:
            columns: ``Column`` or ``ColumnCoder`` objects; those that are not numeric are ignored.
        """
        return cls(columns)

    @classmethod
    def from_profile(cls, profile: Profile, columns: Iterable[Any]) -> ScoreRanges:
        """Ranges of the rows of a profile.

        A datetime column of text has an exact range if its values were counted (up to 10,000 distinct ones), or if the
        text starts with the year and so sorts as its instants do. Else it has the range of the row sample.

        Args:
            profile: The profile.
            columns: ``Column`` or ``ColumnCoder`` objects; those that are not numeric are ignored.
        """
        ranges = cls(columns)
        ranges.rows = profile.rows
        for column in ranges._columns:
            tally = profile[column.name]
            column_range = ranges.by_name[column.name]
            column_range.missing = tally.rows - tally.present
            if tally.low is None:
                continue
            if needs_parsing(column):
                texts = tally.values_as_arrow()
                if texts is None:
                    sample = decoded(profile.sample[column.name])
                    texts = pa.concat_arrays([pa.array([tally.low, tally.high], sample.type), sample])
                values, nulls = column_native(column, texts)
                values = values if nulls is None else values[~nulls]
                if len(values):
                    column_range.widen(values.min().item(), values.max().item())
            else:
                column_range.widen(*_exact(tally.low, tally.high, column))
        return ranges

    def update(self, batch: pa.RecordBatch) -> ScoreRanges:
        """Add the rows of a batch, and return itself."""
        self.rows += batch.num_rows
        for column in self._columns:
            self._update_column(column, batch.column(column.name))
        return self

    def _update_column(self, column: Column, array: pa.Array) -> None:
        column_range = self.by_name[column.name]
        values, nulls = column_native(column, decoded(array))
        if nulls is not None:
            column_range.missing += int(nulls.sum())
            values = values[~nulls]
        if not len(values):
            return
        if values.dtype.kind == "f":
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
            if np.isnan(low):
                column_range.missing += len(values)
                return
            column_range.missing += int(np.isnan(values).sum())
            low, high = low + 0.0, high + 0.0
        else:
            low, high = values.min(), values.max()
        column_range.widen(*_exact(low.item(), high.item(), column))

    def merge(self, other: ScoreRanges) -> ScoreRanges:
        """Add another part of the same table, and return itself.

        Raises:
            MergeError: The parts have different columns.
        """
        if list(other.by_name) != list(self.by_name):
            raise MergeError("ranges of different columns cannot be merged: sample again")
        self.rows += other.rows
        for name, column_range in self.by_name.items():
            other_range = other.by_name[name]
            column_range.missing += other_range.missing
            if other_range.low is not None:
                column_range.widen(other_range.low, other_range.high)
        return self

    def to_json(self) -> dict[str, Any]:
        """The ranges as a JSON object."""
        return {"rows": self.rows, "columns": {name: dict(r.__dict__) for name, r in self.by_name.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ScoreRanges:
        """The ranges that ``to_json`` gave; they can be merged and read, but not updated."""
        ranges = cls()
        ranges.rows = data["rows"]
        ranges.by_name = {name: Range(**fields) for name, fields in data["columns"].items()}
        return ranges


def _dtype(column: Column) -> str:
    type_ = column.value_type
    if pa.types.is_decimal(type_) or (column.role == "number" and needs_parsing(column)):
        return "float64"
    if not needs_parsing(column) and (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
        return str(np.dtype(type_.to_pandas_dtype()))
    return "uint8" if pa.types.is_boolean(type_) else "int64"


def _exact(low: Any, high: Any, column: Column) -> tuple[Any, Any]:
    """Native minimum and maximum as SDMetrics compares them: decimals as floats on the axis."""
    if not pa.types.is_decimal(column.value_type):
        return low, high
    ends: Array = np.array([low, high], np.float64 if isinstance(low, float) else np.int64)
    ends = axis_of_native(ends, column.value_type)
    return float(ends[0]), float(ends[1])
