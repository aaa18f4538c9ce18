"""Exact relations between columns: a column that is computed from others gets no latent.

Three kinds stand here: ``FunctionRelation`` (education-num of education), ``FlagRelation`` (TET2 = TET2bi or TET2other)
and ``SumRelation`` (a total of its parts); more are in ``formulas``. Each counts the rows of a batch that break it
(``violations``), and computes its column after sampling (``apply``). A relation is first *guessed*
(``guess_relations``), in terms of values;
``bind`` ties it to the categories that the model holds.

In ``apply`` a column is ``(values, missing)``: for role ``category`` int codes into the model's categories, else axis
values; ``missing`` is bool[n], and the value of a missing row is arbitrary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.models.columns.formulas import (
    FORMULAS,
    DatePartRelation,
    LinearRelation,
    PowerRelation,
    StepRelation,
    formula_from_json,
)
from shardsynth.models.columns.operands import (
    MISSING,
    UNKNOWN,
    Categories,
    FromOne,
    FromSeveral,
    Operand,
    Scalar,
    Values,
)


@dataclass(frozen=True)
class FunctionRelation(FromOne):
    """``derived`` is a function of ``parent``.

    Attributes:
        parent: The column that it is computed from.
        derived: The computed column.
        parent_points: Axis values of the parent, increasing (None for categories).
        derived_points: Axis values of the derived column (None for categories).
        table: Code of the derived column for each value of the parent, in order, then for missing; -1 is missing, -2
            is never seen.
        support: Rows of the sample.
    """

    parent: Operand
    derived: Operand
    parent_points: tuple[float, ...] | None
    derived_points: tuple[float, ...] | None
    table: tuple[int, ...]
    support: int = 0
    kind: str = "function"

    def describe(self) -> str:
        """In words, without data values."""
        return f"{self.derived.name} is a function of {self.parent.name}"

    def violations(self, batch: pa.RecordBatch) -> int:
        """Rows that break it. A parent value that was not in the sample breaks nothing: the model will not hold it."""
        parent = _codes(*self.parent.read(batch), self.parent_points)
        derived = _codes(*self.derived.read(batch), self.derived_points)
        table = np.asarray(self.table, dtype=np.int64)
        expected = table[np.where(parent == MISSING, len(table) - 1, np.maximum(parent, 0))]
        return int(np.count_nonzero((expected != derived) & (parent != UNKNOWN)))

    def apply(self, columns: Mapping[str, Values]) -> Values:
        """Codes or axis values of the derived column."""
        values, missing = columns[self.parent.name]
        points = None if self.parent_points is None else np.asarray(self.parent_points)
        codes = values.astype(np.int64) if points is None else _nearest(values, points)
        table = np.asarray(self.table, dtype=np.int64)
        result = table[np.where(missing, len(table) - 1, codes)]
        absent = result < 0
        result = np.maximum(result, 0)
        if self.derived_points is not None:
            return np.asarray(self.derived_points)[result], absent
        return result, absent

    def known_values(self) -> list[Scalar]:
        """Values of the parent for which the function is known."""
        values = self.parent_points if self.parent.values is None else self.parent.values
        return [v for v, code in zip(values or (), self.table) if code != UNKNOWN]

    def bind(self, categories: Categories, points: Mapping[str, Sequence[float]]) -> FunctionRelation:
        """The same function, in the codes of the categories (or axis points) that the model holds.

        Raises:
            KeyError: The model holds no values of a column, or one that the function is not known for.
            ValueError: The model does not hold a category of the derived column.
        """
        table: dict[Scalar, int] = dict(zip(self.parent_points or self.parent.values or (), self.table))
        parent_values: Sequence[Scalar]
        parent_values = categories[self.parent.name] if self.parent_points is None else points[self.parent.name]
        codes = [table[v] for v in parent_values] + [self.table[-1]]
        parent = replace(self.parent, values=tuple(parent_values)) if self.parent_points is None else self.parent
        parent_points = None if self.parent_points is None else tuple(float(v) for v in parent_values)
        if self.derived_points is not None:
            used_codes = sorted({c for c in codes if c >= 0})
            place = {c: i for i, c in enumerate(used_codes)}
            derived_points = tuple(self.derived_points[c] for c in used_codes)
            bound = tuple(place.get(c, MISSING) for c in codes)
            return replace(self, parent=parent, parent_points=parent_points, derived_points=derived_points, table=bound)
        derived_values = list(categories[self.derived.name])
        guessed_values = self.derived.values or ()
        bound = tuple(derived_values.index(guessed_values[c]) if c >= 0 else MISSING for c in codes)
        derived = replace(self.derived, values=tuple(derived_values))
        return replace(self, parent=parent, parent_points=parent_points, derived=derived, table=bound)


@dataclass(frozen=True)
class FlagRelation(FromSeveral):
    """A 0/1 column that is the OR (or AND) of others.

    Attributes:
        parents_: The columns it is computed from.
        derived: The column.
        ones: Code (or axis value) that means "yes": of each parent, then of the derived column.
        zeros: Code (or axis value) that means "no", likewise; -1 where the model holds no such category.
        operation: ``or`` or ``and``.
        missing: ``any``: missing where a parent is; ``known``: missing where the known parents do not decide it.
        support: Rows of the sample in which the column is "yes" (``or``) or "no" (``and``).
    """

    parents_: tuple[Operand, ...]
    derived: Operand
    ones: tuple[int, ...]
    zeros: tuple[int, ...]
    operation: str = "or"
    missing: str = "any"
    support: int = 0
    kind: str = "flag"

    def describe(self) -> str:
        """In words, without data values."""
        return f"{self.name} = " + f" {self.operation} ".join(self.parents)

    def violations(self, batch: pa.RecordBatch) -> int:
        """Rows that break it."""
        truth, missing = self._evaluate([p.read(batch) for p in self.parents_])
        values, absent = self.derived.read(batch)
        right = np.where(truth, values == self.ones[-1], values == self.zeros[-1])
        return int(np.count_nonzero(np.where(missing | absent, missing != absent, ~right)))

    def apply(self, columns: Mapping[str, Values]) -> Values:
        """Codes or axis values of the derived column."""
        truth, missing = self._evaluate([columns[p] for p in self.parents])
        kind = np.int64 if self.derived.values is not None else np.float64
        return np.where(truth, self.ones[-1], self.zeros[-1]).astype(kind), missing

    def _evaluate(self, parents: Sequence[Values]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the derived column is "yes", bool[n], and whether it is missing, bool[n]."""
        deciding = self.operation == "or"
        decided = np.zeros(len(parents[0][0]), dtype=np.bool_)
        unknown = decided.copy()
        for (values, missing), one_code in zip(parents, self.ones):
            decided |= ((values == one_code) == deciding) & ~missing
            unknown |= missing
        truth = decided if deciding else ~decided
        return truth, unknown if self.missing == "any" else unknown & ~decided

    def bind(self, categories: Categories, points: Mapping[str, Sequence[float]]) -> FlagRelation:
        """The same relation, in the codes of the categories that the model holds."""
        operands, ones, zeros = [], [], []
        for operand, one_code, zero_code in zip((*self.parents_, self.derived), self.ones, self.zeros):
            if operand.values is None:
                operands.append(operand)
                ones.append(one_code)
                zeros.append(zero_code)
                continue
            values = list(categories[operand.name])
            operands.append(replace(operand, values=tuple(values)))
            ones.append(values.index(operand.values[one_code]) if operand.values[one_code] in values else -1)
            zeros.append(values.index(operand.values[zero_code]) if operand.values[zero_code] in values else -1)
        return replace(self, parents_=tuple(operands[:-1]), derived=operands[-1], ones=tuple(ones), zeros=tuple(zeros))


