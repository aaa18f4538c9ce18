"""The worst pairs of two numbers as contingency tables: a correlation shows that a pair is wrong, but not where.

The tables are made from rows, because counts have tables only for pairs with a category. Each column is cut into at
most eight bins, at round values near the eighths (12.5 %, 25 %, ...) of the real rows. A value that makes up an eighth
of the rows has a bin of its own. As everywhere, a real cell of few rows is hidden, and real shares come from counts
rounded to multiples of the fewest rows that may be shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.report.grids import calendar_grid, clock_grid, nice, time_unit
from shardsynth.report.plots import finite
from shardsynth.report.text import number
from shardsynth.summaries.persons import Hashes, distinct_in

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.columns import Column

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Pairs of columns drawn per model; the fewest pairs of two numbers among them (their scores are of another kind);
#: bins of a column.
MOST_PAIRS, NUMBER_PAIRS, _MOST_BINS = 6, 3, 8


def worst_pairs(coder: TableCoder, quality: Mapping[str, Any]) -> list[tuple[float, Mapping[str, Any]]]:
    """Score and entry of the pairs that are drawn: the worst of all, then the worst of two numbers.

    Args:
        coder: Pairs of other columns than its own are left out.
        quality: ``quality`` of a model's metrics.
    """
    scored = [(score, p) for p in quality.get("pairs") or [] if (score := finite(p.get("score"))) is not None]
    known = [item for item in scored if all(name in coder.index for name in item[1]["columns"])]
    known.sort(key=lambda item: item[0])
    numbers = [item for item in known if item[1]["metric"] == "CorrelationSimilarity"][:NUMBER_PAIRS]
    return [*known[:MOST_PAIRS], *(item for item in numbers if item not in known[:MOST_PAIRS])]


def number_pairs(
    coder: TableCoder,
    quality: Mapping[str, Any],
    real: pa.Table,
    synthetic: pa.Table,
    min_count: int,
    persons: Hashes | None = None,
) -> list[dict[str, Any]]:
    """Tables of a model's worst pairs of two numbers, as they stand in ``metrics/<model>.json``.

    Args:
        coder: Codes of the learned columns.
        quality: ``quality`` of the model's metrics.
        real: Real rows, a sample.
        synthetic: Synthetic rows, a sample.
        min_count: Fewest real rows of a cell that may be shown.
        persons: uint64[real rows], hashes of the persons of the real rows, where a cell must be of so many persons too.

    Returns:
        A mapping per pair: ``columns``; ``bins``, the labels of the bins of both columns, missing values last;
        ``cuts``, the labels of the cuts between the bins; ``real`` and ``synthetic``, shares of the rows by bin of the
        first and of the second column. A real cell of fewer than ``min_count`` rows is None.
    """
    worst = worst_pairs(coder, quality)
    pairs = [pair["columns"] for _, pair in worst if pair["metric"] == "CorrelationSimilarity"]
    if not pairs or not real.num_rows or not synthetic.num_rows:
        return []
    axes = [coder.encode(table).axis for table in (real, synthetic)]
    tables = []
    for names in pairs:
        places = [coder.index[name] for name in names]
        values = [[np.asarray(axis[i]) for axis in axes] for i in places]  # of each column: real, synthetic
        bins = [_Bins.of(coder.columns[i].column, x[0], min_count, persons) for i, x in zip(places, values)]
        if not all(len(item.cuts) for item in bins):
            continue
        has_missing = [any(bool(np.isnan(x).any()) for x in column) for column in values]
        sizes = [len(item.cuts) + 1 + missing for item, missing in zip(bins, has_missing)]
        cells = [np.ravel_multi_index([b.codes(x[side]) for b, x in zip(bins, values)], sizes) for side in (0, 1)]
        real_counts, synthetic_counts = (np.bincount(c, minlength=sizes[0] * sizes[1]).reshape(sizes) for c in cells)
        people = None if persons is None else distinct_in(cells[0], persons, sizes[0] * sizes[1]).reshape(sizes)
        tables.append(
            {
                "columns": list(names),
                "bins": [item.labels() + ["missing"] * missing for item, missing in zip(bins, has_missing)],
                "cuts": [item.texts for item in bins],
                "real": _real_shares(real_counts, min_count, people),
                "synthetic": (synthetic_counts / synthetic_counts.sum()).round(6).tolist(),
            }
        )
    return tables


def _real_shares(counts: Integers, min_count: int, persons: Integers | None = None) -> list[list[float | None]]:
    """Shares of rounded counts; None where fewer than ``min_count`` rows are, or persons where these are counted."""
    few = (counts > 0) & (counts < min_count)
    if persons is not None:
        few |= (counts > 0) & (persons < min_count)
    rounded = np.where(few, 0, min_count * np.rint(counts / min_count))
    shares = (rounded / max(float(rounded.sum()), 1.0)).round(6)
    return [[None if hidden else share for share, hidden in zip(*row)] for row in zip(shares.tolist(), few.tolist())]


@dataclass(frozen=True)
class _Bins:
    """Where one column is cut.

    Attributes:
        cuts: float64[m], increasing; bin k holds the values from ``cuts[k-1]`` to under ``cuts[k]``.
        texts: Label of each cut; "over x" where the bin of the single value x ends.
    """

    cuts: Floats
    texts: list[str]

    @classmethod
    def of(cls, column: Column, values: Floats, least: int, persons: Hashes | None = None) -> _Bins:
        """Bins that hold at least ``least`` of the real ``values`` each; no cuts where there is only one bin.

        Args:
            column: The column.
            values: float64[n], NaN where missing.
            least: Fewest values of a bin.
            persons: uint64[n], hashes of the persons: then each bin, and each value that is a label, is of ``least``
                persons too.
        """
        there = ~np.isnan(values)
        order = np.argsort(values[there], kind="stable")
        present, people = values[there][order], None if persons is None else persons[there][order]

        def enough(start: int, stop: int) -> bool:
            return stop - start >= least and (people is None or len(np.unique(people[start:stop])) >= least)

        if len(present) < 2 * least:
            return cls(present[:0], [])
        candidates = _dates(column, present, enough) if column.role == "datetime" else _numbers(present, enough)
        cuts: list[float] = []
        texts: list[str] = []
        start = 0
        for cut, text in sorted(candidates.items()):
            place = int(np.searchsorted(present, cut))
            if enough(start, place) and enough(place, len(present)):
                cuts.append(cut)
                texts.append(text)
                start = place
        return cls(np.array(cuts), texts)

    def codes(self, values: Floats) -> Integers:
        """int64[n]: bin of each value; missing values have the last one."""
        codes = np.searchsorted(self.cuts, values, side="right")
        return np.where(np.isnan(values), len(self.cuts) + 1, codes).astype(np.int64)

    def labels(self) -> list[str]:
        """Label of each bin, without the one of missing values."""
        ends = [text.replace("over ", "") for text in self.texts]
        first = f"{ends[0]} or less" if self.texts[0].startswith("over") else f"under {ends[0]}"
        middle = [
            ends[k] if ends[k] == ends[k + 1] else f"{self.texts[k]} to {ends[k + 1]}" for k in range(len(ends) - 1)
        ]
        last = self.texts[-1] if self.texts[-1].startswith("over") else f"{ends[-1]} or more"
        return [first, *middle, last]


def _numbers(present: Floats, enough: Callable[[int, int], bool]) -> dict[float, str]:
    """Cuts of sorted numbers and their labels: at rounded eighths, and around a value that is an eighth of them.

    Args:
        present: float64[n], increasing.
        enough: Whether the values from one place to another may be told from all others.
    """
    places = (np.arange(1, _MOST_BINS) * len(present)) // _MOST_BINS
    eighths = present[places]
    spread = float(present[places[-1]] - present[places[0]]) or float(present[-1] - present[0])
    if not 0 < spread < math.inf:
        return {}
    step = nice(spread / 50)
    texts = {}
    for value, times in zip(*np.unique(eighths, return_counts=True)):
        if times > 1 and enough(*(int(np.searchsorted(present, value, side=side)) for side in ("left", "right"))):
            texts[float(value)] = f"{value:.6g}"
            texts[float(np.nextafter(value, np.inf))] = f"over {value:.6g}"
        else:
            rounded = round(float(value) / step) * step
            texts.setdefault(rounded, number(rounded, step))
    return texts


def _dates(column: Column, present: Floats, enough: Callable[[int, int], bool]) -> dict[float, str]:
    """Cuts of sorted dates or times and their labels: whole days, months, hours and so on; durations as numbers."""
    arrow_type = column.value_type
    if pa.types.is_duration(arrow_type):
        return _numbers(present, enough)
    low, high = (float(present[int(share * (len(present) - 1))]) for share in (0.02, 0.98))
    if pa.types.is_time(arrow_type):
        grid = clock_grid(low, high, _MOST_BINS - 2, str(arrow_type.unit))
    else:
        grid = calendar_grid(low, high, _MOST_BINS - 2, time_unit(arrow_type))
    return dict(zip(grid.edges.tolist(), grid.starts))
