"""Codes of columns that follow from the metadata alone: no value of the table has a say in them.

What differential privacy counts on. A category column needs ``range_values`` in the metadata, a number or a datetime
``range_min`` and ``range_max``; values outside count as the nearest cell.
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

#: Cells of an axis, and of all pair tables together, at most.
_MOST_CELLS, _MOST_ENTRIES = 128, 20_000_000


@dataclass(frozen=True)
class Cells:
    """Cells of an axis, from left to right, without gaps.

    Attributes:
        lo: float64[k], smallest value of each cell.
        hi: float64[k], largest value (on a grid), else where the next cell starts; an atom has ``lo == hi``.
    """

    lo: Floats
    hi: Floats


def public_precision(column: Column) -> Precision:
    """The grid that an Arrow type has by itself."""
    kind, type_ = kind_of(column.type), column.value_type
    if needs_parsing(column) or kind in ("integer", "temporal", "boolean"):
        return Precision("integer")
    if pa.types.is_decimal(type_):
        return Precision("decimal", digits=max(type_.scale, 0))
    return Precision("float")


def public_cells(column: Column, most: int = _MOST_CELLS) -> Cells:
    """Equal cells over the declared range; the lower end and zero stand alone, since many columns heap up there.

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
    alone = sorted({low, 0.0} if low <= 0.0 <= high else {low})
    if unit and round((high - low) / unit) < most:
        lo = np.asarray(low + unit * np.arange(round((high - low) / unit) + 1), np.float64)
        return Cells(precision.snap(lo), precision.snap(lo))
    edges: Floats = np.linspace(low, high, most + 1)[:-1].astype(np.float64)
    after = [value + unit if unit else float(np.nextafter(value, np.inf)) for value in alone]
    starts = np.unique(np.concatenate([precision.snap(edges) if unit else edges, alone, after]))
    starts = starts[starts <= high]
    ends = np.append(starts[1:] - unit if unit else starts[1:], high)
    ends[np.isin(starts, alone)] = starts[np.isin(starts, alone)]
    return Cells(starts, precision.snap(ends) if unit else ends)


def public_coder(columns: Sequence[Column], rows: int, seed: int) -> TableCoder:
    """Codes of all learned columns.

    Raises:
        MetadataError: Names the first column whose values the metadata do not declare.
    """
    learned = [c for c in columns if c.role in ("category", "number", "datetime")]
    most = int(np.clip(math.sqrt(2 * _MOST_ENTRIES) / max(1, len(learned)), 16, _MOST_CELLS))
    coders = [_category(c) if c.role == "category" else _axis(c, most) for c in learned]
    return TableCoder(coders, tuple(columns), rows, seed)


def _category(column: Column) -> ColumnCoder:
    listed = column.options.get("range_values")
    if kind_of(column.type) == "boolean":
        listed = [False, True]
    if not listed:
        raise MetadataError(
            f"column {column.name!r}: differential privacy needs its categories from the metadata, not from the table: "
            "write range_values as they are publicly known"
        )
    kind = plain_type(column.value_type)
    try:
        values = pa.array(list(dict.fromkeys(listed)), kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise MetadataError(f"column {column.name!r}: its range_values are no values of the type {kind}") from None
    size = len(values)
    return ColumnCoder(
        column, values, False, np.zeros(0), np.arange(size + 1, dtype=np.int16), np.zeros(size + 1, np.int64)
    )


def _axis(column: Column, most: int) -> ColumnCoder:
    cells = public_cells(column, most)
    low, high = float(cells.lo[0]), float(cells.hi[-1])
    cuts = np.append(cells.lo, np.nextafter(high, np.inf))
    size = len(cuts) + 1
    # What lies under the range counts as its first cell, what lies over it as its last.
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