@dataclass(frozen=True)
class SumRelation(FromSeveral):
    """A total: ``derived`` = sum of other columns of numbers.

    Attributes:
        parents_: The parts.
        derived: The total.
        tolerance: Absolute difference that still counts as equal (float columns).
        precision: Grid of the total, to which the sum is rounded.
        missing: ``any``: missing where a part is; ``zero``: missing parts count as 0, missing where all are.
        support: Rows of the sample in which the total is present.
    """

    parents_: tuple[Operand, ...]
    derived: Operand
    tolerance: float
    precision: Precision
    missing: str = "any"
    support: int = 0
    kind: str = "sum"

    def describe(self) -> str:
        """In words, without data values."""
        return f"{self.name} = " + " + ".join(self.parents)

    def violations(self, batch: pa.RecordBatch) -> int:
        """Rows that break it."""
        total, missing = self._evaluate([p.read(batch) for p in self.parents_])
        values, absent = self.derived.read(batch)
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(total - values) <= self.tolerance)
        return int(np.count_nonzero(np.where(missing | absent, missing != absent, wrong)))

    def apply(self, columns: Mapping[str, Values]) -> Values:
        """Axis values of the derived column."""
        total, missing = self._evaluate([columns[p] for p in self.parents])
        return self.precision.snap(total), missing

    def _evaluate(self, parents: Sequence[Values]) -> Values:
        total = np.zeros(len(parents[0][0]), dtype=np.float64)
        unknown = [missing for _, missing in parents]
        for values, missing in parents:
            total += np.where(missing, 0.0, values)
        combine = np.logical_or if self.missing == "any" else np.logical_and
        return total, np.asarray(combine.reduce(unknown))

    def bind(self, categories: Categories, points: Mapping[str, Sequence[float]]) -> SumRelation:
        """The relation itself: sums are of axis values, which have no codes."""
        return self


