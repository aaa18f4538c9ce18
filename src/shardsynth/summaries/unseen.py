"""Values of a category column that are not in the profile: how many rows, and how many distinct values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shardsynth.data.values import decoded

#: Most distinct unseen values that are counted.
DISTINCT = 1000


@dataclass
class Unseen:
    """Unseen values of one column; a commutative monoid.

    Attributes:
        rows: Number of rows with an unseen value.
        hashes: Hashes of the distinct unseen values, the 1,000 smallest ones.
    """

    rows: int = 0
    hashes: set[int] = field(default_factory=set)

    @property
    def distinct(self) -> int:
        """Number of distinct values, at most 1,000."""
        return len(self.hashes)

    def add(self, values: pa.Array) -> None:
        """Count rows that all have an unseen value."""
        self.rows += len(values)
        self.hashes = _smallest(self.hashes | {_hash(v) for v in decoded(values).unique().to_pylist()})

    def merge(self, other: Unseen) -> None:
        """Add the unseen values of another part of the table."""
        self.rows += other.rows
        self.hashes = _smallest(self.hashes | other.hashes)

    def to_json(self) -> list[Any]:
        """JSON: the number of rows, and the hashes in order."""
        return [self.rows, sorted(self.hashes)]

    @classmethod
    def from_json(cls, data: list[Any]) -> Unseen:
        """The unseen values that ``to_json`` gave."""
        return cls(data[0], set(data[1]))


def _smallest(hashes: set[int]) -> set[int]:
    return hashes if len(hashes) <= DISTINCT else set(sorted(hashes)[:DISTINCT])


def _hash(value: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
