"""Three attacks with a control: singling out, linkability, inference (Giomi et al. 2023, "A unified framework ...").

An attacker has the synthetic rows and attacks training rows and, as a control, holdout rows. What works on both sides
is knowledge of the population. The risk is the excess on training rows, as a share of the largest possible excess. The
definitions are those of the paper and of its implementation Anonymeter (benchmarks/attacks.py compares the two), with
one difference: if the two sides differ in size, the expected number of predicates that single out by chance is computed
exactly (hypergeometric) and not by a fitted curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.metrics.features import random_rows
from shardsynth.metrics.persons import one_row_of_each

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.metrics.gower import Space

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: At most: attacks of each kind, synthetic rows that the attacker searches, columns that are guessed.
ATTACKS, MOST_ROWS, MOST_SECRETS = 500, 10_000, 10
#: Numbers of columns of a combined predicate, the next one if too few predicates single out; tries of each number.
_COLUMNS, _TRIES = (3, 6, 12, 24), 5_000
#: A guessed number is right if its relative error is at most this.
_TOLERANCE = 0.05


def attacks(
    space: Space, train: pa.Table, holdout: pa.Table, synthetic: pa.Table, secrets: Sequence[str], seed: int, z: float
) -> dict[str, Any]:
    """Risks in the form of ``metrics/<model>.json``: each with ``risk``, ``low``, ``high``, ``attack``, ``control``.

    Args:
        space: How rows are compared.
        train: Training rows; of a table that knows its persons, one row of each is attacked.
        holdout: Holdout rows: the control; likewise.
        synthetic: Synthetic rows.
        secrets: Columns to guess; if empty, the first columns.
        seed: Chooses targets and predicates.
        z: Normal quantile of the intervals.

    Returns:
        A mapping per attack; empty if there are fewer than two columns or two synthetic rows.
    """
    generator = np.random.default_rng([seed, 0x61747461])
    train, holdout = one_row_of_each(train, generator), one_row_of_each(holdout, generator)
    searched = random_rows(synthetic, MOST_ROWS, generator)
    names = [space.coder.columns[i].name for i in space.chosen]
    if len(names) < 2 or searched.num_rows < 2:
        return {}
    matrices = [_values(space.coder, names, table) for table in (searched, train, holdout)]
    is_category = np.array([space.coder.columns[space.coder.index[name]].is_category for name in names], np.bool_)
    risks: dict[str, Any] = {}
    of_one = _rare_values(matrices[0], is_category, generator)
    of_many = _combinations(matrices[0], is_category, generator)
    for key, predicates in (("singling_out_one", of_one), ("singling_out_many", of_many)):
        if predicates:
            risks[key] = _singling_out(predicates, matrices[1], matrices[2], z)
    size = min(ATTACKS, train.num_rows, holdout.num_rows)
    targets = (random_rows(train, size, generator), random_rows(holdout, size, generator))
    risks["linkability"] = risk([linked(space, table, searched) for table in targets], z)
    secret_columns = [name for name in secrets if name in names] or names
    guesses = {}
    for name in secret_columns[:MOST_SECRETS]:
        guesses[name] = risk([guessed(space, name, table, searched) for table in targets], z)
    worst = max(guesses, key=lambda name: guesses[name]["low"])
    risks["inference"] = {**guesses[worst], "column": worst, "columns": {n: g["risk"] for n, g in guesses.items()}}
    return risks


def risk(hits: Sequence[Mask | Floats], z: float, correction: float = 1.0) -> dict[str, Any]:
    """Excess success on training targets over control targets, (a - c) / (1 - c), and its interval.

    The interval propagates Wilson's intervals of both rates, as Giomi et al. do.

    Args:
        hits: [n] each: success of each attack on training targets, and on control targets.
        z: Normal quantile.
        correction: Factor of the control's success rate.
    """
    rates, errors = [], []
    for success, factor in zip(hits, (1.0, correction)):
        n, k = len(success), float(np.sum(success))
        # Wilson's centre and half-width. A rate of 1 would leave nothing to gain.
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

#: Index of a column, comparison ("==", "<=", ">=", "missing") and value.
Clause = tuple[int, str, float]
#: A row matches a predicate if it matches all clauses.
Predicate = tuple[Clause, ...]


def _values(coder: TableCoder, names: Sequence[str], table: pa.Table) -> Floats:
    """float64[n, d], column by column: axis values or category codes, NaN where missing."""
    encoded = coder.encode(table)
    matrix = np.empty((table.num_rows, len(names)), order="F")
    for k, name in enumerate(names):
        i = coder.index[name]
        axis, column = encoded.axis[i], coder.columns[i]
        codes = encoded.codes[i]
        matrix[:, k] = axis if axis is not None else np.where(codes == column.missing, np.nan, codes)
    return matrix


def matches(predicate: Predicate, values: Floats) -> Mask:
    """bool[n]: rows that match a predicate.

    Args:
        predicate: What to test.
        values: float64[n, d], the rows; NaN where missing.
    """
    hit = np.ones(len(values), np.bool_)
    for column, comparison, value in predicate:
        x = values[:, column]
        if comparison == "missing":
            hit &= np.isnan(x)
        else:
            with np.errstate(invalid="ignore"):
                hit &= x == value if comparison == "==" else x <= value if comparison == "<=" else x >= value
    return hit


def _rare_values(synthetic: Floats, is_category: Mask, generator: np.random.Generator) -> list[Predicate]:
    """Predicates of one column that one synthetic row matches: an extreme, a value or a gap that occurs once."""
    predicates: list[Predicate] = []
    for k in range(synthetic.shape[1]):
        x = synthetic[:, k]
        present = x[~np.isnan(x)]
        if len(x) - len(present) == 1:
            predicates.append(((k, "missing", 0.0),))
        if not len(present):
            continue
        values, counts = np.unique(present, return_counts=True)
        predicates += [((k, "==", float(value)),) for value in values[counts == 1]]
        if not is_category[k]:
            predicates += [((k, "<=", float(values[0])),)] * int(counts[0] == 1)
            predicates += [((k, ">=", float(values[-1])),)] * int(counts[-1] == 1)
    order = generator.permutation(len(predicates))[:ATTACKS]
    return [predicates[k] for k in order]


def _combinations(synthetic: Floats, is_category: Mask, generator: np.random.Generator) -> list[Predicate]:
    """Predicates of several columns, made from a random row, that one synthetic row matches.

    Predicates of few columns come first, as in Anonymeter. If most columns are flags, few of these match only one row.
    """
    with np.errstate(all="ignore"):
        medians = np.array([np.median(x[~np.isnan(x)]) if (~np.isnan(x)).any() else 0.0 for x in synthetic.T])
    predicates: dict[Predicate, None] = {}  # an ordered set
    d = synthetic.shape[1]
    for width in (*(few for few in _COLUMNS if few < d), min(d, _COLUMNS[-1])):
        for _ in range(_TRIES):
            row = synthetic[generator.integers(len(synthetic))]
            columns = np.sort(generator.permutation(d)[:width])
            predicate: Predicate = tuple(_clause(int(k), row[k], bool(is_category[k]), medians[k]) for k in columns)
            if predicate not in predicates and matches(predicate, synthetic).sum() == 1:
                predicates[predicate] = None
                if len(predicates) == ATTACKS:
                    return list(predicates)
    return list(predicates)


def _clause(column: int, value: float, category: bool, median: float) -> Clause:
    if np.isnan(value):
        return (column, "missing", 0.0)
    return (column, "==" if category else ">=" if value > median else "<=", float(value))


def _singling_out(predicates: Sequence[Predicate], train: Floats, holdout: Floats, z: float) -> dict[str, Any]:
    from scipy.stats import hypergeom

    counts = np.array([[int(matches(p, rows).sum()) for rows in (train, holdout)] for p in predicates])
    correction = 1.0
    if len(train) != len(holdout):
        # Share of the predicates that would single out a row of as many training rows as the holdout has.
        size = min(len(train), len(holdout))
        expected = float(hypergeom.pmf(1, len(train), counts[:, 0], size).mean()) if len(train) > size else 0.0
        correction = float((counts[:, 0] == 1).mean()) / expected if expected > 0 else 1.0
    return risk([counts[:, 0] == 1, counts[:, 1] == 1], z, correction)


# --- linkability and inference ---------------------------------------------------------------------------------------


def linked(space: Space, targets: pa.Table, synthetic: pa.Table) -> Mask:
    """bool[n]: whether the same synthetic row is the nearest one to a target by both halves of the columns."""
    nearest = []
    for start in (0, 1):
        half = space.only(space.chosen[start::2])
        nearest.append(half.nearest(half.encode(targets), half.encode(synthetic)).index[:, 0])
    return np.asarray(nearest[0] == nearest[1], np.bool_)


def guessed(space: Space, secret: str, targets: pa.Table, synthetic: pa.Table) -> Mask:
    """bool[n]: whether the synthetic row that is nearest by the other columns has the target's value of ``secret``."""
    i = space.coder.index[secret]
    others = space.only([k for k in space.chosen if k != i])
    nearest = others.nearest(others.encode(targets), others.encode(synthetic)).index[:, 0]
    guess = _values(space.coder, [secret], synthetic)[nearest, 0]
    truth = _values(space.coder, [secret], targets)[:, 0]
    both_missing = np.isnan(guess) & np.isnan(truth)
    with np.errstate(invalid="ignore"):
        if space.coder.columns[i].is_category:
            return np.asarray((guess == truth) | both_missing, np.bool_)
        return np.asarray((np.abs(guess - truth) <= _TOLERANCE * np.abs(guess)) | both_missing, np.bool_)
