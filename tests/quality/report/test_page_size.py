"""How large a page may grow."""

from __future__ import annotations

from pathlib import Path

from tests.tables import report_examples as examples
from tests.tables.outline import Outline, data_of

from shardsynth.report.figures import column_figures
from shardsynth.report.page import ModelReport, ReportData, render


def test_five_hundred_columns_fit_in_fifteen_megabytes(tmp_path: Path) -> None:
    columns, models = 500, ("one", "two", "three", "four")
    table = examples.wide_table(columns, 600)
    coder = examples.coder_of(table)
    counts = examples.counts_of(coder, table)
    figures = column_figures(coder, counts, dict.fromkeys(models, counts), holdout=counts)
    names = table.column_names
    pairs = [
        {"columns": [a, b], "metric": "CorrelationSimilarity", "score": 0.9, "real": 0.5, "synthetic": 0.3}
        for k, a in enumerate(names)
        for b in names[k + 1 :]
    ]
    quality = {"score": 0.9, "columns": {name: {"score": 0.9} for name in names}, "pairs": pairs}
    report = ReportData(
        "wide", 0, "now", {}, {}, tuple(ModelReport(name, {"quality": quality}) for name in models), figures
    )
    page = render(report)
    assert len(page.encode()) < 15e6
    assert len(data_of(Outline(page))["columns"]) == columns
