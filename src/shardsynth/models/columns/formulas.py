"""Columns that are computed from others by a formula: sums with factors, products of powers, parts of dates, steps.

The protocol is that of ``relations``. A computed value is moved to the grid of its column; a row breaks the relation if
its value is further away than ``tolerance`` (rounded parents leave that much open), or is missing where no parent is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.models.columns.operands import Amount, Categories, FromOne, FromSeveral, Operand, Values

Floats = NDArray[np.float64]

DAY = 86_400 * 10**9
#: Added before rounding down, so that 3.0 computed as 2.9999999999 stays 3.
_CLOSE = 1e-6
#: Integers up to the first are float64 numbers; those up to the second can be added as int64.
_EXACT, _WIDEST = 2.0**53, 2.0**62
#: Changes of a part of an instant that are listed at most.
_MOST_CHANGES = 100_000


@dataclass(frozen=True)
class _Formula(FromSeveral):
    """What formulas of amounts share.

    Attributes:
        parents_: The columns that it is computed from.
        derived: The computed column.
        tolerance: Difference from a real value that still counts as equal.
        precision: Grid of the computed column.
        support: Rows of the sample that have all its columns.
    """

    parents_: tuple[Amount, ...]
    derived: Amount
    tolerance: float
    precision: Precision
    support: int

    def compute(self, parents: Sequence[Floats]) -> Floats:
        """Axis values of the computed column, float64[n], from those of its parents; arbitrary where one is NaN."""
        raise NotImplementedError

    def violations(self, batch: pa.RecordBatch) -> int:
        """Rows that break it."""
        read = [parent.read(batch) for parent in self.parents_]
        values, absent = self.derived.read(batch)
        missing = np.logical_or.reduce([mask for _, mask in read])
        with np.errstate(all="ignore"):
            wrong = ~(np.abs(self.compute([v for v, _ in read]) - values) <= self.tolerance)
        return int(np.count_nonzero(np.where(missing | absent, missing != absent, wrong)))

    def apply(self, columns: Mapping[str, Values]) -> Values:
        """Axis values of the computed column."""
        read = [parent.amounts(columns[parent.name]) for parent in self.parents_]
        missing = np.logical_or.reduce([mask for _, mask in read])
        with np.errstate(all="ignore"):
            values = self.compute([np.where(missing, 1.0, v) for v, _ in read])
        missing = missing | ~np.isfinite(values)
        return np.where(missing, 0.0, values), missing

    def bind(self, categories: Categories, points: Mapping[str, Sequence[float]]) -> Any:
        """The same formula, of the categories that the model holds."""
        return replace(self, parents_=tuple(p.bound(categories) for p in self.parents_))


@dataclass(frozen=True)
class LinearRelation(_Formula):
    """``derived`` = offset + sum of factor x parent, in units of the axes.

    Attributes:
        factors: One per parent.
        offset: Added to the sum.
        rounding: To the grid: ``near``, ``down`` or ``up``.
    """

    factors: tuple[float, ...] = ()
    offset: float = 0.0
    rounding: str = "near"
    kind: str = "linear"

    def describe(self) -> str:
        """In words, without data values."""
        names = list(self.parents)
        if self.derived.nanoseconds:
            return f"{self.name} = " + " + ".join([*names, *(["a fixed time"] if self.offset else [])])
        if len(names) == 2 and all(p.nanoseconds for p in self.parents_):
            return f"{self.name} = the time from {names[1]} to {names[0]}"
        return f"{self.name} is a fixed sum of {' and '.join(names)}" if len(names) > 1 else f"{self.name} ~ {names[0]}"

    def compute(self, parents: Sequence[Floats]) -> Floats:
        """See ``_Formula``."""
        total = np.full(len(parents[0]), self.offset)
        for factor, values in zip(self.factors, parents):
            total = total + factor * values
        if self.rounding == "near" or self.precision.kind != "integer":
            return self.precision.snap(total)
        unit, origin = float(self.precision.unit), float(self.precision.origin)
        steps = (total - origin) / unit
        rounded = np.floor(steps + _CLOSE) if self.rounding == "down" else np.ceil(steps - _CLOSE)
        return np.asarray(rounded * unit + origin, np.float64)

    def exact(self, batch: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
        """The computed values where float64 cannot hold them: instants in nanoseconds, integers beyond 2^53.

        Args:
            batch: With its parents.

        Returns:
            int64[n], and bool[n]: the rows of such values, which have all parents and whose values fit int64; None
            where the sum is not of whole multiples of integers.
        """
        factors, divisor = self.factors, 1
        if len(factors) == 1 and 1e-18 < factors[0] < 1 and factors[0] == 1 / round(1 / factors[0]):
            factors, divisor = (1.0,), round(1 / factors[0])
        whole = all(float(f).is_integer() and abs(f) < _WIDEST for f in (*factors, self.offset))
        parents = [parent.integers(batch) for parent in self.parents_] if whole and self.rounding == "near" else [None]
        total, size = np.zeros(batch.num_rows, np.int64), np.full(batch.num_rows, abs(self.offset))
        present = np.ones(batch.num_rows, np.bool_)
        for factor, read in zip(factors, parents):
            if read is None:
                return None
            total = total + np.int64(factor) * read[0]
            size = size + abs(factor) * np.abs(read[0].astype(np.float64))
            present &= ~read[1]
        total = total + np.int64(self.offset)
        if divisor > 1:
            total = (total + divisor // 2) // divisor
        unit, origin = (self.precision.unit, self.precision.origin) if self.precision.kind == "integer" else (1, 0)
        moved = total - origin + unit // 2
        return moved - moved % unit + origin, present & (size > _EXACT) & (size < _WIDEST)


@dataclass(frozen=True)
class PowerRelation(_Formula):
    """``derived`` = factor x product of parent ^ power: BMI = weight / height^2.

    Attributes:
        powers: One per parent.
        factor: Of the product.
    """

    powers: tuple[int, ...] = ()
    factor: float = 1.0
    kind: str = "power"

    def describe(self) -> str:
        """In words, without data values."""
        terms = [p.name if k == 1 else f"{p.name}^{k}" for p, k in zip(self.parents_, self.powers)]
        return f"{self.name} ~ " + " x ".join(terms)

    def compute(self, parents: Sequence[Floats]) -> Floats:
        """See ``_Formula``."""
        product = np.full(len(parents[0]), self.factor)
        for power, values in zip(self.powers, parents):
            product = product * values ** float(power)
        return self.precision.snap(product)


#: Parts of an instant, by name: year, month and the others, from its datetime64[s].
PARTS = ("year", "month", "day", "quarter", "hour", "minute", "weekday", "yyyymm", "yyyymmdd", "decade", "date")


def part_of(values: Floats, nanoseconds: int, part: str) -> Floats:
    """A part of instants on their axis, float64[n]; ``date`` is nanoseconds at the start of the day; NaN stays NaN."""
    missing = ~np.isfinite(values)
    seconds = np.floor(np.where(missing, 0.0, values) * (nanoseconds / 1e9) + 1e-6).astype(np.int64)
    days = seconds // 86_400
    instants = days.astype("datetime64[D]")
    years = instants.astype("datetime64[Y]").astype(np.int64) + 1970
    months = instants.astype("datetime64[M]").astype(np.int64) % 12 + 1
    day = (instants - instants.astype("datetime64[M]")).astype(np.int64) + 1
    found = {
        "year": years,
        "month": months,
        "day": day,
        "quarter": (months + 2) // 3,
        "hour": seconds // 3600 % 24,
        "minute": seconds // 60 % 60,
        "weekday": (days + 3) % 7,
        "yyyymm": years * 100 + months,
        "yyyymmdd": years * 10_000 + months * 100 + day,
        "decade": years // 10 * 10,
    }
    result = days * float(DAY) if part == "date" else found[part].astype(np.float64)
    return np.where(missing, np.nan, result)


class _Exact(FromOne):
    """What is computed from one column without rounding: each row has just that value."""

    def _compute(self, values: Floats) -> NDArray[Any]:
        """Values of the computed column, [n], from those of its parent."""
        raise NotImplementedError

    def changes(self, low: float, high: float) -> list[float]:
        """Axis values of its parent between two others, at which the computed column may change."""
        raise NotImplementedError

    def violations(self, batch: pa.RecordBatch) -> int:
        """Rows that break it."""
        values, missing = self.parent.read(batch)
        derived, absent = self.derived.read(batch)
        return int(np.count_nonzero(np.where(missing | absent, missing != absent, self._compute(values) != derived)))


@dataclass(frozen=True)
class DatePartRelation(_Exact):
    """``derived`` is a part of an instant: birth_year of birth_date, the day of a time.

    Attributes:
        parent: The instant.
        derived: The part; with ``values`` where it has categories, which are numbers.
        part: One of ``PARTS``.
        offset: Added to the part (weekdays from 1).
        support: Rows of the sample that have both.
    """

    parent: Amount
    derived: Amount
    part: str
    offset: int = 0
    support: int = 0
    kind: str = "part"

    def describe(self) -> str:
        """In words, without data values."""
        return f"{self.name} is the {self.part} of {self.parent.name}"

    def _compute(self, values: Floats) -> Floats:
        result = part_of(values, self.parent.nanoseconds, self.part) + self.offset
        return result / self.derived.nanoseconds if self.part == "date" else result

    def changes(self, low: float, high: float) -> list[float]:
        """See ``_Exact``: the starts of its days; of an hour or a minute, of its hours or minutes."""
        step = {"hour": 3_600 * 10**9, "minute": 60 * 10**9}.get(self.part, DAY)
        unit = step / self.parent.nanoseconds
        first, last = np.floor(low / unit) + 1, np.ceil(high / unit)
        if last - first > _MOST_CHANGES:
            return [low] * (_MOST_CHANGES + 1)
        return [float(point) for point in np.arange(first, last) * unit if low < point <= high]

    def apply(self, columns: Mapping[str, Values]) -> Values:
        """Codes or axis values of the computed column."""
        values, missing = columns[self.parent.name]
        result = np.where(missing, 0.0, self._compute(np.where(missing, 0.0, values)))
        if self.derived.values is None:
            return result, missing
        held = np.array(self.derived.values, np.float64)
        order = np.argsort(held, kind="stable")
        place = np.clip(np.searchsorted(held[order], result), 0, len(held) - 1)
        return order[place].astype(np.int64), missing

    def bind(self, categories: Categories, points: Mapping[str, Sequence[float]]) -> DatePartRelation:
        """The same relation; where the part has categories, they become all values between the held ones."""
        if self.derived.values is None:
            return self
        held = [int(v) for v in categories[self.name]]
        if self.part in ("yyyymm", "yyyymmdd", "decade") and set(held) != set(range(min(held), max(held) + 1)):
            raise ValueError(self.name)
        # One more at each end: a model's instants may reach into a year whose rows are too few to be held.
        more = 1 if self.part == "year" else 0
        ends = {"month": (1, 12), "day": (1, 31), "quarter": (1, 4), "hour": (0, 23), "minute": (0, 59)}
        low, high = ends.get(self.part, (0, 6) if self.part == "weekday" else (min(held) - more, max(held) + more))
        moved = self.offset if self.part in ends or self.part == "weekday" else 0
        derived = replace(self.derived, values=tuple(range(low + moved, high + moved + 1)))
        return replace(self, derived=derived)


@dataclass(frozen=True)
class StepRelation(_Exact):
    """``derived``, a category, changes where a number passes fixed values: a group of an age, the sign of an amount.

    Attributes:
        parent: The number or instant.
        derived: The category.
        cuts: Axis values, increasing: interval k holds the values from cut k - 1 on and below cut k.
        codes: Code of the category by interval, one more than ``cuts``.
        support: Rows of the sample that have both.
    """

    parent: Amount
    derived: Operand
    cuts: tuple[float, ...]
    codes: tuple[int, ...]
    support: int = 0
    kind: str = "step"

    def describe(self) -> str:
        """In words, without data values."""
        return f"{self.name} follows from ranges of {self.parent.name}"

    def _compute(self, values: Floats) -> NDArray[np.int64]:
        return np.asarray(self.codes, np.int64)[np.searchsorted(np.asarray(self.cuts), values, side="right")]

    def changes(self, low: float, high: float) -> list[float]:
        """See ``_Exact``: its cuts."""
        return [cut for cut in self.cuts if low < cut <= high]

    def apply(self, columns: Mapping[str, Values]) -> Values:
        """Codes of the computed column."""
        values, missing = columns[self.parent.name]
        return self._compute(np.where(missing, 0.0, values)), missing

    def bind(self, categories: Categories, points: Mapping[str, Sequence[float]]) -> StepRelation:
        """The same relation, in the codes of the categories that the model holds; ValueError if one is not held."""
        held = list(categories[self.name])
        codes = tuple(held.index((self.derived.values or ())[code]) for code in self.codes)
        return replace(self, derived=replace(self.derived, values=tuple(held)), codes=codes)


Formula = Union[LinearRelation, PowerRelation, DatePartRelation, StepRelation]
FORMULAS: dict[str, Any] = {
    "linear": LinearRelation,
    "power": PowerRelation,
    "part": DatePartRelation,
    "step": StepRelation,
}


def formula_from_json(data: Mapping[str, Any]) -> Formula:
    """Inverse of ``to_json`` of a formula."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "kind"}
    fields["derived"] = _column(data["derived"])
    if "parent" in data:
        fields["parent"] = _column(data["parent"])
    else:
        fields["parents_"] = tuple(_column(parent) for parent in data["parents_"])
        fields["precision"] = Precision.from_json(data["precision"])
    formula: Formula = FORMULAS[data["kind"]](**fields)
    return formula


def _column(data: Mapping[str, Any]) -> Operand:
    values = None if data["values"] is None else tuple(data["values"])
    if "nanoseconds" not in data:
        return Operand(data["name"], values)
    return Amount(data["name"], values, data["nanoseconds"], data.get("layout"))
