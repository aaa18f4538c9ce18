"""The grid on which a column's values lie, found exactly and in any order of reading.

Integers, dates and times: the greatest common divisor of all differences, and a residue. Floats: the number of decimals
with which every value can be written and read back. Both only ever coarsen towards "no grid", by a rule that looks at
each value alone, which makes them monoids.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.values import Array, Precision, kind_of

#: (decimals tried at most, largest integer mantissa) by width of the float: no more digits than the type guarantees.
_FLOAT_BOUNDS = {16: (3, 10.0**3), 32: (6, 10.0**6), 64: (12, 10.0**15)}


@dataclass(frozen=True)
class Grid:
    """State of the search.

    Attributes:
        kind: ``integer``, ``decimal`` or ``float`` (given up).
        unit: Greatest common divisor so far; 0 while there are no two different values.
        residue: A value of the column, modulo ``unit``; None without values.
        digits: Decimals needed so far.
        bits: Width of the column's float type.
    """

    kind: str
    unit: int = 0
    residue: int | None = None
    digits: int = 0
    bits: int = 64

    def extended(self, values: Array) -> Grid:
        """The grid after more values (finite, native, any order)."""
        if self.kind == "float" or not len(values):
            return self
        return self._with_integers(values) if self.kind == "integer" else self._with_floats(values)

    def joined(self, other: Grid) -> Grid:
        """The grid of both columns' parts together."""
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
        low = values.min()
        steps = values.astype(np.uint64) - np.uint64(int(low) % 2**64)
        start = int(low)
        unit = self.unit if self.residue is None else math.gcd(self.unit, self.residue - start)
        if unit == 0 or (unit > 1 and (steps % np.uint64(unit)).any()):
            unit = math.gcd(unit, int(np.gcd.reduce(steps)))
        return self._integer(unit, start)

    def _with_floats(self, values: Array) -> Grid:
        wide = np.asarray(values, np.float64)
        failed = wide[~_written(wide, self.digits, self.bits)]
        if not len(failed):
            return self
        digits, left = 0, failed
        for digits in range(_FLOAT_BOUNDS[self.bits][0] + 1):  # noqa: B007
            left = left[~_written(left, digits, self.bits)]
            if not len(left):
                return replace(self, digits=max(self.digits, digits))
        return replace(self, kind="float", digits=0)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Grid:
        """Inverse of ``to_json``."""
        return cls(**data)


def _written(values: npt.NDArray[np.float64], digits: int, bits: int) -> npt.NDArray[np.bool_]:
    """Which values come back from being written with ``digits`` decimals in a float type of ``bits``."""
    scale = 10.0**digits
    with np.errstate(over="ignore"):
        mantissa = np.rint(values * scale)
        back = mantissa / scale
    if bits == 32:
        back = back.astype(np.float32).astype(np.float64)
    elif bits == 16:
        back = back.astype(np.float16).astype(np.float64)
    exact = np.asarray(back == values, np.bool_)
    return exact if digits == 0 else exact & (np.abs(mantissa) <= _FLOAT_BOUNDS[bits][1])


def grid_for(type_: pa.DataType) -> Grid:
    """The grid of no values yet, for an Arrow value type."""
    if pa.types.is_floating(type_):
        return Grid("decimal", bits=type_.bit_width)
    if pa.types.is_decimal(type_) and type_.precision > 18:
        return Grid("decimal")
    return Grid("integer")


def precision_of(grid: Grid, type_: pa.DataType) -> Precision:
    """The ``Precision`` of a column of an Arrow value type whose values lie on ``grid``."""
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
