"""What a constraint is to the rest: which columns it takes out of a table, what stands for them, how they come back.

A model sees other columns, from which the constrained ones are computed, so that every row it draws satisfies the
constraint (or, seldom, is drawn again). What a step does to a row depends on that row alone: no mean over a batch, as
SDV's own transforms take, which would make counts depend on how the rows were cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import decimal_exponent
from shardsynth.data.columns import Column
from shardsynth.data.values import Precision, kind_of, needs_parsing

Mask = NDArray[np.bool_]
Arrays = Mapping[str, pa.Array]
#: Digits of a decimal whose unscaled integers always fit int64.
WHOLE_DIGITS = 18


@dataclass(frozen=True)
class ConstrainedColumn:
    """What a step knows of a column that it takes out.

    Attributes:
        column: The column.
        precision: Grid of its values.
        low: Value on the axis under which no value is made.
        high: Likewise, over which.
        emit_nan: Missing is written as NaN instead of null.
        nullable: Whether its field may hold nulls.
    """

    column: Column
    precision: Precision = field(default_factory=Precision)
    low: float = -np.inf
    high: float = np.inf
    emit_nan: bool = False
    nullable: bool = True

    @property
    def datetime_format(self) -> str | None:
        """Format of a datetime that is held as text or integers."""
        layout = self.column.options.get("datetime_format")
        return None if layout is None or not needs_parsing(self.column) else str(layout)

    @property
    def whole(self) -> bool:
        """Whether the values are integers of some unit, exactly, in 64 bits."""
        kind, kind_name = self.column.value_type, kind_of(self.column.type)
        if kind_name == "decimal":
            return bool(kind.precision <= WHOLE_DIGITS and kind.scale >= 0)
        return (
            kind_name in ("temporal", "boolean")
            or needs_parsing(self.column)
            or (kind_name == "integer" and kind != pa.uint64())
        )

    @property
    def exponent(self) -> int:
        """The e of the unit 10^-e in which decimals are stored; 0 for every other type."""
        largest = max((abs(end) for end in (self.low, self.high) if not np.isinf(end)), default=0.0)
        return max(0, decimal_exponent(self.column.type, largest))

    @property
    def scale(self) -> int:
        """Whole units per unit of the axis."""
        return int(10**self.exponent)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, the type aside."""
        layout = self.column.options.get("datetime_format")
        return {
            "name": self.column.name,
            "sdtype": self.column.sdtype,
            "role": self.column.role,
            "datetime_format": layout,
            "precision": self.precision.to_json(),
            "low": None if np.isinf(self.low) else self.low,
            "high": None if np.isinf(self.high) else self.high,
            "emit_nan": self.emit_nan,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> ConstrainedColumn:
        """Inverse of ``to_json``; the type is the schema's."""
        options = {} if data["datetime_format"] is None else {"datetime_format": data["datetime_format"]}
        name = data["name"]
        found = schema.field(name)
        return cls(
            Column(name, found.type, data["sdtype"], data["role"], options),
            Precision.from_json(data["precision"]),
            -np.inf if data["low"] is None else data["low"],
            np.inf if data["high"] is None else data["high"],
            data["emit_nan"],
            found.nullable,
        )


@dataclass(frozen=True)
class Made:
    """A column that a model sees instead: its Arrow field and its SDV metadata."""

    field: pa.Field
    described: dict[str, Any]


class Step(Protocol):
    """One constraint, bound to the columns of a table."""

    @property
    def declared(self) -> dict[str, Any]:
        """The declaration: SDV's ``{"class_name": ..., "parameters": {...}}``."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the constraint is about."""

    @property
    def taken(self) -> tuple[str, ...]:
        """Columns that no model sees; none where the constraint is kept by drawing again."""

    @property
    def used(self) -> tuple[str, ...]:
        """Columns that must be there before the taken ones can be restored."""

    @property
    def made(self) -> tuple[Made, ...]:
        """Columns that stand for them."""

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """The made columns of some rows."""

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """The taken columns from the others; and bool[n], rows that could not be restored."""

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """Rows that satisfy the constraint, bool[n]."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object with the declaration."""


def unique_name(wanted: str, names: set[str]) -> str:
    """A column name that is not among ``names``."""
    name = wanted
    while name in names:
        name += "_"
    return name


def missing_of(array: pa.Array) -> Mask:
    """Null or NaN, bool[n]."""
    return np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), dtype=np.bool_)
