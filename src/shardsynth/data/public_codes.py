"""Codes of columns from the metadata alone, for differential privacy: they depend on no value of the table.

A category column needs ``range_values`` in the metadata, a number or datetime column ``range_min`` and ``range_max``. A
value outside the range counts in the nearest cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.choose import declared_bounds
from shardsynth.data.coding import TableCoder
from shardsynth.data.column_codes import ColumnCoder
from shardsynth.data.columns import Column
from shardsynth.data.values import Precision, kind_of, needs_parsing, plain_type
from shardsynth.errors import MetadataError

Floats = npt.NDArray[np.float64]

#: Most cells of an axis.
_MOST_CELLS = 128
#: Most entries of all pair tables together.
_MOST_ENTRIES = 20_000_000


@dataclass(frozen=True)
class Cells:
    """Cells of an axis, from left to right, without gaps.

    Attributes:
        lo: float64[k], smallest value of each cell.
        hi: float64[k], largest value of each cell on a grid; without a grid, where the next cell starts. An atom has
            ``lo == hi``.
    """

    lo: Floats
    hi: Floats


def public_precision(column: Column) -> Precision:
    """The grid that the Arrow type of a column implies; it depends on no value."""
    kind, type_ = kind_of(column.type), column.value_type
    if column.role == "datetime" and needs_parsing(column) or kind in ("integer", "temporal", "boolean"):
        return Precision("integer")
    if pa.types.is_decimal(type_):
        return Precision("decimal", digits=max(type_.scale, 0))
    return Precision("float")


def public_cells(column: Column, most: int = _MOST_CELLS) -> Cells:
    """Equal cells over the declared range. The lower end and zero are atoms: many columns often have these values.

    Args:
        column: The column.
        most: Largest number of equal cells. On a grid with fewer points, each point is a cell.

    Raises:
        MetadataError: The metadata declare no range.
    """
    low, high = declared_bounds(column)
    if math.isnan(low) or math.isnan(high) or low > high:
        raise MetadataError(
            f"column {column.name!r}: differential privacy needs its range from the metadata, not from the table: "
            "write range_min and range_max as they are publicly known"
        )
    precision = public_precision(column)
    unit = {"integer": 1.0, "decimal": 10.0**-precision.digits}.get(precision.kind, 0.0)
    atoms = sorted({low, 0.0} if low <= 0.0 <= high else {low})
    if unit and round((high - low) / unit) < most:
        lo = np.asarray(low + unit * np.arange(round((high - low) / unit) + 1), np.float64)
        return Cells(precision.snap(lo), precision.snap(lo))
    edges: Floats = np.linspace(low, high, most + 1)[:-1].astype(np.float64)
    after = [value + unit if unit else float(np.nextafter(value, np.inf)) for value in atoms]
    starts = np.unique(np.concatenate([precision.snap(edges) if unit else edges, atoms, after]))
    starts = starts[starts <= high]
    ends = np.append(starts[1:] - unit if unit else starts[1:], high)
    ends[np.isin(starts, atoms)] = starts[np.isin(starts, atoms)]
    return Cells(starts, precision.snap(ends) if unit else ends)


def public_coder(columns: Sequence[Column], rows: int, seed: int) -> TableCoder:
    """Codes of all learned columns.

    Args:
        columns: Every column of the table.
        rows: Number of rows of the input.
        seed: The job's seed.

    Raises:
        MetadataError: The metadata do not declare the values of a column; the message names the first one.
    """
    learned = [c for c in columns if c.role in ("category", "number", "datetime")]
    most = int(np.clip(math.sqrt(2 * _MOST_ENTRIES) / max(1, len(learned)), 16, _MOST_CELLS))
    coders = [_category(c) if c.role == "category" else _axis(c, most) for c in learned]
    return TableCoder(coders, tuple(columns), rows, seed)


def _category(column: Column) -> ColumnCoder:
    categories = column.options.get("range_values")
    if kind_of(column.type) == "boolean":
        categories = [False, True]
    if not categories:
        raise MetadataError(
            f"column {column.name!r}: differential privacy needs its categories from the metadata, not from the table: "
            "write range_values as they are publicly known"
        )
    type_ = plain_type(column.value_type)
    try:
        values = pa.array(list(dict.fromkeys(categories)), type_)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise MetadataError(f"column {column.name!r}: its range_values are no values of the type {type_}") from None
    size = len(values)
    return ColumnCoder(
        column, values, False, np.zeros(0), np.arange(size + 1, dtype=np.int16), np.zeros(size + 1, np.int64)
    )


def _axis(column: Column, most: int) -> ColumnCoder:
    cells = public_cells(column, most)
    low, high = float(cells.lo[0]), float(cells.hi[-1])
    cuts = np.append(cells.lo, np.nextafter(high, np.inf))
    size = len(cuts) + 1
    # Values below the range count in its first cell, values above it in its last.
    coarse = np.concatenate([np.clip(np.arange(size) - 1, 0, len(cells.lo) - 1), [len(cells.lo)]]).astype(np.int16)
    return ColumnCoder(
        column,
        None,
        False,
        cuts,
        coarse,
        np.zeros(size + 1, np.int64),
        precision=public_precision(column),
        low=low,
        high=high,
        bounds=(low, high),
    )
