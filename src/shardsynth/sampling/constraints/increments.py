"""SDV's FixedIncrements: a column of multiples, learned as how many times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import storage_dtype, to_array
from shardsynth.data.values import axis_of_native, decoded, native
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Made, Mask, missing_of


@dataclass(frozen=True)
class IncrementStep:
    """Every value is a multiple of a whole number.

    Attributes:
        declared: SDV's declaration.
        held: The column.
        increment: The number, positive.
        name: Name of the column of multipliers; "" where it is kept by drawing again.
    """

    declared: dict[str, Any]
    held: ConstrainedColumn
    increment: int
    name: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return (self.held.column.name,)

    @property
    def taken(self) -> tuple[str, ...]:
        """See ``Step``."""
        return self.columns if self.name else ()

    @property
    def used(self) -> tuple[str, ...]:
        """See ``Step``."""
        return ()

    @property
    def made(self) -> tuple[Made, ...]:
        """See ``Step``."""
        return (Made(pa.field(self.name, pa.int64()), {"sdtype": "numerical"}),) if self.name else ()

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        if not self.name:
            return {}
        array = decoded(arrays[self.columns[0]])
        missing = missing_of(array)
        values = native(array)[0]
        if values.dtype.kind in "iu":
            times = values.astype(np.int64) // self._step
        else:
            times = np.rint(np.where(missing, 0.0, values) / self.increment).astype(np.int64)
        return {self.name: pa.array(times, mask=missing)}

    @property
    def _step(self) -> int:
        """The increment in the column's whole units."""
        return self.increment * self.held.scale

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        if not self.name:
            return {}, np.zeros(n, np.bool_)
        array = arrays[self.name]
        missing = missing_of(array)
        drawn = np.where(missing, 0, native(array)[0]).astype(np.int64)
        kind = self.held.column.type
        dtype = storage_dtype(kind)
        low, high = self._ends(dtype)
        times = np.clip(drawn, low, high)
        stored = (times * self._step if dtype.kind in "iu" else times * float(self.increment)).astype(dtype)
        absent = missing if missing.any() else None
        made = to_array(
            kind,
            np.ascontiguousarray(stored),
            absent,
            emit_nan=self.held.emit_nan,
            exponent=self.held.exponent,
        )
        return {self.columns[0]: made}, np.zeros(n, np.bool_)

    def _ends(self, dtype: np.dtype[Any]) -> tuple[int, int]:
        """Multipliers whose multiples lie within the column's ends and its type."""
        scale = self.held.scale if dtype.kind in "iu" else 1
        step = self._step if dtype.kind in "iu" else self.increment
        limits = np.iinfo(dtype if dtype.kind in "iu" else np.int64)
        low = int(limits.min) if np.isinf(self.held.low) else max(int(limits.min), round(self.held.low * scale))
        high = int(limits.max) if np.isinf(self.held.high) else min(int(limits.max), round(self.held.high * scale))
        return -(-low // step), high // step

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``."""
        array = decoded(arrays[self.columns[0]])
        values: NDArray[Any] = native(array)[0]
        missing = missing_of(array)
        if values.dtype.kind in "iu":
            return np.asarray((values.astype(np.int64) % self._step == 0) | missing)
        floats = np.where(missing, 0.0, axis_of_native(values, array.type))
        return np.asarray((floats % self.increment == 0) | missing)

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        return {
            "kind": "increment",
            "declared": self.declared,
            "held": self.held.to_json(),
            "increment": self.increment,
            "name": self.name,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> IncrementStep:
        """Inverse of ``to_json``."""
        held = ConstrainedColumn.from_json(data["held"], schema)
        return cls(data["declared"], held, data["increment"], data["name"])
