"""Conditions in terms of a copula: which boxes of its latents they are, and rows from inside them.

Each test selects segments of its column's quantile function, whole or in part; a column computed by a relation selects
combinations of its parents' segments. What remains is a union of boxes of a few latents. Those latents are drawn
exactly by ``sampling.tilting``, all others given them: z = F e + B x with x on the fixed-point grid, so that the
product stays exact. No row is rejected, only proposals of the conditioned latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.errors import ConditionError
from shardsynth.models.copula_arrays import arrays_for
from shardsynth.models.copula_columns import Plan, make_plan
from shardsynth.models.copula_kernel import Kernel
from shardsynth.models.copula_selection import Selection, nearest_name, select
from shardsynth.models.copula_tables import GRID, REACH, Integers, check_exact, odd, with_odd_rows
from shardsynth.models.fitted import FitColumn
from shardsynth.models.relations import Relation
from shardsynth.sampling.conditions import Condition, Conditions
from shardsynth.sampling.elementary import exp, interval
from shardsynth.sampling.streams import random_words, uniforms
from shardsynth.sampling.tilting import Boxes, TiltedSampler

if TYPE_CHECKING:
    from shardsynth.models.gaussian_copula import GaussianCopula

Floats = NDArray[np.float64]

_END = (REACH + 1) * GRID  # stands for infinity
_MOST_BOXES = 20_000
_MOST_STATES = 20_000
_MOST_ATTEMPTS = 5_000
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True)
class Alternative:
    """One box: per conditioned latent an interval (int64 ends, even units of 2^-22), and how many times it counts."""

    ranges: Mapping[int, tuple[int, int]]
    weight: float = 1.0

    def and_(self, other: Alternative) -> Alternative | None:
        """The intersection; None if it is empty."""
        ranges = dict(self.ranges)
        for latent, (low, high) in other.ranges.items():
            old = ranges.get(latent, (-_END, _END))
            ranges[latent] = max(low, old[0]), min(high, old[1])
            if ranges[latent][0] >= ranges[latent][1]:
                return None
        return Alternative(ranges, self.weight * other.weight)


class Prepared:
    """Conditions compiled for one model.

    Attributes:
        conditions: What was asked.
        proposals: Proposals made so far for the conditioned latents.
        accepted: Rows made so far.
    """

    def __init__(
        self, model: GaussianCopula, conditions: Conditions, columns: Sequence[FitColumn], cuts: Sequence[Integers],
        boxes: Sequence[Alternative],
    ) -> None:  # fmt: skip
        self.conditions = conditions
        self.proposals = 0
        self.accepted = 0
        self._model, self._columns, self._cuts = model, columns, cuts
        self._samplers: dict[str | None, tuple[Plan, Kernel]] = {}
        used = {latent for box in boxes for latent in box.ranges}
        ends = {latent: [box.ranges.get(latent, (-_END, _END)) for box in boxes] for latent in used}
        # The most restricted latent first: its proposals then suit the others best.
        self._latents = sorted(used, key=lambda latent: (_mass(ends[latent]), latent))
        if self._latents:
            low, high = (np.array([[e[i] for e in ends[x]] for x in self._latents]).T for i in (0, 1))
            self._low, self._high = low, high
            box_weights = np.array([box.weight for box in boxes])
            self._tilted = TiltedSampler(
                model.correlation[np.ix_(self._latents, self._latents)],
                Boxes(_open(low), _open(high), box_weights),
            )

    @classmethod
    def of(cls, model: GaussianCopula, conditions: Conditions) -> Prepared:
        """Compile.

        Raises:
            ConditionError: They cannot be met; names what could be instead.
        """
        compiler = _Compiler(model)
        boxes = compiler.boxes(conditions)
        return cls(model, conditions, compiler.columns, compiler.cuts, boxes)

    @property
    def probability(self) -> float | None:
        """Estimated probability of the conditions under the model; None before the first row."""
        if not self._latents:
            return 1.0
        if not self.proposals:
            return None
        return float(np.exp(self._tilted.log_envelope)) * self.accepted / self.proposals

    def acceptance(self) -> dict[str, int]:
        """Proposals and accepted rows since the last call."""
        counts = {"proposals": self.proposals, "accepted": self.accepted}
        self.proposals = self.accepted = 0
        return counts

    def sampler(self, device: str | None) -> tuple[Plan, Kernel]:
        """Plan and kernel of the rows under these conditions."""
        if device not in self._samplers:
            model = self._model
            plan = make_plan(self._columns, model.latents, self._cuts, model.relations, model.forms)
            factor, fixed = model.factor.astype(np.int64), None
            if self._latents:
                factor, fixed = self._given(factor), self._draw_fixed
                check_exact(factor, max(int(model.levels.max()), _END))
            kernel = Kernel(
                factor, model.levels, plan.channels, arrays_for(device), fixed=fixed, conditioned=len(self._latents)
            )
            self._samplers[device] = plan, kernel
        return self._samplers[device]

    def _given(self, factor: Integers) -> Integers:
        """[F, B]: latents are F e + B x given the conditioned latents x. Residuals of a sequential regression."""
        size = len(self._latents)
        rest = factor / GRID
        weights = np.zeros((len(factor), size))  # of the conditioned latents, in each latent
        removed: list[tuple[Floats, Floats]] = []
        for number, latent in enumerate(self._latents):
            row, own = rest[latent].copy(), -weights[latent].copy()
            own[number] += 1.0
            variance = _total(row * row)
            if variance < 1e-3:  # determined by those before it
                continue
            slope = _columns_total(rest * row[None, :]) / variance
            rest = rest - slope[:, None] * row[None, :]
            weights = weights + slope[:, None] * own[None, :]
            removed.append((row, own))
        full = np.rint(np.concatenate([rest, weights], axis=1) * GRID).astype(np.int64)
        full = with_odd_rows(full)
        for number, latent in enumerate(self._latents):  # themselves, exactly
            full[latent] = 0
            full[latent, factor.shape[1] + number] = GRID
        return full

    def _draw_fixed(self, key: tuple[int, int], first_row: int, n: int) -> Integers:
        """The conditioned latents of rows, int64[n, c], odd units of 2^-22: each row's first accepted proposal."""
        out = np.empty((n, len(self._latents)), np.int64)
        for start in range(0, n, _ROWS_AT_ONCE):
            self._draw_some(key, first_row + start, out[start : start + _ROWS_AT_ONCE])
        return out

    def _draw_some(self, key: tuple[int, int], first_row: int, out: Integers) -> None:
        """Fill ``out``. Attempt t of a row has its own words, in layer t + 1 of the stream, whatever the split."""
        waiting = np.arange(len(out))
        for attempt in range(_MOST_ATTEMPTS):
            start, stop = int(waiting[0]), int(waiting[-1]) + 1
            words = random_words(key, first_row + start, stop - start, self._tilted.uniforms, layer=attempt + 1)
            points, accepted, box = self._tilted.propose(uniforms(words[waiting - start]))
            points = np.clip(odd(points), self._low[box] + 1, self._high[box] - 1)
            out[waiting[accepted]] = points[accepted]
            self.proposals += len(waiting)
            waiting = waiting[~accepted]
            if not len(waiting):
                self.accepted += len(out)
                return
        raise ConditionError(
            f"{self.conditions}: too improbable to sample ({_MOST_ATTEMPTS} proposals for one row); relax one of them"
        )


