"""Rows completed by a copula: what a row has stays, what it lacks is drawn given it.

A given value says in which segment of its column's quantile function the row lies (inside a segment the place does not
depend on the other columns), so that every row has a box of its own for the latents of the given columns. Those are
drawn by ``sampling.tilting``, exactly, and the others from the conditional Gaussian. As everywhere, a completed row is
a function of the model, the seed, its number and what was given, whatever the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.values import axis, decoded
from shardsynth.errors import ConditionError
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.forms import StorageForm
from shardsynth.models.columns.known import check_columns
from shardsynth.models.copula.boxes import END, open_ends
from shardsynth.models.copula.columns import finished, make_plan
from shardsynth.models.copula.conditions import given_factor
from shardsynth.models.copula.kernel import Kernel
from shardsynth.models.copula.tables import Integers, check_exact, odd
from shardsynth.sampling.streams import random_words, stream_key, uniforms
from shardsynth.sampling.tilting import Boxes, TiltedSampler

if TYPE_CHECKING:
    from shardsynth.models.copula.parameters import CopulaParameters

Mask = NDArray[np.bool_]

_ROWS_AT_ONCE = 4_096
_MOST_ATTEMPTS = 5_000


def complete(model: CopulaParameters, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
    """Fill in the columns that rows lack, and the gaps in those that they have.

    A column of ``rows`` has no gap afterwards; the other columns are drawn as usual, missing values included. A value
    between those that the model holds counts as the nearest of them; it stays what it is.

    Args:
        model: The model.
        rows: Some of the model's columns, in the input's types.
        seed: Any integer.
        first_row: Global number of the first row: parts of a table can be completed on their own.

    Returns:
        The rows in the model's schema, in their order.

    Raises:
        ConditionError: A category that the model did not learn, or a computed column without what it is computed of.
        InputError: A column is not the model's, or not of its type.
    """
    check_columns(model.schema, rows)
    given = [_given(model, i, rows) for i, name in enumerate(model.schema.names) if name in rows.column_names]
    known = {g.column.name: g for g in given if g.segments is not None}
    _check_computed(model, rows)
    latents, low, high = _boxes(model, known, rows.num_rows)
    plan = make_plan(model.columns, model.latents, model.cuts, model.relations, model.forms)
    factor = given_factor(model.factor.astype(np.int64), latents)
    check_exact(factor, max(int(model.levels.max()), END))
    draw = _Boxed(model, latents, low, high, first_row)
    kernel = Kernel(factor, model.levels, plan.channels, fixed=draw if latents else None, conditioned=len(latents))
    n = rows.num_rows
    outputs = kernel.draw(stream_key(seed, f"{model.name}/complete"), first_row, n)
    for one in known.values():  # what is computed is computed of the given values
        if one.column.categories is None:
            latent, output = plan.sources[one.column.name]
            stored = model.forms[one.column.name].of_raw(one.values)
            outputs[latent][output] = np.where(one.missing, outputs[latent][output], stored)
    drawn = finished(plan, outputs, n)
    arrays = []
    for place, field in enumerate(model.schema):
        made = model.array(place, drawn, first_row, n)
        arrays.append(_filled(rows[field.name], made) if field.name in rows.column_names else made)
    return pa.Table.from_arrays(arrays, schema=model.schema)


@dataclass(frozen=True)
class _Given:
    """A column of the rows: where its values lie in the model; nothing to be known of columns that are not latents."""

    column: FittedColumn
    missing: Mask
    values: NDArray[np.float64]
    segments: Integers | None


def _given(model: CopulaParameters, place: int, rows: pa.Table) -> _Given:
    column, field = model.columns[place], model.schema.field(place)
    array = decoded(rows[column.name])
    missing = np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
    nothing = np.zeros(len(array))
    if column.treatment != "latent" or column.marginal is None:
        return _Given(column, missing, nothing, None)
    if column.categories is not None:
        index = pc.index_in(array, value_set=column.categories.cast(array.type))
        codes = np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64)
        segment_of = np.full(len(column.categories) + 1, -1, np.int64)
        segment_of[column.marginal.lo.astype(np.int64)] = np.arange(len(column.marginal.lo))
        segments = segment_of[codes]
        if (segments[~missing] < 0).any():
            row = int(np.flatnonzero((segments < 0) & ~missing)[0])
            raise ConditionError(f"column {column.name!r}, row {row}: a category that the model did not learn")
        return _Given(column, missing, nothing, segments)
    described = Column(column.name, field.type, "datetime" if column.role == "datetime" else "numerical", column.role,
                       _options(model.forms[column.name]))  # fmt: skip
    values, _ = axis(described, rows[column.name])
    values = np.where(missing, column.marginal.lo[0], values)
    between = 0.5 * (column.marginal.hi[:-1] + column.marginal.lo[1:])
    return _Given(column, missing, values, np.searchsorted(between, values, side="right").astype(np.int64))


def _options(form: StorageForm) -> dict[str, Any]:
    return {"datetime_format": form.datetime_format} if form.datetime_format else {}


def _check_computed(model: CopulaParameters, rows: pa.Table) -> None:
    """ConditionError where a computed column is given without all that it is computed of."""
    for relation in model.relations:
        lacking = [name for name in relation.parents if name not in rows.column_names]
        if relation.name in rows.column_names and lacking:
            raise ConditionError(
                f"column {relation.name!r} is computed ({relation.describe()}): "
                f"give {', '.join(map(repr, lacking))} too"
            )


def _boxes(model: CopulaParameters, known: dict[str, _Given], n: int) -> tuple[list[int], Integers, Integers]:
    """Latents of the given columns, and each row's interval of each, int64[n, c]."""
    place = {column.name: i for i, column in enumerate(model.columns)}
    numbers = {place[name]: one for name, one in known.items()}
    latents, lows, highs = [], [], []
    for number, latent in enumerate(model.latents):
        if latent.kind == "missing":
            if any(column in numbers for column in latent.columns):
                latents.append(number)
                lows.append(np.full(n, -END))
                highs.append(np.full(n, int(model.cuts[number][0])))
        elif latent.columns[0] in numbers:
            one = numbers[latent.columns[0]]
            assert one.segments is not None
            edges = np.concatenate([[-END], model.cuts[number], [END]])
            segments = np.where(one.missing, 0, one.segments)
            latents.append(number)
            lows.append(np.where(one.missing, -END, edges[segments]))
            highs.append(np.where(one.missing, END, edges[segments + 1]))
    empty = np.zeros((n, 0), np.int64)
    return latents, np.stack(lows, axis=1) if lows else empty, np.stack(highs, axis=1) if highs else empty


