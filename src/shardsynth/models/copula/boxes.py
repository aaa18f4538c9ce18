"""From tests of columns to boxes of a copula's latents.

Each test selects segments of its column's quantile function, whole or in part. A test of a column that a relation
computes selects combinations of its parents' segments. The result is a union of disjoint boxes of a few latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.errors import ConditionError
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.formulas import DatePartRelation, StepRelation
from shardsynth.models.columns.marginals import BIN_REACH, grid_unit
from shardsynth.models.columns.relations import Relation
from shardsynth.models.columns.selection import Selection, nearest_name, select, wanted_missing
from shardsynth.models.copula.tables import GRID, REACH, Integers
from shardsynth.sampling.conditions import Condition, Conditions
from shardsynth.sampling.elementary import exp, interval

if TYPE_CHECKING:
    from shardsynth.models.copula.parameters import CopulaParameters

Floats = NDArray[np.float64]

#: Stands for infinity among interval ends, in units of 2^-22.
END = (REACH + 1) * GRID
_MOST_BOXES = 20_000
_MOST_STATES = 20_000
_FEW = 200


class InexpressibleError(ConditionError):
    """Rows may meet a condition, but no few boxes of latents hold them."""


@dataclass(frozen=True)
class Alternative:
    """One box.

    Attributes:
        ranges: By conditioned latent: its interval (integer ends, even units of 2^-22).
        weight: Factor of the box's probability: below 1 where a segment is selected in part.
    """

    ranges: Mapping[int, tuple[int, int]]
    weight: float = 1.0

    def and_(self, other: Alternative) -> Alternative | None:
        """The intersection; None if it is empty."""
        ranges = dict(self.ranges)
        for latent, (low, high) in other.ranges.items():
            old = ranges.get(latent, (-END, END))
            ranges[latent] = max(low, old[0]), min(high, old[1])
            if ranges[latent][0] >= ranges[latent][1]:
                return None
        return Alternative(ranges, self.weight * other.weight)


def open_ends(ends: Integers) -> Floats:
    """Interval ends in units of 2^-22 as floats; ``-END`` and ``END`` become infinite."""
    values = ends / GRID
    return np.where(ends <= -END, -np.inf, np.where(ends >= END, np.inf, values))


class Compiler:
    """Translates tests of columns to boxes of latents.

    Attributes:
        columns: Those of the model, with segments that are selected in part cut in their marginals.
        cuts: Those of the model, changed likewise.
    """

    def __init__(self, model: CopulaParameters) -> None:
        self._model = model
        self.columns = list(model.columns)
        self.cuts = list(model.cuts)
        self._number = {column.name: i for i, column in enumerate(model.columns)}
        self._value_latent: dict[int, int] = {}
        self._missing_latent: dict[int, int] = {}
        for number, latent in enumerate(model.latents):
            target = self._value_latent if latent.kind == "value" else self._missing_latent
            target.update(dict.fromkeys(latent.columns, number))
        self._relation = {relation.name: relation for relation in model.relations}

    def boxes(self, conditions: Conditions) -> list[Alternative]:
        """Disjoint boxes in which all tests pass.

        Raises:
            ConditionError: The tests contradict each other or the model, or need too many boxes.
        """
        names = conditions.columns
        for name in names:
            if name not in self._number:
                raise ConditionError(f"no column {name!r}{nearest_name(name, list(self._number))}")
        boxes = [Alternative({})]
        # Learned columns first: a segment selected in part changes the column's table, which relations read later.
        for name in sorted(names, key=lambda name: name in self._relation):
            alternatives = self._alternatives(name, conditions.on(name))
            if len(boxes) * len(alternatives) > _MOST_BOXES:
                raise InexpressibleError(
                    f"{conditions.said}: too many combinations ({len(boxes)} x {len(alternatives)}); "
                    f"test fewer columns at once, or {name!r} by a range"
                )
            boxes = [
                intersection
                for box, other in product(boxes, alternatives)
                if (intersection := box.and_(other)) is not None
            ]
            if not boxes:
                raise ConditionError(f"{conditions.said}: contradictory: nothing is left once {name!r} is tested")
        return boxes

    def _alternatives(self, name: str, tests: Sequence[Condition]) -> list[Alternative]:
        number = self._number[name]
        column = self.columns[number]
        if column.treatment in ("id", "pii"):
            raise ConditionError(
                f"column {name!r} is made from the row number, not learned: it cannot be conditioned on"
            )
        if column.treatment == "relation":
            return self._computed(self._relation[name], tests)
        missing = self._missing_latent.get(number)
        want_missing = wanted_missing(tests)
        always_missing = column.treatment == "empty"
        values = [test for test in tests if test.operator != "null"]
        if always_missing:
            if values or not want_missing:
                raise ConditionError(f"column {name!r} is always missing in the model")
            return [Alternative({})]
        if want_missing:
            if missing is None:
                raise ConditionError(f"column {name!r} is never missing in the model: drop isnull({name})")
            if values:
                raise ConditionError(f"column {name!r}: cannot be missing and have a value")
            return [Alternative({missing: (int(self.cuts[missing][0]), END)})]
        present = {} if missing is None else {missing: (-END, int(self.cuts[missing][0]))}
        if not values:
            return [Alternative(present)]
        selection = self._select(column, values)
        if column.treatment == "constant":
            return [Alternative(present)]
        latent = self._value_latent[number]
        ranges = self._enter(number, latent, selection)
        return [Alternative({**present, latent: ends}, weight) for ends, weight in ranges]

    def _select(self, column: FittedColumn, tests: Sequence[Condition]) -> Selection:
        form = self._model.forms[column.name]
        return select(column, form, tests)

    def _enter(self, number: int, latent: int, selection: Selection) -> list[tuple[tuple[int, int], float]]:
        """Intervals of the latent and their weights; a segment selected in part is replaced in the column's table."""
        cuts = self.cuts[latent]
        edges = np.concatenate([[-END], cuts, [END]])
        column = self.columns[number]
        marginal = column.marginal
        assert marginal is not None
        # Every segment of the new table: (low end, lo, hi, weight); the weight is 0 where it is not selected.
        rows: list[tuple[int, float, float, float]] = []
        for segment in range(len(marginal.lo)):
            start, stop = int(edges[segment]), int(edges[segment + 1])
            parts = selection.parts.get(segment, [])
            if not parts:
                rows.append((start, marginal.lo[segment], marginal.hi[segment], 0.0))
                continue
            bounds = _division(start, stop, len(parts))
            parts = parts[: len(bounds) - 1]
            for (lo, hi, share), low, high in zip(parts, bounds, bounds[1:]):
                rows.append((low, lo, hi, share if len(parts) == 1 else share * _excess((start, stop), (low, high))))
        self.cuts[latent] = np.array([row[0] for row in rows[1:]], np.int64)
        self.columns[number] = replace(
            column,
            marginal=replace(
                marginal,
                probability=np.full(len(rows), 1 / len(rows)),
                lo=np.array([row[1] for row in rows]),
                hi=np.array([row[2] for row in rows]),
            ),
        )
        intervals: list[tuple[tuple[int, int], float]] = []
        for place, (low, _, _, weight) in enumerate(rows):
            high = rows[place + 1][0] if place + 1 < len(rows) else END
            if weight == 0:
                continue
            if intervals and intervals[-1][1] == weight == 1.0 and intervals[-1][0][1] == low:
                intervals[-1] = ((intervals[-1][0][0], high), 1.0)
            else:
                intervals.append(((low, high), weight))
        return intervals

    def _computed(self, relation: Relation, tests: Sequence[Condition]) -> list[Alternative]:
        """Boxes of the latents of a relation's parents in which the computed column passes."""
        if isinstance(relation, (DatePartRelation, StepRelation)) and not self._has_atoms(relation.parent.name):
            return self._from_one(relation, tests)
        states = [self._states(name, relation) for name in relation.parents]
        if np.prod([len(s) for s in states], dtype=float) > _MOST_STATES:
            raise self._use_parents(relation, "takes too many values")
        grid = list(product(*states))
        columns = {}
        for place, name in enumerate(relation.parents):
            raw = np.array([combination[place][0] for combination in grid], np.float64)
            missing = np.array([combination[place][1] for combination in grid], np.bool_)
            columns[name] = (
                raw.astype(np.int64) if self.columns[self._number[name]].categories is not None else raw,
                missing,
            )
        values, absent = relation.apply(columns)
        passes = self._passes(relation, tests, values, absent)
        if not passes.any():
            raise ConditionError(
                f"column {relation.name!r} = {relation.describe()}: no row of the model can pass the tests"
            )
        boxes: list[Alternative] = []
        for index in np.flatnonzero(passes).tolist():
            box: Alternative | None = Alternative({})
            for _, _, part in grid[index]:
                box = None if box is None else box.and_(part)
            if box is not None:
                boxes.append(box)
        return joined(boxes)

    def _has_atoms(self, name: str) -> bool:
        """Whether all values of a column are atoms, or it is computed itself."""
        column = self.columns[self._number[name]]
        marginal = column.marginal
        if column.treatment != "latent" or marginal is None:
            return True
        return column.categories is not None or np.array_equal(marginal.lo, marginal.hi)

    def _from_one(self, relation: DatePartRelation | StepRelation, tests: Sequence[Condition]) -> list[Alternative]:
        """Boxes where a column passes that is computed from a number or an instant: intervals of that one."""
        name = relation.parent.name
        number = self._number[name]
        missing = self._missing_latent.get(number)
        if wanted_missing(tests) is True:
            if missing is None or len(tests) > 1:
                raise ConditionError(f"column {relation.name!r}: is missing where {name!r} is, and no row can pass")
            return [Alternative({missing: (int(self.cuts[missing][0]), END)})]
        present = {} if missing is None else {missing: (-END, int(self.cuts[missing][0]))}
        column = self.columns[number]
        assert column.marginal is not None
        lowest, highest = float(column.marginal.lo[0]), float(column.marginal.hi[-1])

        def passing(points: Floats) -> NDArray[np.bool_]:
            values, absent = relation.apply({name: (points, np.zeros(len(points), np.bool_))})
            return np.asarray(self._passes(relation, tests, values, absent))

        bounds = np.array([lowest, *relation.changes(lowest, highest), np.nextafter(highest, np.inf)])
        if len(bounds) > _MOST_BOXES:
            raise self._use_parents(relation, "takes too many values")
        passes = passing(bounds[:-1])
        if not passes.any():
            raise ConditionError(
                f"column {relation.name!r} = {relation.describe()}: no row of the model can pass the tests"
            )
        starts = np.flatnonzero(passes & ~np.concatenate([[False], passes[:-1]]))
        stops = np.flatnonzero(passes & ~np.concatenate([passes[1:], [False]])) + 1
        unit = 0.0 if column.precision is None else grid_unit(column.precision)
        before, after = BIN_REACH * unit, (1.0 - BIN_REACH) * unit  # what is drawn there is rounded into the interval
        parts: dict[int, list[tuple[float, float, float]]] = {}
        for segment, (lo, hi) in enumerate(zip(column.marginal.lo.tolist(), column.marginal.hi.tolist())):
            width = hi - lo
            for start, stop in zip(bounds[starts].tolist(), bounds[stops].tolist()):
                if width == 0:
                    inside = [(lo, hi, 1.0)] if start <= lo < stop else []
                else:
                    low, high = max(lo, start - before), min(hi, stop - after)
                    inside = [(low, high, (high - low) / width)] if high > low else []
                if inside:
                    parts.setdefault(segment, []).extend(inside)
        ranges = self._enter(number, self._value_latent[number], Selection(parts))
        return [Alternative({**present, self._value_latent[number]: ends}, weight) for ends, weight in ranges]

    def _passes(self, relation: Relation, tests: Sequence[Condition], values: Any, absent: Any) -> NDArray[np.bool_]:
        want_missing = wanted_missing(tests)
        value_tests = [test for test in tests if test.operator != "null"]
        if want_missing is True and value_tests:
            raise ConditionError(f"column {relation.name!r}: cannot be missing and have a value")
        if not value_tests:
            return np.asarray(absent if want_missing else ~absent)
        column = self.columns[self._number[relation.name]]
        raw = np.unique(values[~absent].astype(np.float64))
        marginal = Marginal("axis" if column.categories is None else "category", np.ones(len(raw)), raw, raw)
        selection = self._select(replace(column, marginal=marginal), value_tests)
        passing = raw[sorted(selection.parts)]
        return np.asarray(np.isin(values.astype(np.float64), passing) & ~absent)

    def _states(self, name: str, relation: Relation) -> list[tuple[float, bool, Alternative]]:
        """The states of a parent: (code or axis value, missing, box of its latents)."""
        number = self._number[name]
        column = self.columns[number]
        if column.treatment == "relation":
            raise self._use_parents(relation, "is computed from computed columns")
        missing = self._missing_latent.get(number)
        states = []
        present: dict[int, tuple[int, int]] = {}
        if missing is not None:
            cut = int(self.cuts[missing][0])
            present = {missing: (-END, cut)}
            states.append((0.0, True, Alternative({missing: (cut, END)})))
        marginal = column.marginal
        if marginal is None:
            return [(0.0, True, Alternative({}))]
        if not np.array_equal(marginal.lo, marginal.hi):
            raise self._use_parents(relation, "has a parent without fixed values")
        if number not in self._value_latent:
            return [*states, (float(marginal.lo[0]), False, Alternative(present))]
        latent = self._value_latent[number]
        edges = np.concatenate([[-END], self.cuts[latent], [END]])
        for segment, value in enumerate(marginal.lo.tolist()):
            ends = int(edges[segment]), int(edges[segment + 1])
            states.append((value, False, Alternative({**present, latent: ends})))
        return states

    @staticmethod
    def _use_parents(relation: Relation, why: str) -> InexpressibleError:
        parents = ", ".join(map(repr, relation.parents))
        return InexpressibleError(
            f"column {relation.name!r} {why} ({relation.describe()}): put the condition on {parents}"
        )


