"""Rows of an autoregressive model under conditions.

A test of a learned column is one factor in 0 to 1 per code: the share of the code that passes. The column is drawn with
these factors. The row is then accepted with the probability that the column passes, given the columns before it. So the
rows follow exactly the model's own distribution given the conditions.

With ``order: any`` the tested columns are drawn first. Those that can have one code only come at the very front: all
rows have it, so no row is rejected for it. Then come the others, the least probable first. For a test of a computed
column, its parents are drawn until the test passes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shardsynth.errors import ConditionError
from shardsynth.models.autoregressive.calibration_given import BLOCKS, MOST_COLUMNS, biases_given, calibrated_by
from shardsynth.models.autoregressive.codes import BinnedColumn
from shardsynth.models.autoregressive.columns import Writer
from shardsynth.models.autoregressive.sampler import Drawing, Rows, Sampler, in_blocks, lanes_of, places, stacked
from shardsynth.models.columns.fitted import Marginal
from shardsynth.models.columns.operands import Values
from shardsynth.models.columns.relations import Relation
from shardsynth.models.columns.selection import nearest_name, select, wanted_missing
from shardsynth.models.training.torch_threads import torch_threads
from shardsynth.sampling.conditions import Condition, Conditions
from shardsynth.sampling.streams import stream_key

if TYPE_CHECKING:
    from shardsynth.models.autoregressive.parameters import AutoregressiveParameters

Mask = NDArray[np.bool_]

_MOST_ATTEMPTS = 5_000


class Prepared:
    """Conditions compiled for one model.

    Attributes:
        conditions: The conditions.
        writer: Turns codes into arrays under them.
        proposals: Rows proposed since the last call of ``acceptance``.
        accepted: Rows accepted since then.
    """

    def __init__(self, model: AutoregressiveParameters, conditions: Conditions) -> None:
        self.conditions = conditions
        self.proposals = self.accepted = 0
        self._model, self._lock, self._counting = model, threading.Lock(), threading.Lock()
        self._found: Drawing | None = None
        compiled = _Compiler(model, conditions)
        self.writer = Writer(compiled.columns, model.coding.relations, model.fits, model.forms)
        self._allowed, self._tests = compiled.allowed, compiled.tests
        parents = {i for names in compiled.drawn_for.values() for i in names}
        self._front = self._ordered(parents)
        self._rest = [i for i in model.order if i not in self._front]
        if self._front:
            last = max(self._front.index(i) for i in {*self._allowed, *parents})
            self._rest = [*self._front[last + 1 :], *self._rest]
            self._front = self._front[: last + 1]
        fixed = model.options.order == "fixed"
        self._drawing = self._drawn_by(model.sampler, fixed or not (self._front or model.balance_weights))

    def _drawn_by(self, sampler: Sampler, calibrated: bool) -> Drawing:
        model = self._model
        return Drawing(
            sampler,
            [*self._front, *self._rest],
            calibrated=calibrated,
            balance_weights=model.balance_weights,
            allowed=self._allowed,
            together=model.together,
        )

    @classmethod
    def of(cls, model: AutoregressiveParameters, conditions: Conditions) -> Prepared:
        """Conditions in terms of a model.

        Raises:
            ConditionError: The conditions cannot be met; the error says what is possible instead.
        """
        return cls(model, conditions)

    def acceptance(self) -> dict[str, int]:
        """Proposals and accepted rows since the last call."""
        with self._counting:
            counts = {"proposals": self.proposals, "accepted": self.accepted}
            self.proposals = self.accepted = 0
        return counts

    def _ordered(self, parents: set[int]) -> list[int]:
        """Columns that are drawn until the tests can be made, in the order of drawing.

        Args:
            parents: Learned columns that a tested computed column depends on.
        """
        model = self._model
        tested = {*self._allowed, *parents}
        if not tested:
            return []
        if model.options.order == "fixed":
            return list(model.order)

        def rank(column: int) -> tuple[int, float, int]:
            if column in model.balance_weights:
                return 0, 0.0, column
            if column not in self._allowed:
                return 3, 0.0, column
            share = model.coding.columns[column].share
            mass = float((self._allowed[column] * share).sum())
            return (1 if self._single(column) else 2), mass, column

        return sorted({*tested, *model.balance_weights}, key=rank)

    def _single(self, column: int) -> bool:
        return column in self._allowed and int(np.count_nonzero(self._allowed[column])) == 1

    def codes(self, key: tuple[int, int], first_row: int, n: int, threads: int) -> list[NDArray[Any]]:
        """Codes int16[columns, n] and 32-bit places uint32[columns, n] of rows ``first_row`` and on."""
        if not self._model.coding.columns:
            return [np.zeros((0, n), np.int16), np.zeros((0, n), np.uint32)]
        with self._lock:
            drawing = self._calibrated()
        return in_blocks(first_row, n, threads, lambda block: self._block(drawing, key, block))

    def _calibrated(self) -> Drawing:
        """How rows are drawn: at the first call, biases are found for columns that other ones are drawn before."""
        model = self._model
        if self._found is None:
            self._found = self._drawing
            known = model.options.order == "fixed" or model.balance_weights or model.classes is not None
            if self._front and self._rest and not known and len(model.order) <= MOST_COLUMNS:
                key = stream_key(0, "biases given conditions")
                with torch_threads(1):
                    made = [self._block(self._drawing, key, block)[0] for block in range(BLOCKS)]
                    codes = torch.from_numpy(np.concatenate(made, axis=1))
                    plain = Drawing(model.sampler, model.order, calibrated=True, together=model.together)
                    biases = biases_given(self._drawing, plain, codes, len(self._front), seed=0)
                    self._found = self._drawn_by(calibrated_by(model.sampler, biases), calibrated=True)
                self.proposals = self.accepted = 0
        return self._found

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _block(self, drawing: Drawing, key: tuple[int, int], block: int) -> list[NDArray[Any]]:
        """One whole block: attempt t of a row has its own words, in layers 2 t + 1 and 2 t + 2 of the stream."""
        sampler, count = self._model.sampler, len(self._model.coding.columns)
        lanes = lanes_of(key, block, count)
        shares = torch.from_numpy(lanes.codes)
        block_places = lanes.places.copy()
        rows = sampler.begin(shares.shape[1])
        proposals, waiting = 0, np.arange(shares.shape[1])
        if self._front:
            front = np.array(self._front)
            rows.codes = {i: torch.zeros(shares.shape[1], dtype=torch.int16) for i in self._front}
            for attempt in range(_MOST_ATTEMPTS):
                # All waiting rows are proposed at once. Which rows wait depends on the block alone.
                attempt_lanes = lanes_of(key, block, len(self._front), 2 * attempt + 1)
                coins = lanes_of(key, block, len(self._front), 2 * attempt + 2).codes[:, waiting]
                candidates = sampler.begin(len(waiting))
                passed = self._propose(
                    drawing, candidates, torch.from_numpy(attempt_lanes.codes[:, waiting]), torch.from_numpy(coins)
                )
                passed &= self._meets(candidates, attempt_lanes.places[:, waiting])
                chosen = waiting[passed]
                rows.put(torch.from_numpy(chosen), candidates.take(torch.from_numpy(np.flatnonzero(passed))))
                block_places[front[:, None], chosen] = attempt_lanes.places[:, chosen]
                proposals += len(waiting)
                waiting = waiting[~passed]
                if not len(waiting):
                    break
            else:
                raise ConditionError(
                    f"{self.conditions.said}: too improbable to sample ({_MOST_ATTEMPTS} proposals for one row); "
                    "relax one of them"
                )
            with self._counting:
                self.proposals += proposals
                self.accepted += shares.shape[1]
        for number, column in enumerate(self._rest, len(self._front)):
            drawing.draw(rows, number, shares[column])
        return [stacked(rows), block_places]

    def _propose(self, drawing: Drawing, rows: Rows, shares: Tensor, coins: Tensor) -> Mask:
        """Draw the front columns; bool[n]: which rows are accepted.

        Args:
            drawing: Draws them.
            rows: The columns are added to these.
            shares: Uniform numbers [front columns, n] that choose the codes.
            coins: Uniform numbers [front columns, n] that decide whether a row is accepted.
        """
        passed = torch.ones(shares.shape[1], dtype=torch.bool)
        all_certain = True  # whether every column so far can have one code only
        for number, column in enumerate(self._front):
            probability = drawing.draw(rows, number, shares[number])
            certain = all_certain and self._single(column)
            if probability is not None and not certain:
                # After columns that are the same in all rows, the probability is the same too: no row is rejected.
                passed &= probability > 0 if all_certain else coins[number] < probability
            all_certain = certain
        return np.asarray(passed.numpy())

    def _meets(self, rows: Rows, lanes: NDArray[np.uint32]) -> Mask:
        """bool[n]: which rows pass the tests of computed columns; ``lanes`` are 32-bit places [front columns, n]."""
        count = lanes.shape[1]
        passed = np.ones(count, np.bool_)
        if not self._tests:
            return passed
        codes = np.zeros((len(self._model.coding.columns), count), np.int16)
        for column, column_codes in rows.codes.items():
            codes[column] = column_codes.numpy()
        computed = self.writer.computed_values(
            codes, lambda column: places(lanes[self._front.index(column)]), tuple(self._tests)
        )
        for name, test in self._tests.items():
            passed &= test(computed[name])
        return passed


class _Compiler:
    """Turns conditions into factors of codes and tests of computed columns.

    Attributes:
        columns: The learned columns; those under a test have only the pieces of segments that pass it.
        allowed: Per tested learned column, by number: float64[size], factors in 0 to 1 of its codes; the largest is 1.
        tests: Per computed column that is drawn until it passes: bool[n] of its values.
        drawn_for: Per such column: the learned columns that it depends on.
    """

    def __init__(self, model: AutoregressiveParameters, conditions: Conditions) -> None:
        self._model = model
        self.columns = list(model.coding.columns)
        self.allowed: dict[int, NDArray[np.float64]] = {}
        self.tests: dict[str, Callable[[Values], Mask]] = {}
        self.drawn_for: dict[str, set[int]] = {}
        self._relations = {r.name: r for r in model.coding.relations}
        for name in conditions.columns:
            if name not in model.fits:
                raise ConditionError(f"no column {name!r}{nearest_name(name, list(model.fits))}")
            self._enter(name, conditions.on(name))
        for column, factors in self.allowed.items():
            if not factors.any():
                raise ConditionError(
                    f"{conditions.said}: contradictory: nothing is left of {self.columns[column].name!r}"
                )
            # Only ratios matter. A single value of a column without a grid is a very small share of its code.
            self.allowed[column] = factors / factors.max()

    def _enter(self, name: str, tests: Sequence[Condition]) -> None:
        fit = self._model.fits[name]
        if fit.treatment in ("id", "pii"):
            raise ConditionError(
                f"column {name!r} is made from the row number, not learned: it cannot be conditioned on"
            )
        want_missing = wanted_missing(tests)
        valued = [test for test in tests if test.operator != "null"]
        if want_missing and valued:
            raise ConditionError(f"column {name!r}: cannot be missing and have a value")
        if fit.treatment == "relation":
            self._computed(name, want_missing, valued)
            return
        if fit.treatment == "empty":
            if valued or not want_missing:
                raise ConditionError(f"column {name!r} is always missing in the model")
            return
        if fit.treatment == "constant":
            if want_missing:
                raise ConditionError(f"column {name!r} is never missing in the model: drop isnull({name})")
            if valued:
                select(fit, self._model.forms[name], valued)
            return
        number = self._model.writer.number[name]
        column = self._model.coding.columns[number]
        if want_missing:
            if not column.nullable:
                raise ConditionError(f"column {name!r} is never missing in the model: drop isnull({name})")
            factors = np.zeros(column.size)
            factors[-1] = 1.0
        elif valued:
            self.columns[number], present = _cut(column, select(fit, self._model.forms[name], valued).parts)
            factors = np.append(present, 0.0) if column.nullable else present
        else:
            factors = np.append(np.ones(len(column.ends)), 0.0) if column.nullable else np.ones(column.size)
        self._restrict(number, factors)

    def _restrict(self, number: int, factors: NDArray[np.float64]) -> None:
        known = self.allowed.get(number)
        self.allowed[number] = factors if known is None else known * (factors > 0)

    def _computed(self, name: str, want_missing: bool | None, tests: Sequence[Condition]) -> None:
        """Enter the tests of a computed column: as factors of its one parent's codes, or as a test of drawn rows."""
        passes = self._passing(name, want_missing, tests)
        writer = self._model.writer
        if name in writer.tables:
            number = writer.tables[name][0]
            column = self._model.coding.columns[number]
            codes = np.zeros((len(self.columns), column.size), np.int16)
            codes[number] = np.arange(column.size)
            raw = writer.raw(name, codes)
            mask = passes(raw)
            if not mask.any():
                raise ConditionError(f"column {name!r}: no value of {column.name!r} gives that")
            self._restrict(number, mask.astype(np.float64))
            return
        self.tests[name] = passes
        self.drawn_for[name] = self._parents(self._relations[name])

    def _parents(self, relation: Relation) -> set[int]:
        """Numbers of the learned columns that a computed one depends on."""
        numbers: set[int] = set()
        for name in relation.parents:
            if name in self._relations:
                numbers |= self._parents(self._relations[name])
            elif name in self._model.writer.number:
                numbers.add(self._model.writer.number[name])
        return numbers

    def _passing(self, name: str, want_missing: bool | None, tests: Sequence[Condition]) -> Callable[[Values], Mask]:
        fit, form = self._model.fits[name], self._model.forms[name]

        def passes(values: Values) -> Mask:
            raw, absent = values
            if not tests:
                return absent if want_missing else ~absent
            if absent.all():
                return np.zeros(len(absent), np.bool_)
            points = np.unique(raw[~absent].astype(np.float64))
            marginal = Marginal("axis" if fit.categories is None else "category", np.ones(len(points)), points, points)
            try:
                selection = select(replace(fit, marginal=marginal), form, tests)
            except ConditionError:  # none of these rows has such a value; another may
                return np.zeros(len(absent), np.bool_)
            return np.asarray(np.isin(raw.astype(np.float64), points[sorted(selection.parts)]) & ~absent)

        return passes


