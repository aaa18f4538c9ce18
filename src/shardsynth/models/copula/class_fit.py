"""Fit the rare classes of a column from the row sample, under the protections of ``columns.marginals``."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import TableCoder
from shardsynth.models.columns.class_marginals import (
    DIFFERENT,
    class_codes,
    class_marginal,
    distribution,
    lump_code,
    rare_classes,
)
from shardsynth.models.columns.column_options import EMPIRICAL
from shardsynth.models.columns.fitted import CopulaFit, Marginal
from shardsynth.models.columns.formulas import StepRelation
from shardsynth.models.columns.marginals import Protection
from shardsynth.models.copula.classes import ClassesFit, ClassFit, conditional, points
from shardsynth.summaries.persons import Hashes

Floats = NDArray[np.float64]


def fit_classes(
    fit: CopulaFit, target: str, sample: pa.Table, coder: TableCoder, protection: Protection, persons: Hashes | None
) -> ClassesFit | None:
    """The rare classes of a target, with the columns that differ in them; None where there are none.

    Args:
        fit: The fitted copula.
        target: Name of a column.
        sample: Row sample of the training rows.
        coder: The codes of the columns.
        protection: What the model may hold.
        persons: uint64[rows of the sample], hashes of their persons; None: each row is a person of its own.
    """
    place = {column.name: i for i, column in enumerate(fit.columns)}
    latents = {latent.columns[0]: k for k, latent in enumerate(fit.latents) if latent.kind == "value"}
    if target not in place or place[target] not in latents or protection.min_count < 1:
        return None
    column = fit.columns[place[target]]
    if column.categories is None or column.marginal is None:
        return None
    lumps = {c.name: lump_code(c, fit.relations, coder, protection) for c in fit.columns if c.categories is not None}
    codes = class_codes(column, sample[target], lumps[target])
    ends = np.concatenate([[0.0], column.marginal.cumulative])
    classes: list[ClassFit] = []
    for rare in rare_classes(column, codes, protection, persons):
        segment = int(np.flatnonzero(column.marginal.lo == rare.code)[0])
        within = (float(ends[segment]), float(ends[segment + 1]))
        marginals: dict[int, Marginal] = {}
        own = sample.take(pa.array(rare.rows))
        own_persons = None if persons is None else persons[rare.rows]
        for index, latent in latents.items():
            other = fit.columns[index]
            empirical = other.distribution.get("distribution") in (EMPIRICAL, "categorical")
            if index == place[target] or other.marginal is None or other.treatment != "latent" or not empirical:
                continue
            correlation = float(fit.correlation[latents[place[target]], latent])
            learned = class_marginal(other, own, coder, protection, own_persons, lumps.get(other.name, -1))
            if learned is not None and _differs(learned, other.marginal, rare.size, within, correlation):
                marginals[index] = learned
        if marginals:
            classes.append(ClassFit(rare.code, rare.share, marginals))
    changed = sorted({index for found in classes for index in found.marginals})
    others = np.flatnonzero(~np.isin(codes, [found.code for found in classes]))
    own, own_persons = sample.take(pa.array(others)), None if persons is None else persons[others]
    rest: dict[int, Marginal] = {}
    for index in changed:
        changed_column = fit.columns[index]
        learned = class_marginal(
            changed_column, own, coder, protection, own_persons, lumps.get(changed_column.name, -1)
        )
        if learned is None:
            return None
        rest[index] = learned
    return ClassesFit(place[target], tuple(classes), rest) if classes else None


def with_classes(
    fit: CopulaFit,
    refit: Callable[[Collection[str]], CopulaFit],
    target: str,
    sample: pa.Table,
    coder: TableCoder,
    protection: Protection,
    persons: Hashes | None,
) -> tuple[CopulaFit, ClassesFit | None]:
    """A fit with the rare classes of a target.

    A rare class that follows from a range of one number (frauds are the largest amounts) would leave nothing but this
    number to the other columns. Where it has enough rows, it is learned as a class instead, if that number is among the
    columns that differ in it.

    Args:
        fit: The fitted copula.
        refit: Fits it again, with these columns learned and not computed.
        target: As of ``fit_classes``, like the rest.
        sample: Row sample.
        coder: The codes.
        protection: What the model may hold.
        persons: Hashes of the persons of the sample.
    """
    for relation in fit.relations:
        if relation.name == target and isinstance(relation, StepRelation):
            other = refit([target])
            classes = fit_classes(other, target, sample, coder, protection, persons)
            parent = [column.name for column in other.columns].index(relation.parent.name)
            if classes is not None and all(parent in found.marginals for found in classes.classes):
                return other, classes
            return fit, None
    return fit, fit_classes(fit, target, sample, coder, protection, persons)


def _differs(own: Marginal, whole: Marginal, rows: int, within: tuple[float, float], correlation: float) -> bool:
    """Whether a column's distribution in a class differs from the one that the Gaussian gives to the class."""
    from scipy.special import ndtri

    if own.kind == "category":
        steps, expected = own.cumulative, whole.cumulative
    else:
        places = np.unique(np.concatenate([own.lo, own.hi]))
        steps, expected = distribution(own, places), distribution(whole, places)
    quantiles = ndtri(np.clip(expected, 1e-15, 1 - 1e-15))
    given = np.interp(quantiles, points(), conditional(within, correlation))
    return bool(np.abs(steps - given).max() * np.sqrt(rows) > DIFFERENT)
