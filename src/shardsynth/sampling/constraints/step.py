"""A constraint as a step: the columns that it replaces in a table, the replacements, and the way back.

A model sees the replacements. The constrained columns are computed from them, so every row that a model draws satisfies
the constraint (a few rows do not, and are drawn again). What a step does to a row depends on that row alone. SDV's own
transforms take means over a batch: then counts would depend on how the rows were cut into batches.
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
from shardsynth.data.layouts import layout_of
from shardsynth.data.values import Precision, kind_of, needs_parsing

Mask = NDArray[np.bool_]
Arrays = Mapping[str, pa.Array]
#: Digits of a decimal whose unscaled integers always fit int64.
WHOLE_DIGITS = 18


@dataclass(frozen=True)
class ConstrainedColumn:
    """What a step knows of a column that it constrains.

    Attributes:
        column: The column.
        precision: Grid of its values.
        low: Smallest value, on the axis, that is written.
        high: Largest value, on the axis, that is written.
        emit_nan: Missing is written as NaN instead of null.
        nullable: Whether its field may contain nulls.
        complete: Whether no training row lacks it: then a drawn row that lacks it is drawn again.
    """

    column: Column
    precision: Precision = field(default_factory=Precision)
    low: float = -np.inf
    high: float = np.inf
    emit_nan: bool = False
    nullable: bool = True
    complete: bool = False

    @property
    def datetime_format(self) -> str | None:
        """Layout of a column that holds text or integers in place of its values; None for any other column."""
        return layout_of(self.column) if needs_parsing(self.column) else None

    @property
    def whole(self) -> bool:
        """Whether each value is exactly a whole number of some unit, in 64 bits."""
        kind, kind_name = self.column.value_type, kind_of(self.column.type)
        if kind_name == "decimal":
            return bool(kind.precision <= WHOLE_DIGITS and kind.scale >= 0)
        return (
            kind_name in ("temporal", "boolean")
            or (needs_parsing(self.column) and self.column.role == "datetime")
            or (kind_name == "integer" and kind != pa.uint64())
        )

    @property
    def exponent(self) -> int:
        """Decimals are stored in units of 10^-exponent; 0 for every other type."""
        largest = max((abs(end) for end in (self.low, self.high) if not np.isinf(end)), default=0.0)
        return max(0, decimal_exponent(self.column.type, largest))

    @property
    def scale(self) -> int:
        """Whole units per unit of the axis."""
        return int(10**self.exponent)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without the Arrow type."""
        return {
            "name": self.column.name,
            "sdtype": self.column.sdtype,
            "role": self.column.role,
            "datetime_format": layout_of(self.column),
            "precision": self.precision.to_json(),
            "low": None if np.isinf(self.low) else self.low,
            "high": None if np.isinf(self.high) else self.high,
            "emit_nan": self.emit_nan,
            **({"complete": True} if self.complete else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> ConstrainedColumn:
        """Inverse of ``to_json``; the type comes from the schema."""
        options = {} if data["datetime_format"] is None else {"datetime_format": data["datetime_format"]}
        name = data["name"]
        arrow_field = schema.field(name)
        return cls(
            Column(name, arrow_field.type, data["sdtype"], data["role"], options),
            Precision.from_json(data["precision"]),
            -np.inf if data["low"] is None else data["low"],
            np.inf if data["high"] is None else data["high"],
            data["emit_nan"],
            arrow_field.nullable,
            bool(data.get("complete", False)),
        )


@dataclass(frozen=True)
class Replacement:
    """A column that a model sees in place of constrained ones.

    Attributes:
        field: Its Arrow field.
        metadata: Its entry in the SDV metadata.
    """

    field: pa.Field
    metadata: dict[str, Any]


class Step(Protocol):
    """One constraint, bound to the columns of a table."""

    @property
    def declared(self) -> dict[str, Any]:
        """The declaration: SDV's ``{"class_name": ..., "parameters": {...}}``."""

    @property
    def constrained(self) -> ConstrainedColumn | tuple[ConstrainedColumn, ...]:
        """What is known of these columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the constraint is about."""

    @property
    def replaced(self) -> tuple[str, ...]:
        """Columns that no model sees; none where the constraint is enforced by rejection."""

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that must be there before the replaced ones can be restored."""

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """Columns that a model sees in place of the replaced ones."""

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """The replacement columns of some rows, by name."""

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """The replaced columns by name, and bool[n]: rows that could not be restored."""

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """bool[n]: rows that satisfy the constraint."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: the inverse is ``from_json`` of the class."""


class Computed(Protocol):
    """A column of finished rows that is computed from others."""

    @property
    def name(self) -> str:
        """Name of the column."""

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the columns that it is computed from."""

    @property
    def held(self) -> ConstrainedColumn:
        """What is known of the column."""

    @property
    def how(self) -> str:
        """How it is computed, for a message."""

    def compute(self, arrays: Arrays, n: int) -> pa.Array:
        """The column, [n], from the others by name."""

    def equal(self, made: pa.Array, known: pa.Array) -> Mask:
        """bool[n]: known values that are what was computed."""

    def parents_of(self, arrays: Arrays, known: pa.Array) -> dict[str, pa.Array]:
        """Columns that this one was computed from, with what its known values say of them."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""


def unique_name(name: str, names: set[str]) -> str:
    """A column name that is not among ``names``: ``name``, with underscores at its end if need be."""
    while name in names:
        name += "_"
    return name


def missing_of(array: pa.Array) -> Mask:
    """bool[n]: values that are null or NaN."""
    return np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), dtype=np.bool_)