class _Boxed:
    """Draws the conditioned latents of rows, each in its own box; a ``kernel.Fixed``."""

    def __init__(
        self, model: CopulaParameters, latents: list[int], low: Integers, high: Integers, first_row: int
    ) -> None:
        self._correlation = model.correlation[np.ix_(latents, latents)]
        self._low, self._high, self._first = low, high, first_row

    def __call__(self, key: tuple[int, int], first_row: int, n: int) -> Integers:
        out = np.empty((n, len(self._correlation)), np.int64)
        start = first_row - self._first
        for begin in range(0, n, _ROWS_AT_ONCE):
            rows = slice(start + begin, start + min(begin + _ROWS_AT_ONCE, n))
            out[begin : begin + _ROWS_AT_ONCE] = self._some(key, first_row + begin, self._low[rows], self._high[rows])
        return out

    def _some(self, key: tuple[int, int], first_row: int, low: Integers, high: Integers) -> Integers:
        ends, box = np.unique(np.concatenate([low, high], axis=1), axis=0, return_inverse=True)
        size, box = low.shape[1], box.reshape(-1)
        sampler = TiltedSampler(
            self._correlation, Boxes(open_ends(ends[:, :size]), open_ends(ends[:, size:]), np.ones(len(ends)))
        )
        out, waiting = np.empty_like(low), np.arange(len(low))
        for attempt in range(_MOST_ATTEMPTS):
            start, stop = int(waiting[0]), int(waiting[-1]) + 1
            words = random_words(key, first_row + start, stop - start, sampler.uniforms, layer=attempt + 1)
            points, accepted, _ = sampler.propose(uniforms(words[waiting - start]), box[waiting])
            points = np.clip(odd(points), low[waiting] + 1, high[waiting] - 1)
            out[waiting[accepted]] = points[accepted]
            waiting = waiting[~accepted]
            if not len(waiting):
                return out
        row = first_row + int(waiting[0])
        raise ConditionError(
            f"row {row}: too improbable to be completed ({_MOST_ATTEMPTS} proposals); give fewer values"
        )


def _filled(given: pa.ChunkedArray, drawn: pa.Array) -> pa.Array:
    """The given values, and the drawn ones in their gaps, in the given type."""
    absent = decoded(given).is_null(nan_is_null=True)
    if not pc.any(absent).as_py() and given.num_chunks == 1:
        return given.chunk(0)
    plain = pc.if_else(absent, decoded(drawn), decoded(given))
    if not pa.types.is_dictionary(given.type):
        return plain
    codes = pc.index_in(plain, value_set=drawn.dictionary)
    if codes.null_count > plain.null_count:  # a value that the model does not hold
        return plain.dictionary_encode().cast(given.type)
    return pa.DictionaryArray.from_arrays(
        codes.cast(given.type.index_type), drawn.dictionary, ordered=given.type.ordered
    )
