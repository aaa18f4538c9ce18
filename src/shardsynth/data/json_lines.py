"""JSON Lines: a JSON object per line. Objects within become columns ``a.b``; lists have no place in a table."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from shardsynth.data.text_types import Guess, guess_moment, moments
from shardsynth.data.unpacking import LEAST_TEXT, Unpacked
from shardsynth.errors import ShardError

ENDINGS = (".jsonl", ".ndjson", ".json")
_BLOCK = 4 << 20  # bytes that are parsed at a time; no line can be longer


class JsonLines:
    """A file of JSON Lines; the protocol is ``foreign.ForeignTable``.

    A column of texts that are all dates or times has their type.
    """

    is_text = False

    def __init__(self, path: Path, max_unpacked: int | None = None) -> None:
        self._path, self._most = path, max_unpacked
        self._schema = pa.schema([])
        for number, block in enumerate(self._blocks()):
            if number == 0 and block.lstrip().startswith(b"["):
                raise ShardError(f"{path}: is one JSON list; write an object per line: jq -c '.[]' {path.name}")
            self._join(self._parsed(block, None).schema)
        self._refuse_lists()
        guesses: dict[str, Guess] = {}
        for batch in self._tables():
            for field in batch.schema:
                if pa.types.is_string(field.type):
                    seen = guess_moment(batch.column(field.name))
                    guesses[field.name] = guesses.get(field.name, Guess()).join(seen)
        self.fields = pa.schema(
            [
                f.with_type(guesses[f.name].type if f.name in guesses and guesses[f.name].family != "null" else f.type)
                for f in _flat(self._schema.empty_table()).schema
            ]
        )
        if not len(self.fields):
            raise ShardError(f"{path}: the file has no columns")

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns in the types of ``fields``."""
        for batch in self._tables():
            yield [moments(batch.column(field.name), field.type) for field in self.fields]

    def _tables(self) -> Iterator[pa.RecordBatch]:
        for block in self._blocks():
            flat = _flat(self._parsed(block, self._schema))
            yield from flat.combine_chunks().to_batches()

    def _blocks(self) -> Iterator[bytes]:
        """Whole lines of the file."""
        counted, rest = Unpacked.of(self._path, self._most, LEAST_TEXT), b""
        with pa.input_stream(str(self._path), compression="detect") as stream:
            while True:
                try:
                    piece = bytes(stream.read(_BLOCK))
                except OSError:
                    raise ShardError(f"{self._path}: is cut short, or not compressed as its name says") from None
                counted.add(len(piece))
                whole, newline, tail = (rest + piece).rpartition(b"\n") if piece else (rest, b"", b"")
                if whole.strip():
                    yield whole + b"\n"
                rest = tail
                if len(rest) > _BLOCK:
                    raise ShardError(f"{self._path}: a line is longer than {_BLOCK >> 20} MB")
                if not piece:
                    return

    def _parsed(self, block: bytes, schema: pa.Schema | None) -> pa.Table:
        try:
            block.decode()
        except UnicodeDecodeError:
            raise ShardError(f"{self._path}: is not UTF-8, which JSON is") from None
        options = pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
        )
        read = pyarrow.json.ReadOptions(use_threads=False, block_size=2 * _BLOCK)
        try:
            return pyarrow.json.read_json(io.BytesIO(block), read_options=read, parse_options=options)
        except pa.ArrowInvalid:
            raise ShardError(
                f"{self._path}: a line is no JSON object, or a field is a text here and a number, list or object there"
            ) from None

    def _join(self, schema: pa.Schema) -> None:
        plain = pa.schema([field.with_type(_without_moments(field.type)) for field in schema])
        try:
            self._schema = pa.unify_schemas([self._schema, plain], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise ShardError(
                f"{self._path}: a field has other types in other lines; write one type per field"
            ) from None

    def _refuse_lists(self) -> None:
        flat = _flat(self._schema.empty_table()).schema
        lists = [repr(field.name) for field in flat if pa.types.is_nested(field.type)]
        if lists:
            raise ShardError(
                f"{self._path}: {', '.join(lists)}: lists have no place in a table; leave them out, or write "
                "their values as a table of their own"
            )


def _without_moments(type_: pa.DataType) -> Any:
    """The type with text for what Arrow takes for an instant: it would lose the text."""
    if pa.types.is_timestamp(type_):
        return pa.string()
    if pa.types.is_struct(type_):
        return pa.struct(
            [type_.field(k).with_type(_without_moments(type_.field(k).type)) for k in range(type_.num_fields)]
        )
    return type_


def _flat(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(type_) for type_ in table.schema.types):
        table = table.flatten()
    return table
