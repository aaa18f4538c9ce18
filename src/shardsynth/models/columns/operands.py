"""Columns as relations read them: codes of categories, or values on the axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Union, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.values import axis, column_native, decoded, kind_of, needs_parsing

#: A column in memory: codes or axis values, and the mask of missing ones.
Values = tuple[NDArray[Any], NDArray[np.bool_]]
Scalar = Union[str, int, float, bool]
#: Categories that the model holds of each category column, by name.
Categories = Mapping[str, Sequence[Scalar]]

MISSING = -1
UNKNOWN = -2


@dataclass(frozen=True)
class Operand:
    """A column of a relation: its name, and the values that its codes stand for (None: it has axis values)."""

    name: str
    values: tuple[Scalar, ...] | None = None

    def read(self, batch: pa.RecordBatch) -> Values:
        """Codes or axis values of the column, and its mask; a category that is not in ``values`` has the code -2."""
        array = batch.column(self.name)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if self.values is None:
            return axis(Column(self.name, array.type, "numerical", "number"), array)
        plain = decoded(array)
        missing = np.asarray(plain.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), dtype=np.bool_)
        codes = pc.index_in(plain, value_set=pa.array(list(self.values), plain.type))
        return np.asarray(pc.fill_null(codes, UNKNOWN).to_numpy(zero_copy_only=False)).astype(np.int64), missing


@dataclass(frozen=True)
class Amount(Operand):
    """A column of a formula: a number, an instant, or categories that are numbers.

    Attributes:
        nanoseconds: Of an instant, nanoseconds of one unit of its axis; 0 for a number.
        layout: Of an instant that is text or an integer, its format.
    """

    nanoseconds: int = 0
    layout: str | None = None

    def read(self, batch: pa.RecordBatch) -> Values:
        """Axis values of the column, also where it has categories, and its mask."""
        array = batch.column(self.name)
        return axis(self._column(array.type), array)

    def integers(self, batch: pa.RecordBatch) -> Values | None:
        """Axis values as exact int64, 0 where missing, and the mask; None where they are not whole, or beyond int64."""
        array = batch.column(self.name)
        column = self._column(array.type)
        if kind_of(column.type) not in ("integer", "temporal") and not (
            column.role == "datetime" and needs_parsing(column)
        ):
            return None
        values, nulls = column_native(column, array)
        missing = np.zeros(len(values), np.bool_) if nulls is None else nulls
        values = np.where(missing, 0, values)
        if values.dtype == np.uint64 and (values > np.uint64(np.iinfo(np.int64).max)).any():
            return None
        return values.astype(np.int64), missing

    def _column(self, type_: pa.DataType) -> Column:
        sdtype, role = ("datetime", "datetime") if self.nanoseconds else ("numerical", "number")
        return Column(self.name, type_, sdtype, role, {} if self.layout is None else {"datetime_format": self.layout})

    def amounts(self, values: Values) -> Values:
        """Axis values of a column as ``Relation.apply`` gets it."""
        if self.values is None:
            return values
        table = np.array([*map(float, self.values), np.nan])
        codes, missing = values
        return table[np.where(missing, len(self.values), codes)], missing

    def bound(self, categories: Categories) -> Amount:
        """The same column with the categories that the model holds; KeyError where it holds none."""
        if self.values is None:
            return self
        return Amount(self.name, tuple(categories[self.name]), self.nanoseconds, self.layout)


class Computed:
    """What relations share: each is a dataclass with the column ``derived``, which is computed from others."""

    derived: Operand

    @property
    def name(self) -> str:
        """Name of the computed column."""
        return self.derived.name

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(cast(Any, self))


class FromOne(Computed):
    """A column that is computed from the column ``parent``."""

    parent: Operand

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the columns that it is computed from."""
        return (self.parent.name,)


class FromSeveral(Computed):
    """A column that is computed from the columns ``parents_``."""

    parents_: tuple[Operand, ...]

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the columns that it is computed from."""
        return tuple(p.name for p in self.parents_)