def _mass(ends: Sequence[tuple[int, int]]) -> float:
    """Probability of a union of intervals of one latent, overlaps counted once."""
    unique = sorted(set(ends))
    low = np.array([a for a, _ in unique])
    high = np.array([b for _, b in unique])
    return float(min(1.0, exp(interval(_open(low), _open(high)).log_probability).sum()))


def _open(ends: Integers) -> Floats:
    """Interval ends as floats; the outermost are infinite."""
    values = ends / GRID
    return np.where(ends <= -_END, -np.inf, np.where(ends >= _END, np.inf, values))


def _total(values: Floats) -> float:
    """Sum in a fixed order."""
    return float(np.cumsum(values)[-1])


def _columns_total(values: Floats) -> Floats:
    """Sum over the last axis in a fixed order."""
    total = np.zeros(len(values))
    for column in values.T:
        total = total + column
    return total


class _Compiler:
    """From tests of columns to boxes of latents."""

    def __init__(self, model: GaussianCopula) -> None:
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
        """Disjoint boxes of all tests together."""
        names = conditions.columns
        for name in names:
            if name not in self._number:
                raise ConditionError(f"no column {name!r}{nearest_name(name, list(self._number))}")
        boxes = [Alternative({})]
        # Learned columns first: a partly selected segment changes the column's table, which relations then read.
        for name in sorted(names, key=lambda name: name in self._relation):
            own = self._alternatives(name, conditions.on(name))
            if len(boxes) * len(own) > _MOST_BOXES:
                raise ConditionError(
                    f"{conditions}: too many combinations ({len(boxes)} x {len(own)}); "
                    f"test fewer columns at once, or {name!r} by a range"
                )
            boxes = [both for box, other in product(boxes, own) if (both := box.and_(other)) is not None]
            if not boxes:
                raise ConditionError(f"{conditions}: contradictory: nothing is left once {name!r} is tested")
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
        want_missing = _wanted_missing(tests)
        always = column.treatment == "empty"
        if want_missing is True or (always and want_missing is None):
            if missing is None and not always:
                raise ConditionError(f"column {name!r} is never missing in the model: drop isnull({name})")
            if want_missing is None or not _only_null(tests):
                raise ConditionError(f"column {name!r}: cannot be missing and have a value")
            return [Alternative({} if missing is None else {missing: (int(self.cuts[missing][0]), _END)})]
        if always:
            raise ConditionError(f"column {name!r} is always missing in the model")
        present = {} if missing is None else {missing: (-_END, int(self.cuts[missing][0]))}
        values = [test for test in tests if test.operator != "null"]
        if not values:
            return [Alternative(present)]
        selection = self._select(column, values)
        if column.treatment == "constant":
            return [Alternative(present)]
        latent = self._value_latent[number]
        ranges = self._enter(number, latent, selection)
        return [Alternative({**present, latent: ends}, weight) for ends, weight in ranges]

    def _select(self, column: FitColumn, tests: Sequence[Condition]) -> Selection:
        form = self._model.forms[column.name]
        return select(column, form, tests)

    def _enter(self, number: int, latent: int, selection: Selection) -> list[tuple[tuple[int, int], float]]:
        """Intervals of the latent and their weights; segments selected in part are replaced in the column's table."""
        cuts = self.cuts[latent]
        edges = np.concatenate([[-_END], cuts, [_END]])
        column = self.columns[number]
        marginal = column.marginal
        assert marginal is not None
        # Every segment of the new table: (low end, lo, hi, weight), weight 0 where not selected.
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
        found: list[tuple[tuple[int, int], float]] = []
        for place, (low, _, _, weight) in enumerate(rows):
            high = rows[place + 1][0] if place + 1 < len(rows) else _END
            if weight == 0:
                continue
            if found and found[-1][1] == weight == 1.0 and found[-1][0][1] == low:
                found[-1] = ((found[-1][0][0], high), 1.0)
            else:
                found.append(((low, high), weight))
        return found

    def _computed(self, relation: Relation, tests: Sequence[Condition]) -> list[Alternative]:
        """Boxes of a relation's parents in which the computed column passes."""
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
        return _joined(boxes)

    def _passes(self, relation: Relation, tests: Sequence[Condition], values: Any, absent: Any) -> NDArray[np.bool_]:
        want_missing = _wanted_missing(tests)
        tested = [test for test in tests if test.operator != "null"]
        if want_missing is True and tested:
            raise ConditionError(f"column {relation.name!r}: cannot be missing and have a value")
        if not tested:
            return np.asarray(absent if want_missing else ~absent)
        column = self.columns[self._number[relation.name]]
        raw = np.unique(values[~absent].astype(np.float64))
        from shardsynth.models.fitted import Marginal

        marginal = Marginal("axis" if column.categories is None else "category", np.ones(len(raw)), raw, raw)
        selection = self._select(replace(column, marginal=marginal), tested)
        kept = raw[sorted(selection.parts)]
        return np.asarray(np.isin(values.astype(np.float64), kept) & ~absent)

    def _states(self, name: str, relation: Relation) -> list[tuple[float, bool, Alternative]]:
        """What a parent can be: (code or axis value, missing, where its latents then lie)."""
        number = self._number[name]
        column = self.columns[number]
        if column.treatment == "relation":
            raise self._use_parents(relation, "is computed from computed columns")
        missing = self._missing_latent.get(number)
        states = []
        present: dict[int, tuple[int, int]] = {}
        if missing is not None:
            cut = int(self.cuts[missing][0])
            present = {missing: (-_END, cut)}
            states.append((0.0, True, Alternative({missing: (cut, _END)})))
        marginal = column.marginal
        if marginal is None:
            return [(0.0, True, Alternative({}))]
        if not np.array_equal(marginal.lo, marginal.hi):
            raise self._use_parents(relation, "has a parent without fixed values")
        if number not in self._value_latent:
            return [*states, (float(marginal.lo[0]), False, Alternative(present))]
        latent = self._value_latent[number]
        edges = np.concatenate([[-_END], self.cuts[latent], [_END]])
        for segment, value in enumerate(marginal.lo.tolist()):
            ends = int(edges[segment]), int(edges[segment + 1])
            states.append((value, False, Alternative({**present, latent: ends})))
        return states

    @staticmethod
    def _use_parents(relation: Relation, why: str) -> ConditionError:
        parents = ", ".join(map(repr, relation.parents))
        return ConditionError(f"column {relation.name!r} {why} ({relation.describe()}): put the condition on {parents}")


