"""Can a classifier tell synthetic from real rows? The classifier two-sample test (Lopez-Paz and Oquab 2017).

An AUC of 0.5 is "cannot"; what real holdout rows reach against training rows stands beside it. The columns without
whose values the classifier does worse give the synthetic rows away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.metrics.features import Features, booster, picked, shuffle_losses
from shardsynth.metrics.intervals import auc

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder

Floats = npt.NDArray[np.float64]

#: Rows of each kind, at most, and rows on which columns are shuffled.
MOST_ROWS, _SHUFFLED = 10_000, 1_000
MOST_GIVEAWAYS = 10


def detection(coder: TableCoder, train: pa.Table, holdout: pa.Table, synthetic: pa.Table, seed: int) -> dict[str, Any]:
    """Detection figures in the form of ``metrics/<model>.json``.

    Args:
        coder: Codes of the learned columns; ids and personal data are not looked at.
        train: Real training rows.
        holdout: Real rows that no model has seen.
        synthetic: Synthetic rows.
        seed: Chooses rows and folds.
    """
    features = Features.of(coder)
    if not features.chosen or min(train.num_rows, synthetic.num_rows) < 20:
        return {}
    found = two_samples(features, train, synthetic, MOST_ROWS, seed, giveaways=True)
    if holdout.num_rows >= 20:
        rows = min(holdout.num_rows, MOST_ROWS)
        found["holdout"] = two_samples(features, train, holdout, rows, seed)
        found["at_holdout_rows"] = two_samples(features, train, synthetic, rows, seed)
    return found


def two_samples(
    features: Features, real: pa.Table, other: pa.Table, rows: int, seed: int, *, giveaways: bool = False
) -> dict[str, Any]:
    """Cross-fitted classifier of two tables, as many rows of each: ``auc``, ``low``, ``high`` (95 %), ``rows``."""
    generator = np.random.default_rng([seed, 0x63327374])
    rows = min(rows, real.num_rows, other.num_rows)
    tables = [features.encode(picked(table, rows, generator)) for table in (real, other)]
    x, y = np.concatenate(tables), np.repeat([0, 1], rows)
    # Both halves have as many rows of either kind.
    fold = np.concatenate([generator.permutation(np.arange(rows) % 2) for _ in tables])
    scores = np.empty(len(y))
    drops = np.zeros(len(features.chosen))
    for side in (0, 1):
        model = booster("classes", features.categorical, seed).fit(x[fold != side], y[fold != side])
        scores[fold == side] = model.predict_proba(x[fold == side])[:, 1]
        if giveaways:
            drops += _drops(model, x[fold == side], y[fold == side], generator) / 2
    area, low, high = auc(scores[y == 1], scores[y == 0])
    found: dict[str, Any] = {"auc": area, "low": low, "high": high, "rows": rows, "reference": 0.5}
    if giveaways:
        order = np.argsort(-drops, kind="stable")[:MOST_GIVEAWAYS]
        found["giveaways"] = [
            {"column": features.names[k], "drop": float(drops[k])} for k in order.tolist() if drops[k] > 0.001
        ]
    return found


def _drops(model: Any, x: Floats, y: npt.NDArray[np.int64], generator: np.random.Generator) -> Floats:
    """float64[d]: how much AUC is lost when one column is shuffled."""
    chosen = generator.permutation(len(y))[:_SHUFFLED]
    x, y = x[chosen], y[chosen]
    return shuffle_losses(
        lambda matrix: np.asarray(model.predict_proba(matrix)[:, 1], np.float64),
        lambda scores: auc(scores[y == 1], scores[y == 0])[0],
        x,
        generator,
    )
