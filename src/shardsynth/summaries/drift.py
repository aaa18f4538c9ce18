"""How the real rows differ from shard to shard: histograms of shards, and their distance from the whole table's.

Kept while counting, at no cost: a shard's histogram is what the counts grew by while it was read. A commutative monoid,
like the counts. Many shards are joined to at most ``MOST_GROUPS`` runs of neighbours.
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

MOST_GROUPS = 100
#: Rows without which a group's histogram says nothing.
_FEWEST_ROWS = 50


def group_of(shard: int, shards: int) -> int:
    """The group of a shard."""
    return shard if shards <= MOST_GROUPS else shard * MOST_GROUPS // shards


@dataclass
class ShardHistograms:
    """Rows by coarse code of every column, per group of shards.

    Attributes:
        groups: Group -> int64[sum of coarse codes], all columns one after the other.
    """

    groups: dict[int, Integers] = field(default_factory=dict)

    def add(self, group: int, coder: TableCoder, hist: Sequence[Integers]) -> None:
        """Count fine histograms of rows of a group."""
        parts = [
            np.bincount(column.coarse, weights=counts, minlength=column.n_coarse)
            for column, counts in zip(coder.columns, hist)
        ]
        whole = np.concatenate([np.zeros(0), *parts]).astype(np.int64)
        self.groups[group] = self.groups[group] + whole if group in self.groups else whole

    def merge(self, other: ShardHistograms) -> ShardHistograms:
        """Add another part; returns itself."""
        for group, counts in other.groups.items():
            self.groups[group] = self.groups[group] + counts if group in self.groups else counts
        return self

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays for an archive."""
        return {f"group.{group}": counts for group, counts in self.groups.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> ShardHistograms:
        """Inverse of ``to_arrays``."""
        return cls({int(name.partition(".")[2]): counts for name, counts in arrays.items()})

    def distances(self, coder: TableCoder) -> dict[str, Any]:
        """Total variation distance of every group from the whole table, per column.

        Returns:
            ``groups``: their numbers; ``columns``: name to ``distance`` (one per group, None for a group of few rows),
            ``chance`` (what rows drawn at random from the whole table would have, for the smallest group told) and
            ``excess``, the largest distance above that.
        """
        numbers = sorted(self.groups)
        found: dict[str, Any] = {}
        start = 0
        for column in coder.columns:
            stop = start + column.n_coarse
            table = np.array([self.groups[g][start:stop] for g in numbers], np.float64).reshape(len(numbers), -1)
            start = stop
            rows = table.sum(axis=1)
            told = rows >= _FEWEST_ROWS
            if told.sum() < 2:
                continue
            share = table.sum(axis=0) / max(rows.sum(), 1.0)
            distance = np.abs(table / np.maximum(rows, 1.0)[:, None] - share).sum(axis=1) / 2
            chance = np.sqrt(share * (1 - share)).sum() / np.sqrt(2 * math.pi * np.maximum(rows, 1.0))
            excess = float((distance - chance)[told].max())
            found[column.name] = {
                "distance": [round(float(d), 4) if t else None for d, t in zip(distance, told)],
                "chance": round(float(chance[told].max()), 4),
                "excess": round(max(excess, 0.0), 4),
            }
        return {"groups": numbers, "columns": found}
