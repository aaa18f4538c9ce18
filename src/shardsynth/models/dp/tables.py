"""From exact counts to noisy tables: under dp, the only step of a copula's fit that sees the real rows.

There is one histogram per column and one table per pair, on public codes (for a trained model, histograms alone). For
the pair tables, the codes are first joined into few groups of about equal mass. The groups follow from the noisy
histograms, so they cost no more budget. There are as many groups as the noise allows: an average cell should hold three
times the noise. Where even two groups are too many, the fit is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.data import archive
from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.errors import ModelError
from shardsynth.models.dp.noise import Guarantee, epsilon_of, scale_for, with_noise
from shardsynth.summaries.counts import FIT_ROWS, Counts

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_MOST_GROUPS = 8
#: Rows that an average cell of a pair table must hold, in units of the noise.
_SIGNAL = 3.0


@dataclass(frozen=True)
class NoisyTables:
    """Noisy counts: all that a copula's fit under dp reads.

    Attributes:
        hist: int64 per column: rows per public cell or category, missing last.
        groups: int64 per column: the group of each cell or category; missing is the group after the last.
        tables: (i, j) with i < j -> int64[groups of i + 1, groups of j + 1], missing last.
        rows: Number of rows counted; not published.
        guarantee: The budget that they spend.
    """

    hist: list[Integers]
    groups: list[Integers]
    tables: dict[tuple[int, int], Integers]
    rows: int
    guarantee: Guarantee

    def pair(self, i: int, j: int) -> Integers:
        """The table of two columns without negative cells, in either order."""
        if i > j:
            return self.pair(j, i).T
        table = self.tables[i, j]
        return np.rint(on_simplex(table.ravel().astype(np.float64)).reshape(table.shape)).astype(np.int64)

    def save(self, path: Path) -> None:
        """Write one file."""
        members: dict[str, archive.Member] = {f"hist.{i}": h for i, h in enumerate(self.hist)}
        members.update({f"groups.{i}": g for i, g in enumerate(self.groups)})
        members.update({f"table.{i}.{j}": table for (i, j), table in self.tables.items()})
        members["head"] = {"version": 1, "rows": self.rows, "guarantee": dict(self.guarantee.__dict__)}
        archive.write(path, members)

    @classmethod
    def load(cls, path: Path) -> NoisyTables:
        """Inverse of ``save``."""
        members = archive.read(path)
        head = members.pop("head")
        size = sum(name.startswith("hist.") for name in members)
        tables = {}
        for name, table in members.items():
            kind, *place = name.split(".")
            if kind == "table":
                tables[int(place[0]), int(place[1])] = table
        return cls(
            [members[f"hist.{i}"] for i in range(size)],
            [members[f"groups.{i}"] for i in range(size)],
            tables,
            head["rows"],
            Guarantee(**head["guarantee"]),
        )


def number_of_tables(columns: int) -> int:
    """Number of histograms and pair tables of ``columns`` columns."""
    return columns + columns * (columns - 1) // 2


def draw_tables(counts: Counts, coder: TableCoder, rows: int, epsilon: float, delta: float) -> NoisyTables:
    """Draw the noise of histograms and pair tables, once.

    Args:
        counts: Exact, with fit tables, on a public coder.
        coder: That coder.
        rows: Training rows, as publicly known; the number that was counted may depend on a single row.
        epsilon: Budget.
        delta: Budget.

    Raises:
        JobError: OpenDP is not installed, or no noise is large enough.
        ModelError: The noise is too large for the pair tables; the message says how large, and what would help.
    """
    guarantee = scale_for(epsilon, delta, number_of_tables(len(coder.columns)))
    sizes = groups_for(min(rows, FIT_ROWS), guarantee)
    hist = _noisy(counts, coder, guarantee)
    groups = [_group_cells(column, h, sizes) for column, h in zip(coder.columns, hist)]
    tables: dict[tuple[int, int], Any] = {}
    for j in range(len(coder.columns)):
        for i in range(j):
            table = _join_groups(_join_groups(counts.pair(i, j), groups[i]).T, groups[j]).T
            tables[i, j] = with_noise(table, guarantee.scale)
    return NoisyTables(hist, groups, tables, counts.rows, guarantee)


def draw_histograms(counts: Counts, coder: TableCoder, guarantee: Guarantee) -> NoisyTables:
    """Draw the noise of the histograms alone, once.

    Args:
        counts: Exact, on a public coder.
        coder: That coder.
        guarantee: The noise, and the budget that it spends if nothing else is published.
    """
    hist = _noisy(counts, coder, guarantee)
    return NoisyTables(hist, [np.arange(len(h)) for h in hist], {}, counts.rows, guarantee)


def _noisy(counts: Counts, coder: TableCoder, guarantee: Guarantee) -> list[Integers]:
    return [with_noise(_by_coarse_code(column, h), guarantee.scale) for column, h in zip(coder.columns, counts.hist)]


def groups_for(rows: int, guarantee: Guarantee) -> int:
    """Number of groups of a column in the pair tables.

    Args:
        rows: Rows of each pair table.
        guarantee: The noise.

    Raises:
        ModelError: The noise is too large even for two groups.
    """
    groups = int(min(_MOST_GROUPS, np.sqrt(rows / (_SIGNAL * guarantee.scale))))
    if groups < 2:
        tolerable_noise = max(rows, 1) / (4 * _SIGNAL)
        # The noise grows with the square root of the number of tables.
        columns = int(np.sqrt(2 * guarantee.tables * (tolerable_noise / guarantee.scale) ** 2 + 0.25) - 0.5)
        epsilon = epsilon_of(tolerable_noise, guarantee.delta, guarantee.tables)
        fewer = f"at most {columns} columns" if columns > 1 else "fewer columns"
        raise ModelError(
            f"privacy: epsilon {guarantee.epsilon:.3g} at delta {guarantee.delta:g} over {guarantee.tables} tables "
            f"needs noise of {guarantee.scale:.0f} a cell, and {rows:,} rows leave {rows / 4:.0f} in each cell of two "
            f"by two: at least {4 * _SIGNAL * guarantee.scale:,.0f} rows, {fewer} or an epsilon of "
            f"{np.ceil(100 * epsilon) / 100:.2f} are needed"
        )
    return groups


def _by_coarse_code(column: ColumnCoder, hist: Integers) -> Integers:
    """A histogram by coarse code: values outside a declared range count in the nearest cell."""
    return np.bincount(column.coarse, weights=hist, minlength=column.n_coarse).astype(np.int64)


def _group_cells(column: ColumnCoder, hist: Integers, most: int) -> Integers:
    mass = on_simplex(hist[:-1].astype(np.float64))
    size = len(mass)
    if size <= most:
        groups = np.arange(size)
    elif column.is_category and not column.column.ordered:
        groups = np.full(size, most - 1)
        groups[np.argsort(-mass, kind="stable")[: most - 1]] = np.arange(most - 1)
    else:
        before = np.cumsum(mass) - mass / 2
        groups = np.minimum((before / max(mass.sum(), 1.0) * most).astype(np.int64), most - 1)
        groups = np.unique(groups, return_inverse=True)[1]
    return np.append(groups, groups.max(initial=-1) + 1).astype(np.int64)


def _join_groups(table: Integers, groups: Integers) -> Integers:
    joined = np.zeros((int(groups[-1]) + 1, table.shape[1]), np.int64)
    np.add.at(joined, groups, table)
    return joined


def on_simplex(values: Floats) -> Floats:
    """The nearest vector without negative entries and with the same sum (Duchi et al. 2008)."""
    total = max(float(values.sum()), 0.0)
    if not len(values):
        return values
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(values) + 1)
    last = int(np.flatnonzero(ordered - excess > 0)[-1]) if (ordered - excess > 0).any() else 0
    return np.asarray(np.maximum(values - excess[last], 0.0))
