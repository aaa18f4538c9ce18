"""Can a classifier tell synthetic from real rows? The classifier two-sample test (Lopez-Paz and Oquab 2017).

An AUC of 0.5 means that it cannot. Beside it is the AUC of real holdout rows against training rows. Columns give the
synthetic rows away if the AUC falls when their values are shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.metrics.features import (
    MOST_SHUFFLED,
    Booster,
    Features,
    most_telling,
    random_rows,
    rows_for,
    shuffle_losses,
)
from shardsynth.metrics.intervals import auc
from shardsynth.metrics.persons import folds, persons_of

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder

Floats = npt.NDArray[np.float64]

#: At most: rows of each table, and rows in which columns are shuffled.
MOST_ROWS, _SHUFFLED = 10_000, 1_000
#: Columns that are listed, at most.
MOST_GIVEAWAYS = 10


def detection(coder: TableCoder, train: pa.Table, holdout: pa.Table, synthetic: pa.Table, seed: int) -> dict[str, Any]:
    """Detection figures in the form of ``metrics/<model>.json``.

    Args:
        coder: Codes of the learned columns; ids and personal data are not compared.
        train: Real training rows.
        holdout: Real rows that no model has seen.
        synthetic: Synthetic rows.
        seed: Chooses rows and folds.

    Returns:
        Those of ``two_samples`` for synthetic rows; if there are enough holdout rows, ``holdout`` (the same for them)
        and ``at_holdout_rows`` (for as many synthetic rows). Empty if there are fewer than 20 rows.
    """
    features = Features.of(coder)
    if not features.chosen or min(train.num_rows, synthetic.num_rows) < 20:
        return {}
    most = rows_for(len(features.chosen), MOST_ROWS)
    figures = two_samples(features, train, synthetic, most, seed, giveaways=True)
    if holdout.num_rows >= 20:
        rows = min(holdout.num_rows, most)
        figures["holdout"] = two_samples(features, train, holdout, rows, seed)
        figures["at_holdout_rows"] = two_samples(features, train, synthetic, rows, seed)
    return figures


def two_samples(
    features: Features, real: pa.Table, other: pa.Table, rows: int, seed: int, *, giveaways: bool = False
) -> dict[str, Any]:
    """A classifier of two tables, fitted on one half of the rows and scored on the other, and the other way round.

    Args:
        features: The columns that it sees.
        real: Real rows.
        other: The rows to tell from them.
        rows: Rows of each table, at most.
        seed: Chooses rows and folds.
        giveaways: Whether to list the columns that matter.

    Returns:
        ``auc`` with its 95 % interval ``low`` and ``high``; ``rows`` of each table; ``reference``, what equal tables
        give; with ``giveaways`` also these: ``column`` and ``drop``, the AUC lost when it is shuffled.
    """
    generator = np.random.default_rng([seed, 0x63327374])
    rows = min(rows, real.num_rows, other.num_rows)
    chosen_rows = [random_rows(table, rows, generator) for table in (real, other)]
    tables = [features.encode(table) for table in chosen_rows]
    x, y = np.concatenate(tables), np.repeat([0, 1], rows)
    # Each fold has the same number of rows of both tables, or of persons.
    fold = np.concatenate([folds(persons_of(table), rows, generator) for table in chosen_rows])
    scores = np.empty(len(y))
    drops = np.zeros(len(features.chosen))
    for half in (0, 1):
        model = Booster("classes", features.categorical, seed).fit(x[fold != half], y[fold != half])
        scores[fold == half] = model.predict_proba(x[fold == half])[:, 1]
        if giveaways:
            columns = most_telling(model.gains) if x.shape[1] > MOST_SHUFFLED else None
            drops += auc_drops(model, x[fold == half], y[fold == half], generator, columns=columns) / 2
    area, low, high = auc(scores[y == 1], scores[y == 0])
    figures: dict[str, Any] = {"auc": area, "low": low, "high": high, "rows": rows, "reference": 0.5}
    if giveaways:
        figures["giveaways"] = giveaways_of(features.names, drops)
    return figures


def giveaways_of(names: Sequence[str], drops: Floats) -> list[dict[str, Any]]:
    """The columns that matter, at most ``MOST_GIVEAWAYS``: ``column``, and ``drop``, the AUC lost by shuffling it."""
    order = np.argsort(-drops, kind="stable")[:MOST_GIVEAWAYS]
    return [{"column": names[k], "drop": float(drops[k])} for k in order.tolist() if drops[k] > 0.001]


def auc_drops(
    model: Booster,
    x: Floats,
    y: npt.NDArray[np.int64],
    generator: np.random.Generator,
    *,
    repeats: int = 1,
    columns: Sequence[int] | None = None,
) -> Floats:
    """float64[d]: how much AUC a classifier loses when one column is shuffled; see ``shuffle_losses``."""
    chosen = generator.permutation(len(y))[:_SHUFFLED]
    x, y = x[chosen], y[chosen]
    return shuffle_losses(
        lambda matrix: np.asarray(model.predict_proba(matrix)[:, 1], np.float64),
        lambda scores: auc(scores[y == 1], scores[y == 0])[0],
        x,
        generator,
        repeats,
        columns,
    )
