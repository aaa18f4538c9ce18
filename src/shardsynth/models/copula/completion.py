"""Rows completed by a copula: known values stay, and the others are drawn given them.

A known value says in which segment of its column's quantile function the row lies. (The place inside a segment does not
depend on the other columns.) So every row has its own box for the latents of the known columns. These latents are drawn
exactly by ``sampling.tilting`` or, where they are many or the row is improbable, by ``sampling.gibbs``; the others come
from the conditional Gaussian. A completed row is a function of the
model, the seed, its number and its known values; it does not depend on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.gaps import filled
from shardsynth.data.values import axis, decoded, without_view
from shardsynth.errors import ConditionError
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.forms import StorageForm
from shardsynth.models.columns.known import check_columns, warn_of_unknown
from shardsynth.models.copula.block_kernel import kernel_of
from shardsynth.models.copula.boxes import END, open_ends
from shardsynth.models.copula.columns import finished, make_draw_plan
from shardsynth.models.copula.tables import Integers, check_exact, odd
from shardsynth.sampling.gibbs import draw_in_boxes
from shardsynth.sampling.streams import random_words, stream_key, uniforms
from shardsynth.sampling.tilting import Boxes, TiltedSampler

if TYPE_CHECKING:
    from shardsynth.models.copula.parameters import CopulaParameters

Mask = NDArray[np.bool_]

_ROWS_AT_ONCE = 4_096
#: Known latents up to which rows are drawn by tilted proposals, and proposals of a row; else by Gibbs sampling.
_MOST_TILTED, _MOST_ATTEMPTS = 12, 200


def complete(model: CopulaParameters, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
    """Fill in the columns that rows lack, and the gaps in those that they have.

    The columns of ``rows`` then have no gaps. The other columns are drawn as usual, with missing values. A value
    between those that the model holds counts as the nearest of them, and stays as it is in the output.

    Args:
        model: The model.
        rows: Some of the model's columns, in the input's types.
        seed: Any integer.
        first_row: Global number of the first row, so that parts of a table can be completed separately.

    Returns:
        The rows in the model's schema, in their order.

    Raises:
        ConditionError: A computed column without all of its parents.
        InputError: A column is not the model's, or not of its type.
    """
    check_columns(model.schema, rows)
    known_columns = [
        _known_column(model, i, rows) for i, name in enumerate(model.schema.names) if name in rows.column_names
    ]
    located = {known.column.name: known for known in known_columns if known.segments is not None}
    _check_computed(model, rows)
    latents, low, high = _boxes(model, located, rows.num_rows)
    plan = make_draw_plan(model.columns, model.latents, model.cuts, model.relations, model.forms)
    factor = model.mixing.given(latents)
    check_exact(factor.whole, max(int(model.levels.max()), END))
    draw = _Boxed(model, latents, low, high, first_row)
    kernel = kernel_of(factor, model.levels, plan.channels, fixed=draw if latents else None)
    n = rows.num_rows
    outputs = kernel.draw(stream_key(seed, f"{model.name}/complete"), first_row, n)
    for column in located.values():  # relations are computed from the known values
        if column.column.categories is None:
            latent, output = plan.sources[column.column.name]
            stored = model.forms[column.column.name].of_raw(column.values)
            outputs[latent][output] = np.where(column.missing, outputs[latent][output], stored)
    drawn = finished(plan.with_rules(model.rules, model.columns, latents), outputs, n)
    arrays = []
    for place, field in enumerate(model.schema):
        drawn_array = model.array(place, drawn, first_row, n)
        arrays.append(filled(rows[field.name], drawn_array) if field.name in rows.column_names else drawn_array)
    return pa.Table.from_arrays(arrays, schema=model.schema)


@dataclass(frozen=True)
class _KnownColumn:
    """A column of the rows, and where its values lie in the model.

    Attributes:
        column: The fitted column.
        missing: bool[n], where it has no value.
        values: float64[n], axis values; 0 for categories.
        segments: int64[n], segments of its quantile function; None for a column that no latent drives.
    """

    column: FittedColumn
    missing: Mask
    values: NDArray[np.float64]
    segments: Integers | None


def _known_column(model: CopulaParameters, place: int, rows: pa.Table) -> _KnownColumn:
    column, field = model.columns[place], model.schema.field(place)
    array = decoded(rows[column.name])
    missing = np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
    no_values = np.zeros(len(array))
    if column.treatment != "latent" or column.marginal is None:
        return _KnownColumn(column, missing, no_values, None)
    if column.categories is not None:
        plain = without_view(array)
        index = pc.index_in(plain, value_set=column.categories.cast(plain.type))
        codes = np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64)
        segment_of = np.full(len(column.categories) + 1, -1, np.int64)
        segment_of[column.marginal.lo.astype(np.int64)] = np.arange(len(column.marginal.lo))
        segments = segment_of[codes]
        unknown = (segments < 0) & ~missing
        warn_of_unknown(column.name, unknown)
        return _KnownColumn(column, missing | unknown, no_values, segments)
    described = Column(column.name, field.type, "datetime" if column.role == "datetime" else "numerical", column.role,
                       _options(model.forms[column.name]))  # fmt: skip
    values, _ = axis(described, rows[column.name])
    values = np.where(missing, column.marginal.lo[0], values)
    between = 0.5 * column.marginal.hi[:-1] + 0.5 * column.marginal.lo[1:]
    return _KnownColumn(column, missing, values, np.searchsorted(between, values, side="right").astype(np.int64))


def _options(form: StorageForm) -> dict[str, Any]:
    return {"datetime_format": form.datetime_format} if form.datetime_format else {}


def _check_computed(model: CopulaParameters, rows: pa.Table) -> None:
    """ConditionError where a computed column is known, but not all columns that it is computed from."""
    for relation in model.relations:
        lacking = [name for name in relation.parents if name not in rows.column_names]
        if relation.name in rows.column_names and lacking:
            raise ConditionError(
                f"column {relation.name!r} is computed ({relation.describe()}): "
                f"give {', '.join(map(repr, lacking))} too"
            )


def _boxes(model: CopulaParameters, located: dict[str, _KnownColumn], n: int) -> tuple[list[int], Integers, Integers]:
    """Latents of the known columns, and the interval of each row in each of them: low and high ends int64[n, c]."""
    place = {column.name: i for i, column in enumerate(model.columns)}
    numbers = {place[name]: column for name, column in located.items()}
    latents, lows, highs = [], [], []
    for number, latent in enumerate(model.latents):
        if latent.kind == "missing":
            if any(column in numbers for column in latent.columns):
                latents.append(number)
                lows.append(np.full(n, -END))
                highs.append(np.full(n, int(model.cuts[number][0])))
        elif latent.columns[0] in numbers:
            column = numbers[latent.columns[0]]
            assert column.segments is not None
            edges = np.concatenate([[-END], model.cuts[number], [END]])
            segments = np.where(column.missing, 0, column.segments)
            latents.append(number)
            lows.append(np.where(column.missing, -END, edges[segments]))
            highs.append(np.where(column.missing, END, edges[segments + 1]))
    empty = np.zeros((n, 0), np.int64)
    return latents, np.stack(lows, axis=1) if lows else empty, np.stack(highs, axis=1) if highs else empty


class _Boxed:
    """Draws the conditioned latents of rows, each row in its own box; a ``kernel.Fixed``."""

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
        out = np.empty_like(low)
        waiting = np.arange(len(low))
        if low.shape[1] <= _MOST_TILTED:
            waiting = self._exactly(key, first_row, low, high, out)
        if len(waiting):
            start, stop = int(waiting[0]), int(waiting[-1]) + 1

            def round_of(sweep: int) -> NDArray[np.float64]:
                layer = _MOST_ATTEMPTS + 1 + sweep
                words = random_words(key, first_row + start, stop - start, low.shape[1], layer=layer)
                return uniforms(words[waiting - start])

            ends = open_ends(low[waiting]), open_ends(high[waiting])
            points = draw_in_boxes(self._correlation, *ends, round_of)
            out[waiting] = np.clip(odd(points), low[waiting] + 1, high[waiting] - 1)
        return out

    def _exactly(
        self, key: tuple[int, int], first_row: int, low: Integers, high: Integers, out: Integers
    ) -> NDArray[np.int64]:
        """Draw rows into ``out`` by tilted proposals; returns the numbers of those that none was accepted for."""
        ends, box = np.unique(np.concatenate([low, high], axis=1), axis=0, return_inverse=True)
        size, box = low.shape[1], box.reshape(-1)
        sampler = TiltedSampler(
            self._correlation, Boxes(open_ends(ends[:, :size]), open_ends(ends[:, size:]), np.ones(len(ends)))
        )
        waiting = np.arange(len(low))
        for attempt in range(_MOST_ATTEMPTS):
            start, stop = int(waiting[0]), int(waiting[-1]) + 1
            words = random_words(key, first_row + start, stop - start, sampler.uniforms, layer=attempt + 1)
            points, accepted, _ = sampler.propose(uniforms(words[waiting - start]), box[waiting])
            points = np.clip(odd(points), low[waiting] + 1, high[waiting] - 1)
            out[waiting[accepted]] = points[accepted]
            waiting = waiting[~accepted]
            if not len(waiting):
                break
        return waiting
