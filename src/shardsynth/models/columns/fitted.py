"""Fitted columns and a fitted copula: plain frozen data that the sampler, the exporter and the report read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.models.columns.relations import Relation

Floats = NDArray[np.float64]

#: How a column is made. ``latent``: from its value latent by its marginal. ``relation``: computed from other columns.
#: ``constant``: its one value. ``empty``: always missing. ``id`` and ``pii``: not learned.
TREATMENTS = ("latent", "relation", "constant", "empty", "id", "pii")


@dataclass(frozen=True)
class Marginal:
    """Distribution of a column's non-missing values: a piecewise-linear quantile function.

    Segments stand in latent order: segment k is drawn when the latent's uniform u lies between the k-th and the
    (k+1)-th cumulative probability, and u's place between them is its place between ``lo`` and ``hi``.

    Attributes:
        kind: ``category`` or ``axis``.
        probability: float64[m], positive, sums to 1 over the non-missing.
        lo: float64[m]; an atom has ``lo == hi``. For categories both are the index into ``FittedColumn.categories``;
            -1 (only in SDV's encoding, where missing is a category) is missing.
        hi: float64[m]. On a grid, ``lo`` and ``hi`` lie just under half a unit outside the first and the last
            grid point, so that rounding to the nearest point is even over the points.
        p_missing: Probability that the value is missing.
        ends: The fifth most extreme values, where the model goes beyond them by tails that were fitted.
    """

    kind: str
    probability: Floats
    lo: Floats
    hi: Floats
    p_missing: float = 0.0
    ends: tuple[float, float] | None = None

    def with_ends(self, ends: tuple[float, float] | None) -> Marginal:
        """The same, with the ends, as far as they lie within its values."""
        if ends is None:
            return replace(self, ends=None)
        return replace(self, ends=(float(max(ends[0], self.lo[0])), float(min(ends[1], self.hi[-1]))))

    @property
    def tails(self) -> tuple[int, int]:
        """Number of segments of the lower and of the upper tail."""
        if self.ends is None:
            return 0, 0
        middle = 0.5 * self.lo + 0.5 * self.hi
        return int((middle < self.ends[0]).sum()), int((middle > self.ends[1]).sum())

    @property
    def cumulative(self) -> Floats:
        """Cumulative probability at the end of each segment, float64[m]; the last one is exactly 1."""
        total = np.cumsum(self.probability)
        return np.asarray(total / total[-1])

    def quantile(self, u: Floats) -> Floats:
        """Values (or category indices) at the probabilities ``u`` in (0, 1), not yet rounded to the grid."""
        ends = self.cumulative
        k = np.minimum(np.searchsorted(ends, u, side="right"), len(ends) - 1)
        starts = np.concatenate([[0.0], ends[:-1]])
        inside = np.clip((u - starts[k]) / np.maximum(ends[k] - starts[k], 1e-300), 0.0, 1.0)
        return np.asarray(self.lo[k] + (self.hi[k] - self.lo[k]) * inside)


@dataclass(frozen=True)
class FittedColumn:
    """One column of the schema, fitted.

    Attributes:
        name: Column name.
        role: As in ``data.columns``.
        treatment: One of ``TREATMENTS``.
        marginal: For ``latent`` and ``constant``; None otherwise.
        categories: For role ``category``: the values that the model can write, a plain Arrow array of the value type.
            An index into it is the code of a category everywhere in the model. Rare categories are left out.
        precision: Grid of the values (roles ``number`` and ``datetime``).
        emit_nan: Whether missing is written as NaN, not as null.
        distribution: SDV's shape: ``{"distribution": name, "learned_parameters": {...}}``.
    """

    name: str
    role: str
    treatment: str
    marginal: Marginal | None = None
    categories: pa.Array | None = None
    precision: Precision | None = None
    emit_nan: bool = False
    distribution: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Latent:
    """One dimension of the Gaussian.

    Attributes:
        kind: ``value``: drives one column's value. ``missing``: drives whether the columns are missing, all on the
            same rows.
        columns: Indices into the schema: one for ``value``, one or more for ``missing``.
        p_missing: For ``missing``: the columns are missing where the uniform u of the latent is above 1 - p_missing
            (large latent values mean missing).
    """

    kind: str
    columns: tuple[int, ...]
    p_missing: float = 0.0


@dataclass(frozen=True)
class CopulaFit:
    """A fitted Gaussian copula.

    Attributes:
        columns: One per schema column, in schema order.
        latents: Dimensions of the Gaussian.
        correlation: float64[d, d] of the d latents, unit diagonal, smallest eigenvalue at least about 1e-6.
        relations: In the order in which they are applied after sampling.
        notes: Facts for the report (dropped categories, repairs, fallbacks), without data values.
        loadings: float64[d, r]: ``correlation`` is ``loadings @ loadings'`` off the diagonal; None: it is not of few
            factors.
    """

    columns: list[FittedColumn]
    latents: list[Latent]
    correlation: Floats
    relations: list[Relation]
    notes: list[str] = field(default_factory=list)
    loadings: Floats | None = None
