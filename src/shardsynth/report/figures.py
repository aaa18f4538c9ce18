"""From histograms of ``Counts`` to numbers that can be drawn; real cells of fewer than ``min_count`` rows are hidden.

These rules decide what a column's figure shows of the real rows:

- a category on fewer than ``min_count`` real rows is counted under "other", and its name is left out;
- a bin of numbers with fewer real rows is merged with its neighbour, and the edges of bins are round numbers;
- where there is no neighbour (missing rows, "other"), the cell says "fewer than ``min_count``" and has no number;
- every real count is rounded to a multiple of ``min_count``, so that nobody can compute a hidden cell by subtraction.

Where persons are counted, ``report.shown`` first makes every cell stand for enough persons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.report.bins import FineBins, merged, slots_for
from shardsynth.report.grids import Grid, calendar_grid, clock_grid, linear_grid, log_grid, time_unit
from shardsynth.report.text import number, shown, value_label

if TYPE_CHECKING:
    from shardsynth.data.coding import ColumnCoder, TableCoder

Integers = npt.NDArray[np.int64]

#: Categories of a column that have bars of their own.
MOST_CATEGORIES = 30


@dataclass(frozen=True)
class Cell:
    """One bar of a column's figure.

    Attributes:
        kind: ``category``, ``value`` (one frequent number), ``other``, ``missing`` or ``bin``.
        label: What the bar stands for, at most 120 characters.
        real: Share of the real rows, 0 to 1, or None: fewer than ``min_count`` rows, the share is hidden.
        synthetic: Share of the synthetic rows, one per model.
        holdout: Share of the holdout rows, or None: no holdout, or fewer than ``min_count`` rows.
        slots: Width of a bin in slots of the axis.
        open: Whether a bin has only one end (``less than``, ``or more``).
    """

    kind: str
    label: str
    real: float | None
    synthetic: tuple[float, ...]
    holdout: float | None = None
    slots: int = 1
    open: bool = False


@dataclass(frozen=True)
class ColumnFigure:
    """All bars of one column.

    Attributes:
        name: Column name, as in the data.
        role: Role of the column (``shardsynth.data.columns.ROLES``).
        type: Sdtype and Arrow type, to be read by people.
        models: Names of the models, in the order of ``Cell.synthetic``.
        rows: Categories, frequent single values, missing: drawn as a list of bars.
        bins: Bins from left to right: drawn as a histogram.
        ticks: (position in slots, label) of the histogram's axis.
        scale: ``linear``, ``log`` or ``calendar``.
        note: Why there is nothing to draw, or empty.
    """

    name: str
    role: str
    type: str
    models: tuple[str, ...]
    rows: tuple[Cell, ...] = ()
    bins: tuple[Cell, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    scale: str = "linear"
    note: str = ""


class HistogramsLike(Protocol):
    """The part of ``summaries.counts.Counts`` that is drawn."""

    @property
    def rows(self) -> int:
        """Number of rows counted."""

    @property
    def hist(self) -> Sequence[Integers]:
        """One int64 histogram per coded column, missing last."""

    @property
    def left_out(self) -> Sequence[int] | None:
        """Per coded column, the rows that are in neither its histogram nor its shares; None: no row of any column."""


@dataclass(frozen=True)
class _Tables:
    """The same column in all tables: histograms and row counts."""

    real: Integers
    synthetic: tuple[Integers, ...]
    holdout: Integers | None
    rows: tuple[int, ...]  # real, synthetic..., holdout
    least: int
    counted: str = "rows"

    def all(self) -> tuple[Integers, ...]:
        """The histograms: real, synthetic ones, and the holdout's if there is one."""
        return (self.real, *self.synthetic, *(() if self.holdout is None else (self.holdout,)))

    def cell(self, kind: str, label: str, counts: Sequence[int], slots: int = 1, open_: bool = False) -> Cell:
        """Cell of some counts, in the order of ``all``; the real ones are rounded, or hidden where they are few."""
        synthetic = tuple(_share(n, self.rows[1 + k]) for k, n in enumerate(counts[1 : 1 + len(self.synthetic)]))
        holdout = None if self.holdout is None else self._real_share(counts[-1], self.rows[-1])
        real = self._real_share(counts[0], self.rows[0])
        return Cell(kind, label, real, synthetic, holdout, slots, open_)

    def _real_share(self, count: int, rows: int) -> float | None:
        if 0 < count < self.least:
            return None
        return _share(self.least * int(count / self.least + 0.5), max(rows, 1), most=1.0)


