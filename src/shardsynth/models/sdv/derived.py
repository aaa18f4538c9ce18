"""Computed columns of a native copula as latents: SDV's copula can correlate columns, but not compute one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.values import axis
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.copula.dependence import polychoric
from shardsynth.models.copula.nearest import nearest_correlation

if TYPE_CHECKING:
    from shardsynth.models.copula.model import GaussianCopula

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROWS = 100_000
_BINS = 16
#: Weight of a computed column's correlations with its parents, against 1 for all others. No Gaussian latent can be
#: strongly correlated with both of two flags that exclude each other. Then the correlation of the flags is changed: if
#: they are rare, even a large change is hardly seen.
_PARENT = 30.0


@dataclass(frozen=True)
class Derived:
    """The computed columns as latents.

    Attributes:
        correlation: float64[d + k, d + k] of the model's d latents, then of the k computed columns that need one.
        latents: Computed column -> its latent.
        marginals: Computed column -> its marginal, from drawn rows.
        missing: Computed column -> share of missing values.
        functions: Computed column that is one-to-one with a category -> its values (None: missing) -> the interval of
            the category.
    """

    correlation: Floats
    latents: dict[str, int] = field(default_factory=dict)
    marginals: dict[str, Marginal] = field(default_factory=dict)
    missing: dict[str, float] = field(default_factory=dict)
    functions: dict[str, dict[Any, list[float]]] = field(default_factory=dict)


def derive(model: GaussianCopula) -> Derived:
    """Latents, marginals and correlations of a model's computed columns, measured on rows that it draws."""
    correlation = np.array(model.correlation)
    names = [relation.name for relation in model.relations]
    derived = Derived(correlation)
    if not names:
        return derived
    batch = model.draw(1, 0, _ROWS)
    values = {model.columns[x.columns[0]].name: k for k, x in enumerate(model.latents) if x.kind == "value"}
    by_name = {column.name: column for column in model.columns}
    for relation in model.relations:
        parent = by_name[relation.parents[0]]
        alone = len(relation.parents) == 1 and parent.name in values and parent.categories is not None
        if alone and _one_to_one(batch[parent.name], batch[relation.name]):
            derived.functions[relation.name] = _mapped(batch, parent.name, relation.name, parent, model)
            derived.latents[relation.name] = values[parent.name]
    correlated = [name for name in names if name not in derived.functions]
    codes = {name: _codes(model, by_name[name], batch) for name in (*values, *correlated)}
    for name in correlated:
        derived.marginals[name], derived.missing[name] = _marginal(model, by_name[name], batch)
    if not correlated:
        return derived
    size = len(correlation)
    matrix = np.eye(size + len(correlated))
    matrix[:size, :size] = correlation
    at = {**{place: name for name, place in values.items()}, **{size + k: name for k, name in enumerate(correlated)}}
    pairs = [(size + k, place) for k in range(len(correlated)) for place in at if place < size + k]
    measured = polychoric([_table(codes[at[i]], codes[at[j]]) for i, j in pairs]).correlation
    parents = {(r.name, parent) for r in model.relations for parent in r.parents}
    weight = np.ones_like(matrix)
    for (i, j), r in zip(pairs, measured):
        matrix[i, j] = matrix[j, i] = r
        weight[i, j] = weight[j, i] = _PARENT if (at[i], at[j]) in parents else 1.0
    derived.latents.update({name: size + k for k, name in enumerate(correlated)})
    return replace(derived, correlation=nearest_correlation(matrix, weight))


def _plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _one_to_one(left: pa.Array, right: pa.Array) -> bool:
    table = pa.table({"a": _plain(left), "b": _plain(right)})
    pairs = table.group_by(["a", "b"]).aggregate([])
    return len(pairs) == len(pc.unique(pairs["a"])) == len(pc.unique(pairs["b"]))


