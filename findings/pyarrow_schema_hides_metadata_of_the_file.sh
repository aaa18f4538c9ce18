#!/usr/bin/env bash
# pyarrow 26.0.1: key-value metadata that a writer adds to a Parquet file cannot be seen in the schema that is read
# from it, if pyarrow wrote the file with its Arrow schema (the default). Who looks at `schema.metadata` to learn what
# a file carries, or clears it before giving a table away, sees nothing; `ParquetFile.metadata.metadata` has it.
#
# With `store_schema=False` the same key is in the schema's metadata.
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

table = pa.table({"a": [1, 2]})
for store in (True, False):
    path = f"{sys.argv[1]}/{store}.parquet"
    with pq.ParquetWriter(path, table.schema, store_schema=store) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"study": "north"})
    file = b"study" in pq.ParquetFile(path).metadata.metadata
    schema = b"study" in (pq.read_schema(path).metadata or {})
    read = b"study" in (pq.read_table(path).schema.metadata or {})
    print(f"store_schema={store}: in the file {file}, in the schema {schema}, in the table {read}")
PY
said=$("$folder/venv/bin/python" "$folder/show.py" "$folder")
echo "$said"
[ "$said" = "store_schema=True: in the file True, in the schema False, in the table False
store_schema=False: in the file True, in the schema True, in the table True" ]
