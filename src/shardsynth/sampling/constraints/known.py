"""Rows of which some columns are known, under constraints: what a model is told of them, and what they break.

A model knows the inner table. A known value of a constrained column is *told* where it follows from known columns of
the inner table: a gap where both of its columns are known, a combination where its known part leaves one choice. What
is not told (an end whose start is not known) has to be met by choosing among completed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.gaps import filled, hidden_where
from shardsynth.data.values import decoded, kind_of, taken
from shardsynth.sampling.constraints.combined import JOINT, CombinationStep, OneHotStep
from shardsynth.sampling.constraints.compared import ComparedColumns
from shardsynth.sampling.constraints.increments import IncrementStep
from shardsynth.sampling.constraints.ordered import OrderedStep
from shardsynth.sampling.constraints.partial_order import PartialOrderStep
from shardsynth.sampling.constraints.step import Arrays, Mask, Step, missing_of
from shardsynth.sampling.constraints.table import TableConstraints

Floats = NDArray[np.float64]

#: Distance of a row that lacks a value which it should have.
_LACKS = 1e6


@dataclass(frozen=True)
class Choices:
    """Rows whose known values leave several combinations.

    Attributes:
        name: Joint column.
        labels: By group of rows with the same known part: the combinations that are left; none where the model holds
            none.
        group: int64[n], each row's group; -1 where nothing of the combination is known, or it is told.
    """

    name: str
    labels: tuple[tuple[str, ...], ...]
    group: NDArray[np.int64]

    @property
    def nothing_left(self) -> Mask:
        """bool[n]: rows whose known part no combination of the model has."""
        return np.array([not labels for labels in self.labels] + [False], np.bool_)[self.group]


@dataclass(frozen=True)
class KnownRows:
    """Known rows as a model is told of them.

    Attributes:
        rows: The known columns of the table, each of n rows.
        inner: Known columns of the inner table; null where not known.
        untold: By column of the table: bool[n], rows whose known value is not told.
        choices: Of each combination whose known part leaves several.
    """

    rows: Mapping[str, pa.Array]
    inner: dict[str, pa.Array]
    untold: dict[str, Mask]
    choices: tuple[Choices, ...]


def described(step: Step) -> str:
    """A constraint in words."""
    return f"{step.declared['class_name']} of {', '.join(step.columns)}"


def broken_by(table: TableConstraints, rows: Mapping[str, pa.Array], n: int) -> Iterator[tuple[str, Mask]]:
    """Each constraint that known values break by themselves: in words, and bool[n], the rows.

    A combination of categories is not looked at: a model does not hold those of too few rows.
    """
    for step in table.steps:
        if isinstance(step, CombinationStep) or not set(step.columns) & set(rows):
            continue
        arrays = _with_nulls(table, step.columns, rows, n)
        broken = _broken_one_hot(step, arrays) if isinstance(step, OneHotStep) else ~step.valid(arrays, n)
        if broken.any():
            yield described(step), broken
    for program in table.programs:
        if {field.name for field in table.schema} <= set(rows):
            broken = ~program.valid(
                pa.RecordBatch.from_arrays([rows[f.name] for f in table.schema], table.schema.names)
            )
            if broken.any():
                yield program.declared["class_name"], broken


def _broken_one_hot(step: OneHotStep, arrays: Arrays) -> Mask:
    values = np.stack([OneHotStep.number(arrays[name]) for name in step.columns])
    absent = np.isnan(values)
    ones, zeros = (values == 1).sum(axis=0), (values == 0).sum(axis=0)
    neither = ~absent & (values != 1) & (values != 0)
    return np.asarray((ones > 1) | neither.any(axis=0) | (zeros == len(values)))


def _with_nulls(table: TableConstraints, names: tuple[str, ...], rows: Mapping[str, pa.Array], n: int) -> Arrays:
    return {name: rows[name] if name in rows else pa.nulls(n, table.base.field(name).type) for name in names}


def known_rows(
    table: TableConstraints, rows: Mapping[str, pa.Array], n: int, categories: Callable[[str], pa.Array | None]
) -> KnownRows:
    """Known rows as a model is told of them.

    Args:
        table: The constraints.
        rows: Known columns of the table, plain or dictionary arrays of n values; null and NaN are not known.
        n: Number of rows.
        categories: Gives the categories that the model holds of a joint column.
    """
    untouched = set(table.schema.names)
    for program in table.programs:
        untouched &= program.untouched
    inner = {f.name: rows[f.name] for f in table.inner if f.name in rows and f.name in untouched}
    present = {name: ~missing_of(array) for name, array in rows.items()}
    untold = {name: present[name] for name in rows if name not in untouched}
    choices = []
    for step in table.steps:
        if not set(step.replaced) & set(rows):
            continue
        arrays = _with_nulls(table, step.columns, rows, n)
        here = {name: present.get(name, np.zeros(n, np.bool_)) for name in step.columns}
        if isinstance(step, (CombinationStep, OneHotStep)):
            held = categories(step.name)
            told, choice = _joint(step, arrays, here, n, pa.array([], pa.string()) if held is None else held)
            inner[step.name] = told
            choices.append(choice)
        elif isinstance(step, IncrementStep):
            inner.update(step.transform(arrays))
        elif isinstance(step, OrderedStep):
            untold.update(_ordered(step, arrays, here, set(rows), inner))
        elif isinstance(step, PartialOrderStep):
            untold.update(_partial(step, arrays, here, set(rows), inner))
    return KnownRows(rows, inner, untold, tuple(choices))


def _ordered(
    step: OrderedStep, arrays: Arrays, here: Mapping[str, Mask], given: set[str], inner: dict[str, pa.Array]
) -> dict[str, Mask]:
    """Add the gaps that are known to ``inner``; returns by column the rows whose value is not told."""
    transformed = step.transform(arrays)
    names = step.columns
    first = here[names[0]]
    if step.anchored and names[0] in given:
        anchor, which = step.names[-2:]
        inner[anchor] = hidden_where(transformed[anchor], pa.array(~first))
        codes = transformed[which]
        inner[which] = pa.DictionaryArray.from_arrays(hidden_where(codes.indices, pa.array(~first)), codes.dictionary)
    told, untold = first, {names[0]: np.zeros_like(first)} if names[0] in given else {}
    for low, high, gap in zip(names, names[1:], step.names):
        both = here[low] & here[high]
        if {low, high} <= given:
            inner[gap] = hidden_where(transformed[gap], pa.array(~both))
        told = told & both
        if high in given:
            untold[high] = here[high] & ~told
    return untold


def _partial(
    step: PartialOrderStep, arrays: Arrays, here: Mapping[str, Mask], given: set[str], inner: dict[str, pa.Array]
) -> dict[str, Mask]:
    """As ``_ordered``, of a partial order."""
    transformed = step.transform(arrays)
    names = step.columns
    told: list[Mask] = []
    untold = {}
    for i, (name, gap) in enumerate(zip(names, step.gaps)):
        below = [low for low, high, _ in step.edges if high == i]
        own = here[name]
        if gap:
            known = own.copy()
            for low in below:
                known &= here[names[low]]
            if {name, *(names[low] for low in below)} <= given:
                inner[gap] = hidden_where(transformed[gap], pa.array(~known))
            own = known
            for low in below:
                own = own & told[low]
            if name in given:
                untold[name] = here[name] & ~own
        told.append(own)
    return untold


def _joint(
    step: CombinationStep | OneHotStep, arrays: Arrays, here: Mapping[str, Mask], n: int, held: pa.Array
) -> tuple[pa.Array, Choices]:
    """The joint column where it is told, and what else the known parts leave."""
    labels = pa.array(held.to_pylist(), pa.string())
    size = len(labels)
    joint = pa.DictionaryArray.from_arrays(pa.array(np.arange(size, dtype=np.int32)), labels).cast(JOINT)
    values, unusable = step.restore({step.name: joint}, size)
    codes = np.full(n, -1, np.int64)
    group = np.full(n, -1, np.int64)
    left: list[tuple[str, ...]] = []
    texts = labels.to_pylist()
    pattern = np.zeros(n, np.int64)
    for place, name in enumerate(step.columns):
        pattern |= here[name].astype(np.int64) << place
    for which in np.unique(pattern[pattern > 0]).tolist():
        names = [name for place, name in enumerate(step.columns) if which >> place & 1]
        rows = np.flatnonzero(pattern == which)
        places = pa.array(rows)
        keys = _keys(step, names, {name: taken(decoded(arrays[name]), places) for name in names})
        of_key: dict[str, list[int]] = {}
        for place, key in enumerate(_texts(_keys(step, names, {name: decoded(values[name]) for name in names}))):
            if not unusable[place]:
                of_key.setdefault(key, []).append(place)
        lacking = [name for name in step.columns if name not in names]
        absent = {name: missing_of(values[name]) for name in lacking}
        groups = np.full(len(keys.dictionary), -1, np.int64)
        single = np.full(len(keys.dictionary), -1, np.int64)
        for number, key in enumerate(keys.dictionary.to_pylist()):
            places = of_key.get(key, [])
            # What is filled in is not missing, if the model holds such a combination.
            places = [p for p in places if not any(absent[name][p] for name in lacking)] or places
            if len(places) == 1:
                single[number] = places[0]
            else:
                groups[number] = len(left)
                left.append(tuple(texts[p] for p in places))
        of_row = keys.indices.to_numpy(zero_copy_only=False)
        codes[rows], group[rows] = single[of_row], groups[of_row]
    told = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), labels).cast(JOINT)
    return told, Choices(step.name, tuple(left), group)


def _keys(step: CombinationStep | OneHotStep, names: list[str], arrays: Arrays) -> pa.DictionaryArray:
    """Each row's values in some of the columns, as text."""
    constrained = tuple(c for c in step.constrained if c.column.name in names)
    if isinstance(step, OneHotStep):  # a flag is a number of any type
        arrays = {name: pa.array(OneHotStep.number(array)) for name, array in arrays.items()}
    return CombinationStep(step.declared, constrained).labels(arrays)


