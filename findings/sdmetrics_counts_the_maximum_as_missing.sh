#!/usr/bin/env bash
# SDMetrics 0.32.0: in the Column Pair Trends of its quality report, a column's largest value and a missing value are one bin.
#
# Numbers are cut at the edges of ten bins by `np.digitize`, for which the right edge and NaN both lie beyond the last
# bin. Where many rows have the largest value (a limit of detection, ages cut at 90), a synthetic table that has no value
# there, but a missing one, gets the full score. The metric that the report is said to use, ContingencySimilarity, opens
# its outer edges when it is called alone, and sees the difference.
#
# Seen: 600 of 2,000 rows at the limit of 100, all but one of them made missing. Report: 1.0. ContingencySimilarity: 0.7.
# Exits 0 where this is still so, 1 where it changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check sdmetrics==0.32.0 pandas==2.3.3 numpy==2.4.6
cat >"$folder/seen.py" <<'PY'
import warnings

import numpy as np
import pandas as pd
from sdmetrics.column_pairs import ContingencySimilarity
from sdmetrics.reports.single_table import QualityReport

warnings.simplefilter("ignore")
random = np.random.default_rng(0)
marker = np.where(np.arange(2000) < 600, 100.0, random.integers(0, 19, 2000) * 5.0)
real = pd.DataFrame({"arm": np.where(marker + random.normal(0, 10, 2000) > 45, "A", "B"), "marker": marker})
synthetic = real.copy()
synthetic.loc[1:599, "marker"] = np.nan

columns = {"arm": {"sdtype": "categorical"}, "marker": {"sdtype": "numerical"}}
report = QualityReport()
report.generate(real, synthetic, {"columns": columns}, verbose=False)
(trend,) = report.get_details("Column Pair Trends")["Score"]
alone = ContingencySimilarity.compute(real, synthetic, continuous_column_names=["marker"], num_discrete_bins=10)
print(f"report: {trend:.4f}; ContingencySimilarity: {alone:.4f}")
raise SystemExit(not (trend > 0.999 and alone < 0.75))
PY
"$folder/venv/bin/python" "$folder/seen.py"