def _cut(
    column: BinnedColumn, parts: dict[int, list[tuple[float, float, float]]]
) -> tuple[BinnedColumn, NDArray[np.float64]]:
    """A column with only the pieces of its segments that pass, and the share float64[m] of each code that passes.

    Args:
        column: The column.
        parts: Per segment that passes at least in part: ``(low, high, share of the segment)`` of each piece.
    """
    marginal = column.fit.marginal
    assert marginal is not None
    probability: list[float] = []
    lo: list[float] = []
    hi: list[float] = []
    ends, share = [], []
    first = 0
    for last in column.ends.tolist():
        passing = 0.0
        for segment in range(first, last):
            for low, high, part in parts.get(segment, []):
                mass = float(marginal.probability[segment]) * part
                passing += mass
                probability.append(mass)
                lo.append(low)
                hi.append(high)
        share.append(min(1.0, passing / float(marginal.probability[first:last].sum())))
        if passing == 0.0:  # this code is never drawn, but every code needs a segment
            probability.append(1e-12)
            lo.append(float(marginal.lo[first]))
            hi.append(float(marginal.lo[first]))
        ends.append(len(lo))
        first = last
    cut = Marginal(marginal.kind, np.array(probability), np.array(lo), np.array(hi), marginal.p_missing)
    return BinnedColumn(replace(column.fit, marginal=cut), np.array(ends, np.int64), column.nullable), np.array(share)
