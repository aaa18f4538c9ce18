"""Column types of files that are read as plainer ones, and written as they were.

Arrow computes little with decimals of 32 and 64 bits and with extension types (UUID, JSON, opaque). Such a column is
read as a plain type: a wider decimal, text of a UUID, the storage type. The field of the plain type keeps the type of
the file in its metadata, under a key of our own, so that plans, models and samples know it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import pyarrow as pa

#: Key of a field's metadata: the type of the file, as the IPC message of a schema of one field.
STORED_TYPE = b"shardsynth.stored_type"


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with plain types; a field whose type is another one in the file keeps that in its metadata."""
    return pa.schema([_plain_field(field) for field in schema], metadata=schema.metadata)


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """Inverse of ``plain_schema``."""
    return pa.schema([_stored_field(field) for field in schema], metadata=schema.metadata)


def written_schema(schema: pa.Schema, batch_schema: pa.Schema) -> pa.Schema:
    """Schema of the batches of a file: the types of the file where the schema keeps such, else those of the batches."""
    pairs = zip(schema, batch_schema)
    fields = [_stored_field(own) if STORED_TYPE in (own.metadata or {}) else field for own, field in pairs]
    return pa.schema(fields, metadata=batch_schema.metadata)


def has_stored_types(schema: pa.Schema) -> bool:
    """Whether a column of the schema is of another type in files."""
    return any(STORED_TYPE in (field.metadata or {}) for field in schema)


def stored_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of plain columns in a schema of ``stored_schema``; columns whose types agree stay as they are."""
    arrays = [_stored(array, field.type) for array, field in zip(batch.columns, schema)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of a file with plain columns."""
    schema = plain_schema(batch.schema)
    if schema.types == batch.schema.types:
        return batch
    arrays = [as_type(array, field.type) for array, field in zip(batch.columns, schema)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def plain_type_of(type_: pa.DataType) -> pa.DataType:
    """The plain type as which a type of a file is read; the type itself where it is plain, or has no plain one."""
    if isinstance(type_, pa.BaseExtensionType):
        return pa.string() if str(type_.extension_name) == "arrow.uuid" else plain_type_of(type_.storage_type)
    if pa.types.is_decimal(type_) and type_.bit_width < 128:
        return pa.decimal128(type_.precision, type_.scale)
    return type_


def as_type(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """An array of a file as a plain type that can hold all its values.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit the type.
    """
    if array.type == type_:
        return array
    if isinstance(array.type, pa.BaseExtensionType):
        storage = array.storage
        return _uuid_text(storage) if str(array.type.extension_name) == "arrow.uuid" else as_type(storage, type_)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), type_)
    if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(type_):
        array = array.dictionary_decode()
    if pa.types.is_dictionary(type_):
        plain = array if not pa.types.is_dictionary(array.type) else array.dictionary_decode()
        return plain.cast(type_.value_type).dictionary_encode().cast(type_)
    return array.cast(type_)


def _plain_field(field: pa.Field) -> pa.Field:
    type_ = plain_type_of(field.type)
    if type_ == field.type or STORED_TYPE in (field.metadata or {}):
        return field
    message = pa.schema([pa.field("", field.type)]).serialize().to_pybytes()
    return field.with_type(type_).with_metadata({**(field.metadata or {}), STORED_TYPE: b64encode(message)})


def _stored_field(field: pa.Field) -> pa.Field:
    metadata = dict(field.metadata or {})
    text = metadata.pop(STORED_TYPE, None)
    if text is None:
        return field
    stored: Any = pa.ipc.read_schema(pa.py_buffer(b64decode(text))).field(0).type
    return field.with_type(stored).with_metadata(metadata or None)


def _stored(array: pa.Array, type_: pa.DataType) -> pa.Array:
    if array.type == type_ or not (isinstance(type_, pa.BaseExtensionType) or pa.types.is_decimal(type_)):
        return array
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not isinstance(type_, pa.BaseExtensionType):
        return array.cast(type_)
    if str(type_.extension_name) == "arrow.uuid":
        found = [None if text is None else bytes.fromhex(text.replace("-", "")) for text in array.to_pylist()]
        array = pa.array(found, pa.binary(16))
    return pa.ExtensionArray.from_storage(type_, _stored(array, type_.storage_type))


def _uuid_text(storage: pa.Array) -> pa.Array:
    texts = [None if value is None else value.hex() for value in storage.to_pylist()]
    parts = [t and f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in texts]
    return pa.array(parts, pa.string())
