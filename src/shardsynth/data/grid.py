"""The grid of a column's values: exact, and the same for any order of reading.

Integers, dates and times: the greatest common divisor of all differences, and a residue. Floats: the smallest number of
decimals with which every value can be written and read back. More values can only make a grid finer, until there is
none. The result does not depend on the order of the values, so a grid is a commutative monoid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.values import INT64_DIGITS, Array, Precision, kind_of

#: Bits of the float type -> (most decimals, largest integer mantissa): no more digits than the type guarantees.
_FLOAT_BOUNDS = {16: (3, 10.0**3), 32: (6, 10.0**6), 64: (12, 10.0**15)}


@dataclass(frozen=True)
class Grid:
    """The grid of the values read so far.

    Attributes:
        kind: ``integer``, ``decimal`` or ``float`` (no grid).
        unit: Greatest common divisor of the differences; 0 while all values are equal.
        residue: A value of the column, modulo ``unit``; None without values.
        digits: Number of decimals of the values.
        bits: Width of the column's float type.
    """

    kind: str
    unit: int = 0
    residue: int | None = None
    digits: int = 0
    bits: int = 64

    def extended(self, values: Array) -> Grid:
        """The grid of these values and more: native, finite, in any order."""
        if self.kind == "float" or not len(values):
            return self
        return self._with_integers(values) if self.kind == "integer" else self._with_floats(values)

    def joined(self, other: Grid) -> Grid:
        """The grid of the values of two parts of a column."""
        if self.kind == "float" or other.kind == "float":
            return replace(self, kind="float", digits=0)
        if self.kind == "decimal":
            return replace(self, digits=max(self.digits, other.digits))
        if self.residue is None or other.residue is None:
            return other if self.residue is None else self
        return self._integer(math.gcd(self.unit, other.unit, self.residue - other.residue), self.residue)

    def _integer(self, unit: int, value: int) -> Grid:
        return replace(self, unit=unit, residue=value % unit if unit else value)

    def _with_integers(self, values: Array) -> Grid:
        if self.unit == 1:
            return self
        if values.dtype == np.int64 and (values.max() == 2**63 - 1 or values.min() <= 1 - 2**63):
            values = values[(values < 2**63 - 1) & (values > 1 - 2**63)]  # "infinity" is on no grid
            if not len(values):
                return self
        low = values.min()
        steps = values.astype(np.uint64) - np.uint64(int(low) % 2**64)
        start = int(low)
        unit = self.unit if self.residue is None else math.gcd(self.unit, self.residue - start)
        if unit == 0 or (unit > 1 and (steps % np.uint64(unit)).any()):
            unit = math.gcd(unit, int(np.gcd.reduce(steps)))
        return self._integer(unit, start)

    def _with_floats(self, values: Array) -> Grid:
        floats = np.asarray(values, np.float64)
        changed = floats[~_read_back_equal(floats, self.digits, self.bits)]
        if not len(changed):
            return self
        digits = 0
        for digits in range(_FLOAT_BOUNDS[self.bits][0] + 1):  # noqa: B007
            changed = changed[~_read_back_equal(changed, digits, self.bits)]
            if not len(changed):
                return replace(self, digits=max(self.digits, digits))
        return replace(self, kind="float", digits=0)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Grid:
        """The grid that ``to_json`` gave."""
        return cls(**data)


def _read_back_equal(values: npt.NDArray[np.float64], digits: int, bits: int) -> npt.NDArray[np.bool_]:
    """bool[n]: whether a value with ``digits`` decimals, read as a float of ``bits`` bits, is the same value."""
    scale = 10.0**digits
    with np.errstate(over="ignore"):
        mantissa = np.rint(values * scale)
        read = mantissa / scale
    if bits == 32:
        read = read.astype(np.float32).astype(np.float64)
    elif bits == 16:
        read = read.astype(np.float16).astype(np.float64)
    exact = np.asarray(read == values, np.bool_)
    return exact if digits == 0 else exact & (np.abs(mantissa) <= _FLOAT_BOUNDS[bits][1])


def grid_for(type_: pa.DataType) -> Grid:
    """The grid of a column of an Arrow value type, before any value is read."""
    if pa.types.is_floating(type_):
        return Grid("decimal", bits=type_.bit_width)
    if pa.types.is_decimal(type_) and type_.precision > INT64_DIGITS:
        return Grid("decimal")
    return Grid("integer")


def precision_of(grid: Grid, type_: pa.DataType) -> Precision:
    """The ``Precision`` of a column of an Arrow value type whose values have the grid ``grid``."""
    if grid.kind == "decimal":
        return Precision("decimal", digits=grid.digits)
    if grid.kind == "float" or kind_of(type_) == "float":
        return Precision("float")
    unit = grid.unit or 1
    if pa.types.is_decimal(type_):
        digits = max(type_.scale, 0)
        while digits and unit % 10 == 0 and (grid.residue or 0) % 10 == 0:
            unit, digits = unit // 10, digits - 1
            grid = replace(grid, residue=(grid.residue or 0) // 10)
        return Precision("decimal", digits=digits)
    return Precision("integer", origin=(grid.residue or 0) % unit, unit=unit)


#: Decimals that are tried before a value is written out: most columns have fewer.
_DIGITS = 8


def shortest(type_: pa.DataType, values: Array) -> Array:
    """Values of a narrow float type, as float64[n], each as the shortest decimal that means the same value.

    The order of values stays, and equal ones stay equal, whatever stands beside them.

    Args:
        type_: The narrow float type (float16 or float32) that the values come from.
        values: float64[n], can have NaN.
    """
    narrow = type_.to_pandas_dtype()
    short = values.copy()
    left = np.flatnonzero(np.isfinite(values))
    with np.errstate(over="ignore"):
        for digits in range(_DIGITS):
            rounded = np.round(values[left], digits)
            same = rounded.astype(narrow) == values[left]
            short[left[same]] = rounded[same]
            left = left[~same]
            if not len(left):
                return short
    short[left] = values[left].astype(narrow).astype(np.str_).astype(np.float64)
    return short


def needed_decimals(values: Array) -> int | None:
    """Decimals, at most 15, to which float64[n] can be rounded without a change; None where they need more."""
    return next((digits for digits in range(16) if np.array_equal(np.round(values, digits), values)), None)
