"""Computed columns of a native model as latents of their own, since SDV's copula can only correlate."""

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
#: Weight of a computed column's correlation with what it is computed of. No Gaussian is strongly correlated with two
#: flags that exclude each other: these give way, as for rare flags it takes a large change to be seen.
_PARENT = 30.0


@dataclass(frozen=True)
class Derived:
    """What computed columns become.

    Attributes:
        correlation: float64[d + k, d + k]: the model's latents, then one for each computed column that needs one.
        latents: Computed column -> its latent.
        marginals: Computed column -> its marginal, from drawn rows.
        missing: Computed column -> share of missing values.
        functions: Column that is one-to-one with a category -> its value to the category's interval (None: missing).
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
    found = Derived(correlation)
    if not names:
        return found
    batch = model.draw(1, 0, _ROWS)
    values = {model.columns[x.columns[0]].name: k for k, x in enumerate(model.latents) if x.kind == "value"}
    by_name = {column.name: column for column in model.columns}
    for relation in model.relations:
        parent = by_name[relation.parents[0]]
        alone = len(relation.parents) == 1 and parent.name in values and parent.categories is not None
        if alone and _one_to_one(batch[parent.name], batch[relation.name]):
            found.functions[relation.name] = _mapped(batch, parent.name, relation.name, parent, model)
            found.latents[relation.name] = values[parent.name]
    own = [name for name in names if name not in found.functions]
    codes = {name: _codes(model, by_name[name], batch) for name in (*values, *own)}
    for name in own:
        found.marginals[name], found.missing[name] = _marginal(model, by_name[name], batch)
    if not own:
        return found
    size = len(correlation)
    wide = np.eye(size + len(own))
    wide[:size, :size] = correlation
    at = {**{place: name for name, place in values.items()}, **{size + k: name for k, name in enumerate(own)}}
    pairs = [(size + k, place) for k in range(len(own)) for place in at if place < size + k]
    measured = polychoric([_table(codes[at[i]], codes[at[j]]) for i, j in pairs]).correlation
    parents = {(r.name, parent) for r in model.relations for parent in r.parents}
    weight = np.ones_like(wide)
    for (i, j), r in zip(pairs, measured):
        wide[i, j] = wide[j, i] = r
        weight[i, j] = weight[j, i] = _PARENT if (at[i], at[j]) in parents else 1.0
    found.latents.update({name: size + k for k, name in enumerate(own)})
    return replace(found, correlation=nearest_correlation(wide, weight))


def _plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _one_to_one(one: pa.Array, other: pa.Array) -> bool:
    table = pa.table({"a": _plain(one), "b": _plain(other)})
    pairs = table.group_by(["a", "b"]).aggregate([])
    return len(pairs) == len(pc.unique(pairs["a"])) == len(pc.unique(pairs["b"]))


def _mapped(
    batch: pa.RecordBatch, parent: str, child: str, column: FittedColumn, model: GaussianCopula
) -> dict[Any, list[float]]:
    """The parent's intervals under the child's values, for all values that are drawn; the rest goes to neighbours."""
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
    """Codes of a column's values in latent order, at most ``_BINS``, and which are missing."""
    array = batch[column.name]
    if column.categories is not None:
        found = pc.index_in(_plain(array), value_set=column.categories)
        missing = np.asarray(found.is_null().to_numpy(zero_copy_only=False))
        codes = found.fill_null(0).to_numpy().astype(np.int64)
        if column.marginal is not None:
            rank = np.zeros(len(column.categories), dtype=np.int64)
            rank[column.marginal.lo.astype(np.int64)] = np.arange(len(column.marginal.lo))
            codes = rank[codes]
        shares = np.bincount(codes[~missing], minlength=len(column.categories)).astype(np.float64)
        middle = (np.cumsum(shares) - 0.5 * shares) / max(shares.sum(), 1.0)
        fine = np.arange(len(shares)) if len(shares) <= _BINS else (middle * _BINS).astype(np.int64)
        return fine[codes], missing
    values, missing = _axis(model, column, array)
    cuts = np.unique(np.quantile(values[~missing], np.arange(1, _BINS) / _BINS)) if (~missing).any() else np.zeros(0)
    return np.searchsorted(cuts, np.where(missing, 0.0, values), side="left").astype(np.int64), missing


def _table(one: tuple[Integers, NDArray[np.bool_]], other: tuple[Integers, NDArray[np.bool_]]) -> Integers:
    both = ~(one[1] | other[1])
    left, right = one[0][both], other[0][both]
    rows, columns = int(one[0].max(initial=0)) + 1, int(other[0].max(initial=0)) + 1
    return np.bincount(left * columns + right, minlength=rows * columns).reshape(rows, columns)


def _marginal(model: GaussianCopula, column: FittedColumn, batch: pa.RecordBatch) -> tuple[Marginal, float]:
    """Marginal of a computed column as it was drawn, and its share of missing values."""
    array = batch[column.name]
    if column.categories is not None:
        found = pc.index_in(_plain(array), value_set=column.categories)
        rows = np.bincount(found.drop_null().to_numpy(), minlength=len(column.categories)).astype(np.float64)
        index = np.flatnonzero(rows).astype(np.float64)
        return Marginal("category", rows[rows > 0] / rows.sum(), index, index), found.null_count / len(array)
    values, missing = _axis(model, column, array)
    points, count = np.unique(values[~missing], return_counts=True)
    return Marginal("axis", count / count.sum(), points, points), float(missing.mean())
