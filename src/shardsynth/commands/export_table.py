"""`shardsynth export-table`: the samples of a model as one file of SPSS, Stata, SAS, R, Excel, CSV or Feather."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather

from shardsynth.api import Run
from shardsynth.commands.r_writer import write_rds
from shardsynth.commands.statistics_writers import write_dta, write_sav, write_xport
from shardsynth.data.codebook import Codebook
from shardsynth.data.values import decoded
from shardsynth.errors import InputError, ModelError
from shardsynth.standalone.files import replacing, write_atomic

_EXCEL_ROWS, _EXCEL_START = 1_048_575, datetime.date(1900, 1, 1)


def export_table(run_folder: str | Path, model: str, output: Path | None = None) -> list[Path]:
    """Write the samples of a model as one file, with a data dictionary and a README beside it.

    Args:
        run_folder: The run directory.
        model: Name of the model.
        output: File to write: ``.sav``, ``.zsav``, ``.dta``, ``.xpt``, ``.rds``, ``.csv``, ``.xlsx`` or ``.feather``.
            None: ``MODEL`` with the ending of the file that the table was imported from, else ``MODEL.csv``.

    Returns:
        The files that were written.

    Raises:
        InputError: The ending is unknown, or pyreadstat is not installed.
        ModelError: The format cannot hold a column; the message names it and says why. Nothing is written.
    """
    table = Run(run_folder).samples(model).to_table()
    codebook = {field.name: Codebook.of(field) for field in table.schema}
    if output is None:
        source = next((book.source for book in codebook.values() if book.source), "csv")
        output = Path(f"{model}.{source if f'.{source}' in _WRITERS else 'csv'}")
    kind = output.suffix.lower()
    if kind not in _WRITERS:
        raise InputError(f"{output}: this ending is not known; known are {', '.join(_WRITERS)}")
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {str(output.parent)!r}")
    with replacing(output) as temporary:
        named = temporary.with_name(temporary.name + kind)  # pyreadstat goes by the ending
        try:
            _WRITERS[kind](table, codebook, named)
            named.replace(temporary)
        except OverflowError:  # of Python's dates
            raise ModelError(f"{output}: {kind} holds no date beyond the year 9999; write .csv") from None
        finally:
            named.unlink(missing_ok=True)
    dictionary = output.with_name(f"{output.stem}.dictionary.csv")
    write_atomic(dictionary, _dictionary(table.schema, codebook))
    readme = output.with_name(f"{output.stem}.README.txt")
    write_atomic(readme, _readme(output, dictionary, table, codebook, model))
    return [output, dictionary, readme]


def _dictionary(schema: pa.Schema, codebook: dict[str, Codebook]) -> str:
    """The data dictionary as CSV: a row per column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["column", "type", "label", "value_labels", "missing", "measure", "format"])
    for field in schema:
        book = codebook[field.name]
        labels = "; ".join(f"{code} = {text}" for code, text in book.value_labels.items())
        missing = "; ".join(map(_shown_code, book.missing))
        type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        writer.writerow([field.name, str(type_), book.label, labels, missing, book.measure, book.format])
    return out.getvalue()


def _readme(output: Path, dictionary: Path, table: pa.Table, codebook: dict[str, Codebook], model: str) -> str:
    """What whoever gets the file must know."""
    lines = [
        f"{output.name}: {table.num_rows:,} synthetic rows, drawn by shardsynth from the model {model!r}.",
        "No row stands for a person. Figures of these rows are near those of the real table, and not the same.",
        f"{dictionary.name} has a line per column: type, label, labels of codes, codes for missing, display format.",
    ]
    kinds = [(f.name, codebook[f.name].kinds_of) for f in table.schema if codebook[f.name].kinds_of]
    if kinds and output.suffix.lower() in (".dta", ".rds"):
        lines.append("Kinds of missing values (.a to .z) stand in the columns that they are of.")
    elif kinds:
        named = "; ".join(f"{name} of {of}" for name, of in kinds)
        lines.append(f"Kinds of missing values stand in columns of their own: {named}.")
    if output.suffix.lower() in (".csv", ".xlsx") and any(book.value_labels for book in codebook.values()):
        lines.append("Codes stand as they are; their labels are in the dictionary alone.")
    return "\n".join(lines) + "\n"


def _shown_code(code: Any) -> str:
    return f"{code['lo']} to {code['hi']}" if isinstance(code, dict) else str(code)


def _write_csv(table: pa.Table, codebook: dict[str, Codebook], path: Path) -> None:
    plain = pa.table([decoded(column) for column in table.columns], table.column_names)
    pyarrow.csv.write_csv(plain, path)


def _write_feather(table: pa.Table, codebook: dict[str, Codebook], path: Path) -> None:
    pyarrow.feather.write_feather(table, str(path))


def _write_excel(table: pa.Table, codebook: dict[str, Codebook], path: Path) -> None:
    if table.num_rows > _EXCEL_ROWS:
        raise ModelError(f"{table.num_rows:,} rows do not fit a sheet of Excel, which has {_EXCEL_ROWS:,}; write .csv")
    try:
        import openpyxl
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.utils.exceptions import IllegalCharacterError
    except ImportError:
        raise InputError("writing Excel needs the package openpyxl: install it") from None
    for field in table.schema:
        if pa.types.is_temporal(field.type) and _oldest(table[field.name]) < _EXCEL_START:
            raise ModelError(f"column {field.name!r}: Excel has no dates before 1900; write .csv")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("table")

    def cell(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("="):  # a text, not a formula
            found = WriteOnlyCell(sheet, value)
            found.data_type = "s"
            return found
        zoned = getattr(value, "tzinfo", None) is not None and hasattr(value, "isoformat")
        return value.isoformat(" ") if zoned else value

    sheet.append([cell(name) for name in table.column_names])
    try:
        for batch in table.to_batches(max_chunksize=10_000):
            columns = [decoded(column).to_pylist() for column in batch.columns]
            for row in zip(*columns):
                sheet.append([cell(value) for value in row])
    except IllegalCharacterError:
        raise ModelError("Excel cannot hold a text with control characters; write .csv") from None
    book.save(path)


def _oldest(column: pa.ChunkedArray) -> datetime.date:
    """The first day of a column of dates or instants; one that Excel has for any other."""
    plain = decoded(column)
    if not (pa.types.is_date(plain.type) or pa.types.is_timestamp(plain.type)):
        return _EXCEL_START
    first = pc.min(plain.cast(pa.date32(), safe=False)).as_py()
    return _EXCEL_START if first is None else first


_WRITERS: dict[str, Callable[[pa.Table, dict[str, Codebook], Path], None]] = {
    ".sav": write_sav,
    ".zsav": write_sav,
    ".dta": write_dta,
    ".xpt": write_xport,
    ".rds": write_rds,
    ".csv": _write_csv,
    ".xlsx": _write_excel,
    ".feather": _write_feather,
}
