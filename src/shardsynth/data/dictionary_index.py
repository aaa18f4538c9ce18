"""Index types of dictionary columns: one that holds the values of all shards together.

pandas and others choose the narrowest index for each file, or for each chunk of a table that is written to one file:
100 categories fit int8, and 300 in three shards or chunks do not. The schema of the table then has a wider index than
its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_WIDER = {pa.int8(): pa.int16(), pa.uint8(): pa.int16(), pa.int16(): pa.int32(), pa.uint16(): pa.int32()}


def differ_by_index(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two dictionary types differ in nothing but their index type."""
    if not (pa.types.is_dictionary(one) and pa.types.is_dictionary(other)):
        return False
    return bool(one.value_type == other.value_type and one.ordered == other.ordered)


def holds(type_: pa.DataType) -> int:
    """How many values the index of a dictionary type holds."""
    return int(np.iinfo(type_.index_type.to_pandas_dtype()).max) + 1


def with_widest(schema: pa.Schema, others: Iterable[pa.Field]) -> pa.Schema:
    """The schema with the widest index of each dictionary column among those of other schemas' fields."""
    fields = {field.name: field for field in schema}
    for other in others:
        field = fields[other.name]
        if differ_by_index(field.type, other.type) and holds(other.type) > holds(field.type):
            fields[other.name] = field.with_type(other.type)
    return pa.schema(list(fields.values()))


def with_room(schema: pa.Schema, paths: Sequence[str]) -> tuple[pa.Schema, list[str]]:
    """The schema with an index for the values of all files together, where a narrow one does not hold them.

    Args:
        schema: Of the table.
        paths: Its files; only narrow dictionary columns are read.

    Returns:
        The schema, and the names of the columns whose index is wider than in the files.
    """
    wider = []
    for place, field in enumerate(schema):
        if not pa.types.is_dictionary(field.type):
            continue
        type_ = field.type
        while type_.index_type in _WIDER and _more_than(paths, field.name, holds(type_)):
            type_ = pa.dictionary(_WIDER[type_.index_type], type_.value_type, type_.ordered)
        if type_ != field.type:
            schema = schema.set(place, field.with_type(type_))
            wider.append(field.name)
    return schema, wider


def _more_than(paths: Sequence[str], name: str, most: int) -> bool:
    """Whether a column has more than ``most`` distinct values in all files."""
    seen: set[object] = set()
    for array in _dictionaries(paths, name):
        seen.update(array.to_pylist())
        if len(seen - {None}) > most:
            return True
    return False


def _dictionaries(paths: Sequence[str], name: str) -> Iterator[pa.Array]:
    """The used values of a dictionary column, one batch after the other."""
    for path in paths:
        with open_wide(path, [name]) as file:
            if name not in file.schema_arrow.names:
                continue
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(1 << 20, row_groups=[group], columns=[name], use_threads=False):
                    column = batch.column(batch.schema.names.index(name))
                    yield column.dictionary if pa.types.is_dictionary(column.type) else column.unique()


def open_wide(path: str, names: Sequence[str], unit: str | None = None) -> pq.ParquetFile:
    """A Parquet file in which some columns, if they hold text, have an index that is wide enough for a row group.

    ``unit`` is that of Parquet's old type of instants (INT96); None: nanoseconds.

    pyarrow 26 fails to read a row group that has more categories than the index type in the file's own schema holds.
    """
    return pq.ParquetFile(
        path, pre_buffer=False, memory_map=False, read_dictionary=list(names), coerce_int96_timestamp_unit=unit
    )


def in_type(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """A dictionary array with the index of a wider type; any other array as it is."""
    if array.type == type_ or not differ_by_index(array.type, type_):
        return array
    indices = array.indices.cast(type_.index_type)
    return pa.DictionaryArray.from_arrays(indices, array.dictionary, ordered=type_.ordered)
