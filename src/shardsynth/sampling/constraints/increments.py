"""SDV's FixedIncrements: a column of multiples of a number. A model sees the multipliers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import storage_dtype, to_array
from shardsynth.data.values import axis_of_native, decoded, native
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Mask, Replacement, missing_of


@dataclass(frozen=True)
class IncrementStep:
    """Every value is a multiple of a whole number.

    Attributes:
        declared: SDV's declaration.
        constrained: The column.
        increment: The number, positive.
        name: Name of the column of multipliers; "" where the constraint is enforced by rejection.
    """

    declared: dict[str, Any]
    constrained: ConstrainedColumn
    increment: int
    name: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return (self.constrained.column.name,)

    @property
    def replaced(self) -> tuple[str, ...]:
        """See ``Step``."""
        return self.columns if self.name else ()

    @property
    def needed(self) -> tuple[str, ...]:
        """See ``Step``."""
        return ()

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """See ``Step``."""
        return (Replacement(pa.field(self.name, pa.int64()), {"sdtype": "numerical"}),) if self.name else ()

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        if not self.name:
            return {}
        array = decoded(arrays[self.columns[0]])
        missing = missing_of(array)
        values = native(array)[0]
        if values.dtype.kind in "iu":
            multipliers = values.astype(np.int64) // self._stored_increment
        else:
            multipliers = np.rint(np.where(missing, 0.0, values) / self.increment).astype(np.int64)
        return {self.name: pa.array(multipliers, mask=missing)}

    @property
    def _stored_increment(self) -> int:
        """The increment in the unit in which the column is stored."""
        return self.increment * self.constrained.scale

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        if not self.name:
            return {}, np.zeros(n, np.bool_)
        array = arrays[self.name]
        missing = missing_of(array)
        drawn = np.where(missing, 0, native(array)[0]).astype(np.int64)
        kind = self.constrained.column.type
        dtype = storage_dtype(kind)
        low, high = self._multiplier_range(dtype)
        multipliers = np.clip(drawn, low, high)
        stored = (
            multipliers * self._stored_increment if dtype.kind in "iu" else multipliers * float(self.increment)
        ).astype(dtype)
        nulls = missing if missing.any() else None
        restored = to_array(
            kind,
            np.ascontiguousarray(stored),
            nulls,
            emit_nan=self.constrained.emit_nan,
            exponent=self.constrained.exponent,
        )
        return {self.columns[0]: restored}, np.zeros(n, np.bool_)

    def _multiplier_range(self, dtype: np.dtype[Any]) -> tuple[int, int]:
        """Smallest and largest multiplier whose multiple fits the column's ends and its type."""
        scale = self.constrained.scale if dtype.kind in "iu" else 1
        step = self._stored_increment if dtype.kind in "iu" else self.increment
        limits = np.iinfo(dtype if dtype.kind in "iu" else np.int64)
        low = (
            int(limits.min)
            if np.isinf(self.constrained.low)
            else max(int(limits.min), round(self.constrained.low * scale))
        )
        high = (
            int(limits.max)
            if np.isinf(self.constrained.high)
            else min(int(limits.max), round(self.constrained.high * scale))
        )
        return -(-low // step), high // step

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``."""
        array = decoded(arrays[self.columns[0]])
        values: NDArray[Any] = native(array)[0]
        missing = missing_of(array)
        if values.dtype.kind in "iu":
            return np.asarray((values.astype(np.int64) % self._stored_increment == 0) | missing)
        floats = np.where(missing, 0.0, axis_of_native(values, array.type))
        return np.asarray((floats % self.increment == 0) | missing)

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        return {
            "kind": "increment",
            "declared": self.declared,
            "held": self.constrained.to_json(),
            "increment": self.increment,
            "name": self.name,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> IncrementStep:
        """Inverse of ``to_json``."""
        constrained = ConstrainedColumn.from_json(data["held"], schema)
        return cls(data["declared"], constrained, data["increment"], data["name"])
