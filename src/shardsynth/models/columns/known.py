"""Check rows whose columns are partly known, before a model completes them."""

from __future__ import annotations

import pyarrow as pa

from shardsynth.errors import InputError
from shardsynth.models.columns.selection import nearest_name


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