def _division(start: int, stop: int, parts: int) -> list[int]:
    """Even bounds of up to ``parts`` equal pieces of an interval of a latent."""
    low, high = max(start, -REACH * GRID), min(stop, REACH * GRID)
    inner = [low + 2 * ((high - low) * i // (2 * parts)) for i in range(1, parts)]
    return sorted({start, *inner, stop})


def _excess(whole: tuple[int, int], part: tuple[int, int]) -> float:
    """Probability of the whole divided by that of the part."""
    ends = np.array([whole, part])
    log_probability = interval(open_ends(ends[:, 0]), open_ends(ends[:, 1])).log_probability
    return float(exp(log_probability[:1] - log_probability[1:])[0])


def joined(boxes: list[Alternative]) -> list[Alternative]:
    """Join boxes that differ in one latent only and touch there; of many boxes, only neighbours are compared."""
    merged: list[Alternative] = []
    for box in boxes:
        near = list(range(len(merged) - 1, -1, -1))
        if len(boxes) > _FEW:
            near = near[:1]
        for place in near:
            if (union := _union(merged[place], box)) is not None:
                merged[place] = union
                break
        else:
            merged.append(box)
    return merged if len(merged) == len(boxes) else joined(merged)


def _union(left: Alternative, right: Alternative) -> Alternative | None:
    if left.weight != right.weight or left.ranges.keys() != right.ranges.keys():
        return None
    differ = [latent for latent, ends in left.ranges.items() if right.ranges[latent] != ends]
    if len(differ) != 1:
        return None
    (a, b), (c, d) = left.ranges[differ[0]], right.ranges[differ[0]]
    if b != c and d != a:
        return None
    ends = (a, d) if b == c else (c, b)
    ranges = {latent: (ends if latent == differ[0] else old) for latent, old in left.ranges.items()}
    return Alternative({latent: ends for latent, ends in ranges.items() if ends != (-END, END)}, left.weight)
