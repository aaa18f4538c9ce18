"""The worst pairs as contingency tables, real beside synthetic: tiles whose area is a share of the rows.

Two numbers have a square of bins instead, where a share is a shade.

The same rules as for the bars of columns: a category seen on fewer than ``min_count`` real rows joins "other", a real
cell of fewer rows is hatched without its number, and real shares come from counts rounded to its multiples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardsynth.report.number_pairs import worst_pairs
from shardsynth.report.text import shown, value_label
from shardsynth.summaries.score_tables import NUMBER_CODES

if TYPE_CHECKING:
    from shardsynth.data.coding import ColumnCoder, TableCoder
    from shardsynth.summaries.counts import Counts

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Categories of a column told apart.
_MOST_CATEGORIES = 7
_GAP = 1.5


@dataclass(frozen=True)
class Tile:
    """One cell: where it lies, which row of the table, and what it says.

    ``few``: of fewer real rows than are told. ``shade``: from 0 to 1 where it stands for the share, None in a mosaic.
    """

    x: float
    y: float
    width: float
    height: float
    row: int
    text: str
    few: bool = False
    shade: float | None = None


@dataclass(frozen=True)
class Mosaic:
    """One pair.

    Attributes:
        first: Column along the width.
        second: Column along the height.
        score: Its score.
        real: Tiles of the real rows.
        synthetic: Tiles of the synthetic rows.
        names: Codes of the second column, as its legend; none of two numbers.
        summary: In words, for those who do not see it.
        across: Place and text of the marks along the width; of two numbers only.
        upward: The same along the height, places from the top.
    """

    first: str
    second: str
    score: float
    real: tuple[Tile, ...]
    synthetic: tuple[Tile, ...]
    names: tuple[str, ...]
    summary: str
    across: tuple[tuple[float, str], ...] = ()
    upward: tuple[tuple[float, str], ...] = ()


def mosaics(
    coder: TableCoder,
    real: Counts,
    synthetic: Counts,
    quality: Mapping[str, Any],
    min_count: int,
    size: float,
    numbers: Sequence[Mapping[str, Any]] = (),
) -> tuple[Mosaic, ...]:
    """Drawings of the worst pairs that have a contingency table.

    Args:
        coder: What the counts were counted with.
        real: Counts of the real rows, with score tables.
        synthetic: Counts of a model's rows.
        quality: ``quality`` of its metrics.
        min_count: Fewest real rows of a cell that is told.
        size: Width and height of a mosaic.
        numbers: ``number_pairs`` of the model's metrics: the tables of pairs of two numbers.
    """
    counted = real.score is not None and synthetic.score is not None and real.score.settle().tables is not None
    binned = {frozenset(table["columns"]): table for table in numbers}
    found: list[Mosaic] = []
    for score, pair in worst_pairs(coder, quality):
        if (table := binned.get(frozenset(pair["columns"]))) is not None:
            found.append(_square(table, score, min_count, size))
        elif counted and pair.get("metric") == "ContingencySimilarity":
            names = sorted(pair["columns"], key=lambda name: not _is_category(coder, name))
            found.append(_mosaic(coder, real, synthetic, names, score, min_count, size))
    return tuple(found)


def _is_category(coder: TableCoder, name: str) -> bool:
    return name in coder.index and coder.columns[coder.index[name]].is_category


def _mosaic(
    coder: TableCoder, real: Counts, synthetic: Counts, names: Sequence[str], score: float, min_count: int, size: float
) -> Mosaic:
    # The category gives the colours (height), the other column the width.
    second, first = (coder.index[name] for name in names)
    assert real.score is not None and synthetic.score is not None
    tables = [table.pair(first, second) for table in (real.score, synthetic.score)]
    groups = [_groups(coder.columns[i], real, axis, tables[0], min_count) for axis, i in enumerate((first, second))]
    joined = [_joined(table, groups[0][0], groups[1][0]) for table in tables]
    labels = (groups[0][1], groups[1][1])
    rounded = min_count * np.rint(joined[0] / min_count)
    few = (joined[0] > 0) & (joined[0] < min_count)
    tiles = [
        _tiles(np.where(few, 0.0, rounded), few, labels, size, min_count),
        _tiles(joined[1].astype(np.float64), np.zeros_like(few), labels, size, 0),
    ]
    shares = [table / max(float(table.sum()), 1.0) for table in (np.where(few, 0.0, rounded), joined[1])]
    worst = np.unravel_index(np.argmax(np.where(few, 0.0, np.abs(shares[0] - shares[1]))), few.shape)
    cell = f"{labels[0][worst[0]]} with {labels[1][worst[1]]}"
    summary = f"largest difference: {cell}, {100 * shares[0][worst]:.1f}% real, {100 * shares[1][worst]:.1f}% synthetic"
    return Mosaic(names[1], names[0], score, tiles[0], tiles[1], tuple(labels[1]), summary)


def _groups(
    column: ColumnCoder, real: Counts, axis: int, table: Integers, min_count: int
) -> tuple[Integers, list[str]]:
    """Which row of the mosaic each score code is, and the rows' labels."""
    rows = table.sum(axis=1 - axis)
    size = len(rows)
    if not column.is_category:
        # SDMetrics' ten bins of either table's own range; the maximum and missing values are the eleventh.
        labels = [f"tenth {k + 1} of the range" for k in range(size - 1)] + ["maximum or missing"]
        return np.arange(size, dtype=np.int64), labels if size == NUMBER_CODES else ["all"] * size
    assert column.values is not None and real.score is not None
    kept = real.score.score_codes[real.coder.index[column.name]]
    assert kept is not None
    names: dict[int, str] = {}
    values = column.values.to_pylist()
    lumped = len(values) > len(set(kept[: len(values)].tolist()))
    for code, value in zip(kept[: len(values)].tolist(), values):
        names[code] = "other" if lumped and code in names else value_label(value, 60)
    missing = int(kept[column.missing])
    often = [k for k in np.argsort(-rows, kind="stable").tolist() if k in names and rows[k] >= min_count]
    chosen = sorted(often[:_MOST_CATEGORIES])
    place = {code: k for k, code in enumerate(chosen)}
    labels = [names[code] for code in chosen]
    groups = np.full(size, len(labels), np.int64)
    for code, k in place.items():
        groups[code] = k
    others = [k for k in range(size) if k not in place and k != missing]
    if rows[others].sum() > 0 or len(others) > 1:
        labels.append("other")
    if missing < size:
        groups[missing] = len(labels)
        labels.append("missing")
    return np.minimum(groups, len(labels) - 1), labels


