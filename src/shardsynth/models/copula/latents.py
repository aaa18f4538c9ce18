"""The dimensions of the Gaussian and their correlations, from the pair tables of ``Counts``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.copula.dependence import PRIOR_SD, polychoric
from shardsynth.models.copula.nearest import nearest_correlation
from shardsynth.summaries.counts import Counts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Dimension:
    """One latent and the columns of the coder that it drives.

    Attributes:
        kind: ``value`` or ``missing``.
        columns: Indices into the columns of the coder; for ``missing``, all that are missing on the same rows.
    """

    kind: str
    columns: tuple[int, ...]


def tabulated_correlation(
    counts: Counts, dimensions: Sequence[Dimension], orders: Mapping[int, Integers]
) -> tuple[Floats, float]:
    """Correlation matrix of the latents from the pair tables.

    Args:
        counts: With fit tables.
        dimensions: The latents.
        orders: By column index of a value latent: its coarse codes in latent order, without missing.

    Returns:
        float64[d, d], and the largest change of a correlation that the repair to a positive definite matrix made.
    """
    size = len(dimensions)
    tables: list[Integers] = []
    rows: list[int] = []
    columns: list[int] = []
    zero = np.zeros((size, size), dtype=bool)
    for a, dimension in enumerate(dimensions):
        for b in range(a):
            if dimensions[b].kind != dimension.kind and set(dimensions[b].columns) & set(dimension.columns):
                zero[a, b] = zero[b, a] = True  # a value is never seen where it is missing
                continue
            tables.append(_table(counts, dimension, dimensions[b], orders))
            rows.append(a)
            columns.append(b)
    association = polychoric(tables)
    target, weight = np.eye(size), np.zeros((size, size))
    target[rows, columns] = target[columns, rows] = association.correlation
    weight[rows, columns] = weight[columns, rows] = association.information + PRIOR_SD**-2
    matrix = nearest_correlation(target, weight, zero)
    return matrix, float(np.abs(matrix - target).max(initial=0.0))


def _table(counts: Counts, dimension: Dimension, other: Dimension, orders: Mapping[int, Integers]) -> Integers:
    """Table of two latents: codes in latent order; missing latents have the codes present, missing."""
    i, j = dimension.columns[0], other.columns[0]
    table = counts.pair(i, j)
    table = table[orders[i]] if dimension.kind == "value" else np.stack([table[:-1].sum(axis=0), table[-1]])
    if other.kind == "value":
        return np.asarray(table[:, orders[j]])
    return np.stack([table[:, :-1].sum(axis=1), table[:, -1]], axis=1)