def _texts(keys: pa.DictionaryArray) -> list[str]:
    labels = keys.dictionary.to_pylist()
    return [labels[code] for code in keys.indices.to_pylist()]


def overwritten(batch: pa.RecordBatch, rows: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with the known values in place of its own."""
    arrays = [
        filled(rows[f.name], batch.column(f.name)) if f.name in rows else batch.column(f.name) for f in batch.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def distance(table: TableConstraints, batch: pa.RecordBatch, known: KnownRows, places: NDArray[np.int64]) -> Floats:
    """How far completed rows lie from the known values, at these places, that are not told, float64[n].

    A number counts by its difference in spreads of its column, any other value as 0 or 1. A gap of such a column is
    to be filled, too.
    """
    total = np.zeros(batch.num_rows)
    compared = _compared_columns(table)
    for name, mask in known.untold.items():
        wanted, found = taken(known.rows[name], pa.array(places)), batch.column(name)
        lacking = missing_of(found)
        if name in compared:
            columns, place = compared[name]
            spread = _spread(columns, place)
            (a, _), (b, _) = columns.values(place, wanted), columns.values(place, found)
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64)) / spread
        else:
            apart = 1.0 - np.asarray(
                pc.fill_null(pc.equal(decoded(wanted), decoded(found)), False).to_numpy(zero_copy_only=False),
                np.float64,
            )
        total += np.where(lacking, _LACKS, np.where(mask[places], apart, 0.0))
    return total


def _compared_columns(table: TableConstraints) -> dict[str, tuple[ComparedColumns, int]]:
    """By name: the columns that orders compare, and the place of each among those of its step."""
    found: dict[str, tuple[ComparedColumns, int]] = {}
    for step in table.steps:
        if isinstance(step, (OrderedStep, PartialOrderStep)):
            columns = ComparedColumns(step.constrained)
            found.update({name: (columns, place) for place, name in enumerate(step.columns)})
    return found


def _spread(columns: ComparedColumns, place: int) -> float:
    """Distance between a column's ends, in the unit of ``ComparedColumns.values``."""
    column = columns.constrained[place]
    width = column.high - column.low
    if not np.isfinite(width) or width <= 0:
        return 1.0
    return float(width * columns.per_axis(place))


def in_order(
    table: TableConstraints, drawn: pa.RecordBatch, rows: Mapping[str, pa.Array], *, widened: bool
) -> pa.RecordBatch:
    """Drawn rows with the known values, and their own values moved so that the orders hold.

    What lies below a known value is shifted by the difference of the known to the drawn one, so that gaps stay as they
    were drawn. Then each value is put between those that must lie below and above it.

    Args:
        table: The constraints.
        drawn: Rows as they were drawn.
        rows: Their known values.
        widened: Whether values may be moved beyond the ends of the training values.
    """
    batch = overwritten(drawn, rows)
    arrays = {name: batch.column(name) for name in batch.schema.names}
    for step in table.steps:
        if isinstance(step, (OrderedStep, PartialOrderStep)) and set(step.columns) & set(rows):
            arrays.update(_moved(step, drawn, arrays, rows, widened))
    return pa.RecordBatch.from_arrays([arrays[f.name] for f in batch.schema], schema=batch.schema)


def _moved(
    step: OrderedStep | PartialOrderStep,
    drawn: pa.RecordBatch,
    arrays: Arrays,
    rows: Mapping[str, pa.Array],
    widened: bool,
) -> dict[str, pa.Array]:
    size = len(step.columns)
    if isinstance(step, PartialOrderStep):
        edges = list(step.edges)
    else:
        edges = [(low, high, step.strict) for high in range(size) for low in range(high)]
    constrained = step.constrained
    if widened:
        constrained = tuple(
            c if kind_of(c.column.type) == "decimal" else replace(c, low=-np.inf, high=np.inf) for c in constrained
        )
    columns = ComparedColumns(constrained)
    read = [columns.values(i, arrays[name]) for i, name in enumerate(step.columns)]
    values, missing = [v.copy() for v, _ in read], [m for _, m in read]
    n = len(values[0])
    fixed = [~missing_of(rows[name]) if name in rows else np.zeros(n, np.bool_) for name in step.columns]
    step_of = [ComparedColumns(step.constrained).least_step(i) for i in range(size)]
    shift = [np.zeros(n, values[0].dtype) for _ in range(size)]
    largest = 2**62 if columns.whole else np.inf
    ceiling = [np.full(n, largest, values[0].dtype) for _ in range(size)]
    for i in reversed(range(size)):
        if step.columns[i] in rows:
            before, none_before = columns.values(i, drawn.column(step.columns[i]))
            excess = np.where(fixed[i] & ~none_before, before - values[i], 0)
            shift[i] = np.where(fixed[i], excess, shift[i])
        for low, high, strict in edges:
            if low == i:
                top = np.where(fixed[high] & ~missing[high], values[high], ceiling[high])
                ceiling[i] = np.minimum(ceiling[i], np.where(top >= largest, top, top - step_of[i] * strict))
            elif high == i and not missing[i].all():
                shift[low] = np.where(missing[i], shift[low], shift[i])  # the nearest one above counts
        values[i] = np.where(fixed[i] | missing[i], values[i], np.minimum(values[i] - shift[i], ceiling[i]))
    moved: dict[str, pa.Array] = {}
    for i, name in enumerate(step.columns):
        floor, has_floor = values[i].copy(), np.zeros(n, np.bool_)
        for low, high, strict in edges:
            if high == i:
                least = values[low] + step_of[i] * strict
                floor = np.where(~missing[low] & (~has_floor | (least > floor)), least, floor)
                has_floor |= ~missing[low]
        if fixed[i].all():
            continue
        value = np.where(has_floor & ~fixed[i], np.maximum(values[i], floor), values[i])
        written: dict[str, pa.Array] = {}
        columns.put(written, i, value, missing[i], np.where(has_floor, floor, value))
        moved[name] = filled(rows[name], written[name]) if name in rows else written[name]
        values[i] = np.where(missing[i], values[i], columns.values(i, moved[name])[0])
    return moved
