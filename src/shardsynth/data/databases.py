"""Tables of DuckDB and SQLite, read by a query."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.data.text_types import Guess, guess_moment, moments
from shardsynth.errors import InputError, ShardError

ENDINGS = (".duckdb", ".ddb", ".db", ".sqlite", ".sqlite3", ".db3")
_SQLITE = b"SQLite format 3\x00"
_BATCH_ROWS = 1 << 16


def open_database(path: Path, query: str | None) -> Any:
    """The result of a query as a ``foreign.ForeignTable``.

    Args:
        path: A file of DuckDB or SQLite.
        query: SQL that gives the rows.

    Raises:
        InputError: There is no query, or it fails; duckdb is not installed.
    """
    with path.open("rb") as file:
        kind = _Sqlite if file.read(len(_SQLITE)) == _SQLITE else _Duckdb
    return kind(path, query)


def _no_query(path: Path, tables: list[str]) -> InputError:
    example = f"SELECT * FROM {tables[0]}" if tables else "SELECT ..."
    return InputError(f"{path}: has the tables {', '.join(tables) or '(none)'}: say what to read: --sql '{example}'")


class _Sqlite:
    """SQLite gives each value its own type: a column is of numbers if all values are."""

    is_text = False

    def __init__(self, path: Path, query: str | None) -> None:
        self._path = path
        if query is None:
            tables = [row[0] for row in self._rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")[1]]
            raise _no_query(path, tables)
        self._query = query
        names, _ = self._rows(query)
        kinds: list[set[type]] = [set() for _ in names]
        guesses = [Guess() for _ in names]
        for columns in self._columns():
            for place, values in enumerate(columns):
                kinds[place] |= {type(value) for value in values if value is not None}
                if kinds[place] == {str}:
                    guesses[place] = guesses[place].join(guess_moment(pa.array(values, pa.string())))
        self.fields = pa.schema([(n, _type_of(k, g)) for n, k, g in zip(names, kinds, guesses)])

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns in the types of ``fields``."""
        for columns in self._columns():
            yield [_array(values, field.type) for values, field in zip(columns, self.fields)]

    def _rows(self, query: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        try:
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
            cursor = connection.execute(query)
            return [part[0] for part in cursor.description or ()], _guarded(self._path, cursor)
        except sqlite3.Error as error:
            raise InputError(f"{self._path}: --sql: {error}") from None

    def _columns(self) -> Iterator[list[tuple[Any, ...]]]:
        rows: list[tuple[Any, ...]] = []
        for row in self._rows(self._query)[1]:
            rows.append(row)
            if len(rows) == _BATCH_ROWS:
                yield list(zip(*rows))
                rows = []
        if rows:
            yield list(zip(*rows))


def _guarded(path: Path, cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
    try:
        yield from cursor
    except sqlite3.Error as error:
        raise ShardError(f"{path}: cannot be read to its end ({type(error).__name__})") from None


def _type_of(kinds: set[type], guess: Guess) -> pa.DataType:
    if not kinds:
        return pa.null()
    if kinds == {int}:
        return pa.int64()
    if kinds <= {int, float}:
        return pa.float64()
    if kinds == {bytes}:
        return pa.binary()
    return guess.type if kinds == {str} else pa.string()


def _array(values: tuple[Any, ...], type_: pa.DataType) -> pa.Array:
    if pa.types.is_null(type_) or pa.types.is_integer(type_) or pa.types.is_binary(type_):
        return pa.array(values, type_)
    if pa.types.is_floating(type_):
        return pa.array([None if value is None else float(value) for value in values], type_)
    texts = pa.array([None if value is None else _text(value) for value in values], pa.string())
    return moments(texts, type_)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Duckdb:
    is_text = False

    def __init__(self, path: Path, query: str | None) -> None:
        self._path = path
        if query is None:
            raise _no_query(path, [str(row[0]) for row in self._result("SHOW TABLES", lambda found: found.fetchall())])
        self._query = query
        self.fields = self._reader().schema
        lists = [repr(field.name) for field in self.fields if pa.types.is_nested(field.type)]
        if lists:
            raise ShardError(
                f"{path}: --sql: {', '.join(lists)}: lists and structs have no place in a table; unnest them"
            )

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns in the types of ``fields``."""
        try:
            for batch in self._reader():
                yield batch.columns
        except (pa.ArrowException, OSError) as error:
            raise ShardError(f"{self._path}: cannot be read to its end ({type(error).__name__})") from None

    def _reader(self) -> Any:
        def batches(result: Any) -> Any:
            named = getattr(result, "to_arrow_reader", None) or result.fetch_arrow_reader  # until 1.4
            return named(_BATCH_ROWS)

        return self._result(self._query, batches)

    def _result(self, query: str, of: Callable[[Any], Any]) -> Any:
        try:
            import duckdb
        except ImportError:
            raise InputError(f"{self._path}: reading DuckDB needs duckdb: pip install duckdb") from None
        try:
            result = duckdb.connect(str(self._path), read_only=True).sql(query)
            if result is None:
                raise InputError(f"{self._path}: --sql gives no rows; wanted a SELECT")
            return of(result)
        except (duckdb.CatalogException, duckdb.ParserException, duckdb.BinderException) as error:
            raise InputError(f"{self._path}: --sql: {str(error).splitlines()[0]}") from None
        except duckdb.Error as error:  # its text can hold a value
            raise InputError(f"{self._path}: DuckDB cannot read it, or run --sql ({type(error).__name__})") from None
