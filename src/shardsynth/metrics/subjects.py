"""Can a classifier tell synthetic from real subjects, by what they have in all tables?

A subject is its root row and, of each column of its descendants, their count, mean and number of distinct values. Rows
that are drawn one by one given their owner, or dealt to random owners, pass every figure of single tables, and not this
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.metrics.detection import auc_drops, giveaways_of
from shardsynth.metrics.features import Booster, most_telling
from shardsynth.metrics.intervals import auc

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Subjects of each side, at most; folds.
MOST_SUBJECTS, _FOLDS = 10_000, 5
#: Of the closeness: subjects of each side, at most; times that training subjects are drawn; rows at once.
_CLOSEST, _TURNS, _AT_ONCE = 1_000, 4, 200


@dataclass(frozen=True)
class SubjectTable:
    """Subjects as rows of numbers.

    Attributes:
        names: Of the columns.
        categorical: bool[d], columns that are categories.
        values: float64[subjects, d], NaN where missing.
    """

    names: tuple[str, ...]
    categorical: NDArray[np.bool_]
    values: Floats

    @classmethod
    def beside(cls, tables: Sequence[SubjectTable]) -> SubjectTable:
        """The columns of several tables of the same subjects."""
        return cls(
            tuple(name for table in tables for name in table.names),
            np.concatenate([table.categorical for table in tables]),
            np.concatenate([table.values for table in tables], axis=1),
        )

    def take(self, rows: Integers) -> SubjectTable:
        """Some of the subjects."""
        return SubjectTable(self.names, self.categorical, self.values[rows])


def aggregates(
    table: str,
    names: Sequence[str],
    categorical: NDArray[np.bool_],
    values: Floats,
    subject: Integers,
    subjects: int,
) -> SubjectTable:
    """What subjects have in one table: how many rows, mean of each numeric column, distinct values of each column.

    Args:
        table: Its name.
        names: Of its columns.
        categorical: bool[d], which of them are categories.
        values: float64[n, d], NaN where missing.
        subject: int64[n], the subject of each row, from 0.
        subjects: Number of subjects.
    """
    count = np.bincount(subject, minlength=subjects).astype(np.float64)
    columns, found = [count], [f"{table}: rows"]
    for place, name in enumerate(names):
        own = values[:, place]
        known = ~np.isnan(own)
        present = np.bincount(subject[known], minlength=subjects)
        if not categorical[place]:
            total = np.bincount(subject[known], weights=own[known], minlength=subjects)
            columns.append(np.where(present > 0, total / np.maximum(present, 1), np.nan))
            found.append(f"{table}: mean of {name}")
        order = np.lexsort((own[known], subject[known]))
        who, what = subject[known][order], own[known][order]
        new = np.ones(len(who), np.bool_)
        new[1:] = (who[1:] != who[:-1]) | (what[1:] != what[:-1])
        columns.append(np.bincount(who[new], minlength=subjects).astype(np.float64))
        found.append(f"{table}: distinct {name}")
    return SubjectTable(tuple(found), np.zeros(len(found), np.bool_), np.stack(columns, axis=1))


def subjects_c2st(train: SubjectTable, holdout: SubjectTable, synthetic: SubjectTable, seed: int) -> dict[str, Any]:
    """The classifier two-sample test on subjects (Lopez-Paz and Oquab 2017), in the form of ``metrics/<model>.json``.

    Args:
        train: Real training subjects.
        holdout: Real subjects that no model has seen.
        synthetic: Synthetic subjects.
        seed: Chooses subjects and folds.

    Returns:
        ``auc`` with its 95 % interval ``low`` and ``high``, ``subjects`` of each side, ``giveaways``; and the same of
        two halves of the training subjects (``real_halves``) and of the held-out ones (``holdout``).
    """
    if min(len(train.values), len(synthetic.values)) < 20:
        return {}
    figures = _told_apart(train, synthetic, seed, giveaways=True)
    order = np.random.default_rng([seed, 0x68616C66]).permutation(len(train.values))
    half = len(order) // 2
    figures["real_halves"] = _told_apart(train.take(order[:half]), train.take(order[half:]), seed)
    if len(holdout.values) >= 20:
        figures["holdout"] = _told_apart(train, holdout, seed)
    return figures


def _told_apart(real: SubjectTable, other: SubjectTable, seed: int, *, giveaways: bool = False) -> dict[str, Any]:
    random = np.random.default_rng([seed, 0x7375626A])
    n = min(len(real.values), len(other.values), MOST_SUBJECTS)
    x = np.concatenate([t.values[random.permutation(len(t.values))[:n]] for t in (real, other)])
    y = np.repeat([0, 1], n)
    fold = np.concatenate([random.permutation(np.arange(n) % _FOLDS) for _ in range(2)])
    scores, drops = np.empty(len(y)), np.zeros(x.shape[1])
    for number in range(_FOLDS):
        own = fold == number
        booster = Booster("classes", real.categorical, seed).fit(x[~own], y[~own])
        scores[own] = booster.predict_proba(x[own])[:, 1]
        if giveaways and number == 0:
            columns = most_telling(booster.gains)
            drops = auc_drops(booster, x[own], y[own], random, repeats=3, columns=columns)
    area, low, high = auc(scores[y == 1], scores[y == 0])
    figures: dict[str, Any] = {"auc": area, "low": low, "high": high, "subjects": n, "reference": 0.5}
    if giveaways:
        figures["giveaways"] = giveaways_of(real.names, drops)
    return figures


def subjects_closeness(
    train: SubjectTable, holdout: SubjectTable, synthetic: SubjectTable, seed: int
) -> dict[str, Any]:
    """Are synthetic subjects nearer to training subjects than to as many held-out ones? 0.5: they are not.

    The distance is Gower's (1971), with ranks in place of numbers. Training subjects are drawn several times, as many
    as are held out.

    Args:
        train: Real training subjects.
        holdout: Real subjects that no model has seen.
        synthetic: Synthetic subjects.
        seed: Chooses subjects.

    Returns:
        ``share`` of the synthetic subjects whose nearest training subject is nearer, half of the ties; ``error``, about
        its standard error by the choice of the held-out subjects; ``copies``, the share at distance 0 from one of these
        training subjects; ``subjects`` of each side. Empty where fewer than 20 are held out.
    """
    random = np.random.default_rng([seed, 0x636C6F73])
    n = min(len(holdout.values), len(train.values), _CLOSEST)
    if n < 20 or len(synthetic.values) < 20:
        return {}
    some = synthetic.take(random.permutation(len(synthetic.values))[:_CLOSEST])
    x, held_out = (_ranked(train, each) for each in (some, holdout.take(random.permutation(len(holdout.values))[:n])))
    near = _nearest(x, held_out, train.categorical)
    order, shares, nearest = random.permutation(len(train.values)), [], np.full(len(x), np.inf)
    for first in range(0, min(len(order) // n, _TURNS) * n, n):
        found = _nearest(x, _ranked(train, train.take(order[first : first + n])), train.categorical)
        nearest = np.minimum(nearest, found)
        shares.append(float(((found < near) + 0.5 * (found == near)).mean()))
    error = float(np.sqrt(0.25 / n))  # at most: were each synthetic subject's nearest ones another pair
    return {
        "share": float(np.mean(shares)),
        "error": error,
        "copies": float((nearest == 0).mean()),
        "subjects": n,
    }


def _ranked(train: SubjectTable, table: SubjectTable) -> Floats:
    """The numbers of subjects as ranks among the training subjects', 0 to 1; categories as they are."""
    values = table.values.copy()
    for place in np.flatnonzero(~train.categorical):
        known = np.sort(train.values[:, place][~np.isnan(train.values[:, place])])
        own = ~np.isnan(values[:, place])
        if len(known):
            below, up_to = (np.searchsorted(known, values[own, place], side) for side in ("left", "right"))
            values[own, place] = 0.5 * (below + up_to) / len(known)
    return values


def _nearest(x: Floats, others: Floats, categorical: NDArray[np.bool_]) -> Floats:
    """float64[n]: distance of each subject from the nearest of the others."""
    nearest = np.empty(len(x))
    for first in range(0, len(x), _AT_ONCE):
        part = x[first : first + _AT_ONCE]
        total = np.zeros((len(part), len(others)))
        for place, is_category in enumerate(categorical):
            a, b = part[:, place, None], others[None, :, place]
            apart = (a != b).astype(np.float64) if is_category else np.abs(a - b)
            total += np.where(np.isnan(a) | np.isnan(b), np.isnan(a) != np.isnan(b), apart)
        nearest[first : first + _AT_ONCE] = total.min(axis=1) / max(x.shape[1], 1)
    return nearest