def _mapped(
    batch: pa.RecordBatch, parent: str, child: str, column: FittedColumn, model: GaussianCopula
) -> dict[Any, list[float]]:
    """Value of the child -> interval of its parent's category; categories that were not drawn go to the next one."""
    pairs = pa.table({"a": _plain(batch[parent]), "b": _plain(batch[child])}).group_by(["a", "b"]).aggregate([])
    value_of = dict(zip(pairs["a"].to_pylist(), pairs["b"].to_pylist()))
    assert column.marginal is not None and column.categories is not None
    labels = column.categories.to_pylist()
    share = next(
        (x.p_missing for x in model.latents if x.kind == "missing" and _index(model, parent) in x.columns), 0.0
    )
    intervals: dict[Any, list[float]] = {}
    start = 0.0
    for place, end in zip(column.marginal.lo.astype(int), column.marginal.cumulative * (1.0 - share)):
        if labels[place] in value_of and end > start:
            intervals[value_of[labels[place]]] = [start, float(end)]
            start = float(end)
    if share > 0:
        intervals[None] = [start, 1.0]
    intervals[next(reversed(intervals))][1] = 1.0
    return intervals


def _index(model: GaussianCopula, name: str) -> int:
    return int(model.schema.get_field_index(name))


def _axis(model: GaussianCopula, column: FittedColumn, array: pa.Array) -> tuple[Floats, NDArray[np.bool_]]:
    options = {"datetime_format": model.formats[column.name]} if column.name in model.formats else {}
    kind = model.schema.field(column.name).type
    return axis(Column(column.name, kind, column.role, column.role, options), array)


def _codes(model: GaussianCopula, column: FittedColumn, batch: pa.RecordBatch) -> tuple[Integers, NDArray[np.bool_]]:
    """Codes int64[n] of a column's values in latent order, at most ``_BINS`` of them; and which are missing."""
    array = batch[column.name]
    if column.categories is not None:
        positions = pc.index_in(_plain(array), value_set=column.categories)
        missing = np.asarray(positions.is_null().to_numpy(zero_copy_only=False))
        codes = positions.fill_null(0).to_numpy().astype(np.int64)
        if column.marginal is not None:
            rank = np.zeros(len(column.categories), dtype=np.int64)
            rank[column.marginal.lo.astype(np.int64)] = np.arange(len(column.marginal.lo))
            codes = rank[codes]
        shares = np.bincount(codes[~missing], minlength=len(column.categories)).astype(np.float64)
        middle = (np.cumsum(shares) - 0.5 * shares) / max(shares.sum(), 1.0)
        group_of = np.arange(len(shares)) if len(shares) <= _BINS else (middle * _BINS).astype(np.int64)
        return group_of[codes], missing
    values, missing = _axis(model, column, array)
    cuts = np.unique(np.quantile(values[~missing], np.arange(1, _BINS) / _BINS)) if (~missing).any() else np.zeros(0)
    return np.searchsorted(cuts, np.where(missing, 0.0, values), side="left").astype(np.int64), missing


def _table(first: tuple[Integers, NDArray[np.bool_]], second: tuple[Integers, NDArray[np.bool_]]) -> Integers:
    both = ~(first[1] | second[1])
    left, right = first[0][both], second[0][both]
    rows, columns = int(first[0].max(initial=0)) + 1, int(second[0].max(initial=0)) + 1
    return np.bincount(left * columns + right, minlength=rows * columns).reshape(rows, columns)


def _marginal(model: GaussianCopula, column: FittedColumn, batch: pa.RecordBatch) -> tuple[Marginal, float]:
    """Marginal of a computed column in drawn rows, and its share of missing values."""
    array = batch[column.name]
    if column.categories is not None:
        positions = pc.index_in(_plain(array), value_set=column.categories)
        rows = np.bincount(positions.drop_null().to_numpy(), minlength=len(column.categories)).astype(np.float64)
        index = np.flatnonzero(rows).astype(np.float64)
        return Marginal("category", rows[rows > 0] / rows.sum(), index, index), positions.null_count / len(array)
    values, missing = _axis(model, column, array)
    points, count = np.unique(values[~missing], return_counts=True)
    return Marginal("axis", count / count.sum(), points, points), float(missing.mean())
