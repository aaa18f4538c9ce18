"""The two ends of a numeric column that no single person's value decides: its fifth most extreme values.

Where a model's tails are fitted (``extremes: tail``), a column is coded as if all values beyond an end lay on it. So
nothing that is counted with the codes, and nothing that is fitted to these counts, changes if the most extreme values
are replaced by others beyond the ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Most persons of an end that are counted where persons are.
_MOST = 64
#: Rows before an end, at least, by which the rows of a person there are known.
_NEAR = 50


@dataclass(frozen=True)
class Ends:
    """The ends of one column, on its axis.

    Attributes:
        low: The fifth (or ``min_count``-th) smallest value; of persons, by the smallest value of each.
        high: The fifth largest.
        at_low: Rows, or persons where these are counted (to 64), at the lower end or beyond.
        at_high: The same for the upper end.
        each_low: Rows that a person has near the lower end, on average; 1 where rows are counted.
        each_high: The same for the upper end.
        declared: The range that the user's metadata give, NaN where they give none. It is known without the rows.
    """

    low: float
    high: float
    at_low: int
    at_high: int
    each_low: float = 1.0
    each_high: float = 1.0
    declared: tuple[float, float] = (float("nan"), float("nan"))

    def clipped(self, values: Floats) -> Floats:
        """Values float64[n] moved between the ends; NaN stays NaN."""
        return np.asarray(np.clip(values, self.low, self.high), np.float64)

    def to_row(self) -> list[float]:
        """As eight numbers, for an archive."""
        counts = float(self.at_low), float(self.at_high)
        return [self.low, self.high, *counts, self.each_low, self.each_high, *self.declared]

    @classmethod
    def from_row(cls, row: Floats) -> Ends | None:
        """Inverse of ``to_row``; None for NaN."""
        if np.isnan(row[0]):
            return None
        low, high, at_low, at_high, each_low, each_high, *declared = (float(number) for number in row)
        return cls(low, high, int(at_low), int(at_high), each_low, each_high, (declared[0], declared[1]))


#: ``to_row`` of a column that has no ends.
NO_ENDS = [float("nan")] * 8


@dataclass(frozen=True)
class EndRule:
    """How the ends of the columns are chosen.

    Attributes:
        rank: How many rows or persons lie at an end or beyond, at least.
        persons: uint64[rows of the sample], hashes of the persons of the row sample; None: rows are counted.
        declared: Column -> the range that the user's metadata give, on the axis; NaN for none.
    """

    rank: int = 5
    persons: npt.NDArray[np.uint64] | None = None
    declared: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def of_counts(self, name: str, low: tuple[Floats, Any], high: tuple[Floats, Any]) -> Ends | None:
        """Ends from counted values; None where there are too few.

        Args:
            name: The column.
            low: Its smallest distinct values in increasing order, and their rows.
            high: Its largest distinct values in increasing order, and their rows.
        """
        from_low, from_high = np.cumsum(low[1]), np.cumsum(high[1][::-1])
        if not len(from_low) or from_low[-1] < self.rank or from_high[-1] < self.rank:
            return None
        first, last = int(np.searchsorted(from_low, self.rank)), int(np.searchsorted(from_high, self.rank))
        floor, ceiling = float(low[0][first]), float(high[0][::-1][last])
        return self._ends(name, floor, ceiling, int(from_low[first]), int(from_high[last]))

    def of_rows(self, name: str, values: Floats, persons: npt.NDArray[np.uint64] | None) -> Ends | None:
        """Ends from rows; None where there are too few persons.

        Args:
            name: The column.
            values: float64[n], NaN where missing.
            persons: uint64[n], hashes of their persons; None: each row is a person of its own.
        """
        present = np.isfinite(values)
        values = values[present]
        persons = None if persons is None else persons[present]
        smallest, largest = _own_ends(values, persons, max(_MOST, self.rank))
        if len(smallest) < self.rank:
            return None
        floor, ceiling = float(smallest[self.rank - 1]), float(largest[self.rank - 1])
        each = (
            (1.0, 1.0)
            if persons is None
            else (_rows_each(-values, persons, -floor), _rows_each(values, persons, ceiling))
        )
        return self._ends(name, floor, ceiling, int((smallest <= floor).sum()), int((largest >= ceiling).sum()), each)

    def _ends(
        self, name: str, low: float, high: float, at_low: int, at_high: int, each: tuple[float, float] = (1.0, 1.0)
    ) -> Ends | None:
        none = (float("nan"), float("nan"))
        return Ends(low, high, at_low, at_high, *each, self.declared.get(name, none)) if low <= high else None


def _rows_each(values: Floats, persons: npt.NDArray[np.uint64], end: float) -> float:
    """Rows per person among the largest values before the upper end.

    The rows at the end and beyond are left out: one person with many of them would tell how many she has.
    """
    before = values < end
    values, persons = values[before], persons[before]
    near = min(len(values), max(_NEAR, len(values) // 40))
    if not near:
        return 1.0
    chosen = values >= np.partition(values, len(values) - near)[len(values) - near]
    return float(chosen.sum() / len(np.unique(persons[chosen])))


def _own_ends(values: Floats, persons: npt.NDArray[np.uint64] | None, most: int) -> tuple[Floats, Floats]:
    """Each person's smallest value in increasing order, her largest in decreasing order, at most ``most`` of each."""
    if persons is None:
        ordered = np.sort(values)
        return ordered[:most], ordered[::-1][:most]
    order = np.lexsort((values, persons))
    values, persons = values[order], persons[order]
    new = np.ones(len(values), np.bool_)
    new[1:] = persons[1:] != persons[:-1]
    last = np.append(new[1:], True)[: len(values)]
    return np.sort(values[new])[:most], np.sort(values[last])[::-1][:most]
