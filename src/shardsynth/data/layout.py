"""What of each table is learned where: the *inner* tables, which a model sees, and the way back to the tables.

- Keys are not learned. A row has its owner's number in their place.
- An owner's inner row has the number of its rows of each child table (``visits: (rows)``).
- A column that is constant within every owner is moved to it (``visits: sex``).
- The sequence index is learned as the gap from the row before. The first one is the owner's (``visits: (first)``). So
  the order of rows holds by construction.
- A column that is never before the index of its row, such as the end of an event, is learned as the distance from it.
- A column that numbers the rows of each owner from 1 is learned as it is, and what is drawn becomes its rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.relations import Table, TableTree, is_ordered
from shardsynth.data.values import decoded, kind_of

Integers = NDArray[np.int64]
Numbers = NDArray[Any]
Mask = NDArray[np.bool_]

#: Owners with several rows from which a column without any change within them is taken for constant.
_FEWEST_OWNERS = 5
#: Decimal places of differences of floats: they are not exact.
_PLACES = 6


@dataclass(frozen=True)
class Layout:
    """What of one table is learned where.

    Attributes:
        name: The table.
        plain: Columns that are learned as they are.
        moved: Columns that are constant within an owner, and are learned as its own.
        after: Columns that are learned as their distance from the index.
        numbered: Columns, among the plain ones, whose values number the rows of each owner from 1, in some order.
        whole: Whether every row has its index. Then the first row of an owner, and no other, has no gap.
    """

    name: str
    plain: tuple[str, ...]
    moved: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    numbered: tuple[str, ...] = ()
    whole: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """Inverse of ``to_json``."""
        plain, moved, after, numbered = (tuple(data[key]) for key in ("plain", "moved", "after", "numbered"))
        return cls(data["name"], plain, moved, after, numbered, data["whole"])


@dataclass(frozen=True)
class OwnedRows:
    """Rows of a table, those of an owner side by side and in order.

    Attributes:
        rows: The rows [n], in the input's schema; of an implied root without a column.
        owner: int64[n], place of each row's owner in the rows of the owner's table, never decreasing; of the root, its
            own place.
    """

    rows: pa.Table
    owner: Integers

    def __len__(self) -> int:
        return len(self.owner)


def count_name(child: str) -> str:
    """Name of the owner's column that counts its rows of a child table."""
    return f"{child}: (rows)"


def first_name(child: str) -> str:
    """Name of the owner's column that has the first index of its rows of a child table."""
    return f"{child}: (first)"


def moved_name(child: str, column: str) -> str:
    """Name of a child's column where it stands as the owner's own."""
    return f"{child}: {column}"


def positions(owner: Integers) -> Integers:
    """int64[n]: place of each row among the rows of its owner, from 0."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.arange(len(owner)) - np.repeat(starts, np.diff(starts, append=len(owner)))


def inner_schemas(
    tree: TableTree, layouts: Mapping[str, Layout], schemas: Mapping[str, pa.Schema]
) -> dict[str, pa.Schema]:
    """Schema of each inner table, by the table's name."""
    return {
        name: pa.schema([column.field for column in columns])
        for name, columns in _inner_columns(tree, layouts, schemas).items()
    }


