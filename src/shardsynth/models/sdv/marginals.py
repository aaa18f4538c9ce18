"""A quantile function as one of SDV's univariate distributions, as near as they come."""

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

#: A named family is taken when it is so near.
_NEAR = 0.01
_KNOTS = 200
#: Knots that stand for what has no heavy atoms: SDV's sampling time is proportional to them.
_FILLED = 100
#: A number of so many values is drawn as a category.
_LISTED = 2_000
_POINTS = 4_000
_CELLS = 256
_TRIED = ("norm", "uniform", "beta", "gamma", "truncnorm")


@dataclass(frozen=True)
class StockMarginal:
    """One of SDV's univariates, and what SDV does to its values.

    Attributes:
        univariate: Instance of a ``copulas.univariate`` class.
        low: Values are clipped to this (in SDV's unit),
        high: and to this.
        digits: Values are rounded to so many decimals; None: not.
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
        marginal: The native one.
        column: Its column: precision, and the distribution if it was a named one.
        factor: SDV's units (nanoseconds) in one unit of the axis.
        dtype: In which SDV gives the values back.
        named_only: No kernel density, whose quantile function cannot pass a NaN through.
    """
    precision = column.precision or Precision()
    u = (np.arange(_POINTS) + 0.5) / _POINTS
    wanted = (precision.snap(marginal.quantile(u)) * factor).astype(dtype)
    low, high = (float(v) for v in precision.snap(np.array([marginal.lo[0], marginal.hi[-1]])) * factor)
    digits = digits_of(precision, factor)

    def judged(univariate: Any) -> StockMarginal:
        values = np.clip(univariate.percent_point(u), low, high)
        values = (np.round(values, digits) if digits is not None else values).astype(dtype)
        return StockMarginal(univariate, low, high, digits, ks_distance(wanted, values))

    named = column.distribution.get("distribution")
    if named in FAMILIES and named != "gaussian_kde" and "transform" not in column.distribution and factor == 1:
        return judged(_univariate(column.distribution))
    heavy = _heavy_atoms(marginal)
    if (named_only or not heavy.any()) and low < high:
        cells, tried = _cells(wanted.astype(np.float64)), []
        for name in _TRIED:
            found = fit_family(name, cells, (low, high), Precision())
            tried.append(judged(_univariate(found)))
            if tried[-1].distance <= _NEAR:
                return tried[-1]
        if named_only:
            return min(tried, key=lambda made: made.distance)
    return _density(marginal, heavy, factor, precision, judged)


def listed(marginal: Marginal, column: FittedColumn) -> tuple[Floats, Floats] | None:
    """All values that a marginal can have, in order, and their probabilities; None when there are too many."""
    precision = column.precision or Precision()
    unit = grid_unit(precision)
    wide = marginal.hi > marginal.lo
    if wide.any() and not unit:
        return None
    counts = np.where(wide, np.rint((marginal.hi - marginal.lo) / unit) if unit else 1, 1).astype(np.int64)
    counts = np.maximum(counts, 1)
    if counts.sum() > _LISTED:
        return None
    place = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    width = np.repeat(marginal.hi - marginal.lo, counts)
    values = precision.snap(np.repeat(marginal.lo, counts) + width * place)
    points, at = np.unique(values, return_inverse=True)
    share = np.bincount(at, weights=np.repeat(marginal.probability / counts, counts))
    return points, np.asarray(share, dtype=np.float64)


def ks_distance(one: Floats, other: Floats) -> float:
    """Two-sample Kolmogorov-Smirnov distance."""
    points = np.concatenate([one, other])
    left = np.searchsorted(np.sort(one), points, side="right") / len(one)
    right = np.searchsorted(np.sort(other), points, side="right") / len(other)
    return float(np.abs(left - right).max(initial=0.0))


def digits_of(precision: Precision, factor: int) -> int | None:
    """Decimals that SDV rounds to; None: not."""
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
    """Equal shares of sorted values as bins that touch."""
    edges = np.unique(np.quantile(values, np.linspace(0.0, 1.0, _CELLS + 1)))
    count = np.histogram(values, edges)[0]
    used = count > 0
    return Cells(count[used].astype(np.int64), edges[:-1][used], edges[1:][used])


def _density(
    marginal: Marginal, heavy: NDArray[np.bool_], factor: int, precision: Precision, judged: Any
) -> StockMarginal:
    """Kernel density over weighted knots: heavy atoms stand for themselves, the rest for equal shares."""
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
        made: StockMarginal = judged(_kernel(knots, weights, width / spread))
        if made.distance <= _NEAR:
            return made
        best = made if best is None or made.distance < best.distance else best
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
    """Distribution function and quantile function of a fitted univariate of SDV's, fast where it is a named one."""
    from sdv.single_table import GaussianCopulaSynthesizer

    univariate = getattr(univariate, "_instance", None) or univariate
    names = {kind.__name__: name for name, kind in GaussianCopulaSynthesizer._DISTRIBUTIONS.items()}
    name = names.get(type(univariate).__name__, "")
    constant = getattr(univariate, "_constant_value", None)
    if constant is not None or name in ("", "gaussian_kde"):
        return univariate.cdf, univariate.percent_point
    parameters = {key: value for key, value in univariate.to_dict().items() if key != "type"}
    return distribution_functions({"distribution": name, "learned_parameters": parameters})
