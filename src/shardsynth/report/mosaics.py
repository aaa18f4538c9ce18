"""The worst pairs as contingency tables, real beside synthetic.

A pair with a category is a mosaic: the area of a tile is its share of the rows. Two numbers are a square of equal
tiles, and the stronger a tile's shade, the larger its share.

The rules are those of the columns' bars: a category on fewer than ``min_count`` real rows joins "other", a real cell of
fewer rows is dashed and has no number, and real shares come from counts rounded to multiples of ``min_count``. Where
persons are counted, so many persons are needed as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardsynth.report.number_pairs import worst_pairs
from shardsynth.report.shown import RowPeople
from shardsynth.report.text import shown, value_label
from shardsynth.summaries.persons import distinct_in
from shardsynth.summaries.score_tables import NUMBER_CODES

if TYPE_CHECKING:
    from shardsynth.data.coding import ColumnCoder, TableCoder
    from shardsynth.summaries.counts import Counts

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Categories of a column that are not joined to "other".
_MOST_CATEGORIES = 7
#: White space between two tiles, in SVG units.
_GAP = 1.5


@dataclass(frozen=True)
class Tile:
    """One cell of a contingency table.

    Attributes:
        x: Left end, in SVG units from the left.
        y: Upper end, from the top.
        width: Width.
        height: Height.
        row: Code of the second column.
        text: Tooltip.
        few: Whether it has fewer real rows than may be shown.
        shade: Opacity from 0 to 1 that stands for the share; None in a mosaic.
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
        names: Label of each code of the second column; empty for two numbers.
        summary: The largest difference in words.
        across: Place and text of the marks along the width; for two numbers only.
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
    number_tables: Sequence[Mapping[str, Any]] = (),
    people: RowPeople | None = None,
) -> tuple[Mosaic, ...]:
    """Drawings of a model's worst pairs that have a contingency table.

    Args:
        coder: The coder of both counts.
        real: Counts of the real rows, with score tables.
        synthetic: Counts of the model's rows.
        quality: ``quality`` of its metrics.
        min_count: Fewest real rows of a cell that may be shown.
        size: Width and height of a mosaic, in SVG units.
        number_tables: ``number_pairs`` of the model's metrics: the tables of pairs of two numbers.
        people: Real rows with their persons, where a cell must be of ``min_count`` persons too.
    """
    has_tables = real.score is not None and synthetic.score is not None and real.score.settle().tables is not None
    number_table = {frozenset(table["columns"]): table for table in number_tables}
    drawings: list[Mosaic] = []
    counted = "rows" if people is None else "persons"
    for score, pair in worst_pairs(coder, quality):
        if (table := number_table.get(frozenset(pair["columns"]))) is not None:
            drawings.append(_square(table, score, min_count, size, counted))
        elif has_tables and pair.get("metric") == "ContingencySimilarity":
            names = sorted(pair["columns"], key=lambda name: not _is_category(coder, name))
            drawings.append(_mosaic(coder, real, synthetic, names, score, min_count, size, people))
    return tuple(drawings)


def _is_category(coder: TableCoder, name: str) -> bool:
    return name in coder.index and coder.columns[coder.index[name]].is_category


