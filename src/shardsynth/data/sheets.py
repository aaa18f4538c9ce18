"""Tables in Excel workbooks, read as texts in batches."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.errors import InputError, ShardError

_BATCH_CELLS = 1 << 18
_MOST_SHEET_ROWS = 1_048_576  # Excel's own limit; openpyxl makes up each row that a sheet leaves out


class EmptySheet(ShardError):
    """A sheet has no row."""


def sheet_names(path: Path) -> list[str]:
    """Names of an Excel workbook's sheets, in its order; empty for any other file.

    Raises:
        InputError: openpyxl is not installed.
        ShardError: The workbook is damaged or encrypted.
    """
    if path.suffix.lower() not in (".xlsx", ".xlsm"):
        return []
    book = _workbook(path)
    names = [str(worksheet.title) for worksheet in book.worksheets]
    book.close()
    return names


def _workbook(path: Path, *, values: bool = True) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise InputError(f"{path}: reading Excel needs the package openpyxl: install it") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about formatting, which is not used here
            return openpyxl.load_workbook(path, read_only=True, data_only=values)
    except Exception:  # a broken file can give many errors, which openpyxl does not document
        raise ShardError(f"{path}: is not an Excel workbook, or is damaged or encrypted") from None


class Sheet:
    """One sheet of a workbook; the protocol is ``foreign.ForeignTable``."""

    is_text = True

    def __init__(self, path: Path, sheet: str | None, nulls: tuple[str, ...], skip_rows: int = 0) -> None:
        self._path, self._nulls, self._skipped = path, {"", *nulls}, skip_rows
        self._at = 0  # row of the sheet, from 1
        book = _workbook(path)
        names = [worksheet.title for worksheet in book.worksheets]
        if sheet is None and len(names) != 1:
            raise InputError(
                f"{path}: has {len(names)} sheets: say which of {', '.join(map(repr, names))} by --sheet, or "
                "take each as a table: --all-sheets"
            )
        self._sheet = sheet if sheet is not None else names[0]
        if self._sheet not in names:
            raise InputError(f"{path}: has no sheet {sheet!r}, only {', '.join(map(repr, names))}")
        book.close()
        header = next(self._rows(), None)
        if header is None:
            raise EmptySheet(f"{path}: sheet {self._sheet!r} is empty: a header row is needed")
        self.fields = pa.schema([(name or "", pa.string()) for name in header])

    def _rows(self) -> Iterator[list[str | None]]:
        """Rows as texts, without empty cells at the end of a row, without empty rows and those to leave out."""
        book = _workbook(self._path)
        try:
            sheet = book[self._sheet]
            sheet.reset_dimensions()  # the size that the file states is wrong in files of some programs
            for number, row in enumerate(_unbroken(self._path, sheet.iter_rows(values_only=True)), 1):
                if number > _MOST_SHEET_ROWS:
                    raise ShardError(f"{self._path}: sheet {self._sheet!r} has more than {_MOST_SHEET_ROWS:,} rows")
                if number <= self._skipped:
                    continue
                texts = [_cell_text(cell) for cell in row]
                while texts and texts[-1] is None:
                    texts.pop()
                if texts:
                    self._at = number
                    yield texts
        finally:
            book.close()

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns as texts."""
        rows = self._rows()
        next(rows, None)
        width = len(self.fields)
        pending: list[list[str | None]] = []
        empty = set(range(width))
        for number, texts in enumerate(rows, 1):
            empty -= {place for place, text in enumerate(texts) if text is not None}
            if len(texts) > width:
                above = self._at - 1
                titles = f"; if the table has title rows, leave them out: --skip-rows {above}" if above < 50 else ""
                raise ShardError(
                    f"{self._path}: row {number} (the header and empty rows not counted) has {len(texts)} cells where "
                    f"the header has {width}{titles}"
                )
            cells = [None if text in self._nulls else text for text in texts]
            pending.append(cells + [None] * (width - len(texts)))
            if len(pending) * width >= _BATCH_CELLS:
                yield [pa.array(column, pa.string()) for column in zip(*pending)]
                pending = []
        if empty:
            self._refuse_formulas(empty)
        if pending:
            yield [pa.array(column, pa.string()) for column in zip(*pending)]

    def _refuse_formulas(self, empty: set[int]) -> None:
        """ShardError for columns without a value whose cells hold formulas: no program has calculated them."""
        book = _workbook(self._path, values=False)
        try:
            sheet = book[self._sheet]
            sheet.reset_dimensions()
            for row in _unbroken(self._path, sheet.iter_rows(values_only=True)):
                for place in sorted(empty):
                    if place < len(row) and isinstance(row[place], str) and row[place].startswith("="):
                        raise ShardError(
                            f"{self._path}: column {self.fields.names[place]!r} holds formulas that no program has "
                            "calculated: open the workbook in Excel or LibreOffice and save it"
                        )
        finally:
            book.close()


def _unbroken(path: Path, rows: Iterable[Any]) -> Iterator[Any]:
    """Rows of a sheet; ShardError where it is damaged: openpyxl does not document which errors that gives."""
    found = iter(rows)
    while True:
        try:
            row = next(found)
        except StopIteration:
            return
        except Exception:
            raise ShardError(f"{path}: is damaged: a row of the sheet cannot be read") from None
        yield row


def _cell_text(cell: Any) -> str | None:
    """A cell as text, as in a CSV file. A datetime at midnight is a date, because Excel has no type for dates."""
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
