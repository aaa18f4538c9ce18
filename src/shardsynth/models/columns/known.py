"""Checking rows of which some columns are known, before a model completes them."""

from __future__ import annotations

import pyarrow as pa

from shardsynth.errors import InputError
from shardsynth.models.columns.selection import nearest_name


def check_columns(schema: pa.Schema, rows: pa.Table) -> None:
    """InputError for a column that the schema has not, or has in another type."""
    for name in rows.column_names:
        if name not in schema.names:
            raise InputError(f"column {name!r} is not one of the model's{nearest_name(name, schema.names)}")
        found, wanted = rows.schema.field(name).type, schema.field(name).type
        if not found.equals(wanted):
            raise InputError(f"column {name!r} is of type {found}; the model has {wanted}")
