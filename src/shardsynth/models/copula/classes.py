"""Rare classes of the target column: what one Gaussian dependence cannot say of them.

A class of 0.1 % of the rows (fraud) hardly moves a correlation, so that its amounts would be drawn like any other. For
each such class, the columns whose values differ in it get a quantile function of their own. The latents stay as they
are: a column's latent z, given that the latent of the target lies in the interval of the class, has the distribution

    F(x) = mean over t in the interval of Phi((x - r t) / sqrt(1 - r^2)),

with their correlation r. So the cuts between the segments of the class's quantile function are F^-1 of its cumulative
probabilities: the distribution of the column in the class is exact, and dependences inside the class are the model's.
The other rows get the quantile functions of the rows that are of no rare class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.columns.fitted import FittedColumn, Latent, Marginal
from shardsynth.models.columns.ragged import Ragged
from shardsynth.models.copula.tables import GRID, REACH, Integers, cut_marginal, even

Floats = NDArray[np.float64]

_NODES = 64
_STEPS = 4_097


@dataclass(frozen=True)
class ClassFit:
    """A rare class as it was fitted.

    Attributes:
        code: Its code in the categories of the target.
        share: Its share of the rows whose target is not missing.
        marginals: By index of a column in the schema, its quantile function in the class.
    """

    code: int
    share: float
    marginals: dict[int, Marginal]


@dataclass(frozen=True)
class ClassesFit:
    """The rare classes of a column as they were fitted.

    Attributes:
        target: Index of the column in the schema.
        classes: The classes.
        rest: By index of each column that some class has a quantile function of: that of the rows of no rare class.
    """

    target: int
    classes: tuple[ClassFit, ...]
    rest: dict[int, Marginal]


@dataclass(frozen=True)
class Group:
    """Rows of one rare class, or all rows of no rare class.

    Attributes:
        segments: Segments of the target's quantile function; those that are left, of the rows of no rare class.
        columns: By index in the schema: the columns with their own quantile functions.
        cuts: By latent: their cuts.
    """

    segments: tuple[int, ...]
    columns: dict[int, FittedColumn]
    cuts: dict[int, Integers]


def points() -> Floats:
    """Where ``conditional`` gives a distribution function, float64[4097]."""
    return np.linspace(-REACH, REACH, _STEPS)


def conditional(within: tuple[float, float], correlation: float) -> Floats:
    """Distribution function of a normal latent, given that another one lies between two of its quantiles.

    Args:
        within: The two cumulative probabilities of the other latent.
        correlation: Of the two latents.

    Returns:
        float64[4097], at even steps from -8 to 8.
    """
    from scipy.special import ndtr, ndtri

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    low, high = within
    other = ndtri(np.clip(0.5 * (low + high) + 0.5 * (high - low) * nodes, 1e-15, 1 - 1e-15))
    r = float(np.clip(correlation, -0.9999, 0.9999))
    scaled = (points()[:, None] - r * other[None, :]) / np.sqrt(1.0 - r * r)
    return np.asarray((ndtr(scaled) * weights[None, :]).sum(axis=1) / 2.0)


def groups_of(
    fit: ClassesFit,
    columns: Sequence[FittedColumn],
    latents: Sequence[Latent],
    cuts: Sequence[Integers],
    correlation: Floats,
) -> tuple[Group, ...]:
    """The groups of rows of a copula: first those of no rare class, then each rare class.

    Args:
        fit: The classes.
        columns: Those of the copula, cut for sampling.
        latents: Its latents.
        cuts: Of each latent.
        correlation: float64[d, d], of the latents as they are drawn.
    """
    from scipy.special import ndtr

    latent_of = {latent.columns[0]: k for k, latent in enumerate(latents) if latent.kind == "value"}
    target = latent_of[fit.target]
    marginal = columns[fit.target].marginal
    assert marginal is not None
    edges = ndtr(np.concatenate([[-np.inf], cuts[target] / GRID, [np.inf]]))
    segment_of = {int(code): k for k, code in enumerate(marginal.lo.tolist())}
    classes = [found for found in fit.classes if found.code in segment_of]
    if not classes:
        return ()
    groups: list[Group] = []
    left = {column: np.asarray(ndtr(points())) for column in fit.rest}
    for found in classes:
        segment = segment_of[found.code]
        within = (float(edges[segment]), float(edges[segment + 1]))
        own_columns, own_cuts = {}, {}
        for column in fit.rest:
            latent = latent_of[column]
            given = conditional(within, float(correlation[target, latent]))
            left[column] = left[column] - (within[1] - within[0]) * given
            own_columns[column], own_cuts[latent] = columns[column], cuts[latent]  # as the Gaussian has it
            if column in found.marginals:
                own_columns[column], own_cuts[latent] = _placed(columns[column], found.marginals[column], given)
        groups.append(Group((segment,), own_columns, own_cuts))
    rare = [group.segments[0] for group in groups]
    rest_columns, rest_cuts = {}, {}
    for column, own in fit.rest.items():
        given = np.maximum.accumulate(np.clip(left[column] / left[column][-1], 0.0, 1.0))
        rest_columns[column], rest_cuts[latent_of[column]] = _placed(columns[column], own, given)
    others = tuple(k for k in range(len(marginal.lo)) if k not in rare)
    return Group(others, rest_columns, rest_cuts), *groups


def _placed(column: FittedColumn, marginal: Marginal, given: Floats) -> tuple[FittedColumn, Integers]:
    """The column with a quantile function, and its cuts where its latent has the distribution function ``given``."""
    from scipy.special import ndtr

    ready, cuts = cut_marginal(marginal, column.precision)
    wanted = ndtr(cuts / GRID)
    rising = given + np.arange(len(given)) * 1e-18
    moved = even(np.clip(np.interp(wanted, rising, points()), -REACH + 1e-3, REACH - 1e-3))
    place = 2 * np.arange(len(moved), dtype=np.int64)
    return replace(column, marginal=ready), np.maximum.accumulate(moved - place) + place


def group_entries(groups: Sequence[Group], target: int) -> tuple[dict[str, Any], dict[str, Ragged]]:
    """Groups as JSON and arrays, for a model's files."""
    latents = [sorted(group.cuts) for group in groups]
    columns = [sorted(group.columns) for group in groups]
    marginals = [group.columns[i].marginal for group, own in zip(groups, columns) for i in own]
    cuts = [group.cuts[k] for group, own in zip(groups, latents) for k in own]
    arrays = {
        f"class.{key}": Ragged.of([getattr(m, key) for m in marginals], np.float64)
        for key in ("probability", "lo", "hi")
    }
    arrays["class.cuts"] = Ragged.of(cuts, np.int64)
    card = {
        "target": target,
        "groups": [
            {"segments": list(group.segments), "columns": own, "latents": of_latents}
            for group, own, of_latents in zip(groups, columns, latents)
        ],
    }
    return card, arrays


def groups_from(
    card: Mapping[str, Any], arrays: Mapping[str, Ragged], columns: Sequence[FittedColumn]
) -> tuple[Group, ...]:
    """Inverse of ``group_entries``."""
    groups, place = [], 0
    for entry in card["groups"]:
        own, cuts = {}, {}
        for offset, (index, latent) in enumerate(zip(entry["columns"], entry["latents"])):
            base = columns[index].marginal
            assert base is not None
            probability, lo, hi = (arrays[f"class.{key}"][place + offset] for key in ("probability", "lo", "hi"))
            own[index] = replace(
                columns[index], marginal=replace(base, probability=probability, lo=lo, hi=hi, ends=None)
            )
            cuts[latent] = arrays["class.cuts"][place + offset].astype(np.int64)
        place += len(entry["columns"])
        groups.append(Group(tuple(entry["segments"]), own, cuts))
    return tuple(groups)
