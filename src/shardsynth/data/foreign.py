"""Tables in files that are not Parquet: delimited text, Excel sheets, Feather. Each is read in batches."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv

from shardsynth.data.r_tables import READERS as R_READERS
from shardsynth.data.r_tables import RFile
from shardsynth.data.sheets import Sheet
from shardsynth.data.statistics_files import READERS, StatisticsFile
from shardsynth.data.unpacking import LEAST_TEXT, Unpacked, check_zip
from shardsynth.errors import InputError, ShardError
from shardsynth.standalone.regular import refuse_special

_BLOCK = 2 << 20  # bytes of text that Arrow parses at a time; no row can be longer
_TITLES = 50  # lines below the first row in which more fields are looked for
_PIECE = 256 << 10  # bytes that are decoded at a time
_BATCH_ROWS = 1 << 17
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")


class ForeignTable(Protocol):
    """A table that can be read more than once.

    Attributes:
        is_text: Whether every column comes as text, so that its type must be guessed.
        fields: Names and types of the columns as they are in the file; the names are not checked.
    """

    is_text: bool
    fields: pa.Schema

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns, in the order of ``fields``; each is at most about ten megabytes of the file.

        Raises:
            ShardError: A row cannot be read, or the file is damaged.
        """


def open_foreign(
    path: Path,
    delimiter: str | None,
    sheet: str | None,
    nulls: tuple[str, ...],
    encoding: str,
    max_unpacked: int | None = None,
    skip_rows: int = 0,
) -> ForeignTable:
    """Open a file with the reader for the ending of its name.

    Args:
        path: The file.
        delimiter: See ``importer.import_table``.
        sheet: See ``importer.import_table``.
        nulls: Texts that mean missing.
        encoding: See ``importer.import_table``.
        max_unpacked: See ``importer.import_table``.
        skip_rows: See ``importer.import_table``.

    Raises:
        InputError: There is no such file, no such sheet, or no reader for the ending.
        ShardError: The file is empty or damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"{path}: is not a file; import one file at a time")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read: permission denied")
    kind = Path(path.stem).suffix if path.suffix.lower() in _COMPRESSIONS else path.suffix
    kind = kind.lower()
    if kind in (".csv", ".tsv", ".tab", ".txt"):
        return _Delimited(
            path, delimiter or ("\t" if kind in (".tsv", ".tab") else None), encoding, nulls, max_unpacked, skip_rows
        )
    if path.stat().st_size == 0:
        raise ShardError(f"{path}: the file is empty")
    if kind in (".xlsx", ".xlsm"):
        check_zip(path, max_unpacked)
        return Sheet(path, sheet, nulls)
    if path.suffix.lower() in READERS:
        return StatisticsFile(path)
    if path.suffix.lower() in R_READERS:
        return RFile(path, sheet, max_unpacked)
    if kind in (".feather", ".arrow", ".arrows", ".ipc"):
        return _Ipc(path, max_unpacked)
    known = (
        ".csv, .tsv, .txt (also .gz, .bz2, .zst), .xlsx, .feather, .sav, .zsav, .por, .dta, .sas7bdat, .xpt, .rds and "
        ".RData"
    )
    hints = {
        ".parquet": "it is Parquet already: name it as the job's input",
        ".xls": "save it as .xlsx",
        ".ods": "save it as .xlsx",
        ".zip": "unpack it first",
    }
    raise InputError(f"{path}: {hints.get(kind, f'this ending is not known; known are {known}')}")


def lines_above(text: bytes, skip_rows: int = 0) -> tuple[int, str | None]:
    """How many bytes of a text table stand above its header, and the delimiter that its first line names.

    Above the header stand ``skip_rows`` lines, Excel's ``sep=;``, lines that begin with ``##``, and two or more lines
    that begin with ``#``, as cBioPortal has them. A single line with ``#`` is the header.

    Args:
        text: The beginning of the file, as UTF-8.
        skip_rows: Lines that the user leaves out.
    """
    lines = text.splitlines(keepends=True)
    place, delimiter = min(skip_rows, len(lines)), None
    if place < len(lines) and (match := re.fullmatch(rb'"?sep=(.)"?\s*', lines[place])):
        place, delimiter = place + 1, match[1].decode()
    while place < len(lines) and lines[place].startswith(b"##"):
        place += 1
    marked = place
    while marked < len(lines) and lines[marked].startswith(b"#"):
        marked += 1
    if marked >= place + 2 and marked < len(lines):
        place = marked
    return sum(map(len, lines[:place])), delimiter


class _Utf8(io.RawIOBase):
    """A text file as a stream of UTF-8 bytes without its header, for Arrow's CSV reader.

    It counts quotes. Its error names the line that cannot be decoded.

    Attributes:
        quotes: Quotes read so far.
    """

    def __init__(self, path: Path, encoding: str, max_unpacked: int | None = None) -> None:
        self._path = path
        self._unpacked = Unpacked.of(path, max_unpacked, LEAST_TEXT)
        self._reading = Lock()
        self._stream = pa.input_stream(str(path), compression="detect")
        self._ready = b""
        self._ended = self._inside_line = False
        self._lines = 1
        self.quotes = 0
        start = self._read_piece()
        try:
            if codecs.lookup(encoding).name == "utf-8":
                utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                encoding = "utf-16" if utf16 else "utf-8-sig"
        except LookupError:
            raise InputError(f"{path}: encoding {encoding!r} is not known; try utf-8, cp1252 or latin-1") from None
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._decode(start)

    def header(self, delimiter: str | None, skip_rows: int = 0) -> tuple[list[str], str]:
        """Names in the first row that is not blank, and its delimiter; call it once, before the first ``read``.

        Lines of comments above it are left out, and Excel's own line ``sep=;`` names the delimiter.
        """
        while not self._ended and len(self._ready) < _BLOCK:
            self._decode(self._read_piece())
        above, named = lines_above(self._ready, skip_rows)
        self._ready, delimiter = self._ready[above:], delimiter or named
        header_bytes = 0

        def lines() -> Iterator[str]:
            nonlocal header_bytes
            for line in self._ready.splitlines(keepends=True):
                if not line.endswith((b"\r", b"\n")):
                    raise ShardError(f"{self._path}: the header is longer than {_BLOCK >> 20} MB: is it a text table?")
                header_bytes += len(line)
                yield line.decode()

        for line in lines():
            if line.strip():
                unquoted = re.sub(r'"[^"]*"', "", line)
                delimiter = delimiter or max(",;\t|", key=unquoted.count)
                break
        header_bytes = 0
        try:
            names = next((row for row in csv.reader(lines(), delimiter=delimiter or ",", strict=True) if row), None)
        except csv.Error:
            raise ShardError(f"{self._path}: the header cannot be read: is a quote left open?") from None
        if names is None:
            raise ShardError(f"{self._path}: the file is empty: a header row is needed")
        if not skip_rows:
            self._check_titles(names, header_bytes, delimiter or ",")
        self._ready = self._ready[header_bytes:]
        return names, delimiter or ","

    def _check_titles(self, names: list[str], header_bytes: int, delimiter: str) -> None:
        """Refuse a file whose first rows are titles: those below have more fields, and all as many."""
        below = self._ready[header_bytes:].decode(errors="replace").splitlines()[:_TITLES]
        try:
            rows = [next(csv.reader([line], delimiter=delimiter), []) for line in below]
        except csv.Error:
            return
        widths = [len(row) for row in rows if row]
        if len(widths) < 3 or widths[-1] <= len(names) or len(set(widths[len(widths) // 2 :])) > 1:
            return
        first = next(number for number, row in enumerate(rows) if len(row) == widths[-1])
        titles = self._ready[:header_bytes].count(b"\n") + first
        raise ShardError(
            f"{self._path}: the first row has {len(names)} fields and those below have {widths[-1]}: if the table has "
            f"title lines, say how many: --skip-rows {titles}"
        )

    def readable(self) -> bool:
        """True: pyarrow asks this before it reads."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes. A newline is added to a last line that has none."""
        with self._reading:
            return self._read(size)

    def stop(self) -> None:
        """Let every later ``read`` find the end at once, once the one that runs has returned.

        Arrow reads ahead in a thread of its own, also after an error: a thread that still reads when Python ends makes
        it hang or abort.
        """
        with self._reading:
            self._ready, self._ended = b"", True

    def _read(self, size: int) -> bytes:
        pieces, length = [self._ready], len(self._ready)
        while not self._ended and length < size:
            self._ready = b""
            self._decode(self._read_piece())
            pieces.append(self._ready)
            length += len(self._ready)
        joined = b"".join(pieces)
        self._ready = joined[size:]
        return joined[:size]

    def _read_piece(self) -> bytes:
        try:
            piece = bytes(self._stream.read(_PIECE))
            self._unpacked.add(len(piece))
            return piece
        except OSError:
            raise ShardError(f"{self._path}: is cut short, or not compressed as its name says") from None

    def _decode(self, raw: bytes) -> None:
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
        self._inside_line = not text.endswith(("\n", "\r")) if text else self._inside_line
        self._ready += text.encode() + (b"\n" if self._ended and self._inside_line else b"")