Relation = Union[
    FunctionRelation, FlagRelation, SumRelation, LinearRelation, PowerRelation, DatePartRelation, StepRelation
]


def relation_from_json(data: Mapping[str, Any]) -> Relation:
    """Inverse of ``to_json`` of a relation of any kind."""
    if data["kind"] in FORMULAS:
        return formula_from_json(data)
    fields: dict[str, Any] = {
        k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in data.items() if k != "kind"
    }
    fields["derived"] = _operand(data["derived"])
    if data["kind"] == "function":
        fields["parent"] = _operand(data["parent"])
        return FunctionRelation(**fields)
    fields["parents_"] = tuple(_operand(p) for p in data["parents_"])
    if data["kind"] == "flag":
        return FlagRelation(**fields)
    fields["precision"] = Precision.from_json(data["precision"])
    return SumRelation(**fields)


def in_order(relations: Sequence[Relation]) -> list[Relation]:
    """The relations, each after those that compute its parents; relations in a circle are left out."""
    waiting, done = list(relations), list[Relation]()
    while waiting:
        open_names = {r.name for r in waiting}
        ready = [r for r in waiting if not open_names & set(r.parents)]
        if not ready:
            break
        done += ready
        waiting = [r for r in waiting if r not in ready]
    return done


def _operand(data: Mapping[str, Any]) -> Operand:
    return Operand(data["name"], None if data["values"] is None else tuple(data["values"]))


def _codes(values: NDArray[Any], missing: NDArray[np.bool_], points: Sequence[float] | None) -> NDArray[np.int64]:
    """Codes with -1 for missing and -2 for unknown values; axis values are looked up among ``points``."""
    if points is None:
        return np.where(missing, MISSING, values).astype(np.int64)
    grid = np.asarray(points)
    place = np.minimum(np.searchsorted(grid, values), len(grid) - 1)
    return np.where(missing, MISSING, np.where(grid[place] == values, place, UNKNOWN)).astype(np.int64)


def _nearest(values: NDArray[Any], points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the nearest point, for values that are points up to rounding."""
    middle = 0.5 * (points[1:] + points[:-1])
    return np.asarray(np.searchsorted(middle, np.nan_to_num(values)), dtype=np.int64)