def inner_metadata(
    tree: TableTree,
    layouts: Mapping[str, Layout],
    schemas: Mapping[str, pa.Schema],
    metadata: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """SDV V2 metadata of each inner table, from those of the tables."""
    result = {}
    for name, columns in _inner_columns(tree, layouts, schemas).items():
        described = {}
        for column in columns:
            options: dict[str, Any] = {"sdtype": "numerical"}
            if column.source is not None:
                (table,) = metadata[column.source[0]]["tables"].values()
                options = dict(table["columns"][column.source[1]])
            described[column.field.name] = options
        only = {"table": {"columns": described}}
        result[name] = {"tables": only, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
    return result


@dataclass(frozen=True)
class _InnerColumn:
    """A column of an inner table, and the table and column that it has the values of; None for numbers of its own."""

    field: pa.Field
    source: tuple[str, str] | None = None


def _inner_columns(
    tree: TableTree, layouts: Mapping[str, Layout], schemas: Mapping[str, pa.Schema]
) -> dict[str, list[_InnerColumn]]:
    result = {}
    for table in tree.tables:
        columns: list[_InnerColumn] = []
        if not table.implied:
            layout, schema = layouts[table.name], schemas[table.name]
            if table.index is not None:
                columns.append(_InnerColumn(pa.field(table.index, gap_type(schema.field(table.index).type))))
            columns += [_InnerColumn(pa.field(n, gap_type(schema.field(n).type))) for n in layout.after]
            columns += [_InnerColumn(schema.field(n), (table.name, n)) for n in layout.plain]
        for child in tree.children(table.name):
            schema = schemas[child.name]
            columns.append(_InnerColumn(pa.field(count_name(child.name), pa.int64())))
            if child.index is not None:
                type_ = schema.field(child.index).type
                columns.append(_InnerColumn(pa.field(first_name(child.name), type_), (child.name, child.index)))
            for name in layouts[child.name].moved:
                moved = pa.field(moved_name(child.name, name), schema.field(name).type)
                columns.append(_InnerColumn(moved, (child.name, name)))
        result[table.name] = columns
    return result


def gap_type(type_: pa.DataType) -> pa.DataType:
    """Arrow type of differences of an index: float64 of floats, else int64 (of times, in their unit)."""
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.float64() if pa.types.is_floating(plain) else pa.int64()


def inner_tables(tree: TableTree, layouts: Mapping[str, Layout], rows: Mapping[str, OwnedRows]) -> dict[str, pa.Table]:
    """The inner table of each table, row by row.

    Args:
        tree: The tables.
        layouts: By the name of each table that is in files.
        rows: By table: the rows of some subjects, all of them.
    """
    added: dict[str, list[tuple[str, pa.Array]]] = {table.name: [] for table in tree.tables}
    result = {}
    for table in tree.tables:
        for child in tree.children(table.name):
            added[table.name] += _of_owner(child, layouts[child.name], rows[child.name], len(rows[table.name]))
    for table in tree.tables:
        arrays: list[tuple[str, Any]] = []
        if not table.implied:
            layout, own = layouts[table.name], rows[table.name]
            if table.index is not None:
                index = _Index.of(own, table.index)
                no_gap = positions(own.owner) == 0 if layout.whole else index.absent
                arrays.append((table.index, pa.array(index.gaps, mask=no_gap)))
                for name in layout.after:
                    values, absent = to_numbers(own.rows.column(name))
                    arrays.append((name, pa.array(_rounded(values - index.known), mask=absent)))
            arrays += [(name, own.rows.column(name)) for name in layout.plain]
        arrays += added[table.name]
        result[table.name] = pa.table(dict(arrays))
    return result


def _of_owner(child: Table, layout: Layout, own: OwnedRows, owners: int) -> list[tuple[str, pa.Array]]:
    """The columns that a child table adds to its owner's inner table."""
    counts = np.bincount(own.owner, minlength=owners)
    start = np.searchsorted(own.owner, np.arange(owners))
    has = counts > 0
    arrays: list[tuple[str, pa.Array]] = [(count_name(child.name), pa.array(counts.astype(np.int64)))]
    if child.index is not None:
        values, absent = to_numbers(own.rows.column(child.index))
        known = np.flatnonzero(~absent)
        place = np.searchsorted(own.owner[known], np.arange(owners))
        found = place < len(known)
        found[found] = own.owner[known[place[found]]] == np.flatnonzero(found)
        first = np.zeros(owners, np.int64)
        first[found] = known[place[found]]
        arrays.append((first_name(child.name), _taken(own.rows.column(child.index), first, ~found)))
    for name in layout.moved:
        arrays.append((moved_name(child.name, name), _taken(own.rows.column(name), np.where(has, start, 0), ~has)))
    return arrays


def _taken(column: pa.ChunkedArray, place: Integers, absent: Mask) -> pa.Array:
    """Values at some places; missing where ``absent``."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    taken = column.take(pa.array(place, mask=absent))
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


@dataclass(frozen=True)
class _Index:
    """The index of rows: ``known`` is the last one up to each row, ``gaps`` its growth; ``absent``: it is missing."""

    known: Numbers
    gaps: Numbers
    absent: Mask

    @classmethod
    def of(cls, own: OwnedRows, name: str) -> _Index:
        values, absent = to_numbers(own.rows.column(name))
        known = np.where(absent, values.dtype.type(0), values)
        filled = _filled(known, absent, own.owner)
        before = np.concatenate([filled[:1], filled[:-1]])
        starts = np.diff(own.owner, prepend=-1) != 0
        before = np.where(starts, filled, before)
        return cls(filled, _rounded(np.where(absent, 0, filled - before)), absent)


def _filled(values: Numbers, absent: Mask, owner: Integers) -> Numbers:
    """The last value up to each row within its owner; before the first one, that one; 0 without any."""
    n = len(values)
    last = np.maximum.accumulate(np.where(absent, -1, np.arange(n))) if n else np.zeros(0, np.int64)
    inside = (last >= 0) & (owner[np.maximum(last, 0)] == owner)
    known = np.flatnonzero(~absent)
    after = np.searchsorted(known, np.arange(n))
    has_next = after < len(known)
    following = np.where(has_next, known[np.minimum(after, max(len(known) - 1, 0))] if len(known) else 0, 0)
    has_next &= owner[following] == owner if n else has_next
    place = np.where(inside, last, following)
    return np.where(inside | has_next, values[place] if n else values, values.dtype.type(0))


def _rounded(values: Numbers) -> Numbers:
    return np.round(values, _PLACES) if values.dtype.kind == "f" else values


def to_numbers(column: pa.ChunkedArray | pa.Array) -> tuple[Numbers, Mask]:
    """Values of an index as int64 or float64 [n], 0 where missing; and where they are missing."""
    array = decoded(column)
    absent = np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
    if pa.types.is_date32(array.type):
        array = array.cast(pa.int32())
    wanted = gap_type(array.type)
    numbers = array.fill_null(0 if not pa.types.is_temporal(array.type) else None)
    numbers = numbers.cast(wanted).fill_null(0).to_numpy(zero_copy_only=False)
    return np.where(absent, 0, numbers), absent


def from_numbers(values: Numbers, absent: Mask, type_: pa.DataType) -> pa.Array:
    """Inverse of ``to_numbers``, as an array of the type; numbers that the type does not hold are brought into it."""
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_integer(plain):
        limits = np.iinfo(plain.to_pandas_dtype())
        values = np.clip(values, limits.min, limits.max).astype(plain.to_pandas_dtype())
        array = pa.array(values, mask=absent)
    elif pa.types.is_floating(plain):
        array = pa.array(_rounded(values), mask=absent).cast(plain)
    elif pa.types.is_date32(plain):
        array = pa.array(values.astype(np.int32), mask=absent).cast(plain)
    elif pa.types.is_date64(plain):
        day = 86_400_000
        array = pa.array(values.astype(np.int64) // day * day, mask=absent).cast(plain)
    else:
        array = pa.array(values.astype(np.int64), mask=absent).cast(plain)
    return array.dictionary_encode().cast(type_) if pa.types.is_dictionary(type_) else array


def index_values(
    gaps: Numbers, absent: Mask, owner: Integers, first: Numbers, no_first: Mask
) -> tuple[Numbers, Mask, Numbers]:
    """The index of rows from their gaps.

    Args:
        gaps: [n], growth since the last known index; the first known one of an owner has none, whatever stands there.
        absent: bool[n], where the index is missing.
        owner: int64[n], never decreasing.
        first: [owners], first index of each owner.
        no_first: bool[owners], owners without one: all their rows have none.

    Returns:
        The index [n], bool[n] where it is missing, and the last known index up to each row: 0 for owners without one.
    """
    absent = absent | no_first[owner]
    steps = np.where(absent, 0, np.maximum(gaps, 0))
    known = np.flatnonzero(~absent)
    starts = known[np.diff(owner[known], prepend=-1) != 0]
    steps[starts] = 0
    total = np.cumsum(steps)
    begin = np.searchsorted(owner, owner)
    before = np.where(begin > 0, total[np.maximum(begin - 1, 0)], 0)
    last = np.where(no_first[owner], 0, first[owner] + total - before)
    return last, absent, last


class LayoutFacts:
    """What the rows say about the layout of one table; facts of parts add up.

    Attributes:
        varying: Columns that change within an owner.
        repeated: Owners with several rows.
        before: Columns that are before the index on some row.
        compared: By column, rows on which it was compared with the index.
        without_index: Rows without the index.
        numbering: Columns that number the rows of every owner from 1; None: none was looked at.
    """

    def __init__(self) -> None:
        self.varying: set[str] = set()
        self.repeated = self.without_index = 0
        self.before: set[str] = set()
        self.compared: dict[str, int] = {}
        self.numbering: set[str] | None = None

    def update(self, table: Table, own: OwnedRows) -> None:
        """Look at rows of some subjects."""
        same = own.owner[1:] == own.owner[:-1]
        self.repeated += int((np.bincount(own.owner, minlength=1) > 1).sum()) if len(own) else 0
        index = None if table.index is None else _Index.of(own, table.index)
        self.without_index += 0 if index is None else int(index.absent.sum())
        numbering = {f.name for f in own.rows.schema if _numbers_rows(own.rows.column(f.name), own.owner)}
        self._numbering_too(numbering if len(own) else None)
        for field in own.rows.schema:
            if field.name in (*table.key_columns, table.index):
                continue
            column = own.rows.column(field.name)
            if field.name not in self.varying:
                codes = decoded_codes(column)
                if bool((same & (codes[1:] != codes[:-1])).any()):
                    self.varying.add(field.name)
            if index is not None and is_ordered(field.type) and comparable(own.rows.schema, table.index, field.name):
                values, absent = to_numbers(column)
                self.compared[field.name] = self.compared.get(field.name, 0) + int((~absent).sum())
                if bool((~absent & (values < index.known)).any()):
                    self.before.add(field.name)

    def _numbering_too(self, numbering: set[str] | None) -> None:
        if numbering is not None:
            self.numbering = numbering if self.numbering is None else self.numbering & numbering

    def merge(self, other: LayoutFacts) -> None:
        """Add the facts of another part."""
        self._numbering_too(other.numbering)
        self.varying |= other.varying
        self.before |= other.before
        self.repeated += other.repeated
        self.without_index += other.without_index
        for name, count in other.compared.items():
            self.compared[name] = self.compared.get(name, 0) + count

    def layout(self, table: Table, names: Sequence[str]) -> Layout:
        """The layout of the table, whose columns these are."""
        rest = [name for name in names if name not in (*table.key_columns, table.index)]
        constant = self.repeated >= _FEWEST_OWNERS and table.owner is not None
        moved = [name for name in rest if constant and name not in self.varying]
        after = [
            name
            for name in rest
            if name not in moved and self.compared.get(name, 0) >= _FEWEST_OWNERS and name not in self.before
        ]
        plain = tuple(name for name in rest if name not in (*moved, *after))
        whole = table.index is not None and self.without_index == 0
        numbered = tuple(name for name in plain if constant and name in (self.numbering or ()))
        return Layout(table.name, plain, tuple(moved), tuple(after), numbered, whole)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        facts = {"varying": sorted(self.varying), "before": sorted(self.before)}
        counts = {"repeated": self.repeated, "without_index": self.without_index}
        numbering = None if self.numbering is None else sorted(self.numbering)
        return {**facts, **counts, "compared": self.compared, "numbering": numbering}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayoutFacts:
        """Inverse of ``to_json``."""
        facts = cls()
        facts.varying, facts.before = set(data["varying"]), set(data["before"])
        facts.repeated, facts.compared = data["repeated"], dict(data["compared"])
        facts.without_index = data["without_index"]
        facts.numbering = None if data["numbering"] is None else set(data["numbering"])
        return facts


def _numbers_rows(column: pa.ChunkedArray, owner: Integers) -> bool:
    """Whether the values of each owner are 1 to the number of its rows, each once."""
    if kind_of(column.type) not in ("integer", "float"):
        return False
    values, absent = to_numbers(column)
    if absent.any():
        return False
    ordered = values[np.lexsort((values, owner))]
    return bool((ordered == positions(owner) + 1).all())


def ranks(values: Numbers, owner: Integers) -> Integers:
    """int64[n]: rank of each row's value among those of its owner, from 1; equal values in their order."""
    result = np.empty(len(owner), np.int64)
    result[np.lexsort((np.arange(len(owner)), values, owner))] = positions(owner) + 1
    return result


def comparable(schema: pa.Schema, index: str | None, name: str) -> bool:
    """Whether a column may be a later time of the same row: both are dates, both timestamps of one unit.

    Numbers are compared only where their names say that they belong together (``AESTDY`` and ``AEENDY``): a count that
    is always above a day number says nothing.
    """
    if index is None:
        return False
    a, b = schema.field(index).type, schema.field(name).type
    if pa.types.is_temporal(a) or pa.types.is_temporal(b):
        return bool(a == b)
    return name_of_end(index) is not None and name_of_end(index) == name.lower()


def name_of_end(start: str) -> str | None:
    """Name of the end that belongs to a start, in small letters (``aeendy`` of ``AESTDY``); None for no start."""
    small = start.lower()
    for begin, end in (
        ("start", "end"),
        ("begin", "end"),
        ("from", "to"),
        ("stdy", "endy"),
        ("admission", "discharge"),
    ):
        if begin in small:
            return small.replace(begin, end)
    return None


def decoded_codes(column: pa.ChunkedArray) -> Integers:
    """int64[n]: equal values have equal codes; missing is a code too."""
    array = decoded(column)
    if str(array.type).endswith("_view"):
        array = array.cast(pa.large_string() if "string" in str(array.type) else pa.large_binary())
    encoded = array.dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
