"""Fit the Gaussian copula under dp: from noisy tables alone, without reading a row or an exact count."""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.models.columns.fitted import CopulaFit, Latent
from shardsynth.models.copula.latents import Dimension, tabulated_correlation
from shardsynth.models.dp.columns import dp_columns, latent_order
from shardsynth.models.dp.tables import NoisyTables


def fit_copula_with_dp(tables: NoisyTables, coder: TableCoder, schema: pa.Schema) -> CopulaFit:
    """The copula that the noisy tables describe.

    Args:
        tables: Drawn with ``coder``.
        coder: The public codes.
        schema: The shards' schema.
    """
    orders = {i: latent_order(tables, coder, i) for i in range(len(coder.columns))}
    columns = dp_columns(tables, coder, schema, orders)
    place = {c.name: i for i, c in enumerate(coder.table)}
    fitted = {i: columns[place[c.name]] for i, c in enumerate(coder.columns)}
    absent = {i: column.marginal.p_missing for i, column in fitted.items() if column.marginal is not None}
    drawn = [i for i, column in fitted.items() if column.treatment == "latent"]
    dimensions = [Dimension("value", (i,)) for i in drawn]
    dimensions += [Dimension("missing", (i,)) for i in drawn if absent[i] > 0]
    # ``tabulated_correlation`` uses only ``pair`` of the counts, which noisy tables have too.
    correlation, moved = tabulated_correlation(cast(Any, tables), dimensions, orders)
    latents = [
        Latent(
            d.kind,
            tuple(place[coder.columns[i].name] for i in d.columns),
            absent[d.columns[0]] if d.kind == "missing" else 0.0,
        )
        for d in dimensions
    ]
    spent = tables.guarantee
    notes = [
        f"differentially private: epsilon {spent.epsilon:.4g}, delta {spent.delta:g}, noise {spent.scale:.1f} a cell "
        f"of {spent.tables} tables",
        f"{len(correlation)} latents; correlations moved by at most {moved:.2f} to be positive definite",
    ]
    return CopulaFit(columns, latents, correlation, [], notes)