@dataclass
class _Delimited:
    path: Path
    delimiter: str | None
    encoding: str
    nulls: tuple[str, ...]
    max_unpacked: int | None = None
    skip_rows: int = 0
    fields: pa.Schema = field(init=False)
    is_text = True

    def __post_init__(self) -> None:
        if self.delimiter is not None and not re.fullmatch(r'[^"\r\n\x80-\U0010ffff]', self.delimiter):
            raise InputError(f"{self.path}: delimiter {self.delimiter!r}: it must be one ASCII character, not a quote")
        stream = _Utf8(self.path, self.encoding, self.max_unpacked)
        names, self.delimiter = stream.header(self.delimiter, self.skip_rows)
        self.fields = pa.schema([(name, pa.string()) for name in names])

    def batches(self) -> Generator[list[pa.Array], None, None]:
        stream = _Utf8(self.path, self.encoding, self.max_unpacked)
        stream.header(self.delimiter, self.skip_rows)
        width = len(self.fields)
        rows = 0
        ragged: list[Any] = []
        last_batch: pa.RecordBatch | None = None

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
                last_batch = batch if len(batch) else last_batch
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
        finally:
            stream.stop()
        if (
            stream.quotes % 2
            and last_batch is not None
            and str(last_batch.column(width - 1)[-1]).endswith(("\n", "\r"))
        ):
            raise ShardError(f"{self.path}: row {rows} (the header not counted): a quote is left open")


