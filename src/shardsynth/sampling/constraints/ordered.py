"""SDV's Inequality and Range: columns in increasing order. A model sees one value and the gaps after it.

The first column that is present in a row is the *anchor*. Each later one becomes the gap to the column present before
it. Gaps are never negative, so whatever a model draws is restored in order. No missing value is filled in: a gap is
missing where its column is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import from_codes, storage_dtype, to_array, to_storage
from shardsynth.data.frames import nanoseconds_of, shortest
from shardsynth.data.values import axis_of_native, column_native, kind_of, native
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Mask, Replacement, missing_of

_GAP, _FIRST = "numerical", "categorical"


@dataclass(frozen=True)
class OrderedStep:
    """Columns in increasing order.

    Attributes:
        declared: SDV's declaration.
        constrained: The columns, lowest first.
        strict: Whether neighbours must differ.
        names: Names of the replacements: the gaps. If some row has a later column but not the first one, two more:
            the anchor, and which column it is. Empty where the order is enforced by rejection.
    """

    declared: dict[str, Any]
    constrained: tuple[ConstrainedColumn, ...]
    strict: bool
    names: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return tuple(c.column.name for c in self.constrained)

    @property
    def anchored(self) -> bool:
        """Whether the anchor is not always the first column."""
        return len(self.names) > len(self.constrained) - 1

    @property
    def replaced(self) -> tuple[str, ...]:
        """See ``Step``."""
        if not self.names:
            return ()
        return self.columns if self.anchored else self.columns[1:]

    @property
    def needed(self) -> tuple[str, ...]:
        """See ``Step``: the first column, if it is the anchor of every row."""
        return self.columns[:1] if self.names and not self.anchored else ()

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
    def _digits(self) -> int | None:
        """Decimals to which differences of floats are rounded; None: they are not rounded."""
        grids = [c.precision for c in self.constrained]
        if all(g.kind in ("integer", "decimal") for g in grids):
            return max(g.digits for g in grids)
        return None

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """See ``Step``."""
        number = pa.int64() if self.whole else pa.float64()
        fields = [
            Replacement(pa.field(name, number), {"sdtype": _GAP}) for name in self.names[: len(self.constrained) - 1]
        ]
        if self.anchored:
            anchor, first = self.names[-2:]
            fields.append(Replacement(pa.field(anchor, number), {"sdtype": _GAP}))
            fields.append(Replacement(pa.field(first, pa.dictionary(pa.int8(), pa.string())), {"sdtype": _FIRST}))
        return tuple(fields)

    def _values(self, i: int, array: pa.Array) -> tuple[NDArray[Any], Mask]:
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

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        size = len(self.constrained)
        values, missing = self._values(0, arrays[self.columns[0]])
        previous, none_before = values.copy(), missing.copy()
        first = np.where(missing, -1, 0)
        gaps = []
        for i in range(1, size):
            values, missing = self._values(i, arrays[self.columns[i]])
            present = ~missing
            gap = np.where(present & ~none_before, values - previous, 0)
            if self._digits is not None and not self.whole:
                gap = np.round(gap, self._digits)
            gaps.append((gap, none_before | missing))
            first = np.where(present & (first < 0), i, first)
            previous = np.where(present, values, previous)
            none_before = none_before & missing
        replacements = {name: _numbers(*gap) for name, gap in zip(self.names, gaps)}
        if self.anchored:
            replacements[self.names[-2]] = _numbers(self._anchor(arrays, first), first < 0)
            kind = pa.dictionary(pa.int8(), pa.string())
            replacements[self.names[-1]] = from_codes(kind, pa.array(self.columns), first)
        return replacements

    def _anchor(self, arrays: Arrays, first: NDArray[np.int64]) -> NDArray[Any]:
        """Value of the first column that is present in each row, where there is one."""
        anchor = self._values(0, arrays[self.columns[0]])[0].copy()
        for i in range(1, len(self.constrained)):
            here = first == i
            if here.any():
                anchor[here] = self._values(i, arrays[self.columns[i]])[0][here]
        return anchor

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        restored: dict[str, pa.Array] = {}
        if not self.names:
            return restored, np.zeros(n, np.bool_)
        if self.anchored:
            anchor, no_anchor = _read(arrays[self.names[-2]], self.whole)
            first, no_first = _codes(arrays[self.names[-1]], self.columns)
            no_anchor = no_anchor | no_first
            begins = ~no_anchor & (first == 0)
            previous, any_before = self._put(restored, 0, anchor, ~begins, None)
        else:
            anchor, no_anchor = self._values(0, arrays[self.columns[0]])
            previous, any_before = anchor, ~no_anchor
            first = np.zeros(n, np.int64)
        broken = np.zeros(n, np.bool_)
        for i in range(1, len(self.constrained)):
            gap, no_gap = _read(arrays[self.names[i - 1]], self.whole)
            follows = any_before & ~no_gap
            smallest = 1 if self.strict and self.whole else 0
            value = np.where(follows, previous + np.maximum(gap, smallest), previous)
            begins = ~no_anchor & (first == i)
            value = np.where(begins, anchor, value)
            present = follows | begins
            value, _ = self._put(restored, i, value, ~present, np.where(follows, previous, value))
            if self.strict:
                broken |= follows & (value <= previous)
            else:
                broken |= follows & (value < previous)
            previous = np.where(present, value, previous)
            any_before = any_before | present
        return restored, broken

    def _put(
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
            written = self._values(i, array)[0]
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

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``: compares every present value with the one present before it."""
        previous, none_before = self._values(0, arrays[self.columns[0]])
        valid = np.ones(n, np.bool_)
        for i in range(1, len(self.constrained)):
            values, missing = self._values(i, arrays[self.columns[i]])
            in_order = values > previous if self.strict else values >= previous
            valid &= in_order | missing | none_before
            previous = np.where(missing, previous, values)
            none_before = none_before & missing
        return valid

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        return {
            "kind": "ordered",
            "declared": self.declared,
            "held": [c.to_json() for c in self.constrained],
            "strict": self.strict,
            "names": list(self.names),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> OrderedStep:
        """Inverse of ``to_json``."""
        constrained = tuple(ConstrainedColumn.from_json(c, schema) for c in data["held"])
        return cls(data["declared"], constrained, data["strict"], tuple(data["names"]))


def needs_anchor(columns: tuple[str, ...], arrays: Arrays) -> bool:
    """Whether any row has a later column but not the first one."""
    absent = missing_of(arrays[columns[0]])
    return any(bool((absent & ~missing_of(arrays[name])).any()) for name in columns[1:])


def _whole_end(end: float, scale: int) -> int:
    if np.isinf(end):
        return -(2**62) if end < 0 else 2**62
    return round(end * scale)


def _numbers(values: NDArray[Any], missing: Mask) -> pa.Array:
    return pa.array(values, mask=missing)


def _read(array: pa.Array, whole: bool) -> tuple[NDArray[Any], Mask]:
    """Drawn numbers as int64 (``whole``) or float64, 0 where missing; and which are missing."""
    missing = missing_of(array)
    values = native(array)[0].astype(np.float64 if kind_of(array.type) == "float" else np.int64)
    values = np.where(missing, 0, values)
    return (values.astype(np.int64) if whole else values.astype(np.float64)), missing


def _codes(array: pa.Array, names: tuple[str, ...]) -> tuple[NDArray[np.int64], Mask]:
    """Place of each row's name among ``names``, and which rows have no name or an unknown one (place 0)."""
    dictionary = array.dictionary.to_pylist()
    table = np.array([names.index(name) if name in names else -1 for name in dictionary] + [-1], np.int64)
    codes = table[np.asarray(array.indices.fill_null(len(dictionary)).to_numpy(zero_copy_only=False)).astype(np.int64)]
    return np.maximum(codes, 0), codes < 0
