"""Exact counts as coding and detection need them: protocols, which ``summaries.profile.Profile`` meets."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.grid import Grid

Integers = npt.NDArray[np.int64]


class Tally(Protocol):
    """Exact counts of one column over all training rows.

    Attributes:
        type: Arrow type of the values; of a dictionary column, its value type.
        rows: Number of rows counted.
        nulls: Number of Arrow nulls among them.
        nans: Number of NaN among them.
        low: Smallest value, native; None without values.
        high: Largest value, native; None without values.
        limit: Most distinct values that are counted.
    """

    type: pa.DataType
    rows: int
    nulls: int
    nans: int
    low: Any
    high: Any
    limit: int

    @property
    def present(self) -> int:
        """Number of rows that have a value."""

    @property
    def distinct(self) -> int | None:
        """Number of distinct values; None where there were too many to count."""

    def value_counts(self) -> tuple[Any, Integers] | None:
        """Distinct values in canonical order, and how often each occurs; None where there were too many to count."""

    def values_as_arrow(self) -> pa.Array | None:
        """Distinct values as an array; None where there were too many to count."""


class NumberTally(Tally, Protocol):
    """Exact counts of numbers, dates or times."""

    @property
    def grid(self) -> Grid:
        """The grid of the values."""

    @property
    def lowest(self) -> tuple[Any, Integers]:
        """The smallest distinct native values in increasing order, and their counts."""

    @property
    def highest(self) -> tuple[Any, Integers]:
        """The largest distinct native values in increasing order, and their counts."""

    @property
    def axis_range(self) -> tuple[float, float] | None:
        """Smallest and largest value on the axis; None without values."""


class TableTallies(Protocol):
    """Exact counts of a table, and a uniform sample of its rows.

    Attributes:
        schema: Schema of the rows.
        rows: Number of rows counted.
        options: How they were counted; its ``seed`` is the job's.
    """

    schema: pa.Schema
    rows: int
    options: Any

    def __getitem__(self, name: str) -> Any:
        """The ``Tally`` of the column called ``name``."""

    @property
    def sample(self) -> pa.Table:
        """The row sample, dictionaries decoded."""
