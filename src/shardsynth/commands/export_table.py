"""`shardsynth export-table`: the samples of a model as one file of SPSS, Stata, SAS, Excel, CSV or Feather."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather

from shardsynth.api import Run
from shardsynth.data.codebook import Codebook
from shardsynth.data.values import decoded
from shardsynth.errors import InputError, ModelError
from shardsynth.standalone.files import replacing, write_atomic

if TYPE_CHECKING:
    import pandas as pd

#: Largest whole number that a double holds exactly.
_EXACT = 2**53
#: Bytes of a value label, and characters of a name, that each format has room for.
_LABEL_BYTES = {".sav": 120, ".dta": 32_000, ".xpt": 40}
_NAME_LENGTH = {".sav": 64, ".dta": 32, ".xpt": 32}
#: Function of pyreadstat for the format of each ending, and characters of a variable label that it has room for.
_FUNCTIONS = {"sav": ("write_sav", None), "dta": ("write_dta", 80), "xpt": ("write_xport", 40)}
_EXCEL_ROWS = 1_048_575


def export_table(run_folder: str | Path, model: str, output: Path | None = None) -> list[Path]:
    """Write the samples of a model as one file, and a data dictionary beside it.

    Args:
        run_folder: The run directory.
        model: Name of the model.
        output: File to write: ``.sav``, ``.zsav``, ``.dta``, ``.xpt``, ``.csv``, ``.xlsx`` or ``.feather``. None:
            ``MODEL`` with the ending of the file that the table was imported from, else ``MODEL.csv``.

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
    return [output, dictionary]


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
    except ImportError:
        raise InputError("writing Excel needs the package openpyxl: install it") from None
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("table")
    sheet.append(table.column_names)
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [decoded(column).to_pylist() for column in batch.columns]
        for row in zip(*columns):
            sheet.append([_cell(value) for value in row])
    book.save(path)


def _cell(value: Any) -> Any:
    zoned = getattr(value, "tzinfo", None) is not None and hasattr(value, "isoformat")
    return value.isoformat(" ") if zoned else value


def _write_sav(table: pa.Table, codebook: dict[str, Codebook], path: Path) -> None:
    frame, books = _frame(table, codebook, ".sav")
    _written(
        "sav",
        frame,
        books,
        path,
        variable_value_labels=_labels(frame, books),
        missing_ranges={name: _ranges(book) for name, book in books.items() if book.missing},
        variable_measure={name: book.measure for name, book in books.items() if book.measure},
        compress=path.suffix.lower() == ".zsav",
    )


def _write_dta(table: pa.Table, codebook: dict[str, Codebook], path: Path) -> None:
    frame, books = _frame(table, codebook, ".dta")
    tags = {}
    for field in table.schema:
        of = codebook[field.name].kinds_of
        if of in frame.columns and field.name in frame.columns:
            kinds = frame.pop(field.name)
            books.pop(field.name)
            column = frame[of].astype(object)
            letters = kinds.where(column.isna()).map(lambda kind: kind[1:] if isinstance(kind, str) else None)
            tagged = letters.notna()
            frame[of] = column.where(~tagged, letters)
            tags[of] = sorted(set(letters[tagged]))
    labels = {name: found for name, found in _labels(frame, books).items() if name not in tags}
    for name, found in labels.items():
        if any(not isinstance(code, int) for code in found):
            raise ModelError(f"column {name!r}: Stata has value labels of whole numbers only; write .sav")
    _written(
        "dta",
        frame,
        books,
        path,
        variable_value_labels=labels,
        missing_user_values={name: letters for name, letters in tags.items() if letters},
    )


def _write_xport(table: pa.Table, codebook: dict[str, Codebook], path: Path) -> None:
    frame, books = _frame(table, codebook, ".xpt")
    _written(
        "xpt",
        frame,
        books,
        path,
        file_format_version=8,
    )


_WRITERS: dict[str, Callable[[pa.Table, dict[str, Codebook], Path], None]] = {
    ".sav": _write_sav,
    ".zsav": _write_sav,
    ".dta": _write_dta,
    ".xpt": _write_xport,
    ".csv": _write_csv,
    ".xlsx": _write_excel,
    ".feather": _write_feather,
}


