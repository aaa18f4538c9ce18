"""What each value of a row owes to the same column in earlier rows of its owner: a few numbers a column.

Values persist: the last one comes again, or one near it; a person has a level; what a person had once comes back. A
number gets a term by its distance from the last value and one by its distance from the mean of all earlier values. Any
column gets terms for the last value, for values that the owner had before, and for how often (as in Polya's urn, where
a value's chance grows with the times that it was drawn). These few numbers are fitted to the rows before the training
of the network, by Newton's method: so that few subjects say what holds for all of them, and little of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.autoregressive.subjects.families import CodedRows, last_known

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Widths of the terms by distance, as shares of the order of a number from 0 to 1.
WIDTHS = (0.015, 0.04, 0.1, 0.25)
#: Places of the mean of earlier values.
LEVELS = 33
#: Rows that the terms are fitted to, at most; steps of Newton's method; weight of the terms' squares.
_ROWS, _STEPS, _RIDGE = 5_000, 12, 1.0
#: Largest number of numbers in memory at once.
_NUMBERS = 8 << 20
#: Rows of the usual frequencies that are added to those that are counted; fewest owners in which a category follows
#: another one for it to count; largest logarithm of a ratio.
_PRIOR, _OWNERS, _MOST = 8.0, 5, 3.0


@dataclass(frozen=True)
class Terms:
    """The terms of one column's logits.

    Attributes:
        near: float64[widths], by the distance from the last known value.
        level: float64[widths], by the distance from the mean of all earlier values.
        stays: Of the last known value.
        had: Of values that the owner had on any earlier row.
        urn: By how often; see ``urn``.
        follows: float64[size + 1, size], each category after the last known one; 0 for numbers.
    """

    near: Floats
    level: Floats
    stays: float
    had: float
    urn: float
    follows: Floats


def by_distance(from_places: Floats, places: Floats) -> Floats:
    """float64[m, n, widths]: closeness of each place to each other one, 1 where they are equal; 0 for no place."""
    distance = from_places[:, None] - places[None, :]
    with np.errstate(invalid="ignore"):
        close = np.exp(-0.5 * (distance[:, :, None] / np.array(WIDTHS)) ** 2)
    return np.asarray(np.nan_to_num(close, nan=0.0), np.float64)


def levels() -> Floats:
    """float64[LEVELS + 1]: the means of earlier values that are told apart; the last one: there is none."""
    return np.append(np.linspace(0.0, 1.0, LEVELS), np.nan)


def level_of(total: Floats, known: NDArray[np.float64] | Integers) -> Integers:
    """int64[...], the number of the level of a sum of so many places; ``LEVELS`` where there is none."""
    mean = total / np.maximum(known, 1)
    return np.where(known > 0, np.rint(mean * (LEVELS - 1)), LEVELS).astype(np.int64)


def levels_before(codes: NDArray[np.int16], owner: Integers, places: Sequence[Floats | None]) -> Integers:
    """int64[n, columns]: level of the values of earlier rows of the owner; of categories there is none."""
    result = np.full(codes.shape, LEVELS, np.int64)
    starts = np.searchsorted(owner, owner)
    for column, own_places in enumerate(places):
        if own_places is None or not len(codes):
            continue
        place = own_places[codes[:, column]]
        known = ~np.isnan(place)
        total = np.concatenate([[0.0], np.cumsum(np.where(known, place, 0.0))])
        count = np.concatenate([[0], np.cumsum(known)])
        rows = np.arange(len(codes))
        result[:, column] = level_of(total[rows] - total[starts], count[rows] - count[starts])
    return result


def times_before(codes: Integers, owner: Integers, size: int) -> NDArray[np.int32]:
    """int32[n, size]: how often each code stood on earlier rows of the owner."""
    is_code = np.zeros((len(codes), size), np.int32)
    is_code[np.arange(len(codes)), codes] = 1
    before = np.cumsum(is_code, axis=0, dtype=np.int32) - is_code
    return np.asarray(before - before[np.searchsorted(owner, owner)], np.int32)


def fitted_terms(
    rows: CodedRows,
    sizes: Sequence[int],
    nullable: Sequence[bool],
    places: Sequence[Floats | None],
) -> list[Terms]:
    """The terms of each column that make its rows most probable, beside the shares of its codes.

    Args:
        rows: Rows of owners; the first ones are looked at.
        sizes: Codes of each column.
        nullable: Of each column, whether its last code means missing.
        places: Per column, places of the codes in the order, 0 to 1; None for categories.
    """
    found = []
    for column, size in enumerate(sizes):
        most = min(_ROWS, max(200, _NUMBERS // (size * (3 + 2 * len(WIDTHS)))), len(rows.owner))
        codes, owner = rows.codes[:most, column : column + 1], rows.owner[:most]
        last = last_known(codes, owner, [size], [nullable[column]])[:, 0]
        level = levels_before(codes, owner, [places[column]])[:, 0]
        found.append(_terms(codes[:, 0].astype(np.int64), owner, last, level, size, places[column]))
    return found


def _terms(
    codes: Integers, owner: Integers, last: Integers, level: Integers, size: int, places: Floats | None
) -> Terms:
    share = (np.bincount(codes, minlength=size) + 0.5) / (len(codes) + 0.5 * size)
    times = times_before(codes, owner, size)
    features = [last[:, None] == np.arange(size), times > 0, np.log1p(times / share)]
    if places is not None:
        near = by_distance(np.append(places, np.nan), places)[last]
        far = by_distance(levels(), places)[level]
        features += [near[:, :, k] for k in range(len(WIDTHS))] + [far[:, :, k] for k in range(len(WIDTHS))]
    design = np.stack([np.asarray(f, np.float64) for f in features], axis=2)
    weights, chances = _newton(design, np.log(share), codes)
    follows = np.zeros((size + 1, size))
    if places is None:
        follows = _follows(codes, owner, last, chances)
    none = np.zeros(len(WIDTHS))
    by_place = weights[3:].reshape(2, -1) if places is not None else np.stack([none, none])
    return Terms(by_place[0], by_place[1], float(weights[0]), float(weights[1]), float(weights[2]), follows)


def _newton(design: Floats, base: Floats, codes: Integers) -> tuple[Floats, Floats]:
    """Weights float64[d] of features float64[n, size, d] of a multinomial logit, and its chances [n, size]."""
    n, size, count = design.shape
    weights = np.zeros(count)

    def chances_of(trial: Floats) -> tuple[Floats, float]:
        logits = base + design @ trial
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        chances /= chances.sum(axis=1, keepdims=True)
        gain = np.log(np.maximum(chances[np.arange(n), codes], 1e-300)).sum()
        return chances, float(gain - 0.5 * _RIDGE * trial @ trial)

    chances, value = chances_of(weights)
    for _ in range(_STEPS):
        mean = np.einsum("nsd,ns->nd", design, chances)
        slope = (design[np.arange(n), codes] - mean).sum(axis=0) - _RIDGE * weights
        weighted = (design * chances[:, :, None]).reshape(n * size, count)
        curve = weighted.T @ design.reshape(n * size, count) - mean.T @ mean + _RIDGE * np.eye(count)
        step = np.linalg.solve(curve, slope)
        for _ in range(6):
            trial = np.clip(weights + step, -20.0, 20.0)
            found, better = chances_of(trial)
            if better >= value - 1e-9:
                break
            step *= 0.5
        else:
            break
        done = better - value < 1e-6
        weights, chances, value = trial, found, better
        if done:
            break
    return weights, chances


def _follows(codes: Integers, owner: Integers, last: Integers, chances: Floats) -> Floats:
    """How much more often each category follows each other one than the rest of the terms says."""
    size = chances.shape[1]
    counts, expected, owners = (np.zeros((size + 1, size)) for _ in range(3))
    np.add.at(counts, (last, codes), 1.0)
    np.add.at(expected, last, chances)
    triples = np.unique((owner * (size + 1) + last) * size + codes)
    pairs = triples % ((size + 1) * size)
    np.add.at(owners, (pairs // size, pairs % size), 1.0)
    share = expected.sum(axis=0) / max(expected.sum(), 1.0)
    ratio = np.log((counts + _PRIOR * share) / (expected + _PRIOR * share))
    return np.asarray(np.where(owners >= _OWNERS, np.clip(ratio, -_MOST, _MOST), 0.0), np.float64)