def _joined(table: Integers, first: Integers, second: Integers) -> Integers:
    found = np.zeros((int(first.max()) + 1, int(second.max()) + 1), np.int64)
    np.add.at(found, (first[:, None], second[None, :]), table)
    return found


def _tiles(
    table: Floats, few: npt.NDArray[np.bool_], labels: tuple[Sequence[str], Sequence[str]], size: float, least: int
) -> tuple[Tile, ...]:
    """Tiles of a table: columns as wide as their rows, cells as high as their share of the column."""
    drawn = table + np.where(few, max(least, 1) / 2, 0.0)
    total = float(drawn.sum())
    if total <= 0:
        return ()
    tiles = []
    x = 0.0
    for i, row in enumerate(drawn):
        width = float(row.sum()) / total * size
        y = 0.0
        for j, count in enumerate(row.tolist()):
            height = count / max(float(row.sum()), 1e-9) * size
            if count > 0 and width > 0.2 and height > 0.2:
                told = f"fewer than {least} rows" if few[i, j] else f"{100 * count / total:.1f}%"
                words = f"{shown(labels[0][i], 60)}, {shown(labels[1][j], 60)}: {told}"
                wide, high = max(width - _GAP, 0.3), max(height - _GAP, 0.3)
                box = (round(x, 1), round(y, 1), round(wide, 1), round(high, 1))
                tiles.append(Tile(*box, row=j, text=words, few=bool(few[i, j])))
            y += height
        x += width
    return tuple(tiles)


def _square(table: Mapping[str, Any], score: float, least: int, size: float) -> Mosaic:
    """A table of two numbers as a square of equal cells, low values at the lower left."""
    bins = table["bins"]
    real, made = (np.array(table[side], np.float64) for side in ("real", "synthetic"))  # None becomes NaN
    most = max(float(np.nanmax(real, initial=0.0)), float(made.max()), 1e-9)
    steps = [size / len(labels) for labels in bins]

    def tiles(shares: Floats) -> tuple[Tile, ...]:
        found = []
        for i, j in np.argwhere(shares != 0).tolist():
            share, few = float(shares[i, j]), bool(np.isnan(shares[i, j]))
            told = f"fewer than {least} rows" if few else f"{100 * share:.1f}%"
            x, y = round(i * steps[0], 1), round(size - (j + 1) * steps[1], 1)
            wide, high = (round(step - _GAP, 1) for step in steps)
            shade = None if few else round(0.06 + 0.94 * float(np.sqrt(share / most)), 3)
            text = f"{bins[0][i]}, {bins[1][j]}: {told}"
            found.append(Tile(x, y, wide, high, row=j, text=text, few=few, shade=shade))
        return tuple(found)

    first, second = table["columns"]
    i, j = np.unravel_index(np.argmax(np.nan_to_num(np.abs(real - made))), real.shape)
    summary = (
        f"largest difference: {bins[0][i]} with {bins[1][j]}, {100 * np.nan_to_num(real[i, j]):.1f}% real, "
        f"{100 * made[i, j]:.1f}% synthetic"
    )
    marks = [
        tuple((round((k + 1) * step, 1), text) for k, text in enumerate(cuts) if not text.startswith("over"))
        for cuts, step in zip(table["cuts"], steps)
    ]
    upward = tuple((round(size - place, 1), text) for place, text in marks[1])
    return Mosaic(first, second, score, tiles(real), tiles(made), (), summary, _apart(marks[0], 42.0), upward)


def _apart(marks: tuple[tuple[float, str], ...], least: float) -> tuple[tuple[float, str], ...]:
    """Those marks that leave room for each other's text."""
    found: list[tuple[float, str]] = []
    for place, text in marks:
        if not found or place - found[-1][0] >= least:
            found.append((place, text))
    return tuple(found)
