"""Tables in files that are not Parquet: delimited text, Excel sheets, Feather; each read in batches, in flat memory."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv

from shardsynth.errors import InputError, ShardError

_BLOCK = 2 << 20  # bytes of text that Arrow parses at a time; no row may be longer
_PIECE = 256 << 10  # bytes decoded at a time
_BATCH_ROWS, _BATCH_CELLS = 1 << 17, 1 << 18
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")


class ForeignTable(Protocol):
    """A table that can be read more than once.

    Attributes:
        is_text: Whether every column comes as texts whose types are still to be found.
        fields: Names and types of the columns, as they stand in the file (names unchecked).
    """

    is_text: bool
    fields: pa.Schema

    def batches(self) -> Iterator[list[pa.Array]]:
        """Batches of columns, in the order of ``fields``; none of them larger than some ten megabytes of file."""


def open_foreign(
    path: Path, delimiter: str | None, sheet: str | None, nulls: tuple[str, ...], encoding: str
) -> ForeignTable:
    """Open a file by the last part of its name; the arguments are those of ``importer.import_table``.

    Raises:
        InputError: There is no such file, no such sheet, or no reader for it.
        ShardError: It is empty or damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if not path.is_file():
        raise InputError(f"{path}: is not a file; import one file at a time")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read: permission denied")
    kind = Path(path.stem).suffix if path.suffix.lower() in _COMPRESSIONS else path.suffix
    kind = kind.lower()
    if kind in (".csv", ".tsv", ".tab", ".txt"):
        return _Delimited(path, delimiter or ("\t" if kind in (".tsv", ".tab") else None), encoding, nulls)
    if path.stat().st_size == 0:
        raise ShardError(f"{path}: the file is empty")
    if kind in (".xlsx", ".xlsm"):
        return _Sheet(path, sheet, nulls)
    if kind in (".feather", ".arrow", ".arrows", ".ipc"):
        return _Ipc(path)
    hints = {
        ".parquet": "it is Parquet already: name it as the job's input",
        ".xls": "save it as .xlsx",
        ".ods": "save it as .xlsx",
        ".zip": "unpack it first",
    }
    raise InputError(
        f"{path}: {hints.get(kind, 'known are .csv, .tsv, .txt (also .gz, .bz2, .zst), .xlsx and .feather')}"
    )


class _Utf8(io.RawIOBase):
    """A text file as UTF-8 bytes, its header taken off; counts quotes, and names the line that cannot be decoded."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._path = path
        self._stream = pa.input_stream(str(path), compression="detect")
        self._ready = b""
        self._ended = self._open_line = False
        self._lines = 1
        self.quotes = 0
        start = self._raw()
        try:
            if codecs.lookup(encoding).name == "utf-8":
                utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                encoding = "utf-16" if utf16 else "utf-8-sig"
        except LookupError:
            raise InputError(f"{path}: encoding {encoding!r} is not known; try utf-8, cp1252 or latin-1") from None
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._take(start)

    def header(self, delimiter: str | None) -> tuple[list[str], str]:
        """The first row that is not blank, and its delimiter; to be asked for before the first ``read``."""
        while not self._ended and len(self._ready) < _BLOCK:
            self._take(self._raw())
        used = 0

        def lines() -> Iterator[str]:
            nonlocal used
            for line in re.finditer(rb"[^\r\n]*(?:\r\n|\r|\n)", self._ready):
                used = line.end()
                yield line.group().decode()

        for line in lines():
            if line.strip():
                plain = re.sub(r'"[^"]*"', "", line)
                delimiter = delimiter or max(",;\t|", key=plain.count)
                break
        try:
            names = next((row for row in csv.reader(lines(), delimiter=delimiter or ",", strict=True) if row), None)
        except csv.Error:
            raise ShardError(f"{self._path}: the header cannot be read: is a quote left open?") from None
        if names is None:
            raise ShardError(f"{self._path}: the file is empty: a header row is needed")
        self._ready = self._ready[used:]
        return names, delimiter or ","

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; the last ones end with a newline."""
        pieces, held = [self._ready], len(self._ready)
        while not self._ended and held < size:
            self._ready = b""
            self._take(self._raw())
            pieces.append(self._ready)
            held += len(self._ready)
        whole = b"".join(pieces)
        self._ready = whole[size:]
        return whole[:size]

    def _raw(self) -> bytes:
        try:
            return bytes(self._stream.read(_PIECE))
        except OSError:
            raise ShardError(f"{self._path}: is cut short, or not compressed as its name says") from None

    def _take(self, raw: bytes) -> None:
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            line = self._lines + error.object[: error.start].count(b"\n")
            raise ShardError(
                f"{self._path}: line {line} is not {self._encoding.replace('-sig', '')} text: give the file's "
                "encoding, such as cp1252, latin-1 or utf-16"
            ) from None
        self._ended = not raw
        self._lines += text.count("\n")
        self.quotes += text.count('"')
        self._open_line = not text.endswith(("\n", "\r")) if text else self._open_line
        self._ready += text.encode() + (b"\n" if self._ended and self._open_line else b"")


