"""Fit the Gaussian copula from ``Profile``, ``TableCoder`` and ``Counts``; no row is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import TableCoder
from shardsynth.errors import JobError
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent
from shardsynth.models.columns.learn import Integers, fit_columns, verified_relations
from shardsynth.models.columns.missing import missing_groups
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.columns.ordering import correspondence_order
from shardsynth.models.columns.relations import Relation
from shardsynth.models.copula.hermite import gram_correlation
from shardsynth.models.copula.latents import Dimension, tabulated_correlation
from shardsynth.models.copula.sdv_encoding import fit_like_sdv
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile


def fit_copula(
    profile: Profile,
    coder: TableCoder,
    counts: Counts,
    options: FitOptions | Mapping[str, Any] | None = None,
    relations: Sequence[Relation] | None = None,
    learned: Collection[str] = (),
) -> CopulaFit:
    """Fit the copula.

    Args:
        profile: Merged, of the training rows.
        coder: Made from it.
        counts: Merged, with ``fit=True``.
        options: See ``FitOptions.parse``.
        relations: The guessed relations in the order of the violations in ``counts``; None: those that ``counts``
            holds.
        learned: Columns that are learned even where a relation gives them.

    Returns:
        The fitted copula.

    Raises:
        JobError: An option is unknown, or a column cannot have it.
        ModelError: A column cannot be learned under the protections.
    """
    options = FitOptions.parse(options)
    options.check_columns([c.name for c in coder.columns if not c.is_category])
    for name, column_options in options.columns.items():
        column = coder.columns[coder.index[name]].column
        if column_options.numeric and column.role != "number":
            raise JobError(f"columns.{name}: is a date; min, max, decimal_places and transform are for numbers")
        if column_options.places is not None and not pa.types.is_floating(column.value_type):
            raise JobError(f"columns.{name}.decimal_places: is for floats; the column is {column.type}")
    if options.encoding == "sdv":
        return fit_like_sdv(profile, coder, counts, options)
    notes: list[str] = []
    verified = [r for r in verified_relations(counts, relations, notes) if r.name not in learned]
    orders = _orders(counts, coder, {r.name for r in verified})
    fitted, bound = fit_columns(profile, coder, counts, options, orders, verified, notes)
    latents, correlation, loadings = _latents(counts, coder, fitted, orders, notes)
    place = {c.name: i for i, c in enumerate(coder.table)}
    columns = [fitted.get(c.name) or _unlearned(c.name, c.role) for c in coder.table]
    schema_latents = [
        Latent(
            d.kind,
            tuple(place[coder.columns[i].name] for i in d.columns),
            float(counts.hist[d.columns[0]][-1] / counts.rows) if d.kind == "missing" else 0.0,
        )
        for d in latents
    ]
    notes += [r.describe() for r in bound]
    return CopulaFit(columns, schema_latents, correlation, bound, notes, loadings)


def _unlearned(name: str, role: str) -> FittedColumn:
    return FittedColumn(name, role, role if role in ("id", "pii") else "empty")


def _orders(counts: Counts, coder: TableCoder, derived: set[str]) -> dict[int, Integers]:
    """Coarse codes of every column in latent order, missing left out."""
    orders: dict[int, Integers] = {}
    free = [i for i, c in enumerate(coder.columns) if c.name not in derived]
    for i, column in enumerate(coder.columns):
        size = column.n_coarse - 1
        orders[i] = np.arange(size)
        nominal = column.is_category and not column.column.ordered
        if nominal and size > 2 and not coder.wide:
            tables = [counts.pair(i, j) for j in free if j != i and coder.columns[j].n_coarse > 2]
            orders[i] = correspondence_order(tables, size)
    return orders


def _latents(
    counts: Counts,
    coder: TableCoder,
    fitted: Mapping[str, FittedColumn],
    orders: Mapping[int, Integers],
    notes: list[str],
) -> tuple[list[Dimension], NDArray[np.float64], NDArray[np.float64] | None]:
    """The latents, their correlation matrix float64[d, d], and its loadings float64[d, r] where it has few factors."""
    drawn = [i for i, c in enumerate(coder.columns) if fitted[c.name].treatment == "latent"]
    dimensions = [Dimension("value", (i,)) for i in drawn]
    dimensions += [Dimension("missing", group) for group in missing_groups(counts, drawn)]
    if coder.wide:
        found = gram_correlation(counts, dimensions)
        if found.loadings is not None:
            notes.append(
                f"{len(found.matrix)} latents with {found.loadings.shape[1]} common factors, which give "
                "the correlations of all pairs to within their sampling errors"
            )
            return dimensions, found.matrix, found.loadings
        matrix, moved = found.matrix, found.moved
    else:
        matrix, moved = tabulated_correlation(counts, dimensions, orders)
    if moved > 0:
        notes.append(f"{len(matrix)} latents; correlations moved by at most {moved:.2f} to be positive definite")
    return dimensions, matrix, None
