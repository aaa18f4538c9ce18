#!/usr/bin/env bash
# pyreadstat 1.3.7: `write_sav` drops the width of a text column that `variable_format` gives it.
#
# A `.sav` says how wide each text column is, and programs that read fixed widths or append files go by it. An `A40` that
# is given for a column of two letters is dropped without a word: the file has A2, or what the longest text needs. The
# formats of numbers (F8.2) are kept. So a table that is read, changed and written again has other widths than before.
#
# Seen: formats read back {'code': 'A2', 'weight': 'F8.2'}; a column whose longest text has 300 bytes: A300.
# Exits 0 where this is still so, 1 where it changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyreadstat==1.3.7 pandas==2.3.3 numpy==2.4.6
cat >"$folder/seen.py" <<'PY'
import sys

import pandas as pd
import pyreadstat

path = f"{sys.argv[1]}/t.sav"
frame = pd.DataFrame({"code": ["ab", "c"], "weight": [70.5, 81.25]})
pyreadstat.write_sav(frame, path, variable_format={"code": "A40", "weight": "F8.2"})
_, about = pyreadstat.read_sav(path, metadataonly=True)
print(about.original_variable_types)
pyreadstat.write_sav(pd.DataFrame({"code": ["ab", "c" * 300]}), path, variable_format={"code": "A400"})
_, long = pyreadstat.read_sav(path, metadataonly=True)
print(long.original_variable_types)
raise SystemExit(
    about.original_variable_types != {"code": "A2", "weight": "F8.2"} or long.original_variable_types != {"code": "A300"}
)
PY
"$folder/venv/bin/python" "$folder/seen.py" "$folder"