@dataclass
class _Delimited:
    path: Path
    delimiter: str | None
    encoding: str
    nulls: tuple[str, ...]
    fields: pa.Schema = field(init=False)
    is_text = True

    def __post_init__(self) -> None:
        if self.delimiter is not None and not re.fullmatch(r'[^"\r\n\x80-\U0010ffff]', self.delimiter):
            raise InputError(f"{self.path}: delimiter {self.delimiter!r}: it must be one ASCII character, not a quote")
        names, self.delimiter = _Utf8(self.path, self.encoding).header(self.delimiter)
        self.fields = pa.schema([(name, pa.string()) for name in names])

    def batches(self) -> Iterator[list[pa.Array]]:
        stream = _Utf8(self.path, self.encoding)
        stream.header(self.delimiter)
        width = len(self.fields)
        rows = 0
        ragged: list[Any] = []
        last: pa.RecordBatch | None = None

        def refuse(row: Any) -> str:
            ragged.append(row)
            return "error"

        names = [str(column) for column in range(width)]
        try:
            reader = pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=names),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=refuse
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    null_values=["", *self.nulls],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            for batch in reader:
                rows += len(batch)
                last = batch if len(batch) else last
                yield batch.columns
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            if ragged:
                raise ShardError(
                    f"{self.path}: row {ragged[0].number} (the header not counted) has {ragged[0].actual_columns} "
                    f"fields where the header has {width}"
                ) from None
            raise ShardError(
                f"{self.path}: after row {rows}: a row is longer than {_BLOCK >> 20} MB: is a quote left open?"
            ) from None
        if stream.quotes % 2 and last is not None and str(last.column(width - 1)[-1]).endswith(("\n", "\r")):
            raise ShardError(f"{self.path}: row {rows} (the header not counted): a quote is left open")


def sheet_names(path: Path) -> list[str]:
    """Names of an Excel workbook's sheets, in its order; none of another file."""
    if path.suffix.lower() not in (".xlsx", ".xlsm"):
        return []
    book = _workbook(path)
    names = [str(each.title) for each in book.worksheets]
    book.close()
    return names


def _workbook(path: Path) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise InputError(f"{path}: reading Excel needs the package openpyxl: install it") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formatting that is of no use here
            return openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception:  # openpyxl documents none of the many errors that a broken file gives
        raise ShardError(f"{path}: is not an Excel workbook, or is damaged or encrypted") from None


class _Sheet:
    is_text = True

    def __init__(self, path: Path, sheet: str | None, nulls: tuple[str, ...]) -> None:
        self._path, self._nulls = path, {"", *nulls}
        book = _workbook(path)
        names = [each.title for each in book.worksheets]
        if sheet is None and len(names) != 1:
            raise InputError(f"{path}: has {len(names)} sheets: say which of {', '.join(map(repr, names))}")
        self._sheet = sheet if sheet is not None else names[0]
        if self._sheet not in names:
            raise InputError(f"{path}: has no sheet {sheet!r}, only {', '.join(map(repr, names))}")
        book.close()
        header = next(self._rows(), None)
        if header is None:
            raise ShardError(f"{path}: sheet {self._sheet!r} is empty: a header row is needed")
        self.fields = pa.schema([(name or "", pa.string()) for name in header])

    def _rows(self) -> Iterator[list[str | None]]:
        """Rows of texts without the empty cells at their end; rows without any cell are left out."""
        book = _workbook(self._path)
        try:
            sheet = book[self._sheet]
            sheet.reset_dimensions()  # the size that the file states is wrong in files of some programs
            for row in sheet.iter_rows(values_only=True):
                texts = [_cell_text(cell) for cell in row]
                while texts and texts[-1] is None:
                    texts.pop()
                if texts:
                    yield texts
        finally:
            book.close()

    def batches(self) -> Iterator[list[pa.Array]]:
        rows = self._rows()
        next(rows, None)
        width = len(self.fields)
        pending: list[list[str | None]] = []
        for number, texts in enumerate(rows, 1):
            if len(texts) > width:
                raise ShardError(
                    f"{self._path}: row {number} (the header and empty rows not counted) has {len(texts)} cells where "
                    f"the header has {width}"
                )
            kept = [None if text in self._nulls else text for text in texts]
            pending.append(kept + [None] * (width - len(texts)))
            if len(pending) * width >= _BATCH_CELLS:
                yield [pa.array(column, pa.string()) for column in zip(*pending)]
                pending = []
        if pending:
            yield [pa.array(column, pa.string()) for column in zip(*pending)]


def _cell_text(cell: Any) -> str | None:
    """A cell as it would stand in a CSV file; a datetime at midnight is a date (Excel knows no other dates)."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, datetime.datetime):
        midnight = cell.time() == datetime.time()
        return cell.date().isoformat() if midnight else cell.isoformat(" ")
    if isinstance(cell, datetime.timedelta):
        return repr(cell.total_seconds())
    return repr(cell) if isinstance(cell, float) else str(cell)


class _Ipc:
    is_text = False

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"FEA1":
            raise ShardError(f"{path}: is Feather version 1, which is no longer read: write it again as version 2")
        self.fields = self._reader().schema

    def _reader(self) -> Any:
        for opener in (pa.ipc.open_file, pa.ipc.open_stream):
            try:
                return opener(pa.memory_map(str(self._path)))
            except pa.ArrowInvalid:
                continue
        raise ShardError(f"{self._path}: is not a Feather or Arrow file, or is cut short")

    def batches(self) -> Iterator[list[pa.Array]]:
        reader = self._reader()
        try:
            if hasattr(reader, "get_batch"):
                each: Iterable[pa.RecordBatch] = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                each = reader
            for batch in each:
                for start in range(0, len(batch), _BATCH_ROWS):
                    yield batch.slice(start, _BATCH_ROWS).columns
        except (pa.ArrowInvalid, OSError):
            raise ShardError(f"{self._path}: is cut short or damaged") from None
