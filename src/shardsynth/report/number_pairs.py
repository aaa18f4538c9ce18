"""The worst pairs of two numbers as contingency tables: a correlation says that something is off, not what.

Made of rows, since counts have tables only of pairs with a category. Each column is cut into at most eight bins at
round values near the eighths of the real rows; a value that is an eighth of them by itself has a bin of its own. As
everywhere, a real cell of few rows is not told, and real shares come from counts in multiples of the fewest told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.report.grids import calendar_grid, clock_grid, nice, time_unit
from shardsynth.report.plots import finite
from shardsynth.report.text import number

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.columns import Column

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Pairs of columns drawn per model; of two numbers, whose scores are of another kind, at least so many; bins of each.
MOST_PAIRS, NUMBER_PAIRS, _MOST_BINS = 6, 3, 8


def worst_pairs(coder: TableCoder, quality: Mapping[str, Any]) -> list[tuple[float, Mapping[str, Any]]]:
    """Score and entry of the pairs in ``quality`` that are drawn: the worst, then the worst of two numbers."""
    scored = [(score, p) for p in quality.get("pairs") or [] if (score := finite(p.get("score"))) is not None]
    known = [item for item in scored if all(name in coder.index for name in item[1]["columns"])]
    known.sort(key=lambda item: item[0])
    numbers = [item for item in known if item[1]["metric"] == "CorrelationSimilarity"][:NUMBER_PAIRS]
    return [*known[:MOST_PAIRS], *(item for item in numbers if item not in known[:MOST_PAIRS])]


def number_pairs(
    coder: TableCoder, quality: Mapping[str, Any], real: pa.Table, synthetic: pa.Table, min_count: int
) -> list[dict[str, Any]]:
    """Tables of the pairs of two numbers among a model's worst pairs, in the form of ``metrics/<model>.json``.

    Args:
        coder: Codes of the learned columns.
        quality: ``quality`` of the model's metrics.
        real: Real rows, a sample.
        synthetic: Synthetic rows, a sample.
        min_count: Fewest real rows of a cell that is told.

    Returns:
        Per pair ``columns``; ``bins``, the labels of either column's bins, missing values last; ``cuts``, the labels
        of what lies between them; ``real`` and ``synthetic``, shares of the rows by bin of the first and of the second
        column, where a real cell of fewer than ``min_count`` rows is None.
    """
    worst = worst_pairs(coder, quality)
    wanted = [pair["columns"] for _, pair in worst if pair["metric"] == "CorrelationSimilarity"]
    if not wanted or not real.num_rows or not synthetic.num_rows:
        return []
    axes = [coder.encode(table).axis for table in (real, synthetic)]
    found = []
    for names in wanted:
        places = [coder.index[name] for name in names]
        values = [[np.asarray(axis[i]) for axis in axes] for i in places]
        binned = [_Bins.of(coder.columns[i].column, x[0], min_count) for i, x in zip(places, values)]
        if not all(len(bins.cuts) for bins in binned):
            continue
        missing = [any(bool(np.isnan(x).any()) for x in tables) for tables in values]
        sizes = [len(bins.cuts) + 1 + gap for bins, gap in zip(binned, missing)]
        counts = [
            np.bincount(first * sizes[1] + second, minlength=sizes[0] * sizes[1]).reshape(sizes)
            for first, second in ([bins.codes(x[side]) for bins, x in zip(binned, values)] for side in (0, 1))
        ]
        found.append(
            {
                "columns": list(names),
                "bins": [bins.labels() + ["missing"] * gap for bins, gap in zip(binned, missing)],
                "cuts": [bins.texts for bins in binned],
                "real": _told(counts[0], min_count),
                "synthetic": (counts[1] / counts[1].sum()).round(6).tolist(),
            }
        )
    return found


def _told(counts: Integers, min_count: int) -> list[list[float | None]]:
    few = (counts > 0) & (counts < min_count)
    rounded = np.where(few, 0, min_count * np.rint(counts / min_count))
    shares = (rounded / max(float(rounded.sum()), 1.0)).round(6)
    return [[None if hidden else share for share, hidden in zip(*row)] for row in zip(shares.tolist(), few.tolist())]


@dataclass(frozen=True)
class _Bins:
    """Where one column is cut.

    Attributes:
        cuts: float64[m], increasing; bin k holds the values from ``cuts[k-1]`` to under ``cuts[k]``.
        texts: Label of each cut; "over x" where it ends the bin of the value x.
    """

    cuts: Floats
    texts: list[str]

    @classmethod
    def of(cls, column: Column, values: Floats, least: int) -> _Bins:
        """Cuts such that each bin holds at least ``least`` of the real ``values``; none where there is only one bin."""
        present = np.sort(values[~np.isnan(values)])
        if len(present) < 2 * least:
            return cls(present[:0], [])
        pairs = _dates(column, present) if column.role == "datetime" else _numbers(present)
        cuts: list[float] = []
        texts: list[str] = []
        below = 0
        for cut, text in sorted(pairs.items()):
            here = int(np.searchsorted(present, cut))
            if here - below >= least and len(present) - here >= least:
                cuts.append(cut)
                texts.append(text)
                below = here
        return cls(np.array(cuts), texts)

    def codes(self, values: Floats) -> Integers:
        """int64[n]: bin of each value, the last for missing ones."""
        found = np.searchsorted(self.cuts, values, side="right")
        return np.where(np.isnan(values), len(self.cuts) + 1, found).astype(np.int64)

    def labels(self) -> list[str]:
        """What each bin holds."""
        ends = [text.replace("over ", "") for text in self.texts]
        first = f"{ends[0]} or less" if self.texts[0].startswith("over") else f"under {ends[0]}"
        middle = [
            ends[k] if ends[k] == ends[k + 1] else f"{self.texts[k]} to {ends[k + 1]}" for k in range(len(ends) - 1)
        ]
        last = self.texts[-1] if self.texts[-1].startswith("over") else f"{ends[-1]} or more"
        return [first, *middle, last]


def _numbers(present: Floats) -> dict[float, str]:
    """Cuts of sorted numbers, at rounded eighths; both sides of a value that is an eighth of them or more."""
    places = (np.arange(1, _MOST_BINS) * len(present)) // _MOST_BINS
    eighths = present[places]
    spread = float(present[places[-1]] - present[places[0]]) or float(present[-1] - present[0])
    if not 0 < spread < math.inf:
        return {}
    step = nice(spread / 50)
    found = {}
    for value, times in zip(*np.unique(eighths, return_counts=True)):
        if times > 1:
            found[float(value)] = f"{value:.6g}"
            found[float(np.nextafter(value, np.inf))] = f"over {value:.6g}"
        else:
            rounded = round(float(value) / step) * step
            found.setdefault(rounded, number(rounded, step))
    return found


def _dates(column: Column, present: Floats) -> dict[float, str]:
    """Cuts of sorted dates or times of day, at the calendar's own marks."""
    kind = column.value_type
    if pa.types.is_duration(kind):
        return _numbers(present)
    low, high = (float(present[int(share * (len(present) - 1))]) for share in (0.02, 0.98))
    if pa.types.is_time(kind):
        grid = clock_grid(low, high, _MOST_BINS - 2, str(kind.unit))
    else:
        grid = calendar_grid(low, high, _MOST_BINS - 2, time_unit(kind))
    return dict(zip(grid.edges.tolist(), grid.starts))
