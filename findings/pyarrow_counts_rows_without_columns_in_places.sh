#!/usr/bin/env bash
# pyarrow 26.0.1: the rows of a table from which all columns were left out are counted by some calls and lost by others.
#
# `table.select([])` still has its rows: `num_rows`, `filter`, IPC, pandas and `read_table(columns=[])` count them. But
# `slice(1)` has as many as before, `take` and `concat_tables` have none, and a Parquet file that is written
# has none. Code that leaves out columns by a list (all of them personal, say) and then joins shards or counts rows gets
# 0 without an error.
#
# Seen: select 3, filter 2, IPC 3, pandas 3, read 3; slice 3, take 0, concat 0, Parquet 0.
# Exits 0 where this is still so, 1 where it changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyarrow==26.0.1 pandas==2.3.3 numpy==2.4.6
cat >"$folder/seen.py" <<'PY'
import io

import pyarrow as pa
import pyarrow.parquet as pq

whole = pa.table({"a": [1, 2, 3]})
bare = whole.select([])
stored, named = io.BytesIO(), io.BytesIO()
pq.write_table(bare, stored)
pq.write_table(whole, named)
stream = io.BytesIO()
with pa.ipc.new_stream(stream, bare.schema) as writer:
    writer.write_table(bare)
counted = {
    "select": bare.num_rows,
    "filter": bare.filter(pa.array([True, False, True])).num_rows,
    "IPC": pa.ipc.open_stream(stream.getvalue()).read_all().num_rows,
    "pandas": len(bare.to_pandas()),
    "read": pq.read_table(io.BytesIO(named.getvalue()), columns=[]).num_rows,
}
lost = {
    "slice": bare.slice(1).num_rows,
    "take": bare.take([0, 2]).num_rows,
    "concat": pa.concat_tables([bare, bare]).num_rows,
    "Parquet": pq.ParquetFile(io.BytesIO(stored.getvalue())).metadata.num_rows,
}
print(counted, lost)
raise SystemExit(
    counted != {"select": 3, "filter": 2, "IPC": 3, "pandas": 3, "read": 3}
    or lost != {"slice": 3, "take": 0, "concat": 0, "Parquet": 0}
)
PY
"$folder/venv/bin/python" "$folder/seen.py"
