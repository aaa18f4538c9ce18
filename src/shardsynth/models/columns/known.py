"""Check rows whose columns are partly known, before a model completes them."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.values import decoded
from shardsynth.errors import InputError
from shardsynth.models.columns.selection import nearest_name

#: Rows that a warning names.
_NAMED = 10


class UnknownCategory(UserWarning):
    """Rows that are completed have a category that the model did not learn."""


def named_rows(rows: NDArray[np.int64]) -> str:
    """The first of some row numbers, as text."""
    return ", ".join(map(str, rows[:_NAMED].tolist())) + (", ..." if len(rows) > _NAMED else "")


def warn_of_unknown(name: str, unknown: NDArray[np.bool_]) -> None:
    """Warn of rows whose category the model did not learn: they keep it, and are completed as if it were not given.

    Args:
        name: The column.
        unknown: bool[n], the rows.
    """
    rows = np.flatnonzero(unknown)
    if len(rows):
        warnings.warn(
            f"column {name!r}: {len(rows):,} row(s) have a category that the model did not learn; they keep it, and "
            f"their other columns are drawn without it (row {named_rows(rows)} of those completed together)",
            UnknownCategory,
            stacklevel=2,
        )


def in_types_of(schema: pa.Schema, rows: Any) -> pa.Table:
    """Known rows of a notebook in the model's types, where no value changes by that.

    Args:
        schema: The model's.
        rows: An Arrow table or a pandas DataFrame; a column that cannot be cast stays as it is.
    """
    if not isinstance(rows, pa.Table):
        rows = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata()
    for place, name in enumerate(rows.column_names):
        wanted = schema.field(name).type if name in schema.names else rows.schema.field(name).type
        if rows.schema.field(name).type.equals(wanted):
            continue
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            column = decoded(rows[name])
            if pa.types.is_dictionary(wanted):
                column = column.cast(wanted.value_type).dictionary_encode()
            rows = rows.set_column(place, name, column.cast(wanted))
    return rows


def check_columns(schema: pa.Schema, rows: pa.Table) -> None:
    """Check the known columns of rows.

    Args:
        schema: The model's.
        rows: Some of its columns.

    Raises:
        InputError: A column is not in the schema, or has another type there.
    """
    for name in rows.column_names:
        if name not in schema.names:
            raise InputError(f"column {name!r} is not one of the model's{nearest_name(name, schema.names)}")
        given_type, model_type = rows.schema.field(name).type, schema.field(name).type
        if not given_type.equals(model_type):
            raise InputError(f"column {name!r} is of type {given_type}; the model has {model_type}")
