"""Tables that belong together: SDV's Metadata V2 with relationships, read as a tree of owners.

Each row of a table but the root's belongs to one row of its *owner*. The rows of the root are the *subjects*. A single
table with a ``sequence_key`` has a root of one row a subject that is in no file: an *implied* one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.data.metadata import check_columns, is_plain
from shardsynth.data.values import kind_of
from shardsynth.errors import MetadataError, did_you_mean
from shardsynth.standalone.files import read_json

#: Column of every gathered row: the number of its subject. No column of a file may be called so.
SUBJECT = "(subject)"
_IMPLIED = "subjects"


@dataclass(frozen=True)
class Table:
    """A table and how it hangs on its owner.

    Attributes:
        name: Its name.
        key: Column of its primary key; None without one.
        owner: Name of the table whose rows own its rows; None for the root.
        owner_column: Its column that names the owner.
        index: Column that says the order of an owner's rows (SDV's ``sequence_index``); None: the order of the input.
        implied: Whether it is in no file: a root of one row for each ``sequence_key``.
    """

    name: str
    key: str | None = None
    owner: str | None = None
    owner_column: str | None = None
    index: str | None = None
    implied: bool = False

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns that are not learned: they are made anew, so that the tables fit together."""
        return tuple(dict.fromkeys(name for name in (self.key, self.owner_column) if name is not None))


@dataclass(frozen=True)
class TableTree:
    """Tables, owners before what they own; the first one is the root."""

    tables: tuple[Table, ...]

    @property
    def root(self) -> Table:
        """The table of the subjects."""
        return self.tables[0]

    @cached_property
    def by_name(self) -> dict[str, Table]:
        """Every table by its name."""
        return {table.name: table for table in self.tables}

    @property
    def files(self) -> tuple[Table, ...]:
        """The tables that are in files."""
        return tuple(table for table in self.tables if not table.implied)

    def children(self, name: str) -> tuple[Table, ...]:
        """The tables whose owner is this one."""
        return tuple(table for table in self.tables if table.owner == name)

    def path(self, name: str) -> list[Table]:
        """A table, its owner, the owner's owner and so on; the last one is the root."""
        path = [self.by_name[name]]
        while path[-1].owner is not None:
            path.append(self.by_name[path[-1].owner])
        return path

    def drawing(self, rows: Mapping[str, int] | None = None) -> list[str]:
        """The tree as lines of text, with the tables' numbers of rows where they are known."""
        lines: list[str] = []

        def draw(table: Table, before: str, branch: str, rest: str) -> None:
            count = f" ({rows[table.name]:,} rows)" if rows and table.name in rows else ""
            said = " (implied: one row a subject)" if table.implied else count
            link = f": {table.owner_column} -> {table.owner}" if table.owner and not self.root.implied else ""
            order = f", in the order of {table.index}" if table.index else ""
            lines.append(f"{before}{branch}{table.name}{said}{link}{order}")
            below = self.children(table.name)
            for child in below:
                last = child is below[-1]
                draw(child, before + rest, "└─ " if last else "├─ ", "   " if last else "│  ")

        draw(self.root, "", "", "")
        return lines

    def to_json(self) -> list[dict[str, Any]]:
        """As plain data."""
        return [asdict(table) for table in self.tables]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> TableTree:
        """Inverse of ``to_json``."""
        return cls(tuple(Table(**table) for table in data))


@dataclass(frozen=True)
class Reference:
    """A column whose values are keys of a list that is copied.

    Attributes:
        table: The table.
        column: Its column.
        named: The list.
        key: The list's key.
    """

    table: str
    column: str
    named: str
    key: str


