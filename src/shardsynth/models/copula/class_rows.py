"""Drawing and completing rows of a copula with rare classes: each row by the quantile functions of its group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.values import axis, decoded, taken, without_view
from shardsynth.models.columns.class_marginals import distribution
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.copula.block_kernel import kernel_of
from shardsynth.models.copula.classes import Group
from shardsynth.models.copula.columns import DrawPlan, make_draw_plan, uneven_latents
from shardsynth.models.copula.kernel import Fixed, Kernel
from shardsynth.models.copula.tables import GRID, Integers
from shardsynth.sampling.streams import chunk_seed, random_words, stream_key, uniforms

if TYPE_CHECKING:
    from shardsynth.models.copula.parameters import CopulaParameters

Floats = NDArray[np.float64]
Outputs = list[list[NDArray[Any]]]
_Model = TypeVar("_Model", bound="CopulaParameters")

#: Rows of a class are drawn one by one if they are at most this share of all: the others of their class cost nothing.
_FEW = 1 / 200
#: Times that the target of a row which is of no rare class is drawn.
_TRIES = 16
#: Half the width of the window, as a share of a column's range, in which a known value is weighed.
_WINDOW = 1 / 500


def of_group(model: _Model, group: Group) -> _Model:
    """The copula with the quantile functions of one group."""
    columns, cuts = list(model.columns), list(model.cuts)
    for index, column in group.columns.items():
        columns[index] = column
    for latent, own in group.cuts.items():
        cuts[latent] = own
    return replace(model, columns=tuple(columns), cuts=tuple(cuts), groups=(), target=-1)


@dataclass
class Remembered:
    """A ``kernel.Fixed`` whose draws are kept, so that the kernels of all groups get the same ones."""

    draw: Fixed

    def __post_init__(self) -> None:
        self.kept: dict[tuple[int, int], Integers] = {}

    def __call__(self, key: tuple[int, int], first_row: int, n: int) -> Integers:
        """See ``kernel.Fixed``."""
        if (first_row, n) not in self.kept:
            self.kept[first_row, n] = self.draw(key, first_row, n)
        return self.kept[first_row, n]


class GroupedKernel:
    """The samplers of all groups of a model, which draw from the same latents; used as a ``Kernel``.

    Args:
        plan: Draw plan of the first group, the rows of no rare class.
        kernels: One per group.
        groups: Those of the model.
        target: Latent of the target.
        remembered: What draws the conditioned latents, if there are any.
    """

    def __init__(
        self,
        plan: DrawPlan,
        kernels: Sequence[Kernel],
        groups: Sequence[Group],
        target: int,
        remembered: Remembered | None = None,
    ) -> None:
        self._kernels, self._groups, self._target, self._remembered = kernels, groups, target, remembered
        self._channel = plan.channels[target]

    def draw(self, key: tuple[int, int], first_row: int, n: int) -> Outputs:
        """See ``Kernel.draw``."""
        outputs = self._kernels[0].draw(key, first_row, n)
        drawn = outputs[self._target][0]
        for group, kernel in zip(self._groups[1:], self._kernels[1:]):
            rows = np.flatnonzero(self._in_segments(drawn, group.segments))
            if not len(rows):
                continue
            if self._remembered is None and len(rows) <= _FEW * n:
                for row in rows.tolist():
                    self._copy(outputs, kernel.draw(key, first_row + row, 1), [row], [0])
            else:
                self._copy(outputs, kernel.draw(key, first_row, n), rows, rows)
        if self._remembered is not None:
            self._remembered.kept.clear()
        return outputs

    def _in_segments(self, drawn: NDArray[Any], segments: Sequence[int]) -> NDArray[np.bool_]:
        if self._channel.is_bit:
            return np.isin(drawn.view(np.int8), segments)
        return np.isin(drawn, self._channel.tables[0][list(segments)])

    @staticmethod
    def _copy(outputs: Outputs, other: Outputs, rows: Any, places: Any) -> None:
        """All outputs: conditions may cut other columns than those of the group, and not the same in each."""
        for targets, sources in zip(outputs, other):
            for target, source in zip(targets, sources):
                target[rows] = source[places]


def grouped_sampler(model: CopulaParameters) -> tuple[DrawPlan, GroupedKernel]:
    """Draw plan and sampler of a model with groups."""
    plans, kernels = [], []
    models = [of_group(model, group) for group in model.groups]
    uneven = uneven_latents(model.latents, [own.columns for own in models])
    for own in models:
        plan = make_draw_plan(own.columns, own.latents, own.cuts, own.relations, own.forms, uneven)
        plans.append(plan)
        kernels.append(kernel_of(model.mixing, model.levels, plan.channels))
    kernel = GroupedKernel(plans[0], kernels, model.groups, target_latent(model))
    return plans[0].with_rules(model.rules, model.columns), kernel


def target_latent(model: CopulaParameters) -> int:
    """Latent of the target of a model with groups."""
    return next(k for k, x in enumerate(model.latents) if x.kind == "value" and x.columns[0] == model.target)


def completed_by_group(model: Any, rows: pa.Table, seed: int, first_row: int, complete: Any) -> pa.Table:
    """Rows completed by a model with groups.

    The group of a row follows from its target. Where that is not known, the group is drawn by the known values of the
    columns that differ between groups.

    Args:
        model: The model.
        rows: As ``completion.complete``.
        seed: Likewise.
        first_row: Likewise.
        complete: ``completion.complete``, for a model without groups.
    """
    n = rows.num_rows
    name = model.schema.names[model.target]
    column = model.columns[model.target]
    field = model.schema.field(model.target)
    number = np.full(n, -1)
    told = np.zeros(n, np.bool_)
    segment_of = {int(code): k for k, code in enumerate(column.marginal.lo.tolist())}
    group_of = {k: g for g, group in enumerate(model.groups) for k in group.segments}
    if name in rows.column_names:
        found = _codes(column.categories, rows[name])
        number = np.array([group_of.get(segment_of.get(int(code), -1), -1) for code in found.tolist()], np.int64)
        told = number >= 0
    drawn_groups = _drawn_groups(model, rows, seed, first_row)
    number = np.where(told, number, drawn_groups)
    result = complete(of_group(model, model.groups[0]), rows, seed, first_row)
    for attempt in range(1, _TRIES):
        places = np.flatnonzero(~told & (number == 0) & _is_rare(model, result[name], group_of, segment_of))
        if not len(places):
            break
        again = chunk_seed(seed, "complete another class", attempt)
        result = _with_rows(result, complete, of_group(model, model.groups[0]), rows, again, first_row, places)
    for g, group in enumerate(model.groups[1:], 1):
        places = np.flatnonzero(number == g)
        if not len(places):
            continue
        value = column.categories.take(pa.array([int(column.marginal.lo[group.segments[0]])]))
        known = pa.array(np.where(number == g, 0, -1))
        mine = value.take(pc.if_else(pc.less(known, 0), None, known))
        if name in rows.column_names:
            plain = without_view(decoded(rows[name]))
            mine = pc.coalesce(plain, mine.cast(plain.type))
        mine = _typed(mine, field.type)
        others = rows.drop_columns([name]) if name in rows.column_names else rows
        result = _with_rows(
            result, complete, of_group(model, group), others.append_column(field, mine), seed, first_row, places
        )
    return result


def _codes(categories: pa.Array, array: pa.ChunkedArray) -> Integers:
    """Code of each value among the categories, int64[n]; -1 where it has none."""
    plain = without_view(decoded(array))
    return np.asarray(pc.fill_null(pc.index_in(plain, value_set=categories.cast(plain.type)), -1), np.int64)


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return values.cast(kind)
    coded = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        coded.indices.cast(kind.index_type), coded.dictionary.cast(kind.value_type), ordered=kind.ordered
    )


def _is_rare(
    model: Any, array: pa.ChunkedArray, group_of: Mapping[int, int], segment_of: Mapping[int, int]
) -> NDArray[np.bool_]:
    categories = model.columns[model.target].categories
    codes = _codes(categories, array)
    rare = np.array([group_of.get(segment_of.get(code, -1), 0) > 0 for code in range(len(categories))] + [False])
    return np.asarray(rare[codes])


def _with_rows(
    result: pa.Table, complete: Any, model: Any, rows: pa.Table, seed: int, first_row: int, places: Integers
) -> pa.Table:
    """The result with some of its rows completed otherwise."""
    start, stop = int(places[0]), int(places[-1]) + 1
    other = complete(model, rows.slice(start, stop - start), seed, first_row + start)
    whole = pa.concat_tables([result, other]).unify_dictionaries().combine_chunks()
    place = np.arange(result.num_rows)
    place[places] = result.num_rows + places - start
    arrays = [taken(column, pa.array(place)) for column in whole.columns]
    return pa.Table.from_arrays(arrays, schema=whole.schema)


def _drawn_groups(model: Any, rows: pa.Table, seed: int, first_row: int) -> Integers:
    """A group of each row, int64[n], drawn as if the known columns did not depend on each other inside a group."""
    from scipy.special import ndtr

    latent = target_latent(model)
    edges = ndtr(np.concatenate([[-np.inf], model.cuts[latent] / GRID, [np.inf]]))
    mass = np.diff(edges)
    weight = np.array([[mass[list(group.segments)].sum()] for group in model.groups]).repeat(rows.num_rows, axis=1)
    for index in model.groups[0].columns:
        name = model.schema.names[index]
        if name not in rows.column_names:
            continue
        likelihood = np.array([_likelihood(model, group.columns[index], rows[name]) for group in model.groups])
        weight = weight * np.where(likelihood.sum(axis=0) > 0, likelihood, 1.0)
    total = weight.sum(axis=0)
    share = np.cumsum(weight / np.where(total > 0, total, 1.0), axis=0)
    u = uniforms(random_words(stream_key(seed, f"{model.name}/class"), first_row, rows.num_rows, 1))[:, 0]
    return np.asarray(np.minimum((u[None, :] > share).sum(axis=0), len(model.groups) - 1), np.int64)


def _likelihood(model: Any, column: FittedColumn, array: pa.ChunkedArray) -> Floats:
    """About the probability of each known value in a group; 1 where it is missing."""
    marginal = column.marginal
    assert marginal is not None
    plain = decoded(array)
    missing = np.asarray(plain.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
    if column.categories is not None:
        codes = _codes(column.categories, array)
        share = np.zeros(len(column.categories) + 1)
        share[marginal.lo.astype(np.int64)] = marginal.probability
        return np.where(missing | (codes < 0), 1.0, share[codes])
    form = model.forms[column.name]
    options = {"datetime_format": form.datetime_format} if form.datetime_format else {}
    sdtype = "datetime" if column.role == "datetime" else "numerical"
    values, _ = axis(Column(column.name, array.type, sdtype, column.role, options), array)
    whole = model.columns[model.schema.names.index(column.name)].marginal
    width = _WINDOW * float(whole.hi[-1] - whole.lo[0])
    values = np.where(missing, whole.lo[0], values)
    distinct, inverse = np.unique(values, return_inverse=True)
    near = distribution(marginal, distinct + width) - distribution(marginal, distinct - width)
    return np.where(missing, 1.0, np.maximum(near, 1e-12)[inverse.reshape(-1)])
