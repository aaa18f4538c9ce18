"""Guess order relations between columns (a <= b) on a sample of rows. Counting then verifies each on all rows.

A pair is guessed where it holds on every row that has both values, and where that says something: drawn independently,
the two columns would break it. Instants need little more. Numbers are of many kinds (an age lies below most weights),
so a pair of them must also look like one quantity seen twice: gaps down to the smallest ones occur, as they do
for a part and its whole or a first and a last value, and they are many or the larger column follows the smaller one; or
the larger one follows the smaller one, and many rows would break the order otherwise (two blood pressures). Names say
it, too: all words of the one are among those of the other (``onset`` and ``onset_first``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.column_names import words_of
from shardsynth.data.columns import Column
from shardsynth.data.frames import nanoseconds_of
from shardsynth.data.layouts import layout_of
from shardsynth.data.values import axis, kind_of, needs_parsing

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ROWS = 20_000
_FIRST_ROWS = 1_000
#: Most columns that are compared with each other; instants come first.
_MOST_COLUMNS = 400
#: Rows with both values that a pair needs.
_FEWEST_ROWS = 30
#: Rows that would break the order if the columns were independent: of instants at least so many, of numbers so many
#: and this share.
_BROKEN_INSTANTS, _BROKEN_ROWS, _BROKEN_SHARE = 1.0, 5.0, 0.02
#: The same of numbers of which the name of one has all words of the name of the other.
_BROKEN_NAMED = 2.0
#: Of numbers: distinct values that each column needs; a gap below a tenth of the median gap is a small one.
_DISTINCT = 8
#: The same of counts, which are equal on this share of the rows (visits that were planned, and those that were kept).
_DISTINCT_COUNTS, _EQUAL_COUNTS = 5, 0.05
#: Distinct values of two columns that are equal wherever both are present.
_DISTINCT_EQUAL = 3
#: Of numbers: the share of small gaps that is evidence by itself; with this rank correlation, fewer are enough.
_MANY_SMALL, _SOME_SMALL, _CORRELATION = 0.05, 0.003, 0.6
#: Of numbers with this rank correlation: rows that would break the order, at least so many and this share, from which
#: small gaps are no matter.
_SOME_CORRELATION, _OFTEN_ROWS, _OFTEN_SHARE = 0.3, 10.0, 0.01


@dataclass(frozen=True)
class OrderGuess:
    """Two columns of which one never lies above the other in the sample.

    Attributes:
        low: Name of the lower column.
        high: Name of the upper column.
        strict: Whether they differ in every row that has both.
        support: Rows that have both.
    """

    low: str
    high: str
    strict: bool
    support: int

    def describe(self) -> str:
        """In words, without data values."""
        return f"{self.low} {'<' if self.strict else '<='} {self.high}"


def guess_orders(
    columns: Sequence[Column], sample: pa.Table, without: Collection[str] = (), *, reduced: bool = True
) -> list[OrderGuess]:
    """Order relations that hold on every row of a sample and say something.

    Args:
        columns: The table's columns; numbers and instants are looked at.
        sample: Rows.
        without: Columns to leave out, such as those that are computed from others.
        reduced: Leave out those that follow from others.
    """
    groups: dict[tuple[str, ...], list[tuple[str, Floats]]] = {}
    chosen = [c for c in columns if c.role in ("number", "datetime") and c.name not in without]
    chosen.sort(key=lambda c: c.role != "datetime")
    rows = sample.slice(0, _ROWS)
    for column in chosen[:_MOST_COLUMNS]:
        key = _comparable(column)
        if key is not None:
            groups.setdefault(key, []).append((column.name, _values(column, rows)))
    guesses: list[OrderGuess] = []
    for key, members in groups.items():
        if len(members) > 1:
            guesses += _group(members, instants=key[0] == "datetime")
    place = {column.name: k for k, column in enumerate(columns)}
    return sorted(_reduced(guesses) if reduced else guesses, key=lambda guess: (place[guess.low], place[guess.high]))


def _comparable(column: Column) -> tuple[str, ...] | None:
    """Columns of the same answer can be compared; None: the column cannot."""
    kind = kind_of(column.type)
    if column.role == "datetime":
        zone = getattr(column.value_type, "tz", None)  # what has none is compared as if it were in UTC, as by SDV
        return (
            "datetime",
            "" if zone in (None, "UTC") else "zone",
            str(layout_of(column)) if needs_parsing(column) else "",
        )
    if kind in ("integer", "float", "decimal"):
        return ("number",)
    return ("number", str(column.type)) if kind == "temporal" else None


def _values(column: Column, sample: pa.Table) -> Floats:
    """Axis values, float64[n], of instants in nanoseconds; NaN where missing."""
    values, _ = axis(column, sample.column(column.name))
    return values * float(nanoseconds_of(column)) if column.role == "datetime" else values


def _group(members: Sequence[tuple[str, Floats]], *, instants: bool) -> list[OrderGuess]:
    matrix = np.stack([values for _, values in members], axis=1)
    matrix[~np.isfinite(matrix) | (np.abs(matrix) > 2.0**62)] = np.nan
    first = matrix[:_FIRST_ROWS]
    present = (~np.isnan(matrix)).sum(axis=0)
    guesses = []
    for low in range(len(members)):
        with np.errstate(invalid="ignore"):
            never_above = ~(first[:, low : low + 1] > first).any(axis=0)
        for high in np.flatnonzero(never_above).tolist():
            if high == low:
                continue
            # Of two columns that are equal wherever both are present, the one with more values is the lower.
            equal = (present[low], high) > (present[high], low)
            named = not instants and _nested(members[low][0], members[high][0])
            guess = _pair(matrix[:, low], matrix[:, high], instants=instants, equal=equal, named=named)
            if guess is not None:
                guesses.append(OrderGuess(members[low][0], members[high][0], *guess))
    return guesses


def _nested(one: str, other: str) -> bool:
    """Whether all words of one of two names are among those of the other, which has more."""
    first, second = set(words_of(one)), set(words_of(other))
    return bool(first and second) and (first < second or second < first)


def _pair(low: Floats, high: Floats, *, instants: bool, equal: bool, named: bool) -> tuple[bool, int] | None:
    """Whether the values always differ, and the rows that have both; None where no order is guessed."""
    both = ~np.isnan(low) & ~np.isnan(high)
    low, high = low[both], high[both]
    rows = len(low)
    if rows < _FEWEST_ROWS or low.max() <= high.min() or (low > high).any():
        return None
    gap = high - low
    if not gap.any() and (not equal or len(np.unique(low)) < _DISTINCT_EQUAL):
        return None
    if not gap.any() and not instants:
        return False, rows
    # Expected number of broken rows if the columns were independent.
    broken = float((np.searchsorted(np.sort(high), low, side="left") / rows).sum())
    if named and broken >= _BROKEN_NAMED and min(len(np.unique(low)), len(np.unique(high))) >= _DISTINCT_COUNTS:
        return bool((gap > 0).all()), rows
    often = broken >= max(_OFTEN_ROWS, _OFTEN_SHARE * rows)
    if broken < (_BROKEN_INSTANTS if instants else max(_BROKEN_ROWS, _BROKEN_SHARE * rows)) and (instants or not often):
        return None
    if not instants and not _one_quantity(low, high, gap, often=often):
        return None
    return bool((gap > 0).all()), rows


def _one_quantity(low: Floats, high: Floats, gap: Floats, *, often: bool) -> bool:
    """Whether two numbers look like one quantity seen twice.

    Args:
        low: Values of the lower column.
        high: Values of the upper column.
        gap: Their differences.
        often: Whether many rows would break the order if the columns were independent.
    """
    distinct = min(len(np.unique(low)), len(np.unique(high)))
    if distinct < _DISTINCT_COUNTS or (distinct < _DISTINCT and float((gap == 0).mean()) < _EQUAL_COUNTS):
        return False
    # Where both are at their minimum (two counts that are zero), equal values are no evidence.
    told = (low > low.min()) | (high > high.min())
    low, high, gap = low[told], high[told], gap[told]
    if len(gap) < _FEWEST_ROWS:
        return False
    small = int((gap <= 0.1 * np.median(gap)).sum())
    ranks = np.stack([np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (low, high)])
    correlation = float(np.asarray(np.corrcoef(ranks))[0, 1])
    if often and correlation >= _SOME_CORRELATION:
        return True
    few = correlation >= _CORRELATION
    return small >= (max(2.0, _SOME_SMALL * len(gap)) if few else _MANY_SMALL * len(gap))


def _reduced(guesses: Sequence[OrderGuess]) -> list[OrderGuess]:
    """The guesses without those that follow from two others on the same rows (a <= c of a <= b and b <= c).

    A pair that follows only where the middle column is present is kept: it holds where that one is missing, too.
    """
    by_pair = {(guess.low, guess.high): guess for guess in guesses}
    kept = []
    for guess in guesses:
        follows = any(
            (guess.low, middle) in by_pair
            and (middle, guess.high) in by_pair
            and min(by_pair[guess.low, middle].support, by_pair[middle, guess.high].support) >= guess.support
            for middle in {other.high for other in guesses if other.low == guess.low} - {guess.high}
        )
        if not follows:
            kept.append(guess)
    return kept