def read_tables(
    path: str | Path, schemas: Mapping[str, pa.Schema], copied: Collection[str] = ()
) -> tuple[TableTree, dict[str, dict[str, Any]], tuple[Reference, ...]]:
    """A user's metadata of several tables, or of one with a ``sequence_key``.

    Args:
        path: JSON file, SDV's Metadata V2.
        schemas: Schema of each table's shards.
        copied: Tables that are lists to be copied.

    Returns:
        The tree of the others; by table SDV V2 metadata of this table alone, in which keys are ``id`` and columns that
        name rows of a list are categories; and these columns.

    Raises:
        MetadataError: The file is not such metadata, does not fit the shards, or the tables are no tree.
    """
    path = Path(path)
    try:
        data = read_json(path)
    except OSError as error:
        raise MetadataError(f"{path}: the metadata cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{path}: not a JSON file: {type(error).__name__}") from None
    described = data.get("tables") if isinstance(data, dict) else None
    if not isinstance(described, dict) or data.get("METADATA_SPEC_VERSION") != "V2":
        raise MetadataError(f"{path}: wanted SDV's Metadata V2 of several tables; `shardsynth init` writes them")
    for name in schemas:
        if name not in described:
            raise MetadataError(f"{path}: the table {name!r} of the job is not there{did_you_mean(name, described)}")
    for name, table in described.items():
        if name not in schemas:
            raise MetadataError(f"{path}: the table {name!r} is not in the job{did_you_mean(name, list(schemas))}")
        if not is_plain(table):
            raise MetadataError(f"{path}: table {name!r}: wanted columns: a mapping to options that have an sdtype")
        check_columns(path, table["columns"], schemas[name])
    links = data.get("relationships") or []
    links = [_link(path, link, schemas) for link in (links if isinstance(links, list) else [None])]
    references = _references(path, described, links, copied)
    learned = {name: schema for name, schema in schemas.items() if name not in copied}
    tree = _tree(path, {n: described[n] for n in learned}, [k for k in links if k[0] not in copied], learned)
    single = {}
    for table in tree.files:
        options = described[table.name]
        columns = {name: dict(options["columns"][name]) for name in schemas[table.name].names}
        for name in table.key_columns:
            own = columns[name] if columns[name]["sdtype"] == "id" else {}
            columns[name] = {**own, "sdtype": "id"}
        for reference in references:
            if reference.table == table.name:
                columns[reference.column] = {"sdtype": "categorical"}
        key = {"primary_key": table.key} if table.key is not None else {}
        only = {"table": {"columns": columns, **key}}
        single[table.name] = {"tables": only, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
    return tree, single, references


#: A relationship: the owner, the child's column, the child, the owner's key.
_Link = tuple[str, str, str, str]


def _references(
    path: Path, described: Mapping[str, Any], links: Sequence[_Link], copied: Collection[str]
) -> tuple[Reference, ...]:
    found = []
    for owner, column, child, owner_key in links:
        if child in copied:
            raise MetadataError(
                f"{path}: relationship {owner} -> {child}: {child!r} is a list to be copied (`copy: true`), whose rows "
                "have no owner; take the relationship out"
            )
        if owner not in copied:
            continue
        if described[owner].get("primary_key") != owner_key:
            raise MetadataError(
                f"{path}: relationship {owner} -> {child}: {owner_key!r} is not the primary_key of {owner}; "
                "a relationship needs it"
            )
        found.append(Reference(child, column, owner, owner_key))
    return tuple(found)


def _tree(
    path: Path, described: Mapping[str, Any], links: Sequence[_Link], schemas: Mapping[str, pa.Schema]
) -> TableTree:
    keys = {name: table.get("primary_key") for name, table in described.items()}
    for name, key in keys.items():
        if isinstance(key, list):
            keys[name] = None  # of several columns: no relationship can name it
        elif key is not None:
            _check_column(path, name, "primary_key", key, schemas)
    owners: dict[str, tuple[str, str]] = {}
    for owner, column, child, owner_key in links:
        if keys[owner] != owner_key:
            raise MetadataError(
                f"{path}: relationship {owner} -> {child}: {owner_key!r} is not the primary_key of {owner}; "
                "a relationship needs it"
            )
        if child in owners:
            raise MetadataError(
                f"{path}: table {child!r} has two parents, {owners[child][0]!r} and {owner!r}: each table has one; "
                "take the relationship out that says less, or give a public list `copy: true` in the job"
            )
        owners[child] = (owner, column)
    index = {name: _index(path, name, table, schemas) for name, table in described.items()}
    roots = [name for name in schemas if name not in owners]
    if len(schemas) == 1:
        return _with_implied_root(path, roots, described, keys, index, schemas)
    if len(roots) != 1:
        found = ", ".join(roots) if roots else "none: the relationships go round"
        raise MetadataError(
            f"{path}: wanted one table that no other owns, whose rows are the subjects; found {found}; "
            "add a relationship, give a public list `copy: true` in the job, or run the tables as jobs of their own"
        )
    ordered = [Table(roots[0], keys[roots[0]])]
    for table in ordered:  # it grows
        for child, (owner, column) in owners.items():
            if owner == table.name:
                ordered.append(Table(child, keys[child], owner, column, index[child]))
    if len(ordered) < len(schemas):
        lost = sorted(set(schemas) - {table.name for table in ordered})
        raise MetadataError(f"{path}: the relationships of {', '.join(lost)} go round; each row has one owner")
    return TableTree(tuple(ordered))


def _with_implied_root(
    path: Path,
    names: Sequence[str],
    described: Mapping[str, Any],
    keys: Mapping[str, Any],
    index: Mapping[str, str | None],
    schemas: Mapping[str, pa.Schema],
) -> TableTree:
    if not names:
        raise MetadataError(f"{path}: the only table owns itself; take its relationship out")
    (name,) = names
    column = described[name].get("sequence_key")
    if column is None:
        raise MetadataError(
            f"{path}: the only table has no sequence_key, the column that names the subjects; add it, or write "
            "`input:` in place of `tables:`, which takes rows for independent"
        )
    _check_column(path, name, "sequence_key", column, schemas)
    key = keys[name] if keys[name] != column else None
    root = _IMPLIED if name != _IMPLIED else _IMPLIED + "_"
    return TableTree((Table(root, column, implied=True), Table(name, key, root, column, index[name])))


def _link(path: Path, link: Any, schemas: Mapping[str, pa.Schema]) -> tuple[str, str, str, str]:
    names = ("parent_table_name", "child_foreign_key", "child_table_name", "parent_primary_key")
    if not isinstance(link, dict) or not all(isinstance(link.get(name), str) for name in names):
        raise MetadataError(f"{path}: relationships: wanted a list of mappings of {', '.join(names)} to texts")
    owner, column, child, owner_key = (link[name] for name in names)
    for name in (owner, child):
        if name not in schemas:
            raise MetadataError(
                f"{path}: relationships: no table is called {name!r}{did_you_mean(name, list(schemas))}"
            )
    _check_column(path, child, "child_foreign_key", column, schemas)
    _check_column(path, owner, "parent_primary_key", owner_key, schemas)
    return owner, column, child, owner_key


def _index(path: Path, name: str, table: Mapping[str, Any], schemas: Mapping[str, pa.Schema]) -> str | None:
    column = table.get("sequence_index")
    if column is None:
        return None
    _check_column(path, name, "sequence_index", column, schemas)
    if not is_ordered(schemas[name].field(column).type):
        raise MetadataError(
            f"{path}: table {name!r}: sequence_index {column!r} is of type {schemas[name].field(column).type}; "
            "wanted a number, a date or a timestamp: write the shards with such a type, or leave sequence_index out"
        )
    return str(column)


def is_ordered(type_: pa.DataType) -> bool:
    """Whether values of a type can be the sequence index: they have differences."""
    return kind_of(type_) in ("integer", "float") or pa.types.is_date(type_) or pa.types.is_timestamp(type_)


def _check_column(path: Path, table: str, what: str, name: Any, schemas: Mapping[str, pa.Schema]) -> None:
    if name not in schemas[table].names:
        hint = did_you_mean(str(name), schemas[table].names, 0.6)
        raise MetadataError(f"{path}: table {table!r}: {what}: no column is called {name!r}{hint}")
