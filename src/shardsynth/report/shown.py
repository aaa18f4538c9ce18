"""The real counts that the page may show where persons are counted: every cell stands for enough of them.

The rules of ``report.figures`` are about rows. Here they are made to hold for persons first: rows of too few persons
leave the histogram of their category, and neighbouring codes of a number are joined until enough persons are in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardsynth.data.coding import Encoded
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.person_counts import persons_of
from shardsynth.summaries.persons import PersonCells

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowPeople:
    """Real rows and their persons: a sample, so that no cell has fewer persons than it says.

    Attributes:
        encoded: The rows in codes, n.
        persons: uint64[n], hashes of their persons.
    """

    encoded: Encoded
    persons: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Shown:
    """Histograms of a real table.

    Attributes:
        rows: Number of rows.
        hist: int64[n_codes] per learned column, missing last.
        left_out: Per learned column, the rows that neither the histogram nor the shares count.
    """

    rows: int
    hist: list[Integers]
    left_out: list[int]


def shown_counts(counts: Counts, least: int) -> Counts | Shown:
    """Histograms in which every cell stands for ``least`` persons or more; the counts themselves without persons."""
    persons = counts.persons
    if persons is None:
        return counts
    hist, left_out = [], []
    for i, column in enumerate(counts.coder.columns):
        table, cells = counts.hist[i].copy(), persons.cells[i]
        if column.is_category:
            few = np.flatnonzero(cells.persons[:-1] < least)
            if persons_of(cells, few) < least:
                hidden = _hide(table, few)
            else:
                table[few] = 0  # the page counts rows that are in no code as "other"
                hidden = 0
        else:
            table[:-1], hidden = _joined(table[:-1], cells, least)
        if cells.persons[-1] < least:
            hidden += _hide(table, np.array([len(table) - 1]))
        hist.append(table)
        left_out.append(hidden)
    return Shown(counts.rows, hist, left_out)


def _hide(table: Integers, codes: Integers) -> int:
    """Leave one row in all of these codes together, which the page shows as few; returns how many rows are left out."""
    rows = int(table[codes].sum())
    if rows > 1:
        table[codes] = 0
        table[codes[0]] = 1
    return max(rows - 1, 0)


def _joined(table: Integers, cells: PersonCells, least: int) -> tuple[Integers, int]:
    """The histogram of a number, each non-empty code of enough persons, and the rows that are left out of it.

    Codes are collected from the left until they have enough persons. Their rows are put where most persons are, or in
    the middle. A rest joins what was put before it.
    """
    joined, persons = np.zeros_like(table), cells.persons
    group: list[int] = []
    place = -1
    for code in np.flatnonzero(table).tolist():
        group.append(code)
        if persons_of(cells, group) >= least:
            middle = (len(group) - 1) / 2
            place = group[max(range(len(group)), key=lambda k: (persons[group[k]], -abs(k - middle)))]
            joined[place] += table[group].sum()
            group = []
    if group and place >= 0:
        joined[place] += table[group].sum()
    elif group:
        joined[group] = table[group]
        return joined, _hide(joined, np.array(group))
    return joined, 0
