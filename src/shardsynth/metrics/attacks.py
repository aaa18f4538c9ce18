"""Three attacks with a control: singling out, linkability, inference (Giomi et al. 2023, "A unified framework ...").

An attacker holds the synthetic rows and attacks training rows, and likewise holdout rows as a control. What works
on both is knowledge of the population; the excess, as a part of what was left to gain, is the risk. The definitions
are those of the paper and of its implementation Anonymeter (benchmarks/attacks.py compares the two), but for one step:
where the two sides differ in size, the expected number of predicates that single out by chance is computed exactly
(hypergeometric) instead of by a fitted curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.metrics.features import picked

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.metrics.gower import Space

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Attacks of each kind, synthetic rows that the attacker searches, secrets that are tried.
ATTACKS, MOST_ROWS, MOST_SECRETS = 500, 10_000, 10
#: Columns of a predicate of several columns, more where fewer leave too few that single out; tries of each number.
_COLUMNS, _TRIES = (3, 6, 12, 24), 5_000
#: A number is guessed where it is this near, relatively.
_TOLERANCE = 0.05


def attacks(
    space: Space, train: pa.Table, holdout: pa.Table, synthetic: pa.Table, secrets: Sequence[str], seed: int, z: float
) -> dict[str, Any]:
    """Risks in the form of ``metrics/<model>.json``: each with ``risk``, ``low``, ``high``, ``attack``, ``control``.

    Args:
        space: How rows are compared.
        train: Training rows.
        holdout: Holdout rows: the control.
        synthetic: Synthetic rows.
        secrets: Columns to guess; the first columns if empty.
        seed: Chooses targets and predicates.
        z: Normal quantile of the intervals.
    """
    generator = np.random.default_rng([seed, 0x61747461])
    made = picked(synthetic, MOST_ROWS, generator)
    names = [space.coder.columns[i].name for i in space.chosen]
    if len(names) < 2 or made.num_rows < 2:
        return {}
    matrices = [_values(space.coder, names, table) for table in (made, train, holdout)]
    kinds = np.array([space.coder.columns[space.coder.index[name]].is_category for name in names], np.bool_)
    found: dict[str, Any] = {}
    one = _rare_values(matrices[0], kinds, generator)
    many = _combinations(matrices[0], kinds, generator)
    for key, predicates in (("singling_out_one", one), ("singling_out_many", many)):
        if predicates:
            found[key] = _singling_out(predicates, matrices[1], matrices[2], z)
    size = min(ATTACKS, train.num_rows, holdout.num_rows)
    targets = (picked(train, size, generator), picked(holdout, size, generator))
    found["linkability"] = risk([linked(space, table, made) for table in targets], z)
    asked = [name for name in secrets if name in names] or names
    guesses = {}
    for name in asked[:MOST_SECRETS]:
        guesses[name] = risk([guessed(space, name, table, made) for table in targets], z)
    worst = max(guesses, key=lambda name: guesses[name]["low"])
    found["inference"] = {**guesses[worst], "column": worst, "columns": {n: g["risk"] for n, g in guesses.items()}}
    return found


def risk(hits: Sequence[Mask | Floats], z: float, correction: float = 1.0) -> dict[str, Any]:
    """Excess success against training over control targets, (a - c) / (1 - c), with its propagated interval.

    Args:
        hits: Success of each attack on training targets, and on control targets.
        z: Normal quantile.
        correction: Factor of the control's success rate.
    """
    rates, errors = [], []
    for success, factor in zip(hits, (1.0, correction)):
        n, k = len(success), float(np.sum(success))
        # Wilson's centre and half-width.
        rates.append(min((k + z * z / 2) / (n + z * z) * factor, 0.999))
        errors.append(z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4) * factor)
    attack, control = rates
    value = (attack - control) / (1 - control)
    slope = (1 - attack) / (1 - control) ** 2
    half = float(np.hypot(errors[0] / (1 - control), errors[1] * slope))
    clipped = [float(np.clip(v, 0.0, 1.0)) for v in (value, value - half, value + half)]
    return {
        "risk": clipped[0],
        "low": clipped[1],
        "high": clipped[2],
        "attack": float(np.mean(hits[0])),
        "control": float(np.mean(hits[1])) * correction,
        "attacks": len(hits[0]),
    }


# --- singling out ----------------------------------------------------------------------------------------------------

#: Column, comparison ("==", "<=", ">=", "missing") and value.
Condition = tuple[int, str, float]
Predicate = tuple[Condition, ...]


def _values(coder: TableCoder, names: Sequence[str], table: pa.Table) -> Floats:
    """float64[n, d]: axis values or category codes, NaN where missing."""
    encoded = coder.encode(table)
    found = np.empty((table.num_rows, len(names)))
    for k, name in enumerate(names):
        i = coder.index[name]
        axis, column = encoded.axis[i], coder.columns[i]
        codes = encoded.codes[i]
        found[:, k] = axis if axis is not None else np.where(codes == column.missing, np.nan, codes)
    return found


def matches(predicate: Predicate, values: Floats) -> Mask:
    """bool[n]: rows that a predicate is true of."""
    hit = np.ones(len(values), np.bool_)
    for column, comparison, value in predicate:
        x = values[:, column]
        if comparison == "missing":
            hit &= np.isnan(x)
        else:
            with np.errstate(invalid="ignore"):
                hit &= x == value if comparison == "==" else x <= value if comparison == "<=" else x >= value
    return hit


def _rare_values(made: Floats, kinds: Mask, generator: np.random.Generator) -> list[Predicate]:
    """Predicates of one column that hold for one synthetic row: extremes, values and gaps that occur once."""
    found: list[Predicate] = []
    for k in range(made.shape[1]):
        x = made[:, k]
        present = x[~np.isnan(x)]
        if len(x) - len(present) == 1:
            found.append(((k, "missing", 0.0),))
        if not len(present):
            continue
        values, counts = np.unique(present, return_counts=True)
        found += [((k, "==", float(value)),) for value in values[counts == 1]]
        if not kinds[k]:
            found += [((k, "<=", float(values[0])),)] * int(counts[0] == 1)
            found += [((k, ">=", float(values[-1])),)] * int(counts[-1] == 1)
    order = generator.permutation(len(found))[:ATTACKS]
    return [found[k] for k in order]


def _combinations(made: Floats, kinds: Mask, generator: np.random.Generator) -> list[Predicate]:
    """Predicates of several columns, read off a random row, that hold for one synthetic row.

    Of few columns first, as Anonymeter's; where most columns are flags, few such predicates hold for one row alone.
    """
    with np.errstate(all="ignore"):
        middle = np.array([np.median(x[~np.isnan(x)]) if (~np.isnan(x)).any() else 0.0 for x in made.T])
    found: dict[Predicate, None] = {}
    for width in (*(few for few in _COLUMNS if few < made.shape[1]), min(made.shape[1], _COLUMNS[-1])):
        for _ in range(_TRIES):
            row = made[generator.integers(len(made))]
            columns = np.sort(generator.permutation(made.shape[1])[:width])
            predicate: Predicate = tuple(_condition(int(k), row[k], bool(kinds[k]), middle[k]) for k in columns)
            if predicate not in found and matches(predicate, made).sum() == 1:
                found[predicate] = None
                if len(found) == ATTACKS:
                    return list(found)
    return list(found)


def _condition(column: int, value: float, category: bool, middle: float) -> Condition:
    if np.isnan(value):
        return (column, "missing", 0.0)
    return (column, "==" if category else ">=" if value > middle else "<=", float(value))


def _singling_out(predicates: Sequence[Predicate], train: Floats, holdout: Floats, z: float) -> dict[str, Any]:
    from scipy.stats import hypergeom

    counts = np.array([[int(matches(p, rows).sum()) for rows in (train, holdout)] for p in predicates])
    correction = 1.0
    if len(train) != len(holdout):
        # How many of the predicates would single out in training rows cut to the holdout's size.
        size = min(len(train), len(holdout))
        cut = float(hypergeom.pmf(1, len(train), counts[:, 0], size).mean()) if len(train) > size else 0.0
        correction = float((counts[:, 0] == 1).mean()) / cut if cut > 0 else 1.0
    return risk([counts[:, 0] == 1, counts[:, 1] == 1], z, correction)


# --- linkability and inference ---------------------------------------------------------------------------------------


def linked(space: Space, targets: pa.Table, made: pa.Table) -> Mask:
    """bool[n]: whether the same synthetic row is the nearest by one half of the columns and by the other."""
    nearest = []
    for start in (0, 1):
        half = space.only(space.chosen[start::2])
        nearest.append(half.nearest(half.encode(targets), half.encode(made)).index[:, 0])
    return np.asarray(nearest[0] == nearest[1], np.bool_)


def guessed(space: Space, secret: str, targets: pa.Table, made: pa.Table) -> Mask:
    """bool[n]: whether the nearest synthetic row by the other columns has the target's value of ``secret``."""
    i = space.coder.index[secret]
    others = space.only([k for k in space.chosen if k != i])
    nearest = others.nearest(others.encode(targets), others.encode(made)).index[:, 0]
    guess = _values(space.coder, [secret], made)[nearest, 0]
    truth = _values(space.coder, [secret], targets)[:, 0]
    both_missing = np.isnan(guess) & np.isnan(truth)
    with np.errstate(invalid="ignore"):
        if space.coder.columns[i].is_category:
            return np.asarray((guess == truth) | both_missing, np.bool_)
        return np.asarray((np.abs(guess - truth) <= _TOLERANCE * np.abs(guess)) | both_missing, np.bool_)
