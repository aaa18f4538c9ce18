"""The page of a run of several tables."""

from __future__ import annotations

from pathlib import Path

from shardsynth.report.tables_page import TableLink, TablesPage, write_tables_page

METRICS = {"quality": {"score": 0.9, "column_shapes": 0.95, "column_pair_trends": None}}
MODEL = {
    "model": "mine",
    "c2st": {
        "auc": 0.7421,
        "low": 0.7,
        "high": 0.78,
        "giveaways": [{"column": "visits: distinct <b>", "drop": 0.12}],
        "real_halves": {"auc": 0.49},
    },
    "quality": {"score": 0.9},
    "rows": {"visits": 1234},
    "closeness": {"share": 0.5312, "error": 0.041, "copies": 0.0, "subjects": 150},
    "sequences": {
        "visits": {
            "rows_per_owner": 0.981,
            "one_row_apart": 0.9432,
            "columns": {"bili": 0.91, "drug": 0.99},
            "gaps": None,
            "holdout": {"rows_per_owner": 0.97, "one_row_apart": None, "gaps": None},
        }
    },
    "integrity": {"visits": {"orphans": 0, "repeated": 0, "steps_back": 3, "steps": 900}},
}


def page(tmp_path: Path, model: dict[str, object]) -> str:
    link = TableLink("visits", 1945, {"mine": METRICS}, ("sex",), ("left",), {"unnamed": 2, "unknown": 1})
    data = TablesPage("cohort", ("subjects", "└─ visits"), 312, (model,), (link,))
    return write_tables_page(tmp_path, data).read_text()


def test_the_figures_stand_on_the_page_and_names_are_escaped(tmp_path: Path) -> None:
    text = page(tmp_path, MODEL)
    for part in ("312 real subjects in 1 table", "0.742", "0.700 to 0.780", "└─ visits", 'href="visits/index.html"'):
        assert part in text
    assert "0.981 (0.970)" in text and "0.943</td>" in text and "bili 0.910, drug 0.990" in text
    assert "0.531" in text and "0.041" in text
    assert "3 of 900" in text and "1,234" in text
    assert "visits: distinct &lt;b&gt;" in text and "<b>" not in text
    assert "Never change within an owner, and are kept so: sex." in text
    assert "1 rows whose owner is not there, 2 that name none" in text


def test_too_few_subjects_have_no_figure(tmp_path: Path) -> None:
    assert page(tmp_path, {**MODEL, "c2st": {}, "closeness": {}}).count("–") >= 4
