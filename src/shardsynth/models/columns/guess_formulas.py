"""Guess columns that are computed by a formula, on a sample of rows. A counting pass then verifies each on all rows.

Looked for: instants a fixed time apart, the time between two instants, parts of an instant, sums with signs and a
constant, one number as a multiple of another, products of powers, and categories that are ranges of a number. Most
candidates fail on the first few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.frames import nanoseconds_of
from shardsynth.data.layouts import layout_of
from shardsynth.data.values import Precision, axis, kind_of, needs_parsing
from shardsynth.models.columns.echelon import row_echelon
from shardsynth.models.columns.formulas import (
    DAY,
    PARTS,
    DatePartRelation,
    Formula,
    LinearRelation,
    PowerRelation,
    StepRelation,
    part_of,
)
from shardsynth.models.columns.marginals import grid_unit
from shardsynth.models.columns.operands import Amount, Operand

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FIRST_ROWS = 64
_ROWS = 20_000
_FEWEST_ROWS = 50
#: Most columns of numbers that are searched, and most instants.
_MOST_NUMBERS, _MOST_INSTANTS, _MOST_POSITIVE = 120, 20, 40
#: Units in which a duration may be given, in nanoseconds.
_UNITS = (60 * 10**9, DAY, 3600 * 10**9, 10**9, 7 * DAY, 10**6, 10**3)
_POWERS = ((1, -2), (1, -1), (1, 1), (1, 2), (2, 1), (-2, 1), (-1, 1))
#: Most categories, and fewest rows of a range, of a step function.
_MOST_STEPS, _STEP_ROWS = 30, 20


@dataclass(frozen=True)
class Sampled:
    """A column of the sample as numbers.

    Attributes:
        column: The column.
        amount: The same, as an operand.
        values: float64[n] on its axis, NaN where missing.
        precision: Its grid.
    """

    column: Column
    amount: Amount
    values: Floats
    precision: Precision

    @property
    def missing(self) -> Mask:
        """bool[n]: rows without a value."""
        return np.isnan(self.values)

    @property
    def is_exact(self) -> bool:
        """Whether float64 holds its grid; formulas are computed in float64, and stored in 64 bits."""
        return self.column.role != "number" or float(np.nanmax(np.abs(self.values), initial=0.0)) < 2.0**53

    @property
    def half_unit(self) -> float:
        """By how much rounding to the grid may have moved a value."""
        return 0.5 * grid_unit(self.precision) if self.column.role == "number" else 0.0


def guess_formulas(
    columns: Sequence[Column],
    sample: pa.Table,
    precisions: Mapping[str, Precision],
    categories: Mapping[str, Sequence[object]],
    allowed: Callable[[Formula], bool],
) -> None:
    """Offer formulas that hold on every row of a sample, the most telling kinds first.

    Args:
        columns: The table's columns.
        sample: Rows, dictionaries decoded or not.
        precisions: Grids of the numbers and instants.
        categories: Of the category columns: their values in the sample, in code order.
        allowed: Takes a formula, or refuses it (its column is computed already).
    """
    rows = sample.slice(0, _ROWS)
    if rows.num_rows < _FEWEST_ROWS:
        return
    fields = [field for c in columns if (field := _sampled(c, rows, precisions, categories)) is not None]
    instants = [f for f in fields if f.amount.nanoseconds][:_MOST_INSTANTS]
    amounts = [f for f in fields if not f.amount.nanoseconds and f.is_exact][:_MOST_NUMBERS]
    numbers = [f for f in amounts if f.column.role == "number" and len(np.unique(f.values[~f.missing])) > 2]
    for search in (
        _shifts(instants),
        _durations(instants, amounts),
        _parts(instants, fields, categories),
        _totals(numbers),
        _multiples(numbers),
        _products(numbers),
        _steps([*instants, *numbers], columns, rows, categories),
    ):
        taken: set[str] = set()
        for formula in search:
            if formula.name not in taken and allowed(formula):
                taken.add(formula.name)


def _sampled(
    column: Column,
    sample: pa.Table,
    precisions: Mapping[str, Precision],
    categories: Mapping[str, Sequence[object]],
) -> Sampled | None:
    """A column of numbers, instants or categories that are whole numbers; None for any other."""
    array = sample.column(column.name)
    precision = precisions.get(column.name, Precision())
    if column.role == "datetime":
        if kind_of(column.type) not in ("temporal", "text", "integer"):
            return None
        layout = layout_of(column) if needs_parsing(column) else None
        amount = Amount(column.name, None, nanoseconds_of(column), layout)
    elif column.role == "number" and kind_of(column.type) in ("integer", "float", "decimal"):
        amount = Amount(column.name)
    elif column.role == "category" and kind_of(column.type) == "integer" and column.name in categories:
        values = tuple(categories[column.name])
        amount = Amount(column.name, values)  # type: ignore[arg-type]
        column = Column(column.name, column.type, "numerical", "category", column.options)
        precision = Precision("integer")
    else:
        return None
    reader = Column(column.name, array.type, column.sdtype, "number", {}) if amount.values is not None else column
    values_, _ = axis(reader, array)
    return Sampled(column, amount, np.where(np.isfinite(values_), values_, np.nan), precision)


def _together(target: Sampled, parents: Sequence[Sampled]) -> Mask | None:
    """Rows in which the target and all parents are present; None unless it is missing where a parent is, only there."""
    missing = np.logical_or.reduce([p.missing for p in parents])
    return ~missing if np.array_equal(missing, target.missing) and (~missing).sum() >= _FEWEST_ROWS else None


def _first(*columns: Sampled) -> NDArray[np.int64]:
    """Numbers of the first rows in which all of some columns are present."""
    present = ~np.logical_or.reduce([c.missing for c in columns])
    return np.flatnonzero(present)[:_FIRST_ROWS]


def _linear(
    target: Sampled,
    parents: Sequence[Sampled],
    factors: Sequence[float],
    offset: float = 0.0,
    rounding: str = "near",
    *,
    loose: float = 0.0,
) -> LinearRelation | None:
    """The relation if it holds on every row of the sample; ``loose``: what rounding of the parents leaves open."""
    together = _together(target, parents)
    if together is None:
        return None
    tolerance = 0.25 * grid_unit(target.precision) + loose or 1e-9 * float(np.nanmax(np.abs(target.values)))
    relation = LinearRelation(
        tuple(p.amount for p in parents),
        target.amount,
        tolerance,
        target.precision,
        int(together.sum()),
        tuple(map(float, factors)),
        float(offset),
        rounding,
    )
    computed = relation.compute([p.values[together] for p in parents])
    return relation if (np.abs(computed - target.values[together]) <= tolerance).all() else None


def _shifts(instants: Sequence[Sampled]) -> Iterator[Formula]:
    """An instant as another one plus a fixed time: the last second of a day. Copies of whole days are left to parts."""
    for place, first in enumerate(instants):
        for second in instants[place + 1 :]:
            rows = _first(first, second)
            if len(rows) < _FEWEST_ROWS:
                continue
            for parent, target in ((first, second), (second, first)):
                factor = parent.amount.nanoseconds / target.amount.nanoseconds
                between = target.values[rows] - factor * parent.values[rows]
                if np.ptp(between) > 1e-6 or len(np.unique(parent.values[rows])) < 2:
                    break
                offset = float(between[0])
                days = np.concatenate([f.values[rows] * f.amount.nanoseconds for f in (first, second)]) % DAY
                if (offset == 0 and not days.any()) or offset != round(offset):
                    continue
                if (relation := _linear(target, [parent], [factor], offset)) is not None:
                    yield relation


def _durations(instants: Sequence[Sampled], amounts: Sequence[Sampled]) -> Iterator[Formula]:
    """End = start + duration; or the duration, where it is rounded or the end is not to be computed."""
    for start, end in ((a, b) for a in instants for b in instants if a is not b):
        for amount in amounts:
            rows = _first(start, end, amount)
            if len(rows) < _FEWEST_ROWS:
                continue
            between = end.values[rows] * end.amount.nanoseconds - start.values[rows] * start.amount.nanoseconds
            given = amount.values[rows]
            if len(np.unique(given)) < 2:
                continue
            for unit in _UNITS:
                if (np.abs(between / unit - given) >= 1.0).any():
                    continue
                scale = end.amount.nanoseconds
                exact = _linear(end, [start, amount], [start.amount.nanoseconds / scale, unit / scale])
                if exact is not None:
                    yield exact
                if amount.column.role != "number":
                    continue
                factors = [end.amount.nanoseconds / unit, -start.amount.nanoseconds / unit]
                for rounding in ("down", "near", "up"):
                    if (relation := _linear(amount, [end, start], factors, 0.0, rounding)) is not None:
                        yield relation
                        break
                if exact is not None:
                    break


def _parts(
    instants: Sequence[Sampled], fields: Sequence[Sampled], categories: Mapping[str, Sequence[object]]
) -> Iterator[Formula]:
    for parent in instants:
        for part in PARTS:
            found = part_of(parent.values, parent.amount.nanoseconds, part)
            for target in fields:
                if target is parent or (part == "date") != bool(target.amount.nanoseconds):
                    continue
                together = _together(target, [parent])
                if together is None or len(np.unique(target.values[together])) < 2:
                    continue
                difference = target.values[together] * max(target.amount.nanoseconds, 1) - found[together]
                offset = float(difference[0])
                if (difference != offset).any() or offset not in ((0.0, 1.0) if part == "weekday" else (0.0,)):
                    continue
                support = int(together.sum())
                yield DatePartRelation(parent.amount, target.amount, part, int(offset), support)


def _totals(numbers: Sequence[Sampled]) -> Iterator[Formula]:
    """Sums with signs and a constant: sparse vectors of entries 1 and -1 in the null space of the centred columns."""
    whole = [f for f in numbers if not f.missing.any()]
    if len(whole) < 2:
        return
    block = np.stack([f.values for f in whole], axis=1)[:5_000]
    if len(block) < max(_FEWEST_ROWS, 2 * len(whole)):
        return
    centred = block - block.mean(axis=0)
    scale = np.sqrt((centred**2).mean(axis=0))
    usable = np.flatnonzero((scale > 0) & np.isfinite(scale))
    if len(usable) < 2:
        return
    _, singular, right = np.linalg.svd(centred[:, usable] / scale[usable], full_matrices=False)
    for vector in row_echelon(right[singular <= 1e-7 * singular[0]] / scale[usable]):
        support = np.flatnonzero(np.abs(vector) > 1e-4 * np.abs(vector).max())
        signs = vector[support] / np.abs(vector[support]).max()
        if not 2 <= len(support) <= 12 or np.abs(np.abs(signs) - 1).max() > 1e-3:
            continue
        members = [whole[usable[k]] for k in support]
        signs = np.sign(signs)
        target = len(members) - 1  # the last column of the table is the computed one
        factors = -signs / signs[target]
        parents = [m for k, m in enumerate(members) if k != target]
        chosen = [float(f) for k, f in enumerate(factors) if k != target]
        rest = members[target].values - sum(f * p.values for f, p in zip(chosen, parents))
        offset = float(members[target].precision.snap(np.array([np.median(rest)]))[0])
        if (relation := _linear(members[target], parents, chosen, offset)) is not None:
            yield relation


def _multiples(numbers: Sequence[Sampled]) -> Iterator[Formula]:
    """One number as a multiple of an earlier one plus a constant, within rounding: pounds of kilograms."""
    alike: dict[bytes, list[Sampled]] = {}
    for number in numbers:
        alike.setdefault(np.packbits(number.missing).tobytes(), []).append(number)
    for members in alike.values():
        present = ~members[0].missing
        if len(members) < 2 or present.sum() < _FEWEST_ROWS:
            continue
        first = np.stack([m.values[present][:_FIRST_ROWS] for m in members])
        with np.errstate(all="ignore"):
            close = np.abs(np.corrcoef(first)) > 0.9999
        for target, parent in zip(*(places.tolist() for places in np.nonzero(np.tril(close, -1)))):
            if (relation := _multiple(members[target], members[parent], present)) is not None:
                yield relation


def _multiple(target: Sampled, parent: Sampled, present: Mask) -> LinearRelation | None:
    x, y = parent.values[present], target.values[present]
    slope = float(np.cov(x, y)[0, 1] / np.var(x, ddof=1))
    for digits in range(1, 8):
        factor = float(f"{slope:.{digits}g}")
        offset = float(np.round(np.median(y - factor * x), min(digits, 6)))
        relation = _linear(target, [parent], [factor], offset, loose=abs(factor) * parent.half_unit * 1.001)
        if relation is not None and relation.tolerance < 0.02 * float(np.ptp(y)):
            return relation
    return None


def _products(numbers: Sequence[Sampled]) -> Iterator[Formula]:
    """Products of powers of two numbers: BMI of weight and height."""
    positive = [f for f in numbers if (f.values[~f.missing] > 0).all() and len(np.unique(f.values)) >= 10]
    positive = positive[:_MOST_POSITIVE]
    if len(positive) < 3:
        return
    logs = np.log(np.stack([f.values for f in positive], axis=1))
    whole = np.flatnonzero(~np.isnan(logs).any(axis=1))
    for a, b in combinations(range(len(positive)), 2):
        for powers in _POWERS:
            rows = whole[:_FIRST_ROWS]
            if len(rows) < _FEWEST_ROWS:
                rows = np.flatnonzero(~np.isnan(logs[:, [a, b]]).any(axis=1))[:_FIRST_ROWS]
            if len(rows) < _FEWEST_ROWS:
                break
            difference = logs[rows] - (powers[0] * logs[rows, a] + powers[1] * logs[rows, b])[:, None]
            with np.errstate(invalid="ignore"):
                close = np.nanmax(difference, axis=0) - np.nanmin(difference, axis=0) < 0.05
            for place in np.flatnonzero(close).tolist():
                if place not in (a, b):
                    relation = _power(positive[place], [positive[a], positive[b]], powers)
                    if relation is not None:
                        yield relation


def _power(target: Sampled, parents: Sequence[Sampled], powers: tuple[int, int]) -> PowerRelation | None:
    together = _together(target, parents)
    if together is None:
        return None
    values = [p.values[together] for p in parents]
    product = values[0] ** float(powers[0]) * values[1] ** float(powers[1])
    y = target.values[together]
    relative = sum(abs(k) * p.half_unit / v for k, p, v in zip(powers, parents, values))
    loose = float((y * relative).max())
    unit = grid_unit(target.precision)
    tolerance = 0.25 * unit + loose or 1e-9 * float(y.max())
    if tolerance > 0.02 * float(np.ptp(y)):
        return None
    factor = float(np.median(y / product))
    for digits in range(1, 8):
        relation = PowerRelation(
            tuple(p.amount for p in parents),
            target.amount,
            tolerance,
            target.precision,
            int(together.sum()),
            powers,
            float(f"{factor:.{digits}g}"),
        )
        if (np.abs(relation.compute(values) - y) <= tolerance).all():
            return relation
    return None


def _steps(
    parents: Sequence[Sampled],
    columns: Sequence[Column],
    sample: pa.Table,
    categories: Mapping[str, Sequence[object]],
) -> Iterator[Formula]:
    """Categories that are ranges of a number or an instant."""
    coded = [c for c in columns if c.role == "category" and 2 <= len(categories.get(c.name, ())) <= _MOST_STEPS]
    operands = [Operand(c.name, tuple(categories[c.name])) for c in coded]  # type: ignore[arg-type]
    batch = sample.combine_chunks()
    read = [operand.read(batch) for operand in operands]
    for parent in parents:
        present = ~parent.missing
        if present.sum() < 5 * _STEP_ROWS or len(np.unique(parent.values[present])) < 10:
            continue
        order = np.argsort(parent.values[present], kind="stable")
        ordered = parent.values[present][order]
        for operand, (codes, missing) in zip(operands, read):
            if operand.name == parent.column.name or not np.array_equal(missing, ~present):
                continue
            sorted_codes = codes[present][order]
            changes = np.flatnonzero(np.diff(sorted_codes)) + 1
            sizes = np.diff(np.concatenate([[0], changes, [len(ordered)]]))
            if not len(changes) or len(changes) > _MOST_STEPS or sizes.min() < _STEP_ROWS or sorted_codes.min() < 0:
                continue
            if (ordered[changes] == ordered[changes - 1]).any():
                continue
            cuts = tuple(_round_between(float(ordered[k - 1]), float(ordered[k])) for k in changes)
            starts = np.concatenate([[0], changes])
            yield StepRelation(parent.amount, operand, cuts, tuple(sorted_codes[starts].tolist()), int(present.sum()))


def _round_between(below: float, above: float) -> float:
    """The roundest number above one value and not above another: if that can be, a cut that is no value of the data."""
    middle = 0.5 * (below + above)
    if below < 0 < above or above == 0:
        return 0.0
    for digits in range(1, 17):
        rounded = float(f"{middle:.{digits}g}")
        if below < rounded <= above:
            return rounded
    return above
