"""Columns whose values are compared: read in a common unit, and written back on their grids within their ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import storage_dtype, to_array, to_storage
from shardsynth.data.frames import nanoseconds_of
from shardsynth.data.grid import shortest
from shardsynth.data.values import axis_of_native, column_native, kind_of, native
from shardsynth.sampling.constraints.step import ConstrainedColumn, Mask, missing_of


@dataclass(frozen=True)
class ComparedColumns:
    """Columns of numbers, or of instants, in a common unit.

    Attributes:
        constrained: The columns.
    """

    constrained: tuple[ConstrainedColumn, ...]

    @cached_property
    def whole(self) -> bool:
        """Whether all arithmetic is on integers of a common unit."""
        return all(c.whole for c in self.constrained) and self._factors is not None

    @cached_property
    def _factors(self) -> tuple[int, ...] | None:
        """Common units per unit of each column; None where their number would not fit 64 bits."""
        if self.constrained[0].column.role == "datetime":
            units = [nanoseconds_of(c.column) for c in self.constrained]
            common = math.gcd(*units)
            return tuple(unit // common for unit in units)
        top = max(c.scale for c in self.constrained)
        factors = tuple(top // c.scale for c in self.constrained)
        return factors if max(factors) <= 10**6 else None

    @cached_property
    def digits(self) -> int | None:
        """Decimals to which differences of floats are rounded; None: they are not rounded."""
        grids = [c.precision for c in self.constrained]
        if all(g.kind in ("integer", "decimal") for g in grids):
            return max(g.digits for g in grids)
        return None

    def per_axis(self, i: int) -> int:
        """Common units per unit of the axis of column i."""
        return self._factors[i] * self.constrained[i].scale if self.whole and self._factors is not None else 1

    def least_step(self, i: int) -> float:
        """Distance by which values of column i differ at least, in the unit of ``values``."""
        column = self.constrained[i]
        if self.whole:
            return self.per_axis(i) // column.scale * self._step(column)
        grid = column.precision
        if grid.kind == "decimal":
            return float(10.0**-grid.digits)
        largest = max((abs(end) for end in (column.low, column.high) if not np.isinf(end)), default=1.0)
        return float(grid.unit) if grid.kind == "integer" else 1e-6 * largest

    def values(self, i: int, array: pa.Array) -> tuple[NDArray[Any], Mask]:
        """Values of column i in the common unit (int64) or on the axis (float64), and which are missing."""
        constrained = self.constrained[i]
        values, nulls = column_native(constrained.column, array)
        if self.whole:
            assert self._factors is not None
            missing = np.zeros(len(values), np.bool_) if nulls is None else nulls
            return values.astype(np.int64) * self._factors[i], missing
        floats = axis_of_native(values, constrained.column.value_type)
        if constrained.precision.kind == "decimal":
            floats = np.round(floats, constrained.precision.digits)
        elif kind_of(constrained.column.type) == "float" and constrained.column.value_type.bit_width < 64:
            floats = shortest(constrained.column.value_type, floats)  # as SDV compares them
        missing = np.isnan(floats) if nulls is None else np.isnan(floats) | nulls
        return floats, missing

    def put(
        self, restored: dict[str, pa.Array], i: int, value: NDArray[Any], missing: Mask, floor: NDArray[Any] | None
    ) -> tuple[NDArray[Any], Mask]:
        """Add column i to ``restored``: on its grid, within its ends and, if possible, not below ``floor``.

        Returns:
            The values as they are written, in the common unit or on the axis, and which are present.
        """
        constrained = self.constrained[i]
        dtype = storage_dtype(constrained.column.type, constrained.datetime_format)
        if self.whole:
            assert self._factors is not None
            factor, scale = self._factors[i], constrained.scale
            units = self._on_grid(constrained, value // factor if factor > 1 else value)
            if floor is not None:  # the column before has a finer unit or grid: round up instead of down
                units = np.where(units * factor < floor, units + self._step(constrained), units)
            low, high = (_whole_end(end, scale) for end in (constrained.low, constrained.high))
            stored = to_storage(np.clip(units, low, high), dtype)
            written = stored.astype(np.int64) * factor
        else:
            grid = constrained.precision
            axis = grid.snap(np.where(missing, 0.0, value).astype(np.float64))
            if floor is not None and grid.kind != "float":  # the column before has a finer grid
                unit = float(grid.unit) if grid.kind == "integer" else 10.0**-grid.digits
                axis = np.where(axis < floor, grid.snap(axis + unit), axis)
            axis = np.clip(axis, constrained.low, constrained.high)
            stored = to_storage(axis * (constrained.scale if dtype.kind in "iu" else 1), dtype)
            array = to_array(
                constrained.column.value_type,
                stored,
                None,
                datetime_format=constrained.datetime_format,
                exponent=constrained.exponent,
            )
            written = self.values(i, array)[0]
        nulls = missing if missing.any() else None
        restored[constrained.column.name] = to_array(
            constrained.column.type,
            np.ascontiguousarray(stored),
            nulls,
            emit_nan=constrained.emit_nan,
            datetime_format=constrained.datetime_format,
            exponent=constrained.exponent,
        )
        return written, ~missing

    @staticmethod
    def _step(constrained: ConstrainedColumn) -> int:
        """Distance between neighbouring values of the grid, in units."""
        return constrained.precision.unit if constrained.precision.kind == "integer" and constrained.scale == 1 else 1

    def _on_grid(self, constrained: ConstrainedColumn, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Units rounded to the column's grid, so that dates which are whole days stay whole days."""
        step = self._step(constrained)
        if step == 1:
            return units
        moved = units - constrained.precision.origin + step // 2
        return np.asarray(moved - moved % step + constrained.precision.origin)


def _whole_end(end: float, scale: int) -> int:
    if np.isinf(end):
        return -(2**62) if end < 0 else 2**62
    return round(end * scale)


def numbers(values: NDArray[Any], missing: Mask) -> pa.Array:
    """An Arrow array of numbers [n], null where ``missing``."""
    return pa.array(values, mask=missing)


def read_numbers(array: pa.Array, whole: bool) -> tuple[NDArray[Any], Mask]:
    """Drawn numbers as int64 (``whole``) or float64, 0 where missing; and which are missing."""
    missing = missing_of(array)
    values = native(array)[0].astype(np.float64 if kind_of(array.type) == "float" else np.int64)
    values = np.where(missing, 0, values)
    return (values.astype(np.int64) if whole else values.astype(np.float64)), missing
