"""What coding and detection ask of exact counts; ``summaries.profile.Profile`` answers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.grid import Grid

Counts = npt.NDArray[np.int64]


class Tally(Protocol):
    """Exact counts of one column over all training rows.

    Attributes:
        type: The values' Arrow type; of a dictionary column, that of its values.
        rows: Rows seen.
        nulls: Arrow nulls among them.
        nans: NaN among them.
        low: Smallest value, in native form; None without values.
        high: Largest value.
    """

    type: pa.DataType
    rows: int
    nulls: int
    nans: int
    low: Any
    high: Any

    @property
    def present(self) -> int:
        """Rows that have a value."""

    @property
    def distinct(self) -> int | None:
        """Distinct values; None where they were too many to count."""

    def value_counts(self) -> tuple[Any, Counts] | None:
        """Distinct values in canonical order and how often each occurs; None where they were too many to count."""

    def values_as_arrow(self) -> pa.Array | None:
        """Distinct values as an array; None where they were too many to count."""


class NumberTally(Tally, Protocol):
    """Exact counts of numbers, dates or times."""

    @property
    def grid(self) -> Grid:
        """The grid that all values lie on."""

    @property
    def axis_range(self) -> tuple[float, float] | None:
        """Smallest and largest value on the axis."""


class TableTallies(Protocol):
    """Exact counts of a table, and a uniform sample of its rows.

    Attributes:
        schema: Of the rows.
        rows: Rows seen.
        options: How they were counted; ``seed`` is the job's.
    """

    schema: pa.Schema
    rows: int
    options: Any

    def __getitem__(self, name: str) -> Any:
        """A column's ``Tally``."""

    @property
    def sample(self) -> pa.Table:
        """The row sample, dictionaries decoded."""
