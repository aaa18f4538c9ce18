"""A native marginal as the nearest of SDV's univariate distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.models.columns.distributions import FAMILIES, distribution_functions, fit_family
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.marginals import Cells, grid_unit

Floats = NDArray[np.float64]

#: A distribution is near enough if its KS distance is at most this.
_NEAR = 0.01
#: Largest number of knots of a kernel density. An atom with the share of a knot or more is heavy.
_KNOTS = 200
#: Largest number of knots for all but the heavy atoms: SDV's sampling time is proportional to it.
_FILLED = 100
#: A number of at most so many values is drawn as a category.
_LISTED = 2_000
#: Quantiles at which distributions are compared.
_POINTS = 4_000
#: Bins that named families are fitted to.
_CELLS = 256
#: Named families in the order in which they are tried.
_TRIED = ("norm", "uniform", "beta", "gamma", "truncnorm")


@dataclass(frozen=True)
class StockMarginal:
    """One of SDV's univariates, and what SDV does to its values.

    Attributes:
        univariate: Instance of a ``copulas.univariate`` class.
        low: Smaller values are clipped to this, in SDV's unit.
        high: Larger values are clipped to this.
        digits: Values are rounded to so many decimals; None: not rounded.
        distance: KS distance to the native marginal, rounding and clipping included.
    """

    univariate: Any
    low: float
    high: float
    digits: int | None
    distance: float


def uniform(low: float, width: float) -> Any:
    """Copulas' uniform distribution on [low, low + width]."""
    return _univariate({"distribution": "uniform", "learned_parameters": {"loc": low, "scale": width}})


def stock_marginal(
    marginal: Marginal, column: FittedColumn, factor: int = 1, dtype: Any = np.float64, *, named_only: bool = False
) -> StockMarginal:
    """The nearest of SDV's distributions to a marginal of kind ``axis``.

    Args:
        marginal: The native marginal.
        column: Its column, for the precision, and for the distribution if that is a named one.
        factor: Number of SDV's units (nanoseconds) in one unit of the axis.
        dtype: NumPy's type in which SDV returns the values.
        named_only: Take no kernel density: its quantile function fails for NaN.
    """
    precision = column.precision or Precision()
    u = (np.arange(_POINTS) + 0.5) / _POINTS
    native_values = (precision.snap(marginal.quantile(u)) * factor).astype(dtype)
    low, high = (float(v) for v in precision.snap(np.array([marginal.lo[0], marginal.hi[-1]])) * factor)
    digits = digits_of(precision, factor)

    def judged(univariate: Any) -> StockMarginal:
        values = np.clip(univariate.percent_point(u), low, high)
        values = (np.round(values, digits) if digits is not None else values).astype(dtype)
        return StockMarginal(univariate, low, high, digits, ks_distance(native_values, values))

    named = column.distribution.get("distribution")
    if named in FAMILIES and named != "gaussian_kde" and "transform" not in column.distribution and factor == 1:
        return judged(_univariate(column.distribution))
    heavy = _heavy_atoms(marginal)
    if (named_only or not heavy.any()) and low < high:
        cells, candidates = _cells(native_values.astype(np.float64)), []
        for name in _TRIED:
            distribution = fit_family(name, cells, (low, high), Precision())
            candidates.append(judged(_univariate(distribution)))
            if candidates[-1].distance <= _NEAR:
                return candidates[-1]
        if named_only:
            return min(candidates, key=lambda made: made.distance)
    return _density(marginal, heavy, factor, precision, judged)


def listed(marginal: Marginal, column: FittedColumn) -> tuple[Floats, Floats] | None:
    """All values float64[m] of a marginal, ascending, and their probabilities; None if there are too many."""
    precision = column.precision or Precision()
    unit = grid_unit(precision)
    spread = marginal.hi > marginal.lo
    if spread.any() and not unit:
        return None
    counts = np.where(spread, np.rint((marginal.hi - marginal.lo) / unit) if unit else 1, 1).astype(np.int64)
    counts = np.maximum(counts, 1)
    if counts.sum() > _LISTED:
        return None
    place = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    width = np.repeat(marginal.hi - marginal.lo, counts)
    values = precision.snap(np.repeat(marginal.lo, counts) + width * place)
    points, at = np.unique(values, return_inverse=True)
    share = np.bincount(at, weights=np.repeat(marginal.probability / counts, counts))
    return points, np.asarray(share, dtype=np.float64)


def ks_distance(first: Floats, second: Floats) -> float:
    """Two-sample Kolmogorov-Smirnov distance: the largest difference of the two distribution functions, 0 to 1."""
    points = np.concatenate([first, second])
    left = np.searchsorted(np.sort(first), points, side="right") / len(first)
    right = np.searchsorted(np.sort(second), points, side="right") / len(second)
    return float(np.abs(left - right).max(initial=0.0))


