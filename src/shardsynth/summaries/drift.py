"""How the real rows differ from shard to shard: histograms per group of shards, and their distance from the table's.

They cost no extra reading: the counts of a shard are the growth of the counts while it is read. A commutative monoid.
Many shards are joined to at most ``MOST_GROUPS`` groups of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder

Integers = npt.NDArray[np.int64]

#: Most groups of shards.
MOST_GROUPS = 100
#: Fewest rows of a group whose distance is computed; the histogram of fewer rows says nothing.
_FEWEST_ROWS = 50


def group_of(shard: int, shards: int) -> int:
    """Number of the group of a shard.

    Args:
        shard: Index of the shard.
        shards: Number of shards.
    """
    return shard if shards <= MOST_GROUPS else shard * MOST_GROUPS // shards


@dataclass
class ShardHistograms:
    """Rows per coarse code of every column, per group of shards.

    Attributes:
        groups: Group -> int64[number of coarse codes of all columns], one column after the other.
    """

    groups: dict[int, Integers] = field(default_factory=dict)

    def add(self, group: int, coder: TableCoder, hist: Sequence[Integers]) -> None:
        """Add rows of a group: ``hist`` has int64[n_codes] per column, rows per fine code."""
        parts = [
            np.bincount(column.coarse, weights=fine_counts, minlength=column.n_coarse)
            for column, fine_counts in zip(coder.columns, hist)
        ]
        counts = np.concatenate([np.zeros(0), *parts]).astype(np.int64)
        self.groups[group] = self.groups[group] + counts if group in self.groups else counts

    def merge(self, other: ShardHistograms) -> ShardHistograms:
        """Add another part of the same table, and return itself."""
        for group, counts in other.groups.items():
            self.groups[group] = self.groups[group] + counts if group in self.groups else counts
        return self

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for an archive, by name."""
        return {f"group.{group}": counts for group, counts in self.groups.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> ShardHistograms:
        """The histograms that ``to_arrays`` gave."""
        return cls({int(name.partition(".")[2]): counts for name, counts in arrays.items()})

    def distances(self, coder: TableCoder) -> dict[str, Any]:
        """Total variation distance of every group from the whole table, per column.

        Returns:
            ``groups``: their numbers. ``columns``: name of a column to ``distance`` (one per group, None for a group of
            few rows), ``chance`` (largest distance that is expected of a group whose rows are drawn at random from the
            whole table) and ``excess`` (largest distance minus the chance of the same group, 0 or more).
        """
        numbers = sorted(self.groups)
        columns: dict[str, Any] = {}
        start = 0
        for column in coder.columns:
            stop = start + column.n_coarse
            table = np.array([self.groups[g][start:stop] for g in numbers], np.float64).reshape(len(numbers), -1)
            start = stop
            rows = table.sum(axis=1)
            is_large = rows >= _FEWEST_ROWS
            if is_large.sum() < 2:
                continue
            share = table.sum(axis=0) / max(rows.sum(), 1.0)
            distance = np.abs(table / np.maximum(rows, 1.0)[:, None] - share).sum(axis=1) / 2
            # A share of n rows drawn at random deviates by sqrt(2 p (1 - p) / (pi n)) in the mean; half the sum of all.
            chance = np.sqrt(share * (1 - share)).sum() / np.sqrt(2 * math.pi * np.maximum(rows, 1.0))
            excess = float((distance - chance)[is_large].max())
            columns[column.name] = {
                "distance": [round(float(d), 4) if large else None for d, large in zip(distance, is_large)],
                "chance": round(float(chance[is_large].max()), 4),
                "excess": round(max(excess, 0.0), 4),
            }
        return {"groups": numbers, "columns": columns}
