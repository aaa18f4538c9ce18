"""Parquet with nested columns, made flat: a struct becomes columns ``visit.day``; lists can only be left out."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.errors import InputError, ShardError

_BATCH_ROWS = 1 << 16


class NestedParquet:
    """A file of Parquet, or a folder of them with one schema; the protocol is ``foreign.ForeignTable``."""

    is_text = False

    def __init__(self, path: Path, leave_out: tuple[str, ...]) -> None:
        self._path = path
        self._files = (
            [path]
            if path.is_file()
            else sorted(file for file in path.rglob("*.parquet") if not file.name.startswith(("_", ".")))
        )
        if not self._files:
            raise InputError(f"{path}: there is no .parquet file in it")
        self.fields = _flat(self._schema(self._files[0]).empty_table()).schema
        lists = [f.name for f in self.fields if pa.types.is_nested(f.type) and f.name not in leave_out]
        if lists:
            options = " ".join(f"--leave-out {name!r}" for name in lists)
            raise ShardError(f"{path}: lists have no place in a table; leave them out: {options}")

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns in the types of ``fields``; a column that is left out later can be a list."""
        for path in self._files:
            if _flat(self._schema(path).empty_table()).schema.names != self.fields.names:
                raise ShardError(f"{path}: its columns are not those of {self._files[0].name}")
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                        flat = _flat(pa.Table.from_batches([batch])).combine_chunks()
                        for part in flat.to_batches():
                            yield part.columns
            except (pa.ArrowException, OSError):
                raise ShardError(f"{path}: is cut short or damaged") from None

    def _schema(self, path: Path) -> pa.Schema:
        try:
            return pq.read_schema(path)
        except (pa.ArrowException, OSError):
            raise ShardError(f"{path}: is no Parquet file, or is damaged") from None


def _flat(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(type_) for type_ in table.schema.types):
        table = table.flatten()
    return table
