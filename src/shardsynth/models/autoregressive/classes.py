"""Rare classes of the target column, which a training by all rows hardly sees.

A class of 0.1 % of the rows (fraud) adds 0.1 % to the loss, and its amounts would be drawn much like any other. Where a
class has enough rows, three things are done, all from what ``columns.class_marginals`` may hold of the class:

- The quantile functions of the columns that differ in it are as fine where the class lies as the class's own one, and
  so are their codes.
- The target is drawn first, so that all columns are drawn given the class.
- In rows of the class, the biases of the other columns are calibrated to the class's own frequencies.

The training itself and its weights stay as they are. How often the class comes is calibrated as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import TableCoder
from shardsynth.data.values import Precision
from shardsynth.models.autoregressive.codes import BinnedColumn, Coding, Cut
from shardsynth.models.columns.class_marginals import (
    DIFFERENT,
    RareClass,
    class_codes,
    class_marginal,
    differs,
    is_present,
    lump_code,
    rare_classes,
)
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.marginals import Protection
from shardsynth.models.columns.mixtures import mixture
from shardsynth.summaries.persons import Hashes

Floats = NDArray[np.float64]

#: Part of the codes of a column that are shared out by where its classes lie, not by where all rows lie.
_FOR_CLASSES = 0.4
#: Neighbouring segments that are mostly of rare classes are so many of these, or more; so with the others, of all rows.
_LEAST_RUN = 0.03
#: Least share of missing values, and of present ones, in a class.
_LEAST = 1e-6
#: Least share of a code in a class.
_LEAST_CODE = 1e-7


@dataclass(frozen=True)
class ClassShares:
    """A rare class of the first learned column.

    Attributes:
        code: Its code.
        shares: Per learned column float64[size], the share of each code in the class; of the first one it is not used.
    """

    code: int
    shares: tuple[Floats, ...]


@dataclass(frozen=True)
class _Learned:
    """What is learned of a rare class: quantile functions where they differ, and shares of missing values, by name."""

    rare: RareClass
    marginals: dict[str, Marginal]
    missing: dict[str, float]


def with_classes(
    coding: Coding,
    target: str,
    sample: pa.Table,
    coder: TableCoder,
    protection: Protection,
    persons: Hashes | None,
    *,
    bins: int,
    most_categories: int,
) -> tuple[Coding, tuple[ClassShares, ...]]:
    """The coding with the rare classes of a target; the same one, and no classes, where there are none.

    Args:
        coding: The columns.
        target: Name of a column.
        sample: Row sample of the training rows.
        coder: Their codes.
        protection: What the model may hold.
        persons: uint64[rows of the sample], hashes of their persons; None: each row is a person of its own.
        bins: As of ``Coding.fit``.
        most_categories: Likewise.
    """
    fits = {column.name: column for column in coding.table if column.treatment == "latent"}
    column = fits.get(target)
    if column is None or column.categories is None or protection.min_count < 1:
        return coding, ()
    found = _classes(coding, column, sample, coder, protection, persons)
    if not any(known.marginals or known.missing for known in found):
        return coding, ()
    in_classes = np.concatenate([known.rare.rows for known in found])
    others = np.setdiff1d(np.arange(sample.num_rows), in_classes)
    rest, rest_persons = sample.take(pa.array(others)), None if persons is None else persons[others]
    table, cuts = list(coding.table), {}
    masses: dict[str, dict[int, Floats]] = {name: {} for name in fits}
    for place, fitted in enumerate(table):
        if fitted.treatment != "latent" or fitted.name == target:
            continue
        own = {known.rare.code: known.marginals[fitted.name] for known in found if fitted.name in known.marginals}
        assert fitted.marginal is not None
        if not own:
            continue
        masses[fitted.name] = {code: _by_segment(fitted, marginal) for code, marginal in own.items()}
        if fitted.categories is None and not np.array_equal(fitted.marginal.lo, fitted.marginal.hi):
            left = class_marginal(fitted, rest, coder, protection, rest_persons, -1)
            shares = {known.rare.code: known.rare.share for known in found}
            finer = None if left is None else _finer(fitted, left, own, shares)
            if finer is None:
                masses[fitted.name] = {}
                continue
            table[place], masses[fitted.name], cuts[fitted.name] = finer
    names = [column.name for column in coding.table if column.name in {n for k in found for n in k.marginals}]
    of = ", ".join(names) or "what is missing"
    note = f"{len(found)} rare class(es) of {target!r} are calibrated apart: they differ in {of}"
    finer_coding = Coding.of(
        table, bins, most_categories, coding.relations, [*coding.notes, note], first=target, cuts=cuts
    )
    classes = []
    for known in found:
        code = int(finer_coding.columns[0].codes_of_values(np.array([float(known.rare.code)]))[0])
        shares_of = [
            _in_codes(c, masses[c.name].get(known.rare.code), known.missing.get(c.name)) for c in finer_coding.columns
        ]
        classes.append(ClassShares(code, tuple(shares_of)))
    return finer_coding, tuple(classes)


def _classes(
    coding: Coding,
    column: FittedColumn,
    sample: pa.Table,
    coder: TableCoder,
    protection: Protection,
    persons: Hashes | None,
) -> list[_Learned]:
    """The rare classes of a column that have a code of their own."""
    fitted = [c for c in coding.table if c.treatment == "latent"]
    lumps = {
        c.name: lump_code(c, coding.relations, coder, protection) if c.categories is not None else -1 for c in fitted
    }
    codes = class_codes(column, sample[column.name], lumps[column.name])
    (binned,) = (c for c in coding.columns if c.name == column.name)
    found = []
    for rare in rare_classes(column, codes, protection, persons):
        code = int(binned.codes_of_values(np.array([float(rare.code)]))[0])
        if int(np.diff(np.append(0, binned.ends))[code]) > 1:
            continue  # it shares its code with other categories
        rows, own_persons = sample.take(pa.array(rare.rows)), None if persons is None else persons[rare.rows]
        marginals, missing = {}, {}
        for other in fitted:
            if other.name == column.name:
                continue
            own = class_marginal(other, rows, coder, protection, own_persons, lumps[other.name])
            if own is not None and differs(own, _marginal(other), rare.size):
                marginals[other.name] = own
            share = _missing(other, rows, coder, protection, own_persons)
            if abs(share - _marginal(other).p_missing) * np.sqrt(rare.size) > DIFFERENT:
                missing[other.name] = share
        found.append(_Learned(rare, marginals, missing))
    return found


def _missing(
    column: FittedColumn, rows: pa.Table, coder: TableCoder, protection: Protection, persons: Hashes | None
) -> float:
    """Share of missing values in a class; those of too few persons count as none, and so the present ones."""
    present = is_present(column, rows[column.name], coder)
    missing, held = (_persons(~present, persons), _persons(present, persons))
    share = float((~present).mean())
    if missing < protection.min_count:
        share = 0.0
    elif held < protection.min_count:
        share = 1.0
    return min(max(share, _LEAST), 1.0 - _LEAST)


def _persons(rows: NDArray[np.bool_], persons: Hashes | None) -> int:
    return int(rows.sum()) if persons is None else len(np.unique(persons[rows]))


def _by_segment(column: FittedColumn, own: Marginal) -> Floats:
    """Probability of each category, by its code, or of each segment, in a class."""
    if column.categories is None:
        return own.probability
    shares = np.zeros(len(column.categories))
    shares[own.lo.astype(np.int64)] = own.probability
    return shares


def _finer(
    column: FittedColumn, rest: Marginal, own: Mapping[int, Marginal], shares: Mapping[int, float]
) -> tuple[FittedColumn, dict[int, Floats], Cut] | None:
    """A numeric column as fine as in its classes; per class the probability of each segment; how it is cut."""
    of_classes = [shares[code] for code in own]
    mixed = mixture(
        [1.0 - sum(of_classes), *of_classes],
        [rest, *own.values()],
        column.precision or Precision(),
    )
    if mixed is None:
        return None
    marginal, masses = mixed
    marginal = replace(marginal, p_missing=_marginal(column).p_missing).with_ends(_marginal(column).ends)
    weight = (1.0 - _FOR_CLASSES) * marginal.probability + _FOR_CLASSES * np.mean(masses[1:], axis=0)
    rare = np.sum([share * mass for share, mass in zip(of_classes, masses[1:])], axis=0)
    return replace(column, marginal=marginal), dict(zip(own, masses[1:])), Cut(weight, _borders(marginal, rare))


def _borders(marginal: Marginal, rare: Floats) -> NDArray[np.int64]:
    """Segments at which the rare classes begin, or end, to be most of the values: no code shall hold both.

    Args:
        marginal: Of the column.
        rare: float64[segments], the part of their probability that is of rare classes.
    """
    belongs = 2.0 * rare > marginal.probability
    for value, mass in ((True, rare / rare.sum()), (False, marginal.probability)):
        starts = np.flatnonzero(np.append(True, belongs[1:] != belongs[:-1]))
        for first, last in zip(starts, np.append(starts[1:], len(belongs))):
            if belongs[first] == value and mass[first:last].sum() < _LEAST_RUN:
                belongs[first:last] = not value
    return 1 + np.flatnonzero(belongs[1:] != belongs[:-1])


def _in_codes(column: BinnedColumn, masses: Floats | None, missing: float | None) -> Floats:
    """Share of each code in a class, float64[size]; None: as in the whole table."""
    values = column.share[: len(column.ends)]
    present = values / values.sum()
    if masses is not None:
        marginal = _marginal(column.fit)
        by_segment = masses if column.fit.categories is None else masses[marginal.lo.astype(np.int64)]
        present = np.add.reduceat(by_segment, np.append(0, column.ends[:-1]))
        present = np.maximum(present, _LEAST_CODE)  # a share of 0 would not be calibrated
        present = present / present.sum()
    if not column.nullable:
        return np.asarray(present)
    share = _marginal(column.fit).p_missing if missing is None else missing
    return np.append(present * (1.0 - share), share)


def _marginal(column: FittedColumn) -> Marginal:
    assert column.marginal is not None
    return column.marginal
