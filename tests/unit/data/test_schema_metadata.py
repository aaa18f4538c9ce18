"""Which key-value metadata of the real files go on, and how the rest is named."""

from __future__ import annotations

import json

import pyarrow as pa

from shardsynth.data.schema_metadata import notes_of, without_notes

NOTED = pa.schema(
    [
        pa.field("age", pa.int8(), nullable=False, metadata={"note": "SECRET", "PARQUET:field_id": "7"}),
        pa.field("site", pa.dictionary(pa.int8(), pa.string()), metadata={"ARROW:extension:name": "SECRET"}),
        pa.field("day", pa.date32(), metadata={"PARQUET:field_id": "SECRET", "ARROW:extension:metadata": "SECRET"}),
    ],
    metadata={
        "pandas": json.dumps({"index_columns": [{"kind": "range", "name": "patient"}], "attributes": {"x": "SECRET"}}),
        "geo": "SECRET",
        "ARROW:schema": "SECRET",
    },
)


def test_only_arrows_own_keys_stay():
    schema = without_notes(NOTED)
    assert schema.metadata is None
    assert [field.metadata for field in schema] == [{b"PARQUET:field_id": b"7"}, None, None]
    assert schema.names == NOTED.names and schema.types == NOTED.types
    assert [field.nullable for field in schema] == [False, True, True]
    assert b"SECRET" not in schema.serialize().to_pybytes()


def test_what_is_left_out_is_named_without_its_value():
    notes = notes_of(NOTED)
    assert notes == [
        "of the file: 'pandas'",
        "of the file: 'geo'",
        "of the file: 'ARROW:schema'",
        "the index 'patient' of pandas, which is no column",
        "of column 'age': 'note'",
        "of column 'site': 'ARROW:extension:name'",
        "of column 'day': 'PARQUET:field_id'",
        "of column 'day': 'ARROW:extension:metadata'",
    ]


def test_pandas_metadata_that_are_damaged_do_no_harm():
    for text in ("", "[]", "{", '{"index_columns": 3}', '{"index_columns": ["a", {"kind": "range"}]}'):
        assert notes_of(pa.schema([], metadata={"pandas": text})) == ["of the file: 'pandas'"]
