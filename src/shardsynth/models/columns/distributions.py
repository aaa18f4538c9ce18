"""SDV's six named distributions, fitted to a histogram by maximum likelihood over its bins.

Parameters have scipy's meaning and the names that SDV shows in ``get_learned_distributions``, so that they can be
compared and exported. The likelihood is that of the binned data, sum_k n_k log(F(hi_k) - F(lo_k)): it is bounded,
which the likelihood of a density is not at the ends of a beta or gamma. The ends of the support lie at the protected
minimum and maximum or beyond, never at a real extreme.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.models.columns.fitted import Marginal
from shardsynth.models.columns.marginals import Cells, grid_unit
from shardsynth.models.columns.transform import Transform

Floats = NDArray[np.float64]

#: The names of SDV's distributions.
FAMILIES = ("beta", "norm", "truncnorm", "gamma", "uniform", "gaussian_kde")
_CELLS = 256
_KNOTS = 200
_SEGMENTS = 1024
_GRID_POINTS = 2048


def fit_family(
    name: str,
    cells: Cells,
    ends: tuple[float, float],
    precision: Precision,
    support: tuple[float, float] | None = None,
    transform: Transform | None = None,
) -> dict[str, Any]:
    """Parameters of a named distribution.

    Args:
        name: One of ``FAMILIES``.
        cells: The histogram.
        ends: Protected minimum and maximum.
        precision: Grid of the values: a cell reaches half a unit beyond its points.
        support: Ends that are known without the data; None, or with a transformation: those of the cells.
        transform: The distribution is that of the transformed values.

    Returns:
        ``{"distribution": name, "learned_parameters": {...}}`` as SDV gives it, and the ``transform`` if there is one.
    """
    count, lo, hi = _bins(cells, ends, precision)
    low, high = float(lo[0]), float(hi[-1])
    unit = grid_unit(precision)
    if transform is not None:
        lo, hi = (transform.to(transform.inside(edge, unit)) for edge in (lo, hi))
        hi = np.maximum(hi, np.nextafter(lo, np.inf))
        low, high = float(lo[0]), float(hi[-1])
    elif support is not None:
        low, high = min(low, support[0] - 0.5 * unit), max(high, support[1] + 0.5 * unit)
    middle = 0.5 * (lo + hi)
    fitters: dict[str, Callable[[], dict[str, Any]]] = {
        "norm": lambda: _norm(count, middle),
        "uniform": lambda: {"loc": low, "scale": high - low},
        "truncnorm": lambda: _truncnorm(count, lo, hi, middle, (low, high)),
        "beta": lambda: _beta(count, lo, hi, middle, (low, high)),
        "gamma": lambda: _gamma(count, lo, hi, middle, (low, high)),
        "gaussian_kde": lambda: _kde(count, lo, hi),
    }
    transform_entry = {} if transform is None else {"transform": transform.to_json()}
    return {"distribution": name, "learned_parameters": fitters[name](), **transform_entry}


def distribution_functions(
    distribution: dict[str, Any],
) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    """Cdf and quantile function of a distribution, as ``fit_family`` returns it."""
    from scipy import stats

    if "transform" in distribution:
        transform = Transform.from_json(distribution["transform"])
        plain = {key: value for key, value in distribution.items() if key != "transform"}
        cdf, ppf = distribution_functions(plain)
        return lambda x: cdf(transform.to(x)), lambda u: transform.back(ppf(u))
    name, parameters = distribution["distribution"], distribution["learned_parameters"]
    if name == "gaussian_kde":
        return _kde_functions(np.asarray(parameters["dataset"], dtype=np.float64), parameters.get("bw_method"))
    frozen = getattr(stats, name)(**parameters)
    return frozen.cdf, frozen.ppf


def family_marginal(
    distribution: dict[str, Any],
    ends: tuple[float, float],
    precision: Precision,
    p_missing: float,
    *,
    clip: bool = True,
) -> Marginal:
    """A named distribution as a tabulated quantile function.

    Args:
        distribution: From ``fit_family``.
        ends: Values are clipped to these (SDV's ``enforce_min_max_values``), with their mass.
        precision: Grid of the column; a clipped grid of few points is tabulated point by point.
        p_missing: Share of missing values.
        clip: Whether to clip.
    """
    from scipy.special import ndtr

    cdf, ppf = distribution_functions(distribution)
    unit = grid_unit(precision)
    if unit and clip and (ends[1] - ends[0]) / unit < _GRID_POINTS:
        count = round((ends[1] - ends[0]) / unit) + 1
        points = precision.snap(np.asarray(ends[0] + unit * np.arange(count), dtype=np.float64))
        inner = cdf(0.5 * (points[:-1] + points[1:]))
        probability = np.diff(np.concatenate([[0.0], np.nan_to_num(inner), [1.0]]))
        used = probability > 1e-12
        return Marginal("axis", probability[used] / probability[used].sum(), points[used], points[used], p_missing)
    # Knots are even in the normal score, so that the tails are as fine as the middle.
    u = np.concatenate([[0.0], ndtr(np.linspace(-6.0, 6.0, _SEGMENTS - 1)), [1.0]])
    knots = np.asarray(ppf(np.clip(u, 1e-10, 1 - 1e-10)), dtype=np.float64)
    if clip:
        knots = np.clip(knots, *ends)
    knots = np.maximum.accumulate(knots)
    return Marginal("axis", np.diff(u), knots[:-1], knots[1:], p_missing)


def _bins(cells: Cells, ends: tuple[float, float], precision: Precision) -> tuple[Floats, Floats, Floats]:
    """At most 256 bins inside the ends, each of positive width: counts, lower and upper edges."""
    half = 0.5 * grid_unit(precision)
    floor, ceiling = ends
    lo, hi = np.clip(cells.lo, floor, ceiling), np.clip(cells.hi, floor, ceiling)
    group = (np.cumsum(cells.count) - 0.5 * cells.count) / cells.count.sum() * _CELLS
    keys, first = np.unique(group.astype(np.int64), return_index=True)
    last = np.append(first[1:], len(lo)) - 1
    count = np.add.reduceat(cells.count, first).astype(np.float64)
    lo, hi = lo[first] - half, hi[last] + half
    thin = max(1e-7 * (ceiling - floor), 1e-12 * max(abs(floor), abs(ceiling), 1e-6))
    narrow = hi - lo < thin
    return count, np.where(narrow, lo - thin, lo), np.where(narrow, hi + thin, hi)


def _norm(count: Floats, middle: Floats) -> dict[str, Any]:
    mean = float(np.average(middle, weights=count))
    return {"loc": mean, "scale": float(np.sqrt(np.average((middle - mean) ** 2, weights=count)))}


def _truncnorm(count: Floats, lo: Floats, hi: Floats, middle: Floats, ends: tuple[float, float]) -> dict[str, Any]:
    low, high = ends
    start = _norm(count, middle)
    width = high - low

    def parameters(p: Sequence[float]) -> tuple[float, float, float, float]:
        loc, scale = low + width * p[0], width * float(np.exp(p[1]))
        return (low - loc) / scale, (high - loc) / scale, loc, scale

    best = _maximise(
        "truncnorm", parameters, [(start["loc"] - low) / width, np.log(start["scale"] / width)], count, lo, hi
    )
    return dict(zip(("a", "b", "loc", "scale"), best))


def _beta(count: Floats, lo: Floats, hi: Floats, middle: Floats, ends: tuple[float, float]) -> dict[str, Any]:
    low, high = ends
    width = high - low
    mean = (float(np.average(middle, weights=count)) - low) / width
    variance = float(np.average((middle - low - mean * width) ** 2, weights=count)) / width**2
    total = max(mean * (1 - mean) / max(variance, 1e-9) - 1, 0.1)

    def parameters(p: Sequence[float]) -> tuple[float, float, float, float]:
        below, above = width * float(np.exp(p[2])), width * float(np.exp(p[3]))
        return float(np.exp(p[0])), float(np.exp(p[1])), low - below, width + below + above

    start = [np.log(max(mean * total, 0.05)), np.log(max((1 - mean) * total, 0.05)), -7.0, -7.0]
    return dict(zip(("a", "b", "loc", "scale"), _maximise("beta", parameters, start, count, lo, hi)))


def _gamma(count: Floats, lo: Floats, hi: Floats, middle: Floats, ends: tuple[float, float]) -> dict[str, Any]:
    low, width = ends[0], ends[1] - ends[0]
    mean = float(np.average(middle, weights=count)) - low
    variance = float(np.average((middle - low - mean) ** 2, weights=count))

    def parameters(p: Sequence[float]) -> tuple[float, float, float]:
        return float(np.exp(p[0])), low - width * float(np.exp(p[2])), width * float(np.exp(p[1]))

    start = [np.log(max(mean**2 / variance, 0.05)), np.log(variance / max(mean, 1e-12) / width), -5.0]
    return dict(zip(("a", "loc", "scale"), _maximise("gamma", parameters, start, count, lo, hi)))


def _maximise(
    name: str,
    parameters: Callable[[Sequence[float]], tuple[float, ...]],
    start: Sequence[float],
    count: Floats,
    lo: Floats,
    hi: Floats,
) -> tuple[float, ...]:
    """Parameters of the largest binned likelihood; ``parameters`` maps free numbers to scipy's."""
    from scipy.optimize import minimize

    cdf = _plain_cdf(name)
    # Neighbouring bins share an edge.
    edges, place = np.unique(np.concatenate([lo, hi]), return_inverse=True)
    lower, upper = np.split(place, 2)

    def loss(p: Floats) -> float:
        bounded = np.clip(p, -18.0, 18.0)
        below = cdf(edges, *parameters(bounded.tolist()))
        share = below[upper] - below[lower]
        penalty = float(np.abs(p - bounded).sum())
        return float(-(count @ np.log(np.maximum(np.nan_to_num(share), 1e-300))) / count.sum()) + penalty

    with np.errstate(all="ignore"):
        best = minimize(
            loss, np.asarray(start), method="Nelder-Mead", options={"maxiter": 600, "xatol": 1e-4, "fatol": 1e-6}
        )
    return tuple(float(v) for v in parameters(np.clip(best.x, -18.0, 18.0).tolist()))


def _plain_cdf(name: str) -> Callable[..., Floats]:
    """A cdf of scipy without its checks: many times faster on few points."""
    from scipy import special

    def beta(x: Floats, a: float, b: float, loc: float, scale: float) -> Floats:
        return np.asarray(special.betainc(a, b, np.clip((x - loc) / scale, 0.0, 1.0)))

    def gamma(x: Floats, a: float, loc: float, scale: float) -> Floats:
        return np.asarray(special.gammainc(a, np.maximum((x - loc) / scale, 0.0)))

    def truncnorm(x: Floats, a: float, b: float, loc: float, scale: float) -> Floats:
        below = special.ndtr(a)
        return np.asarray((special.ndtr((x - loc) / scale) - below) / max(special.ndtr(b) - below, 1e-300))

    cdfs: dict[str, Callable[..., Floats]] = {"beta": beta, "gamma": gamma, "truncnorm": truncnorm}
    return cdfs[name]


def _kde(count: Floats, lo: Floats, hi: Floats) -> dict[str, Any]:
    """At most 200 quantiles, interpolated inside the bins, and Scott's factor for the number of all rows."""
    below = np.concatenate([[0.0], np.cumsum(count)]) / count.sum()
    u = (np.arange(_KNOTS) + 0.5) / _KNOTS
    k = np.clip(np.searchsorted(below, u, side="right") - 1, 0, len(count) - 1)
    inside = (u - below[k]) / np.maximum(below[k + 1] - below[k], 1e-300)
    return {"dataset": (lo[k] + (hi[k] - lo[k]) * inside).tolist(), "bw_method": float(count.sum()) ** -0.2}


def _kde_functions(
    dataset: Floats, factor: float | None = None
) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    """Cdf and quantile function of ``scipy.stats.gaussian_kde``, by default with Scott's factor.

    Quantiles are interpolated in a fine table.
    """
    from scipy.special import ndtr

    factor = len(dataset) ** -0.2 if factor is None else factor
    scale = max(float(np.std(dataset, ddof=1)) * factor, 1e-12 * max(1.0, float(np.abs(dataset).max())))

    def cdf(x: Floats) -> Floats:
        return np.asarray(ndtr((np.asarray(x)[..., None] - dataset) / scale).mean(axis=-1))

    table = np.linspace(dataset.min() - 7 * scale, dataset.max() + 7 * scale, 8193)
    values = cdf(table)

    def ppf(u: Floats) -> Floats:
        return np.asarray(np.interp(u, values, table))

    return cdf, ppf
