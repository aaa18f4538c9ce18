"""Completed rows of a model that was fitted under constraints: they keep their known values and every constraint.

The model completes rows of the inner table, told of what is known there. Where that does not say all (an end whose
start is not known), a row is completed several times, and the valid one is taken that lies nearest to its known values.
Where none is valid, a combination is drawn among those that its known part leaves, and values are moved into order. A
completed row is a function of the model, the seed, its number and its known values.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.gaps import filled, hidden_where
from shardsynth.data.values import decoded, taken, without_view
from shardsynth.errors import ConditionError, InputError
from shardsynth.models.base import NativeModel
from shardsynth.models.columns.known import UnknownCategory, check_columns, named_rows
from shardsynth.sampling import identifiers
from shardsynth.sampling.conditions import Condition, Conditions
from shardsynth.sampling.constraints.combined import JOINT, CombinationStep, OneHotStep
from shardsynth.sampling.constraints.known import (
    Choices,
    broken_by,
    described,
    distance,
    in_order,
    known_rows,
    overwritten,
)
from shardsynth.sampling.constraints.ordered import OrderedStep
from shardsynth.sampling.constraints.partial_order import PartialOrderStep
from shardsynth.sampling.constraints.step import Mask, missing_of
from shardsynth.sampling.constraints.table import TableConstraints
from shardsynth.sampling.streams import chunk_seed, random_words, stream_key
from shardsynth.sources.computed_rows import computed_rows, tell_parents

#: Rows that are completed together, several times each.
_ROWS_AT_ONCE = 4_096
#: Times that a row is completed where its known values do not say all, and rows that are so completed together.
_TRIES, _ROWS_TRIED = 24, 512
#: Distance of a row that breaks orders only, which moving its values mends, and of one that breaks another constraint;
#: of one that could not be restored, it is infinite.
_UNORDERED, _INVALID = 1e12, 2e12
#: What is added where a known value is not what it is computed as, when the values are in order.
_DISAGREES = 1e4
#: Combinations that are drawn for one known part of them.
_POOL = 256


def complete(model: NativeModel, table: TableConstraints, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
    """Rows with what they lack drawn, given what they have, under constraints.

    Args:
        model: A model of the inner table that completes rows.
        table: The constraints.
        rows: Some or all of the table's columns.
        seed: Any integer.
        first_row: Global number of the first row, so that parts of a table can be completed separately.

    Returns:
        The rows in the table's schema, in their order. Where a row cannot be completed, the columns of the constraint
        stay missing, and a warning names the row.

    Raises:
        ConditionError: The model cannot complete rows, or a row that cannot be completed must not have missing values.
        InputError: A column is not the table's, or known values break a constraint.
    """
    check_columns(table.schema, rows)
    check_known(table, rows, first_row)
    completed = [
        _Completion(model, table, rows.slice(begin, _ROWS_AT_ONCE), seed, first_row + begin).batch()
        for begin in range(0, rows.num_rows, _ROWS_AT_ONCE)
    ]
    if not completed:
        return table.schema.empty_table()
    return pa.Table.from_batches(completed, table.schema).unify_dictionaries()


def with_keys(model: NativeModel, completed: pa.Table, rows: pa.Table, first_row: int) -> pa.Table:
    """Completed rows with ids and personal data of other row numbers, where these were not known.

    Args:
        model: The model.
        completed: The completed rows.
        rows: The known columns.
        first_row: Number of the first row.
    """
    for place, field in enumerate(completed.schema):
        if field.name in model.generators:
            made = identifiers.make(model.generators[field.name], field.type, first_row, completed.num_rows)
            made = filled(rows[field.name], made) if field.name in rows.column_names else made
            completed = completed.set_column(place, field, made)
    return completed


def check_known(table: TableConstraints, rows: pa.Table, first_row: int = 0) -> None:
    """InputError where known values break a constraint: the constraint and the rows."""
    broken = list(broken_by(table, arrays_of(rows), rows.num_rows))
    if broken:
        raise InputError(broken_text([(what, first_row + np.flatnonzero(mask)) for what, mask in broken]))


def broken_text(broken: list[tuple[str, NDArray[np.int64]]]) -> str:
    """Constraints that known values break, with the numbers of the rows, as a message."""
    parts = [f"{what}: {len(rows):,} row(s) break it (row {named_rows(rows)})" for what, rows in broken]
    return (
        f"known values break the constraints of the model: {'; '.join(parts)}; rows are counted from 0; correct these "
        "values, or leave them out and let the model draw them"
    )


def arrays_of(rows: pa.Table) -> dict[str, pa.Array]:
    """The columns, one array each."""
    arrays = {}
    for name in rows.column_names:
        array = rows[name].combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.nulls(0, array.type)
        arrays[name] = array
    return arrays


class _Completion:
    """Some rows, completed together."""

    def __init__(self, model: NativeModel, table: TableConstraints, rows: pa.Table, seed: int, first: int) -> None:
        self.model, self.table, self.seed, self.first = model, table, seed, first
        self.n = rows.num_rows
        self.rows = arrays_of(rows)
        fitted = {column.name: column for column in model.fitted}
        self.known = known_rows(table, self.rows, self.n, lambda name: fitted[name].categories)
        tell_parents(model, table, self.known)
        for step in table.steps:  # what is computed of other columns is not told: these are drawn
            for replacement in step.replacements:
                name = replacement.field.name
                if name in self.known.inner and fitted[name].treatment == "relation":
                    del self.known.inner[name]
                    for column in set(step.columns) & set(self.rows):
                        self.known.untold[column] = ~missing_of(self.rows[column])
        self.joint = [step for step in table.steps if isinstance(step, (CombinationStep, OneHotStep)) and step.name]

    def batch(self) -> pa.RecordBatch:
        """The completed rows."""
        unheld = self._unheld()
        state = self._first()
        state = self._improved(state, self.known.inner, state[2] > 0, "complete again")
        choices = [c for c in self.known.choices if any(c.labels) and c.name in self.known.inner]
        if choices and (state[2] >= _UNORDERED).any():
            chosen = {**self.known.inner, **{choice.name: self._chosen(choice) for choice in choices}}
            state = self._improved(state, chosen, state[2] >= _UNORDERED, "complete with a choice")
        best, usable, apart = state
        done = (apart < _UNORDERED) & computed_rows(self.table, overwritten(best, self.rows), self.rows)[1]
        untold = self._untold()
        for widened in (False, True):
            wanted = ~done if widened else untold | ~done
            if not wanted.any():
                continue
            moved, agree = computed_rows(self.table, in_order(self.table, best, self.rows, widened=widened), self.rows)
            valid = wanted & usable & agree & np.logical_and(*self._kept(moved, best, np.arange(self.n)))
            best = _joined([best, moved], np.where(valid, self.n, 0) + np.arange(self.n))
            done = done | valid
        best, _ = computed_rows(self.table, overwritten(best, self.rows), self.rows)
        return best if done.all() and not unheld.any() else self._with_gaps(best, done)

    def _untold(self) -> Mask:
        """bool[n]: rows with a known value that the model is not told of."""
        untold: Mask = np.zeros(self.n, np.bool_)
        for mask in self.known.untold.values():
            untold = untold | mask
        return untold

    def _unheld(self) -> Mask:
        """bool[n]: rows whose known part of a combination no combination of the model has; a warning names them."""
        unheld: Mask = np.zeros(self.n, np.bool_)
        for choice in self.known.choices:
            rows = choice.nothing_left
            if rows.any():
                step = next(step for step in self.joint if step.name == choice.name)
                warnings.warn(
                    f"{described(step)}: {int(rows.sum()):,} row(s) have a combination that the model did not learn, "
                    f"or that too few of its rows had; they keep it, and what they lack of it stays missing (row "
                    f"{named_rows(self.first + np.flatnonzero(rows))})",
                    UnknownCategory,
                    stacklevel=2,
                )
                unheld |= rows
        return unheld

    def _first(self) -> tuple[pa.RecordBatch, Mask, NDArray[np.float64]]:
        """The first completion of each row; bool[n]: those that restored; how far each lies from its known values."""
        everything = np.arange(self.n)
        drawn, usable = self._drawn(self.known.inner, self.seed, self.first, self.n)
        return drawn, usable, np.where(usable, self._apart(drawn, everything), np.inf)

    def _nearer(
        self, inner: Mapping[str, pa.Array], waiting: Mask, stream: str
    ) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64], NDArray[np.float64]]]:
        """Of many completions of each waiting row, the valid one nearest to its known values.

        Yields:
            Rows as drawn; their places; how far each lies from its known values.
        """
        for start in range(0, self.n, _ROWS_TRIED):
            places = np.arange(start, min(start + _ROWS_TRIED, self.n))
            needed = waiting[places]
            if not needed.any():
                continue
            repeated = pa.array(np.repeat(places, _TRIES))
            hidden = pa.array(np.repeat(~needed, _TRIES))  # rows of which nothing is known cost least
            told = {name: hidden_where(taken(array, repeated), hidden) for name, array in inner.items()}
            seed = chunk_seed(self.seed, stream, 0)
            drawn, restored = self._drawn(told, seed, (self.first + start) * _TRIES, len(repeated))
            apart = np.where(restored, self._apart(drawn, np.repeat(places, _TRIES)), np.inf).reshape(-1, _TRIES)
            nearest = apart.argmin(axis=1)
            rows = np.flatnonzero(needed)
            chosen = rows * _TRIES + nearest[rows]
            yield _rows(drawn, chosen), places[rows], apart[rows, nearest[rows]]

    def _improved(
        self,
        state: tuple[pa.RecordBatch, Mask, NDArray[np.float64]],
        inner: Mapping[str, pa.Array],
        waiting: Mask,
        stream: str,
    ) -> tuple[pa.RecordBatch, Mask, NDArray[np.float64]]:
        """The completions so far, as ``_first`` gives them, with nearer ones in place of some."""
        best, usable, apart = state
        batches, source = [best], np.arange(self.n)
        size = self.n
        for drawn, places, found in self._nearer(inner, waiting, stream):
            better = found < apart[places]
            source[places[better]] = size + np.flatnonzero(better)
            usable[places[better]] = True  # the distance of the others is infinite
            apart[places[better]] = found[better]
            batches.append(drawn)
            size += drawn.num_rows
        return _joined(batches, source), usable, apart

    def _apart(self, drawn: pa.RecordBatch, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """How far drawn rows lie from the known values at these places, or what they break."""
        known = self._known_at(places)
        with_known = overwritten(drawn, known)
        orders, others = self._kept(with_known, drawn, places)
        apart = distance(self.table, drawn, self.known, places)
        if any(column.name in known for column in self.table.computed):
            moved = in_order(self.table, drawn, known, widened=False)
            apart += np.where(computed_rows(self.table, moved, known)[1], 0.0, _DISAGREES)
        apart = np.where(orders, apart, _UNORDERED)
        return np.where(others, apart, _INVALID)

    def _known_at(self, places: NDArray[np.int64]) -> dict[str, pa.Array]:
        return {name: taken(array, pa.array(places)) for name, array in self.rows.items()}

    def _drawn(self, inner: Mapping[str, pa.Array], seed: int, first: int, n: int) -> tuple[pa.RecordBatch, Mask]:
        """Completed rows in the table's schema, and which of them could be restored.

        Known values that the model was not told of are not in them.
        """
        if inner:
            with warnings.catch_warnings():
                if seed != self.seed:
                    warnings.simplefilter("ignore", UnknownCategory)
                completed = arrays_of(self.model.complete(pa.table(list(inner.values()), list(inner)), seed, first))
            batch = pa.RecordBatch.from_arrays(list(completed.values()), schema=self.model.schema)
        else:
            batch = self.model.draw(seed, first, n)
        drawn, valid = self.table.restore(batch)
        usable = valid if self.table.programs else np.ones(n, np.bool_)
        for step in self.joint:
            usable = usable & ~step.restore({step.name: batch.column(step.name)}, n)[1]
        return drawn, usable

    def _kept(self, rows: pa.RecordBatch, drawn: pa.RecordBatch, places: NDArray[np.int64]) -> tuple[Mask, Mask]:
        """With their known values: bool[n], rows that keep every order; bool[n], those that keep all else.

        Args:
            rows: With the known values.
            drawn: As they were drawn: a combination must be one that was drawn.
            places: Places of the rows among all.
        """
        arrays = {name: rows.column(name) for name in rows.schema.names}
        orders, others = np.ones(rows.num_rows, np.bool_), self.table.present(arrays, rows.num_rows)
        steps = [step for step in self.table.steps if set(step.columns) <= set(arrays)]
        for step, mask in zip_longest(steps, self.table.valid(rows)):
            (orders if isinstance(step, (OrderedStep, PartialOrderStep)) else others)[~mask] = False
        choices = {choice.name: choice for choice in self.known.choices}
        for step in self.joint:
            same = np.ones(rows.num_rows, np.bool_)
            for name in set(step.columns) & set(self.rows):
                given = taken(self.rows[name], pa.array(places))
                same &= _equal(given, drawn.column(name)) | missing_of(given)
            if step.name in choices:
                same |= choices[step.name].nothing_left[places]
            others &= same
        return orders, others

    def _chosen(self, choice: Choices) -> pa.Array:
        """The joint column with one of the combinations that are left where it is not told."""
        told = self.known.inner[choice.name]
        words = random_words(stream_key(self.seed, f"{choice.name}/choose"), self.first, self.n, 1)[:, 0]
        chosen = told.dictionary_decode().to_pylist()
        pools: dict[tuple[str, ...], list[str]] = {}
        for row in np.flatnonzero(choice.group >= 0).tolist():
            labels = choice.labels[choice.group[row]]
            if labels:
                if labels not in pools:
                    pools[labels] = self._pool(choice.name, labels)
                pool = pools[labels]
                chosen[row] = pool[int(words[row] >> np.uint64(1)) % len(pool)]
        return pa.array(chosen, pa.string()).dictionary_encode().cast(JOINT)

    def _pool(self, name: str, labels: tuple[str, ...]) -> list[str]:
        """Combinations as often as the model draws them, of those that are left."""
        under = Conditions((Condition(name, "in", labels),))
        drawn = self.model.draw(chunk_seed(self.seed, f"{name}/pool", 0), 0, _POOL, under)
        return [str(label) for label in decoded(drawn.column(name)).to_pylist()]

    def _with_gaps(self, rows: pa.RecordBatch, done: Mask) -> pa.RecordBatch:
        """The rows; where no completion is valid, what they lack of the constraints' columns is missing."""
        arrays: dict[str, pa.Array] = {name: rows.column(name) for name in rows.schema.names}
        for choice in self.known.choices:
            step = next(step for step in self.joint if step.name == choice.name)
            self._empty(arrays, step.columns, choice.nothing_left)
        if not done.all():
            columns = {name for step in self.table.steps for name in step.columns}
            for computed in self.table.computed:
                columns |= {computed.name} if columns & set(computed.parents) else set()
            if self.table.programs:
                columns = set(self.table.schema.names)
            self._empty(arrays, tuple(columns), ~done)
            warnings.warn(
                f"{int((~done).sum()):,} row(s) cannot be completed under the constraints of the model: what they lack "
                f"of the constraints' columns stays missing (row {named_rows(self.first + np.flatnonzero(~done))})",
                UnknownCategory,
                stacklevel=2,
            )
        return pa.RecordBatch.from_arrays([arrays[name] for name in rows.schema.names], schema=rows.schema)

    def _empty(self, arrays: dict[str, pa.Array], names: tuple[str, ...], rows: Mask) -> None:
        """Make values that were drawn missing again."""
        for name in names:
            array = arrays[name]
            drawn = rows.copy()
            if name in self.rows:
                drawn &= np.asarray(self.rows[name].is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
            if not drawn.any():
                continue
            if not self.table.schema.field(name).nullable:
                raise ConditionError(
                    f"column {name!r} must not have missing values, and {int(drawn.sum()):,} row(s) cannot be "
                    f"completed under the constraints (row {named_rows(self.first + np.flatnonzero(drawn))}); leave "
                    "them out"
                )
            arrays[name] = hidden_where(array, pa.array(drawn))


def _equal(a: pa.Array, b: pa.Array) -> Mask:
    """bool[n]: equal values that are not missing."""
    return np.asarray(
        pc.fill_null(pc.equal(without_view(decoded(a)), without_view(decoded(b))), False).to_numpy(
            zero_copy_only=False
        ),
        np.bool_,
    )


def _joined(batches: Sequence[pa.RecordBatch], rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Rows of several batches, by their places in all of them."""
    whole = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    arrays = [taken(column.chunk(0), pa.array(rows)) for column in whole.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=batches[0].schema)


def _rows(batch: pa.RecordBatch, places: NDArray[np.int64]) -> pa.RecordBatch:
    """Rows of a batch by their places."""
    return pa.RecordBatch.from_arrays([taken(c, pa.array(places)) for c in batch.columns], schema=batch.schema)