def _own_bytes(batch: pa.RecordBatch, dictionaries: dict[int, pa.Array]) -> int:
    """Bytes of a batch; a dictionary counts where it is not that of the batch before, which ``dictionaries`` keeps."""
    count = 0
    for number, column in enumerate(batch.columns):
        if not pa.types.is_dictionary(column.type):
            count += column.nbytes
            continue
        count += column.indices.nbytes
        last = dictionaries.get(number)
        if last is None or not last.equals(column.dictionary):
            count += column.dictionary.nbytes
            dictionaries[number] = column.dictionary
    return count


class _Ipc:
    is_text = False

    def __init__(self, path: Path, max_unpacked: int | None = None) -> None:
        self._path, self._most = path, max_unpacked
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"FEA1":
            raise ShardError(f"{path}: is Feather version 1, which is no longer read: write it again as version 2")
        self.fields = self._reader().schema

    def _reader(self) -> Any:
        for opener in (pa.ipc.open_file, pa.ipc.open_stream):
            try:
                # Not mapped: a file that is cut meanwhile would end the process.
                return opener(pa.OSFile(str(self._path)))
            except (pa.ArrowException, OSError, MemoryError):
                continue
        raise ShardError(f"{self._path}: is not a Feather or Arrow file, or is cut short")

    def batches(self) -> Generator[list[pa.Array], None, None]:
        reader = self._reader()
        try:
            if hasattr(reader, "get_batch"):
                stored: Iterable[pa.RecordBatch] = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                stored = reader
            unpacked = Unpacked.of(self._path, self._most, LEAST_TEXT)
            dictionaries: dict[int, pa.Array] = {}
            for batch in stored:
                unpacked.add(_own_bytes(batch, dictionaries))
                batch.validate(full=True)  # offsets of a damaged file can point anywhere
                for start in range(0, len(batch), _BATCH_ROWS):
                    yield batch.slice(start, _BATCH_ROWS).columns
        except (pa.ArrowException, OSError, MemoryError, IndexError):
            raise ShardError(f"{self._path}: is cut short or damaged") from None
