from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.tables import report_examples as examples
from tests.tables.outline import Outline, data_of

from shardsynth.report.figures import column_figures
from shardsynth.report.page import ModelReport, ReportData, embedded, render, write_report


@pytest.fixture(scope="module")
def adult(adult_dir: Path) -> ReportData:
    table = examples.read(adult_dir)
    return examples.report_of(table, "adult", {"gaussian_copula": 0.05, "ctgan": 0.5, "tvae": 0.2})


def test_the_page_is_whole_and_says_what_there_is(adult: ReportData, tmp_path: Path) -> None:
    page = write_report(tmp_path / "report", adult)
    pictures = sorted(f"pairs-{model.name}.png" for model in adult.models)
    assert sorted(path.name for path in page.parent.iterdir()) == ["index.html", "metrics.parquet", *pictures]
    outline = Outline(page.read_text(encoding="utf-8"))
    assert len(outline.ids) == len(set(outline.ids))
    for words in ("gaussian_copula", "Real holdout", "Fitted on a random sample of 8,140", "12 min 34 s", "2.13.0"):
        assert words in outline.text
    data = data_of(outline)
    assert [column["n"] for column in data["columns"]] == [figure.name for figure in adult.columns]
    assert data["holdout"] is True
    links = {attributes["href"] for tag, attributes in outline.tags if tag == "a"}
    assert all(link[1:] in outline.ids for link in links if link)


def test_it_loads_nothing(adult: ReportData) -> None:
    page = render(adult)
    outline = Outline(page)
    for tag, attributes in outline.tags:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form")
        for key in ("src", "href", "action", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith("#") or value == "data:,", (tag, key)
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"url\(|@import|\bfetch\(|XMLHttpRequest|innerHTML|document\.write|eval\(", page)


def test_hostile_names_are_inert() -> None:
    page = render(examples.hostile_report())
    outline = Outline(page)
    assert len(outline.scripts) == 2
    assert sum(tag == "script" for tag, _ in outline.tags) == 2
    assert not any(tag in ("b", "img") for tag, _ in outline.tags)
    assert "<script>window.hacked" not in page and "<img src=x" not in page
    assert "{{7*7}}" in outline.text and "49" not in outline.scripts[0].split('"pairs"')[0][:200]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u2028\u202e]", page)
    assert "x" * 1001 not in page
    for _, attributes in outline.tags:
        assert len(attributes.get("title") or "") <= 260


def test_embedded_json_cannot_leave_its_element() -> None:
    value = {"</script><!--": ["\u2028\u2029&<>", "é", 1.5, None]}
    text = embedded(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_a_category_of_few_rows_is_nowhere_on_the_page() -> None:
    rng = np.random.default_rng(0)
    names = np.where(rng.random(1000) < 0.5, "common", "usual").astype(object)
    names[:4] = "Xeroderma-planted"
    ages = rng.normal(50, 9, 1000).round(1)
    ages[7] = 123456.7
    table = pa.table({"diagnosis": names, "age": ages})
    report = examples.report_of(table, "rare", {"copy": 0.0})
    page = render(report)
    assert "common" in page
    assert "Xeroderma" not in page and "planted" not in page
    assert not re.search(r"123[,.]?45", page)


def test_metrics_parquet_holds_every_figure(adult: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path, adult)
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert table.schema.equals(
        pa.schema([("model", pa.string()), ("property", pa.string()), ("name", pa.string()), ("value", pa.float64())])
    )
    found = {(row["model"], row["property"], row["name"]): row["value"] for row in table.to_pylist()}
    assert len(found) == table.num_rows
    for model in adult.models:
        quality = model.metrics["quality"]
        assert found[model.name, "quality", "score"] == quality["score"]
        assert found[model.name, "quality.all_pairs", "score"] == quality["all_pairs"]["score"]
        assert found[model.name, "quality.holdout", "score"] == quality["holdout"]["score"]
        assert found[model.name, "quality.columns", "age"] == quality["columns"]["age"]["score"]
        first = quality["pairs"][0]
        assert found[model.name, "quality.pairs", json.dumps(first["columns"])] == first["score"]
        assert found[model.name, "seconds", "fit"] == 12.3
        assert found[model.name, "run", "rows_per_second"] == 215_000
    assert {row for row in found if row[1].startswith("quality.at_holdout_rows")}


def test_a_run_without_models_holdout_or_pairs_still_has_a_page(tmp_path: Path) -> None:
    Outline(write_report(tmp_path, ReportData("none", 0, "now", {}, {}, (), ())).read_text())
    table = pa.table({"only": pa.array([1.5, 2.5] * 20)})
    coder = examples.coder_of(table, examples.columns_of(table))
    counts = examples.counts_of(coder, table)
    figures = column_figures(coder, counts, {"m": counts})
    report = ReportData("one", 0, "now", {}, {}, (ModelReport("m", {"quality": {"score": 0.5}}),), figures)
    assert data_of(Outline(render(report)))["holdout"] is False


def test_the_same_report_gives_the_same_bytes(adult: ReportData) -> None:
    assert render(adult) == render(adult)
