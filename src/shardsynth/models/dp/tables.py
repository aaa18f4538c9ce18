"""From exact counts to noisy tables: the only step of a private copula's fit that sees the real rows.

One histogram per column and one table per pair, on codes that are public (histograms alone for a model that is
trained). The pairs are joined into few groups of about equal mass first, read off the noisy histograms (which costs
nothing more), as many as the noise can bear: a cell should hold three times the noise. Where not even two groups can,
the fit is refused.
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
    """Noisy counts; all that a private fit reads.

    Attributes:
        hist: int64 per column: rows per public cell or category, missing last.
        groups: int64 per column: the group of each cell or category; missing is the group after the last.
        tables: (i, j) with i < j -> int64[groups of i + 1, groups of j + 1], missing last.
        rows: Rows counted; not published.
        guarantee: What it cost.
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
    """Histograms and pair tables of so many columns."""
    return columns + columns * (columns - 1) // 2


def draw_tables(counts: Counts, coder: TableCoder, rows: int, epsilon: float, delta: float) -> NoisyTables:
    """Draw the noise, once.

    Args:
        counts: Exact, with fit tables, on a public coder.
        coder: That coder.
        rows: Training rows, as publicly known: how many were counted may depend on a row.
        epsilon: Budget.
        delta: Budget.

    Raises:
        ModelError: The noise would drown the pairs; says how large it is and what would help.
    """
    guarantee = scale_for(epsilon, delta, number_of_tables(len(coder.columns)))
    sizes = groups_for(min(rows, FIT_ROWS), guarantee)
    hist = _noisy(counts, coder, guarantee)
    groups = [_groups(column, h, sizes) for column, h in zip(coder.columns, hist)]
    tables: dict[tuple[int, int], Any] = {}
    for j in range(len(coder.columns)):
        for i in range(j):
            table = _joined(_joined(counts.pair(i, j), groups[i]).T, groups[j]).T
            tables[i, j] = with_noise(table, guarantee.scale)
    return NoisyTables(hist, groups, tables, counts.rows, guarantee)


def draw_histograms(counts: Counts, coder: TableCoder, guarantee: Guarantee) -> NoisyTables:
    """Draw the noise of the histograms alone, once.

    Args:
        counts: Exact, on a public coder.
        coder: That coder.
        guarantee: How much noise, and what it would cost if nothing else were published.
    """
    hist = _noisy(counts, coder, guarantee)
    return NoisyTables(hist, [np.arange(len(h)) for h in hist], {}, counts.rows, guarantee)


def _noisy(counts: Counts, coder: TableCoder, guarantee: Guarantee) -> list[Integers]:
    return [with_noise(_folded(column, h), guarantee.scale) for column, h in zip(coder.columns, counts.hist)]


def groups_for(rows: int, guarantee: Guarantee) -> int:
    """Groups of a column in the pair tables; ModelError where two are too many."""
    found = int(min(_MOST_GROUPS, np.sqrt(rows / (_SIGNAL * guarantee.scale))))
    if found < 2:
        bearable = max(rows, 1) / (4 * _SIGNAL)
        # The noise grows with the root of the number of tables.
        columns = int(np.sqrt(2 * guarantee.tables * (bearable / guarantee.scale) ** 2 + 0.25) - 0.5)
        epsilon = epsilon_of(bearable, guarantee.delta, guarantee.tables)
        fewer = f"at most {columns} columns" if columns > 1 else "fewer columns"
        raise ModelError(
            f"privacy: epsilon {guarantee.epsilon:.3g} at delta {guarantee.delta:g} over {guarantee.tables} tables "
            f"needs noise of {guarantee.scale:.0f} a cell, and {rows:,} rows leave {rows / 4:.0f} in each cell of two "
            f"by two: at least {4 * _SIGNAL * guarantee.scale:,.0f} rows, {fewer} or an epsilon of "
            f"{np.ceil(100 * epsilon) / 100:.2f} are needed"
        )
    return found


def _folded(column: ColumnCoder, hist: Integers) -> Integers:
    """A histogram by coarse code: what lies outside a declared range counts as the nearest cell."""
    return np.bincount(column.coarse, weights=hist, minlength=column.n_coarse).astype(np.int64)


def _groups(column: ColumnCoder, hist: Integers, most: int) -> Integers:
    mass = on_simplex(hist[:-1].astype(np.float64))
    size = len(mass)
    if size <= most:
        found = np.arange(size)
    elif column.is_category and not column.column.ordered:
        found = np.full(size, most - 1)
        found[np.argsort(-mass, kind="stable")[: most - 1]] = np.arange(most - 1)
    else:
        before = np.cumsum(mass) - mass / 2
        found = np.minimum((before / max(mass.sum(), 1.0) * most).astype(np.int64), most - 1)
        found = np.unique(found, return_inverse=True)[1]
    return np.append(found, found.max(initial=-1) + 1).astype(np.int64)


def _joined(table: Integers, groups: Integers) -> Integers:
    found = np.zeros((int(groups[-1]) + 1, table.shape[1]), np.int64)
    np.add.at(found, groups, table)
    return found


def on_simplex(values: Floats) -> Floats:
    """The nearest vector without negative entries and with the same sum (Duchi et al. 2008)."""
    total = max(float(values.sum()), 0.0)
    if not len(values):
        return values
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(values) + 1)
    last = int(np.flatnonzero(ordered - excess > 0)[-1]) if (ordered - excess > 0).any() else 0
    return np.asarray(np.maximum(values - excess[last], 0.0))