def _written(kind: str, frame: pd.DataFrame, books: dict[str, Codebook], path: Path, **options: Any) -> None:
    function, longest = _FUNCTIONS[kind]
    options["column_labels"] = [books[name].label[:longest] or None for name in frame.columns]
    formats = {name: book.format for name, book in books.items() if _keeps_format(book, frame[name], kind)}
    options["variable_format"] = formats
    try:
        import pyreadstat
    except ImportError:
        raise InputError("writing SPSS, Stata and SAS needs pyreadstat: pip install pyreadstat") from None
    try:
        getattr(pyreadstat, function)(frame, str(path), **{k: v for k, v in options.items() if v not in (None, {})})
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError, OverflowError) as error:
        raise ModelError(
            f"{path.suffix}: the format cannot hold the table ({type(error).__name__}); write .csv, or another format"
        ) from None


def _frame(table: pa.Table, codebook: dict[str, Codebook], kind: str) -> tuple[pd.DataFrame, dict[str, Codebook]]:
    """The table in dtypes that pyreadstat writes as what they are, and the codebook of its columns."""
    import pandas as pd

    frame = pd.DataFrame({field.name: _column(field, table[field.name], kind) for field in table.schema})
    longest = _NAME_LENGTH[kind]
    for name in frame.columns:
        if len(name.encode()) > longest:
            raise ModelError(f"column {name!r}: {kind} has room for names of {longest} bytes; rename it, or write .csv")
    return frame, dict(codebook)


def _column(field: pa.Field, column: pa.ChunkedArray, kind: str) -> Any:
    import pandas as pd

    array, type_ = decoded(column), field.type
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_null(type_):
        return pd.Series(array.to_pylist(), dtype=object)
    if pa.types.is_boolean(type_):
        return pd.Series(array.cast(pa.int8()).to_pylist(), dtype="Int8").astype("float64")
    if pa.types.is_integer(type_):
        if any(abs(end) > _EXACT for end in pc.min_max(array).as_py().values() if end is not None):
            raise ModelError(
                f"column {field.name!r}: {kind} holds numbers as doubles, and some have more than 15 digits; write "
                ".csv, or the column as text"
            )
        return array.to_pandas() if not array.null_count else array.cast(pa.float64()).to_pandas()
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return array.cast(pa.float64()).to_pandas()
    if pa.types.is_date(type_):
        return pd.Series(array.cast(pa.date32()).to_pylist(), dtype=object)
    if pa.types.is_timestamp(type_):
        if type_.tz is not None:
            array = pc.local_timestamp(array)
        try:
            return array.cast(pa.timestamp("ns")).to_pandas()
        except pa.ArrowInvalid:
            raise ModelError(
                f"column {field.name!r}: pyreadstat writes instants of the years 1678 to 2261 only; write .csv"
            ) from None
    if pa.types.is_time(type_) or pa.types.is_duration(type_):
        plain = pa.int32() if type_.bit_width == 32 else pa.int64()
        per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[type_.unit]
        return array.view(plain).cast(pa.float64()).to_pandas() / per_second
    raise ModelError(f"column {field.name!r} of type {type_}: {kind} has no such type; write .csv")


def _labels(frame: pd.DataFrame, books: dict[str, Codebook]) -> dict[str, dict[Any, str]]:
    labels = {}
    for name, book in books.items():
        if not book.value_labels:
            continue
        for text in book.value_labels.values():
            if len(text.encode()) > _LABEL_BYTES[".sav"]:
                raise ModelError(f"column {name!r}: a value label has more than 120 bytes; write .csv")
        numbers = frame[name].dtype != object
        labels[name] = {_number(code) if numbers else code: text for code, text in book.value_labels.items()}
    return labels


def _number(code: str) -> float | int:
    number = float(code)
    return int(number) if number.is_integer() else number


def _ranges(book: Codebook) -> list[Any]:
    return list(book.missing)


def _keeps_format(book: Codebook, values: Any, source: str) -> bool:
    """Whether a column has the display format of the file that it comes from: text has as many places as it needs."""
    return bool(book.format) and book.source == source and (values.dtype != object or _is_dates(values))


def _is_dates(values: Any) -> bool:
    present = values.dropna()
    return bool(len(present)) and not isinstance(present.iloc[0], str) and not isinstance(present.iloc[0], np.number)