def _mosaic(
    coder: TableCoder,
    real: Counts,
    synthetic: Counts,
    names: Sequence[str],
    score: float,
    min_count: int,
    size: float,
    people: RowPeople | None,
) -> Mosaic:
    """A pair with a category; the first of ``names`` is drawn along the height, the second along the width."""
    second, first = (coder.index[name] for name in names)
    assert real.score is not None and synthetic.score is not None
    tables = [table.pair(first, second) for table in (real.score, synthetic.score)]
    groups = [
        _groups(coder.columns[i], real, axis, tables[0], min_count, people) for axis, i in enumerate((first, second))
    ]
    real_table, synthetic_table = (_joined(table, groups[0][0], groups[1][0]) for table in tables)
    labels = (groups[0][1], groups[1][1])
    few = (real_table > 0) & (real_table < min_count)
    if people is not None:
        few = (real_table > 0) & (few | (_persons(real, (first, second), groups, people) < min_count))
    rounded = np.where(few, 0.0, min_count * np.rint(real_table / min_count))
    tiles = [
        _tiles(rounded, few, labels, size, min_count, "rows" if people is None else "persons"),
        _tiles(synthetic_table.astype(np.float64), np.zeros_like(few), labels, size, 0),
    ]
    shares = [table / max(float(table.sum()), 1.0) for table in (rounded, synthetic_table)]
    worst = np.unravel_index(np.argmax(np.where(few, 0.0, np.abs(shares[0] - shares[1]))), few.shape)
    cell = f"{labels[0][worst[0]]} with {labels[1][worst[1]]}"
    summary = f"largest difference: {cell}, {100 * shares[0][worst]:.1f}% real, {100 * shares[1][worst]:.1f}% synthetic"
    return Mosaic(names[1], names[0], score, tiles[0], tiles[1], tuple(labels[1]), summary)


def _groups(
    column: ColumnCoder, real: Counts, axis: int, table: Integers, min_count: int, people: RowPeople | None = None
) -> tuple[Integers, list[str]]:
    """Group of each score code of a column, and the groups' labels.

    Args:
        column: The column.
        real: Counts of the real rows.
        axis: Its axis in ``table``.
        table: int64[codes, codes], the real rows of a pair.
        min_count: Fewest real rows of a category that has a group of its own.
        people: Real rows with their persons, where the category must be of ``min_count`` persons too.
    """
    rows = table.sum(axis=1 - axis)
    size = len(rows)
    if not column.is_category:
        # SDMetrics cuts the range of each table into ten bins; the maximum and missing values are the eleventh.
        labels = [f"tenth {k + 1} of the range" for k in range(size - 1)] + ["maximum or missing"]
        return np.arange(size, dtype=np.int64), labels if size == NUMBER_CODES else ["all"] * size
    assert column.values is not None and real.score is not None
    score_codes = real.score.score_codes[real.coder.index[column.name]]
    assert score_codes is not None
    names: dict[int, str] = {}
    values = column.values.to_pylist()
    codes = score_codes[: len(values)].tolist()
    some_joined = len(values) > len(set(codes))  # rare categories share a code
    for code, value in zip(codes, values):
        names[code] = "other" if some_joined and code in names else value_label(value, 60)
    missing = int(score_codes[column.missing])
    enough = rows >= min_count
    if people is not None:
        own = score_codes[people.encoded.codes[real.coder.index[column.name]]].astype(np.int64)
        enough &= distinct_in(own, people.persons, size)[:size] >= min_count
    frequent = [k for k in np.argsort(-rows, kind="stable").tolist() if k in names and enough[k]]
    chosen = sorted(frequent[:_MOST_CATEGORIES])
    labels = [names[code] for code in chosen]
    groups = np.full(size, len(labels), np.int64)
    groups[chosen] = np.arange(len(chosen))
    others = [k for k in range(size) if k not in chosen and k != missing]
    if rows[others].sum() > 0 or len(others) > 1:
        labels.append("other")
    if missing < size:
        groups[missing] = len(labels)
        labels.append("missing")
    return np.minimum(groups, len(labels) - 1), labels


def _persons(
    real: Counts, columns: tuple[int, int], groups: Sequence[tuple[Integers, list[str]]], people: RowPeople
) -> Integers:
    """Persons by group of both columns, int64[groups of the first, groups of the second]; of a sample of the rows."""
    assert real.score is not None
    codes = real.score.codes(people.encoded)
    first, second = (group[codes[real.score.learned[i]]] for i, (group, _) in zip(columns, groups))
    shape = (int(groups[0][0].max()) + 1, int(groups[1][0].max()) + 1)
    return distinct_in(first * shape[1] + second, people.persons, shape[0] * shape[1]).reshape(shape)


def _joined(table: Integers, first: Integers, second: Integers) -> Integers:
    """A table whose codes are joined to groups, given the group of each code of its axes."""
    joined = np.zeros((int(first.max()) + 1, int(second.max()) + 1), np.int64)
    np.add.at(joined, (first[:, None], second[None, :]), table)
    return joined


