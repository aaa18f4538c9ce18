"""Delimited text, read as texts in batches: its delimiter, what stands above its header, and its encoding."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.csv

from shardsynth.data.codebook import Codebook
from shardsynth.data.unpacking import LEAST_TEXT, Unpacked
from shardsynth.errors import InputError, ShardError

_BLOCK = 2 << 20  # bytes of text that Arrow parses at a time; no row can be longer
_TITLES = 50  # lines below the first row in which more fields are looked for
_PIECE = 256 << 10  # bytes that are decoded at a time


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


def cbioportal_fields(above: bytes, names: list[str]) -> tuple[pa.Schema, set[str]] | None:
    """Fields with their labels, and those that are text, from lines of cBioPortal above a header; None without them.

    The lines, each behind ``#``, are labels, descriptions, types (``STRING``, ``NUMBER``, ``BOOLEAN``) and priorities
    (https://docs.cbioportal.org/file-formats/#clinical-data).
    """
    lines = [line[1:].split("\t") for line in above.decode(errors="replace").splitlines() if line.startswith("#")]
    if len(lines) < 3 or not set(lines[2]) <= {"STRING", "NUMBER", "BOOLEAN"} or len(lines[2]) != len(names):
        return None
    labels = lines[0] if len(lines[0]) == len(names) else [""] * len(names)
    fields = [Codebook(label.strip()).on(pa.field(name, pa.string())) for name, label in zip(names, labels)]
    return pa.schema(fields), {name for name, kind in zip(names, lines[2]) if kind == "STRING"}


class _Utf8(io.RawIOBase):
    """A text file as a stream of UTF-8 bytes without its header, for Arrow's CSV reader.

    It counts quotes. Its error names the line that cannot be decoded.

    Attributes:
        quotes: Quotes read so far.
        above: What stands above the header.
    """

    above = b""

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
        given = delimiter is not None
        while not self._ended and len(self._ready) < _BLOCK:
            self._decode(self._read_piece())
        above, named = lines_above(self._ready, skip_rows)
        self.above = self._ready[:above]
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
        if len(names) == 1 and not given:
            self._check_delimiter(names[0], header_bytes)
        if not skip_rows:
            self._check_titles(names, header_bytes, delimiter or ",")
        self._ready = self._ready[header_bytes:]
        return names, delimiter or ","

    def _check_delimiter(self, header: str, header_bytes: int) -> None:
        """Refuse a file of one column if its header and every row have as many of a sign that separates fields."""
        below = self._ready[header_bytes:].decode(errors="replace").splitlines()[:_TITLES]
        rows = [line for line in below if line.strip()]
        for sign in "~^:!*\x1f\x01 ":
            count = header.count(sign)
            if count and len(rows) > 1 and all(row.count(sign) == count for row in rows):
                shown = sign if sign.isprintable() else f"$'\\x{ord(sign):02x}'"
                raise ShardError(
                    f"{self._path}: has one column with ','; every row has {count + 1} fields with another delimiter: "
                    f"--delimiter '{shown}', or --delimiter , if it is one column"
                )

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
class Delimited:
    """A text table; the protocol is ``foreign.ForeignTable``."""

    path: Path
    delimiter: str | None
    encoding: str
    nulls: tuple[str, ...]
    max_unpacked: int | None = None
    skip_rows: int = 0
    fields: pa.Schema = field(init=False)
    texts: set[str] = field(init=False)
    is_text = True

    def __post_init__(self) -> None:
        if self.delimiter is not None and not re.fullmatch(r'[^"\r\n\x80-\U0010ffff]', self.delimiter):
            raise InputError(f"{self.path}: delimiter {self.delimiter!r}: it must be one ASCII character, not a quote")
        stream = _Utf8(self.path, self.encoding, self.max_unpacked)
        names, self.delimiter = stream.header(self.delimiter, self.skip_rows)
        declared = cbioportal_fields(stream.above, names)
        self.fields, self.texts = declared or (pa.schema([(name, pa.string()) for name in names]), set())

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns as texts."""
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
                few = ragged[0].actual_columns < width
                hint = ": is it a note below the table? delete it" if few else ""
                raise ShardError(
                    f"{self.path}: row {ragged[0].number} (the header not counted) has {ragged[0].actual_columns} "
                    f"fields where the header has {width}{hint}"
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