def _share(count: int, rows: int, most: float = float("inf")) -> float:
    return min(round(int(count) / max(int(rows), 1), 5), most)


def column_figures(
    coder: TableCoder,
    real: HistogramsLike,
    synthetic: Mapping[str, HistogramsLike],
    min_count: int = 5,
    holdout: HistogramsLike | None = None,
    counted: str = "rows",
) -> tuple[ColumnFigure, ...]:
    """Figures of all columns, in schema order.

    Args:
        coder: The ``TableCoder`` that all tables were counted with.
        real: Counts of the real training rows.
        synthetic: Counts of the synthetic rows by model name.
        min_count: Fewest real rows of a cell that may be shown.
        holdout: Counts of the real holdout rows, if there are any; the same rules hide their cells.
        counted: What ``min_count`` counts: ``rows`` or, after ``report.shown``, ``persons``.

    Returns:
        One figure per column. A column that is not learned (id, pii, empty) has a note and no bars.
    """
    figures = []
    tables = (real, *synthetic.values(), *(() if holdout is None else (holdout,)))
    models = tuple(synthetic)
    for column in coder.table:
        dictionary = " (dictionary)" if pa.types.is_dictionary(column.type) else ""
        type_text = f"{shown(column.sdtype, 40)}, {shown(str(column.value_type), 60)}{dictionary}"
        base: dict[str, Any] = {"name": column.name, "role": column.role, "type": type_text, "models": models}
        if column.role not in ("category", "number", "datetime"):
            figures.append(ColumnFigure(**base, note=_NOTES.get(column.role, "")))
            continue
        index = coder.index[column.name]
        column_coder = coder.columns[index]
        histograms = [_histogram(table, index, column.role == "category") for table in tables]
        column_tables = _Tables(
            histograms[0],
            tuple(histograms[1 : 1 + len(models)]),
            None if holdout is None else histograms[-1],
            tuple(_rows(table, index) for table in tables),
            min_count,
            counted,
        )
        if column.role == "category":
            assert column_coder.values is not None
            labels = [value_label(value) for value in column_coder.values.to_pylist()]
            figures.append(ColumnFigure(**base, rows=_categories(labels, column.ordered, column_tables)))
        else:
            figures.append(_axis_figure(base, column_coder, column, column_tables))
    return tuple(figures)


def _histogram(table: HistogramsLike, index: int, category: bool) -> Integers:
    """Histogram of one column, missing rows last; a category's has the rows of unknown categories before them."""
    counts = np.asarray(table.hist[index], dtype=np.int64)
    return np.insert(counts, len(counts) - 1, _rows(table, index) - int(counts.sum())) if category else counts


def _rows(table: HistogramsLike, index: int) -> int:
    return int(table.rows) - (0 if table.left_out is None else int(table.left_out[index]))


_NOTES = {
    "id": "An identifier: made new for every row, so there is nothing to compare.",
    "pii": "Personal data: made by a generator, never learned from the real rows.",
    "empty": "Every real row is missing here.",
}


def _categories(labels: list[str], ordered: bool, tables: _Tables) -> tuple[Cell, ...]:
    """Bars of the frequent categories, of all others together, and of missing rows."""
    real = tables.real[:-1]
    frequent = np.flatnonzero(real[: len(labels)] >= tables.least)
    by_count = frequent[np.argsort(-real[frequent], kind="stable")][:MOST_CATEGORIES]
    chosen = np.sort(by_count) if ordered else by_count
    cells = [tables.cell("category", labels[code], [int(table[code]) for table in tables.all()]) for code in chosen]
    others = np.ones(len(real), dtype=bool)
    others[chosen] = False
    counts = [int(table[:-1][others].sum()) for table in tables.all()]
    if any(counts):
        frequent_others = len(frequent) - len(by_count)
        if counts[0] == 0:
            label = "values that are not in the real rows"
        elif frequent_others:
            label = f"all other values ({frequent_others:,} of them with {tables.least} {tables.counted} or more)"
        else:
            label = f"other (fewer than {tables.least} {tables.counted})"
        cells.append(tables.cell("other", label, counts))
    return (*cells, *_missing(tables))


def _missing(tables: _Tables) -> tuple[Cell, ...]:
    counts = [int(table[-1]) for table in tables.all()]
    return (tables.cell("missing", "missing", counts),) if any(counts) else ()


