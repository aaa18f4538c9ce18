"""Rows of a deep model under conditions: one condition goes into the condition vector, all are met by rejection.

The condition vector of CTGAN and CopulaGAN can hold one category. It gets the rarest category that is asked for by
equality. All other tests, and all tests of a TVAE, accept or reject proposed rows. The rows under conditions are cut
into chunks of ``CHUNK`` rows. Each chunk has its own stream of proposals and takes the first that pass, so a row
depends on its number alone, and a task can make a chunk without the chunks before it.

A pilot decides whether enough proposals pass. Every task draws the same pilot, so all decide the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.errors import ConditionError
from shardsynth.models.columns.forms import StorageForm
from shardsynth.models.columns.selection import allowed_intervals, grid_step, nearest_name, select, wanted_missing
from shardsynth.models.ctgan.sampler import BLOCK, Drawn
from shardsynth.sampling.conditions import Condition, Conditions
from shardsynth.sampling.streams import stream_key

if TYPE_CHECKING:
    from shardsynth.models.ctgan.parameters import DeepParameters

Mask = NDArray[np.bool_]

#: Rows under conditions that share a stream of proposals.
CHUNK = 16_384
#: The pilot ends with so many accepted rows or after so many proposals. Fewer accepted than ``_LEAST`` are an error.
_PILOT_ACCEPTED, _PILOT_PROPOSALS, _LEAST = 400, 1 << 18, 13
_MOST_AT_ONCE = 32 * BLOCK


@dataclass(frozen=True)
class Test:
    """The test of one learned column.

    Attributes:
        number: Number of the column among the learned ones.
        missing: True: the value has to be missing; False: it must not be.
        categories: bool[categories], those that pass; None: all, or a numeric column.
        intervals: Closed intervals of axis values that pass; None: all, or a category column.
        step: Step of the column's grid; 0 without one.
    """

    number: int
    missing: bool
    categories: Mask | None = None
    intervals: tuple[tuple[float, float], ...] | None = None
    step: float = 0.0

    def passes(self, form: StorageForm, raw: NDArray[Any], absent: Mask | None) -> Mask:
        """bool[n]: which rows pass.

        Args:
            form: Storage form of the column.
            raw: Category indices or axis values [n].
            absent: bool[n], which are missing; None if none is.
        """
        if self.missing:
            return np.zeros(len(raw), np.bool_) if absent is None else absent
        mask = np.ones(len(raw), np.bool_) if absent is None else ~absent
        if self.categories is not None:
            mask &= self.categories[raw]
        elif self.intervals is not None:
            values, slack = form.axis(form.of_raw(raw)), 0.25 * self.step  # rounded as in the output
            inside = np.zeros(len(raw), np.bool_)
            for low, high in self.intervals:
                inside |= (values >= low - slack) & (values <= high + slack)
            mask &= inside
        return mask


class DeepConditions:
    """Conditions compiled for one model.

    Attributes:
        conditions: The conditions.
        rate: Share of the proposals that the pilot accepted.
        flat: Position in the condition vector that is set for all proposals; None: it is drawn, as without conditions.

    Raises:
        ConditionError: The conditions cannot be met, or too few rows of the pilot met them.
    """

    def __init__(self, model: DeepParameters, conditions: Conditions) -> None:
        self.conditions = conditions
        self._model = model
        self._name = f"{model.name} where {conditions}"
        self._tests = _compile(model, conditions)
        self.flat = _steering(model, self._tests) if model.options.is_gan else None
        proposed = accepted = 0
        key = stream_key(0, f"{self._name}: pilot")
        while accepted < _PILOT_ACCEPTED and proposed < _PILOT_PROPOSALS:
            accepted += int(self._mask(self._propose(key, proposed, 4 * BLOCK)).sum())
            proposed += 4 * BLOCK
        if accepted < _LEAST:
            raise ConditionError(
                f"{conditions.said}: of {proposed:,} rows that {model.name!r} ({model.options.family}) proposed, "
                f"{'none meets' if not accepted else f'only {accepted} meet'} this: relax a test, or use a "
                "gaussian_copula, which rejects no rows"
            )
        self.rate = accepted / proposed
        self._proposed = self._accepted = 0
        self._last: tuple[tuple[int, int], Drawn, int] | None = None

    def acceptance(self) -> dict[str, int]:
        """Proposals and accepted rows since the last call."""
        counts = {"proposals": self._proposed, "accepted": self._accepted}
        self._proposed = self._accepted = 0
        return counts

    def draw(self, seed: int, first_row: int, n: int) -> Drawn:
        """Rows ``first_row`` to ``first_row + n - 1`` of the rows under the conditions."""
        parts = []
        for chunk in range(first_row // CHUNK, -(-(first_row + n) // CHUNK)):
            start = chunk * CHUNK
            first, last = max(first_row - start, 0), min(first_row + n - start, CHUNK)
            parts.append(self._chunk(seed, chunk, last).slice(first, last))
        return Drawn.joined(parts) if parts else self._propose((0, 0), 0, 0)

    def _chunk(self, seed: int, chunk: int, needed: int) -> Drawn:
        """The first rows of a chunk, at least ``needed``; they are kept: the next range often needs the same chunk."""
        key = stream_key(seed, f"{self._name}: chunk {chunk}")
        rows, proposed = self._last[1:] if self._last is not None and self._last[0] == key else (None, 0)
        parts: list[Drawn] = [] if rows is None else [rows]
        accepted = sum(part.codes.shape[1] for part in parts)
        while accepted < needed:
            blocks = int(1.05 * (needed - accepted) / self.rate) // BLOCK + 1
            drawn = self._propose(key, proposed, min(blocks * BLOCK, _MOST_AT_ONCE))
            passing = np.flatnonzero(self._mask(drawn))
            parts.append(drawn.take(passing))
            accepted += len(passing)
            proposed += drawn.codes.shape[1]
            self._accepted += len(passing)
            self._proposed += drawn.codes.shape[1]
        rows = Drawn.joined(parts)
        self._last = key, rows, proposed
        return rows

    def _propose(self, key: tuple[int, int], first: int, n: int) -> Drawn:
        return self._model.sampler.draw(key, first, n, flat=self.flat, threads=self._model.threads)

    def _mask(self, drawn: Drawn) -> Mask:
        """bool[n]: which proposals pass all tests."""
        mask = np.ones(drawn.codes.shape[1], np.bool_)
        for test in self._tests:
            form = self._model.forms[self._model.coding.columns[test.number].name]
            mask &= test.passes(form, *self._model.raw(drawn, test.number))
        return mask


def _compile(model: DeepParameters, conditions: Conditions) -> list[Test]:
    """Tests of learned columns. Conditions on other columns are checked here: they always hold, or are an error."""
    table = {column.name: column for column in model.coding.table}
    learned = {column.name: number for number, column in enumerate(model.coding.columns)}
    tests = []
    for name in conditions.columns:
        column_tests = conditions.on(name)
        if name not in table:
            raise ConditionError(f"no column {name!r}{nearest_name(name, list(table))}")
        treatment = table[name].treatment
        if treatment in ("id", "pii"):
            raise ConditionError(
                f"column {name!r} is made from the row number, not learned: it cannot be conditioned on"
            )
        missing, values = wanted_missing(column_tests), [test for test in column_tests if test.operator != "null"]
        if missing and values:
            raise ConditionError(f"column {name!r}: cannot be missing and have a value")
        if treatment == "empty":
            if values or not missing:
                raise ConditionError(f"column {name!r} is always missing in the model")
            continue
        column = model.coding.columns[learned[name]] if name in learned else None
        if missing and (column is None or not (column.nullable or column.coin > 0)):
            raise ConditionError(f"column {name!r} is never missing in the model: drop isnull({name})")
        compiled = _test(model, learned.get(name, -1), model.forms[name], values, bool(missing))
        if name in learned:
            tests.append(compiled)
    return tests


def _test(model: DeepParameters, number: int, form: StorageForm, values: Sequence[Condition], missing: bool) -> Test:
    if not values:
        return Test(number, missing)
    column = form.column
    parts = select(column, form, values).parts  # ConditionError if no value of the column passes
    if column.categories is not None:
        assert column.marginal is not None
        passing = np.zeros(len(column.categories), np.bool_)
        passing[column.marginal.lo[sorted(parts)].astype(np.int64)] = True
        return Test(number, False, categories=passing)
    step = grid_step(column.precision)
    return Test(number, False, intervals=tuple(allowed_intervals(column, form, values, step)), step=step)


def _steering(model: DeepParameters, tests: Sequence[Test]) -> int | None:
    """Position in the condition vector of the rarest code that a test asks for; None if no test asks for one code."""
    layout, best = model.coding.layout, None
    place = {int(span): int(start) for span, start in zip(layout.conditional, layout.condition_start)}
    for test in tests:
        column = model.coding.columns[test.number]
        if column.is_axis:
            continue
        code = -1
        if test.missing:
            code = column.size - 1
        elif test.categories is not None and int(test.categories.sum()) == 1:
            assert column.learned is not None
            positions = np.flatnonzero(column.learned == int(np.flatnonzero(test.categories)[0]))
            code = int(positions[0]) if len(positions) else len(column.learned)  # a folded category has the token
        if code >= 0 and (best is None or column.share[code] < best[0]):
            best = float(column.share[code]), place[test.number] + code
    return None if best is None else best[1]