def digits_of(precision: Precision, factor: int) -> int | None:
    """Decimals to which SDV has to round a column, negative for tens and hundreds; None: it does not round.

    Args:
        precision: Grid of the column.
        factor: As for ``stock_marginal``.
    """
    if factor != 1:
        return None
    if precision.kind == "integer":
        zeros = len(str(precision.unit)) - len(str(precision.unit).rstrip("0"))
        return -zeros if precision.origin == 0 and precision.unit == 10**zeros else 0
    return precision.digits if precision.kind == "decimal" else None


def _univariate(distribution: dict[str, Any]) -> Any:
    from sdv.single_table import GaussianCopulaSynthesizer

    kind = GaussianCopulaSynthesizer.get_distribution_class(distribution["distribution"])
    name = f"{kind.__module__}.{kind.__name__}"
    return kind.from_dict({**distribution["learned_parameters"], "type": name})


def _heavy_atoms(marginal: Marginal) -> NDArray[np.bool_]:
    return np.asarray((marginal.lo == marginal.hi) & (marginal.probability >= 1.0 / _KNOTS))


def _cells(values: Floats) -> Cells:
    """Bins with about equal shares of the values, without gaps."""
    edges = np.unique(np.quantile(values, np.linspace(0.0, 1.0, _CELLS + 1)))
    count = np.histogram(values, edges)[0]
    used = count > 0
    return Cells(count[used].astype(np.int64), edges[:-1][used], edges[1:][used])


def _density(
    marginal: Marginal, heavy: NDArray[np.bool_], factor: int, precision: Precision, judged: Any
) -> StockMarginal:
    """Kernel density over weighted knots: one per heavy atom, and knots of equal weight for the rest.

    Args:
        marginal: The native marginal.
        heavy: bool[m], which of its segments are heavy atoms.
        factor: As for ``stock_marginal``.
        precision: Grid of the column.
        judged: Makes a ``StockMarginal`` of a univariate.
    """
    knots, weights = _knots(marginal, heavy)
    knots = knots * factor
    if len(np.unique(knots)) == 1:
        return judged(_constant(float(knots[0])))  # type: ignore[no-any-return]
    spread = float(np.sqrt(np.cov(knots, aweights=weights)))
    unit = grid_unit(precision) * factor
    narrow = max(1e-10 * spread, min(0.02 * unit, 1e-3 * spread))
    widths = [narrow] if heavy.any() else [0.1 * spread, 0.03 * spread, 0.01 * spread, 0.003 * spread, narrow]
    best: StockMarginal | None = None
    for width in widths:
        candidate: StockMarginal = judged(_kernel(knots, weights, width / spread))
        if candidate.distance <= _NEAR:
            return candidate
        best = candidate if best is None or candidate.distance < best.distance else best
    assert best is not None
    return best


def _knots(marginal: Marginal, heavy: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    share = marginal.probability / marginal.probability.sum()
    atoms = marginal.lo[heavy]
    rest = float(share[~heavy].sum())
    light = (marginal.lo == marginal.hi) & ~heavy
    if rest <= 0 or (light.sum() == (~heavy).sum() and len(share) <= _KNOTS):
        return marginal.lo.copy(), share
    left = Marginal("axis", marginal.probability[~heavy], marginal.lo[~heavy], marginal.hi[~heavy])
    count = max(1, min(_FILLED, _KNOTS - len(atoms)))
    filled = left.quantile((np.arange(count) + 0.5) / count)
    return np.concatenate([atoms, filled]), np.concatenate([share[heavy], np.full(count, rest / count)])


def _kernel(knots: Floats, weights: Floats, factor: float) -> Any:
    from copulas.univariate import GaussianKDE

    univariate = GaussianKDE(bw_method=factor, weights=weights / weights.sum())
    univariate._set_params({"dataset": knots.tolist()})
    univariate.fitted = True
    return univariate


def _constant(value: float) -> Any:
    return _univariate({"distribution": "uniform", "learned_parameters": {"loc": value, "scale": 0.0}})


def univariate_functions(univariate: Any) -> tuple[Any, Any]:
    """Distribution function and quantile function of a fitted univariate of SDV's; those of named families are fast."""
    from sdv.single_table import GaussianCopulaSynthesizer

    univariate = getattr(univariate, "_instance", None) or univariate
    names = {kind.__name__: name for name, kind in GaussianCopulaSynthesizer._DISTRIBUTIONS.items()}
    name = names.get(type(univariate).__name__, "")
    constant = getattr(univariate, "_constant_value", None)
    if constant is not None or name in ("", "gaussian_kde"):
        return univariate.cdf, univariate.percent_point
    parameters = {key: value for key, value in univariate.to_dict().items() if key != "type"}
    return distribution_functions({"distribution": name, "learned_parameters": parameters})
