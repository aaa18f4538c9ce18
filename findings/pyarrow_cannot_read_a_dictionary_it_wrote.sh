#!/usr/bin/env bash
# pyarrow 26.0.1: a valid table of two chunks, each a dictionary of 100 categories under int8, is written without a word
# and cannot be read again: "Integer value 128 not in range: -128 to 127". pandas' read_parquet fails the same.
#
# The chunks' dictionaries differ, so that the column has 200 categories. Each chunk needs int8 only, and the schema in
# the file says dictionary<int8>; the Parquet writer merges both into one dictionary of the row group, whose indices the
# reader then casts to int8. Such tables come about where shards of categories are read one by one and put together.
# With `read_dictionary=["code"]` the file can be read: the index is int32 then.
#
# Exits 0 where this is still so, 1 where it changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyarrow==26.0.1
cat >"$folder/show.py" <<'PY'
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def chunk(first):
    categories = [f"code {number}" for number in range(first, first + 100)]
    values = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), pa.array(categories))
    return pa.record_batch({"code": values})


table = pa.Table.from_batches([chunk(0), chunk(100)])
table.validate(full=True)
path = sys.argv[1]
pq.write_table(table, path)
print("row groups:", pq.ParquetFile(path).num_row_groups)
try:
    print("read:", pq.read_table(path).schema.field("code").type)
except pa.ArrowInvalid as error:
    print("read:", error)
print("with read_dictionary:", pq.read_table(path, read_dictionary=["code"]).schema.field("code").type)
PY
said=$("$folder/venv/bin/python" "$folder/show.py" "$folder/table.parquet")
echo "$said"
[ "$said" = "row groups: 1
read: Integer value 128 not in range: -128 to 127
with read_dictionary: dictionary<values=string, indices=int32, ordered=0>" ]