def _axis_figure(base: dict[str, Any], coder: ColumnCoder, column: Column, tables: _Tables) -> ColumnFigure:
    """Figure of a number or date: bars of frequent single values, and a histogram of the rest."""
    fine_bins = FineBins(np.asarray(coder.cuts, dtype=np.float64), tables.real[:-1])
    missing = _missing(tables)
    total = int(fine_bins.real.sum())
    if total < tables.least or not len(fine_bins.cuts):
        note = f"Fewer than {tables.least} real {tables.counted} have a value here."
        return ColumnFigure(**base, rows=missing, note=note)
    unit, origin = _unit(coder)
    span = fine_bins.span(fine_bins.real, tables.least)
    dense = unit is not None and (span[1] - span[0]) / unit < 200
    spikes = fine_bins.spikes(tables.least, dense) if column.role == "number" else []
    rows = [
        tables.cell("value", _point_label(float(fine_bins.low[k]), unit), [int(table[k]) for table in tables.all()])
        for k in spikes
    ]
    rest = [table[:-1].copy() for table in tables.all()]
    for table in rest:
        table[spikes] = 0
    if rest[0].sum() < tables.least:
        counts = [int(table.sum()) for table in rest]
        if any(counts):
            rows.append(tables.cell("other", "any other value", counts))
        return ColumnFigure(**base, rows=(*rows, *missing))
    low, high = fine_bins.span(rest[0], tables.least)
    step = _common_step(fine_bins, rest[0], unit) if unit else 0.0
    grid, scale = _grid(fine_bins, rest[0], low, high, column, unit, origin, step)
    spread = [fine_bins.spread_over(table, grid) for table in rest]
    bars = [
        tables.cell(
            "bin",
            grid.label(bar.first, bar.stop, below=bar.below, above=bar.above),
            [int(table[part].sum()) for table in spread],
            slots=max(bar.stop - bar.first, 1),
            open_=bar.below or bar.above,
        )
        for bar, part in merged(spread[0], grid, spread[1:], tables.least)
    ]
    shift = 1 if bars and bars[0].open and bars[0].label == grid.label(0, 0, below=True) else 0
    ticks = tuple((place + shift, label) for place, label in grid.ticks)
    return ColumnFigure(**base, rows=(*rows, *missing), bins=tuple(bars), ticks=ticks, scale=scale)


def _unit(coder: ColumnCoder) -> tuple[float | None, float]:
    """Distance of neighbouring possible values (None: any value is possible), and one possible value."""
    precision = coder.precision
    if precision.kind == "integer" and precision.unit > 0:
        return float(precision.unit), float(precision.origin)
    if precision.kind == "decimal":
        return 10.0 ** -int(precision.digits), 0.0
    return None, 0.0


def _point_label(value: float, unit: float | None) -> str:
    text = number(value, unit) if unit else f"{value:.6g}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _common_step(fine_bins: FineBins, counts: Integers, unit: float) -> float:
    """The largest of 1, 10, 100 ... units whose multiples make up 70 % of the rows.

    A histogram with narrower bins would be a comb: every tenth bin high, the others low.
    """
    point = fine_bins.is_point & (counts > 0)
    values, rows = fine_bins.low[point] / unit, counts[point]
    step = 1.0
    for power in range(1, 7):
        whole = np.abs(values / 10.0**power - np.rint(values / 10.0**power)) < 1e-6
        if rows[whole].sum() < 0.7 * counts.sum() or not (values[whole] != 0).any():
            break
        step = 10.0**power
    return step * unit


def _grid(
    fine_bins: FineBins,
    counts: Integers,
    low: float,
    high: float,
    column: Column,
    unit: float | None,
    origin: float,
    least_step: float,
) -> tuple[Grid, str]:
    """Slots from ``low`` to ``high``, and the scale of their axis."""
    slots = slots_for(int(counts.sum()))
    arrow_type = column.value_type
    if column.role == "datetime" and not pa.types.is_duration(arrow_type):
        if pa.types.is_time(arrow_type):
            return clock_grid(low, high, slots, arrow_type.unit), "calendar"
        return calendar_grid(low, high, slots, time_unit(arrow_type)), "calendar"
    if _is_skewed(fine_bins, counts):
        return log_grid(low, high, slots, unit), "log"
    return linear_grid(low, high, slots, unit, origin, least_step), "linear"


def _is_skewed(fine_bins: FineBins, counts: Integers) -> bool:
    """Whether all values are positive and the 99.5 % quantile is over 20 times the median."""
    codes = np.flatnonzero(counts)
    if not len(codes) or fine_bins.low[codes[0]] <= 0:
        return False
    cdf = np.cumsum(counts) / counts.sum()
    median, top = (float(fine_bins.high[int(np.searchsorted(cdf, share))]) for share in (0.5, 0.995))
    return top > 20 * median