def _tiles(
    table: Floats,
    few: npt.NDArray[np.bool_],
    labels: tuple[Sequence[str], Sequence[str]],
    size: float,
    least: int,
    counted: str = "rows",
) -> tuple[Tile, ...]:
    """Tiles of a mosaic: each code of the first column is as wide as its share, each cell as high as its share of that.

    A hidden cell is drawn as half the fewest rows that may be shown.
    """
    areas = table + np.where(few, max(least, 1) / 2, 0.0)
    total = float(areas.sum())
    if total <= 0:
        return ()
    tiles = []
    x = 0.0
    for i, row in enumerate(areas):
        width = float(row.sum()) / total * size
        y = 0.0
        for j, count in enumerate(row.tolist()):
            height = count / max(float(row.sum()), 1e-9) * size
            if count > 0 and width > 0.2 and height > 0.2:
                share = f"fewer than {least} {counted}" if few[i, j] else f"{100 * count / total:.1f}%"
                text = f"{shown(labels[0][i], 60)}, {shown(labels[1][j], 60)}: {share}"
                tiles.append(
                    Tile(
                        x=round(x, 1),
                        y=round(y, 1),
                        width=round(max(width - _GAP, 0.3), 1),
                        height=round(max(height - _GAP, 0.3), 1),
                        row=j,
                        text=text,
                        few=bool(few[i, j]),
                    )
                )
            y += height
        x += width
    return tuple(tiles)


def _square(table: Mapping[str, Any], score: float, least: int, size: float, counted: str = "rows") -> Mosaic:
    """A table of two numbers as a square of equal tiles, low values at the lower left."""
    bins = table["bins"]
    real, synthetic = (np.array(table[side], np.float64) for side in ("real", "synthetic"))  # None becomes NaN
    most = max(float(np.nanmax(real, initial=0.0)), float(synthetic.max()), 1e-9)
    steps = [size / len(labels) for labels in bins]

    def tiles(shares: Floats) -> tuple[Tile, ...]:
        square = []
        for i, j in np.argwhere(shares != 0).tolist():
            share, few = float(shares[i, j]), bool(np.isnan(shares[i, j]))
            share_text = f"fewer than {least} {counted}" if few else f"{100 * share:.1f}%"
            x, y = round(i * steps[0], 1), round(size - (j + 1) * steps[1], 1)
            width, height = (round(step - _GAP, 1) for step in steps)
            shade = None if few else round(0.06 + 0.94 * float(np.sqrt(share / most)), 3)
            text = f"{bins[0][i]}, {bins[1][j]}: {share_text}"
            square.append(Tile(x, y, width, height, row=j, text=text, few=few, shade=shade))
        return tuple(square)

    first, second = table["columns"]
    i, j = np.unravel_index(np.argmax(np.nan_to_num(np.abs(real - synthetic))), real.shape)
    summary = (
        f"largest difference: {bins[0][i]} with {bins[1][j]}, {100 * np.nan_to_num(real[i, j]):.1f}% real, "
        f"{100 * synthetic[i, j]:.1f}% synthetic"
    )
    marks = [
        tuple((round((k + 1) * step, 1), text) for k, text in enumerate(cuts) if not text.startswith("over"))
        for cuts, step in zip(table["cuts"], steps)
    ]
    upward = tuple((round(size - place, 1), text) for place, text in marks[1])
    across = _apart(marks[0], 42.0)
    return Mosaic(first, second, score, tiles(real), tiles(synthetic), (), summary, across, upward)


def _apart(marks: tuple[tuple[float, str], ...], least: float) -> tuple[tuple[float, str], ...]:
    """The marks that are at least ``least`` units from the mark before, so that their texts do not overlap."""
    chosen: list[tuple[float, str]] = []
    for place, text in marks:
        if not chosen or place - chosen[-1][0] >= least:
            chosen.append((place, text))
    return tuple(chosen)
