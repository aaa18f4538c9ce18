"""Values of a category column that the profile never saw: how many rows, and how many distinct ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shardsynth.data.values import decoded

#: Distinct unseen values that are told apart at most.
DISTINCT = 1000


@dataclass
class Unseen:
    """A commutative monoid.

    Attributes:
        rows: Rows with such a value.
        hashes: Hashes of the distinct values, the 1,000 smallest.
    """

    rows: int = 0
    hashes: set[int] = field(default_factory=set)

    @property
    def distinct(self) -> int:
        """Distinct values, at most 1,000."""
        return len(self.hashes)

    def add(self, values: pa.Array) -> None:
        """Take in rows, each with an unseen value."""
        self.rows += len(values)
        found = {_hash(v) for v in decoded(values).unique().to_pylist()}
        self.hashes = _smallest(self.hashes | found)

    def merge(self, other: Unseen) -> None:
        """Take in another part's."""
        self.rows += other.rows
        self.hashes = _smallest(self.hashes | other.hashes)

    def to_json(self) -> list[Any]:
        """As JSON."""
        return [self.rows, sorted(self.hashes)]

    @classmethod
    def from_json(cls, data: list[Any]) -> Unseen:
        """Inverse of ``to_json``."""
        return cls(data[0], set(data[1]))


def _smallest(hashes: set[int]) -> set[int]:
    return hashes if len(hashes) <= DISTINCT else set(sorted(hashes)[:DISTINCT])


def _hash(value: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
