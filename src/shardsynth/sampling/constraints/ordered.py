"""SDV's Inequality and Range: columns in increasing order, learned as one value and the gaps after it.

The first column that is present in a row is the *anchor*; each later one is the gap to the one present before it. Gaps
are not negative, so whatever a model draws comes back in order. Where values are missing nothing is filled in: a gap is
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
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Made, Mask, missing_of

_GAP, _FIRST = "numerical", "categorical"


@dataclass(frozen=True)
class OrderedStep:
    """Columns in increasing order.

    Attributes:
        declared: SDV's declaration.
        held: The columns, lowest first.
        strict: Whether neighbours must differ.
        names: Names of the made columns: the gaps, then, if the first column is missing in rows that have later ones,
            the anchor and which column it is; none where the order is kept by drawing again.
    """

    declared: dict[str, Any]
    held: tuple[ConstrainedColumn, ...]
    strict: bool
    names: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return tuple(h.column.name for h in self.held)

    @property
    def anchored(self) -> bool:
        """Whether the anchor is not always the first column."""
        return len(self.names) > len(self.held) - 1

    @property
    def taken(self) -> tuple[str, ...]:
        """See ``Step``."""
        if not self.names:
            return ()
        return self.columns if self.anchored else self.columns[1:]

    @property
    def used(self) -> tuple[str, ...]:
        """Columns that must be there before the others can be restored."""
        return self.columns[:1] if self.names and not self.anchored else ()

    @cached_property
    def whole(self) -> bool:
        """Whether all arithmetic is in integers of a common unit."""
        return all(h.whole for h in self.held) and self._factors is not None

    @cached_property
    def _factors(self) -> tuple[int, ...] | None:
        """Common units per whole unit of each column; None where 64 bits do not hold them."""
        if self.held[0].column.role == "datetime":
            units = [nanoseconds_of(h.column) for h in self.held]
            common = math.gcd(*units)
            return tuple(unit // common for unit in units)
        top = max(h.scale for h in self.held)
        factors = tuple(top // h.scale for h in self.held)
        return factors if max(factors) <= 10**6 else None

    @cached_property
    def _digits(self) -> int | None:
        """Decimals to which floating differences are rounded; None: not at all."""
        grids = [h.precision for h in self.held]
        if all(g.kind in ("integer", "decimal") for g in grids):
            return max(g.digits for g in grids)
        return None

    @property
    def made(self) -> tuple[Made, ...]:
        """See ``Step``."""
        number = pa.int64() if self.whole else pa.float64()
        fields = [Made(pa.field(name, number), {"sdtype": _GAP}) for name in self.names[: len(self.held) - 1]]
        if self.anchored:
            anchor, first = self.names[-2:]
            fields.append(Made(pa.field(anchor, number), {"sdtype": _GAP}))
            fields.append(Made(pa.field(first, pa.dictionary(pa.int8(), pa.string())), {"sdtype": _FIRST}))
        return tuple(fields)

    def _values(self, i: int, array: pa.Array) -> tuple[NDArray[Any], Mask]:
        """Values in the common unit (int64, or float64 on the axis), and which are missing."""
        held = self.held[i]
        values, nulls = column_native(held.column, array)
        if self.whole:
            assert self._factors is not None
            missing = np.zeros(len(values), np.bool_) if nulls is None else nulls
            return values.astype(np.int64) * self._factors[i], missing
        floats = axis_of_native(values, held.column.value_type)
        if held.precision.kind == "decimal":
            floats = np.round(floats, held.precision.digits)
        elif kind_of(held.column.type) == "float" and held.column.value_type.bit_width < 64:
            floats = shortest(held.column.value_type, floats)  # as SDV compares them
        missing = np.isnan(floats) if nulls is None else np.isnan(floats) | nulls
        return floats, missing

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        size = len(self.held)
        values, missing = self._values(0, arrays[self.columns[0]])
        previous, unknown = values.copy(), missing.copy()
        first = np.where(missing, -1, 0)
        gaps = []
        for i in range(1, size):
            values, missing = self._values(i, arrays[self.columns[i]])
            present = ~missing
            gap = np.where(present & ~unknown, values - previous, 0)
            if self._digits is not None and not self.whole:
                gap = np.round(gap, self._digits)
            gaps.append((gap, unknown | missing))
            first = np.where(present & (first < 0), i, first)
            previous = np.where(present, values, previous)
            unknown = unknown & missing
        found = {name: _numbers(*gap) for name, gap in zip(self.names, gaps)}
        if self.anchored:
            found[self.names[-2]] = _numbers(self._anchor(arrays, first), first < 0)
            kind = pa.dictionary(pa.int8(), pa.string())
            found[self.names[-1]] = from_codes(kind, pa.array(self.columns), first)
        return found

    def _anchor(self, arrays: Arrays, first: NDArray[np.int64]) -> NDArray[Any]:
        """Value of the first present column of each row."""
        anchor = self._values(0, arrays[self.columns[0]])[0].copy()
        for i in range(1, len(self.held)):
            here = first == i
            if here.any():
                anchor[here] = self._values(i, arrays[self.columns[i]])[0][here]
        return anchor

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        found: dict[str, pa.Array] = {}
        if not self.names:
            return found, np.zeros(n, np.bool_)
        if self.anchored:
            anchor, unknown = _read(arrays[self.names[-2]], self.whole)
            first, nowhere = _codes(arrays[self.names[-1]], self.columns)
            unknown = unknown | nowhere
            start = ~unknown & (first == 0)
            previous, known = self._put(found, 0, anchor, ~start, None)
        else:
            anchor, unknown = self._values(0, arrays[self.columns[0]])
            previous, known = anchor, ~unknown
            first = np.zeros(n, np.int64)
        broken = np.zeros(n, np.bool_)
        for i in range(1, len(self.held)):
            gap, absent = _read(arrays[self.names[i - 1]], self.whole)
            follows = known & ~absent
            least = 1 if self.strict and self.whole else 0
            value = np.where(follows, previous + np.maximum(gap, least), previous)
            begins = ~unknown & (first == i)
            value = np.where(begins, anchor, value)
            present = follows | begins
            value, _ = self._put(found, i, value, ~present, np.where(follows, previous, value))
            if self.strict:
                broken |= follows & (value <= previous)
            else:
                broken |= follows & (value < previous)
            previous = np.where(present, value, previous)
            known = known | present
        return found, broken

    def _put(
        self, found: dict[str, pa.Array], i: int, value: NDArray[Any], missing: Mask, floor: NDArray[Any] | None
    ) -> tuple[NDArray[Any], Mask]:
        """Write column i: on its grid, within its ends, not under ``floor`` if that is possible; as it was written."""
        held = self.held[i]
        dtype = storage_dtype(held.column.type, held.datetime_format)
        if self.whole:
            assert self._factors is not None
            factor, scale = self._factors[i], held.scale
            units = self._on_grid(held, value // factor if factor > 1 else value)
            if floor is not None:  # a coarser unit or grid than that of the column before: round up rather than down
                units = np.where(units * factor < floor, units + self._step(held), units)
            low, high = (_whole_end(end, scale) for end in (held.low, held.high))
            stored = to_storage(np.clip(units, low, high), dtype)
            written = stored.astype(np.int64) * factor
        else:
            axis = held.precision.snap(np.where(missing, 0.0, value).astype(np.float64))
            if floor is not None and held.precision.kind != "float":  # a coarser grid than the column before
                unit = float(held.precision.unit) if held.precision.kind == "integer" else 10.0**-held.precision.digits
                axis = np.where(axis < floor, held.precision.snap(axis + unit), axis)
            axis = np.clip(axis, held.low, held.high)
            stored = to_storage(axis * (held.scale if dtype.kind in "iu" else 1), dtype)
            array = to_array(
                held.column.value_type,
                stored,
                None,
                datetime_format=held.datetime_format,
                exponent=held.exponent,
            )
            written = self._values(i, array)[0]
        absent = missing if missing.any() else None
        found[held.column.name] = to_array(
            held.column.type,
            np.ascontiguousarray(stored),
            absent,
            emit_nan=held.emit_nan,
            datetime_format=held.datetime_format,
            exponent=held.exponent,
        )
        return written, ~missing

    @staticmethod
    def _step(held: ConstrainedColumn) -> int:
        """Distance of neighbouring values, in whole units."""
        return held.precision.unit if held.precision.kind == "integer" and held.scale == 1 else 1

    def _on_grid(self, held: ConstrainedColumn, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Whole units moved to the nearest point of the column's grid: dates that are whole days stay whole days."""
        step = self._step(held)
        if step == 1:
            return units
        moved = units - held.precision.origin + step // 2
        return np.asarray(moved - moved % step + held.precision.origin)

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``: every present value against the one present before it."""
        previous, unknown = self._values(0, arrays[self.columns[0]])
        fine = np.ones(n, np.bool_)
        for i in range(1, len(self.held)):
            values, missing = self._values(i, arrays[self.columns[i]])
            right = values > previous if self.strict else values >= previous
            fine &= right | missing | unknown
            previous = np.where(missing, previous, values)
            unknown = unknown & missing
        return fine

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        return {
            "kind": "ordered",
            "declared": self.declared,
            "held": [h.to_json() for h in self.held],
            "strict": self.strict,
            "names": list(self.names),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> OrderedStep:
        """Inverse of ``to_json``."""
        held = tuple(ConstrainedColumn.from_json(h, schema) for h in data["held"])
        return cls(data["declared"], held, data["strict"], tuple(data["names"]))


def needs_anchor(columns: tuple[str, ...], arrays: Arrays) -> bool:
    """Whether a later column is present where the first one is missing."""
    absent = missing_of(arrays[columns[0]])
    return any(bool((absent & ~missing_of(arrays[name])).any()) for name in columns[1:])


def _whole_end(end: float, scale: int) -> int:
    if np.isinf(end):
        return -(2**62) if end < 0 else 2**62
    return round(end * scale)


def _numbers(values: NDArray[Any], missing: Mask) -> pa.Array:
    return pa.array(values, mask=missing)


def _read(array: pa.Array, whole: bool) -> tuple[NDArray[Any], Mask]:
    """Drawn numbers as int64 or float64, nothing under the missing ones."""
    missing = missing_of(array)
    values = native(array)[0].astype(np.float64 if kind_of(array.type) == "float" else np.int64)
    values = np.where(missing, 0, values)
    return (values.astype(np.int64) if whole else values.astype(np.float64)), missing


def _codes(array: pa.Array, names: tuple[str, ...]) -> tuple[NDArray[np.int64], Mask]:
    """Place of each row's name among ``names``; a missing or an unknown one is nowhere."""
    dictionary = array.dictionary.to_pylist()
    table = np.array([names.index(name) if name in names else -1 for name in dictionary] + [-1], np.int64)
    codes = table[np.asarray(array.indices.fill_null(len(dictionary)).to_numpy(zero_copy_only=False)).astype(np.int64)]
    return np.maximum(codes, 0), codes < 0