def _wanted_missing(tests: Sequence[Condition]) -> bool | None:
    """Whether the tests want the value missing (True), present (False), or say nothing about it."""
    wanted = {bool(test.values[0]) for test in tests if test.operator == "null"}
    if len(wanted) == 2:
        raise ConditionError(f"column {tests[0].column!r}: cannot be both missing and not missing")
    return wanted.pop() if wanted else None


def _only_null(tests: Sequence[Condition]) -> bool:
    return all(test.operator == "null" for test in tests)


def _division(start: int, stop: int, parts: int) -> list[int]:
    """Even bounds of up to ``parts`` equal pieces of an interval of a latent."""
    low, high = max(start, -REACH * GRID), min(stop, REACH * GRID)
    inner = [low + 2 * ((high - low) * i // (2 * parts)) for i in range(1, parts)]
    return sorted({start, *inner, stop})


def _excess(whole: tuple[int, int], part: tuple[int, int]) -> float:
    """How many times the part's probability goes into the whole's."""
    ends = np.array([whole, part])
    log_probability = interval(_open(ends[:, 0]), _open(ends[:, 1])).log_probability
    return float(exp(log_probability[:1] - log_probability[1:])[0])


def _joined(boxes: list[Alternative]) -> list[Alternative]:
    """Boxes that differ in one latent only and touch there are one."""
    changed = True
    while changed:
        changed = False
        merged: list[Alternative] = []
        for box in boxes:
            for place, other in enumerate(merged):
                if (union := _union(other, box)) is not None:
                    merged[place] = union
                    changed = True
                    break
            else:
                merged.append(box)
        boxes = merged
    return boxes


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
    return Alternative({latent: ends for latent, ends in ranges.items() if ends != (-_END, _END)}, left.weight)
