"""Rows of an owner one after the other: how many there are, how values follow each other, the time between them.

Each figure is 1 where synthetic subjects are as the real training subjects are, and stands beside that of the real
held-out ones. The measures are those of SDMetrics 0.32 for two columns of one row, and for numbers per parent
(``CardinalityShapeSimilarity``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Codes of categories are below this number.
_CODES = 1 << 20


@dataclass(frozen=True)
class Sequences:
    """What was counted of one table's rows; those of parts add up.

    Attributes:
        owners: int64[m], owners that have 0, 1, 2, ... rows.
        sums: By numeric column float64[6]: of neighbouring rows that both have it, the number, and the sums of the
            earlier value, the later one, their squares and their product.
        pairs: By category int64[2, k]: earlier and later code as one number, and how often.
        gaps: float64[n], growth of the sequence index between neighbouring rows.
    """

    owners: Integers
    sums: Mapping[str, Floats]
    pairs: Mapping[str, Integers]
    gaps: Floats

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        categorical: NDArray[np.bool_],
        values: Floats,
        owner: Integers,
        owners: int,
        index: Floats | None,
    ) -> Sequences:
        """Count the rows of some owners.

        Args:
            names: Of the columns.
            categorical: bool[d], which of them are categories.
            values: float64[n, d], numbers and codes, NaN where missing.
            owner: int64[n], never decreasing, from 0.
            owners: Number of owners.
            index: float64[n], the sequence index, NaN where missing; None: there is none.
        """
        earlier = np.flatnonzero(owner[1:] == owner[:-1])
        sums, pairs = {}, {}
        for place, name in enumerate(names):
            first, second = values[earlier, place], values[earlier + 1, place]
            if categorical[place]:
                codes = (np.nan_to_num(own + 1.0, nan=0.0).astype(np.int64) for own in (first, second))
                before, after = codes
                pairs[name] = np.stack(np.unique(before * _CODES + after, return_counts=True))
                continue
            known = ~np.isnan(first) & ~np.isnan(second)
            x, y = first[known], second[known]
            sums[name] = np.array([known.sum(), x.sum(), y.sum(), x @ x, y @ y, x @ y])
        gaps = np.zeros(0) if index is None else index[earlier + 1] - index[earlier]
        counts = np.bincount(np.bincount(owner, minlength=owners)) if owners else np.zeros(1, np.int64)
        return cls(counts.astype(np.int64), sums, pairs, gaps[~np.isnan(gaps)])

    def merge(self, other: Sequences) -> Sequences:
        """The rows of both."""
        size = max(len(self.owners), len(other.owners))
        owners = sum(np.pad(each.owners, (0, size - len(each.owners))) for each in (self, other))
        pairs = {}
        for name, own in self.pairs.items():
            both = np.concatenate([own, other.pairs[name]], axis=1)
            codes, place = np.unique(both[0], return_inverse=True)
            pairs[name] = np.stack([codes, np.bincount(place, weights=both[1]).astype(np.int64)])
        sums = {name: own + other.sums[name] for name, own in self.sums.items()}
        return Sequences(np.asarray(owners), sums, pairs, np.concatenate([self.gaps, other.gaps]))

    def members(self) -> dict[str, NDArray[Any]]:
        """As arrays by name, for ``data.archive``."""
        found: dict[str, NDArray[Any]] = {"owners": self.owners, "gaps": self.gaps}
        found |= {f"sums {name}": own for name, own in self.sums.items()}
        return found | {f"pairs {name}": own for name, own in self.pairs.items()}

    @classmethod
    def from_members(cls, members: Mapping[str, NDArray[Any]]) -> Sequences:
        """Inverse of ``members``."""
        sums = {name[5:]: own for name, own in members.items() if name.startswith("sums ")}
        pairs = {name[6:]: own for name, own in members.items() if name.startswith("pairs ")}
        return cls(members["owners"], sums, pairs, members["gaps"])


def similarity(real: Sequences, other: Sequences) -> dict[str, Any]:
    """How alike two tables are in rows per owner, neighbouring rows and gaps; 1: the same.

    Returns:
        ``rows_per_owner`` and ``gaps`` (1 - the KS distance), ``columns`` one row apart (numbers: 1 - half the
        difference of correlations; categories: 1 - the total variation distance of the pairs), and ``one_row_apart``,
        their mean. None where there is nothing to compare.
    """
    columns: dict[str, float] = {}
    for name, own in real.sums.items():
        both = _correlation(own), _correlation(other.sums[name])
        if None not in both:
            columns[name] = 1.0 - 0.5 * abs(float(both[0]) - float(both[1]))  # type: ignore[arg-type]
    for name, counted in real.pairs.items():
        if len(counted[0]) > 1 and other.pairs[name].size:
            columns[name] = _same_pairs(counted, other.pairs[name])
    apart = float(np.mean(list(columns.values()))) if columns else None
    counts = [np.repeat(np.arange(len(each.owners)), each.owners) for each in (real, other)]
    return {
        "rows_per_owner": _same_shape(*counts),
        "one_row_apart": apart,
        "columns": columns,
        "gaps": _same_shape(real.gaps, other.gaps),
    }


def _correlation(sums: Floats) -> float | None:
    """Pearson's correlation; None where one of the two does not vary."""
    n, x, y, xx, yy, xy = sums.tolist()
    if n < 3:
        return None
    across, along = xx - x * x / n, yy - y * y / n
    if across <= 1e-9 * max(xx, 1e-300) or along <= 1e-9 * max(yy, 1e-300):
        return None
    return float((xy - x * y / n) / np.sqrt(across * along))


def _same_pairs(first: Integers, second: Integers) -> float:
    codes = np.union1d(first[0], second[0])
    shares = []
    for own in (first, second):
        counts = np.zeros(len(codes))
        counts[np.searchsorted(codes, own[0])] = own[1]
        shares.append(counts / counts.sum())
    return 1.0 - 0.5 * float(np.abs(shares[0] - shares[1]).sum())


def _same_shape(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """1 - the Kolmogorov-Smirnov distance."""
    if not len(first) or not len(second):
        return None
    points = np.union1d(first, second)
    below = [np.searchsorted(np.sort(each), points, side="right") / len(each) for each in (first, second)]
    return 1.0 - float(np.abs(below[0] - below[1]).max())
