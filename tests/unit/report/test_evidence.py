"""Verdicts, recommendation and the tables of the sections, from figures as the metrics give them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from tests.tables import report_examples as examples
from tests.tables.planted import planted

from shardsynth.metrics.detection import detection
from shardsynth.metrics.privacy import Reference, compare, privacy
from shardsynth.metrics.survival import survival
from shardsynth.metrics.utility import utility
from shardsynth.report import evidence
from shardsynth.report.judgement import AREAS, recommendation, verdicts
from shardsynth.report.page import ModelReport, metrics_table
from shardsynth.report.survival_plot import survival_plot
from shardsynth.report.text import isolated


def model(name: str, level: float, score: float = 0.95) -> ModelReport:
    quality = {"score": score, "holdout": {"score": 0.95}, "at_holdout_rows": {"score": score, "rows": 300}}
    rest = {"rows": {"synthetic": 10_000}, "seconds": {"fit": 5.0, "sample": 2.0}}
    return ModelReport(name, {"quality": quality, **rest, **examples.evidence(["a", "b", "c"], level)})


@pytest.fixture(scope="module")
def real_figures() -> dict[str, Any]:
    """Of a memoriser, by the metrics themselves."""
    tables = planted("mds", 600, 150)
    reference = Reference(tables.coder, tables.train, tables.holdout)
    points = reference.space.encode(tables.memorised)
    distances = compare(reference, points, np.ones(len(points), np.bool_))
    curves = {"real": tables.train, "synthetic": tables.memorised, "holdout": tables.holdout}
    return {
        "privacy": privacy(reference, points, distances, 10**6),
        "utility": {
            **utility(tables.coder, "risk", tables.train, tables.holdout, tables.memorised, 0),
            "survival": survival("years", "dead", None, curves, 5),
        },
        "detection": detection(tables.coder, tables.train, tables.holdout, tables.memorised, 0),
    }


def test_the_examples_have_the_form_of_real_figures(real_figures: dict[str, Any]) -> None:
    def within(example: Any, real: Any, where: str) -> None:
        for key, value in example.items():
            assert key in real, f"{where}.{key}"
            if isinstance(value, dict) and isinstance(real[key], dict):
                within(value, real[key], f"{where}.{key}")

    made = examples.evidence(["a", "b"], 0.9)
    made["privacy"].pop("attacks")
    within(made, real_figures, "metrics")


def test_a_memoriser_is_flagged_on_the_page(real_figures: dict[str, Any]) -> None:
    verdict = dict(zip(AREAS, verdicts("m", real_figures)))["Privacy"]
    assert (verdict.level, verdict.words) == ("poor", "Copies real rows")
    models = [("m", real_figures)]
    failed = {line.name for line in evidence.privacy_lines(models) if line.levels == ("fail",)}
    assert failed >= {"Pull to training rows", "Exact copies", "Near copies"}
    advice = recommendation([ModelReport("m", {**model("m", 0.0).metrics, "privacy": real_figures["privacy"]})])
    assert advice is not None and advice.model == "" and "repeats training rows" in advice.lead
    assert survival_plot(real_figures["utility"]["survival"], 440, 150) is not None


def test_one_verdict_per_question() -> None:
    found = verdicts("m", model("m", 0.1).metrics)
    assert tuple(v.area for v in found) == AREAS
    assert [v.level for v in found] == ["best", "best", "good", "best", "none"]
    assert found[4].words == "5.0 s to fit" and found[4].detail.startswith("3 min 20 s per million")
    assert [v.level for v in verdicts("m", {})] == ["none"] * 5


def test_few_holdout_rows_make_a_weak_test() -> None:
    found = model("m", 0.1).metrics
    found["privacy"]["pull"]["high"] = 0.4
    assert verdicts("m", found)[1].detail == "few holdout rows: a weak test"
    weak = ModelReport("weak", {**found, "quality": model("weak", 0.1, 0.9).metrics["quality"]})
    advice = recommendation([model("strong", 0.1), weak])
    assert advice is not None and "privacy" not in dict(advice.others)["weak"]  # no reason against a model


def test_detection_is_compared_on_as_many_rows() -> None:
    found = model("m", 0.1).metrics
    found["detection"] = {
        "auc": 0.86,
        "holdout": {"auc": 0.525, "rows": 298},
        "at_holdout_rows": {"auc": 0.584, "rows": 298},
    }
    assert verdicts("m", found)[3].detail == "AUC 0.860; on 298 rows 0.584 (real 0.525)"


def test_a_model_that_copies_is_never_recommended() -> None:
    close, copies = model("honest", 0.2, 0.90), model("copies", 0.9, 0.95)
    advice = recommendation([copies, close])
    assert advice is not None and advice.model == "honest" and advice.lead == f"Take {isolated('honest')}."
    assert dict(advice.others)["copies"].startswith("privacy: copies real rows")
    assert any(reason.startswith("Fidelity: close to real") for reason in advice.reasons)


def test_nothing_is_recommended_that_is_far_from_real_or_was_not_measured() -> None:
    far = recommendation([model("far", 0.1, 0.5)])
    assert far is not None and far.model == "" and "none is close" in far.lead
    blind = ModelReport("blind", {**model("blind", 0.1).metrics, "privacy": {}})
    advice = recommendation([blind])
    assert advice is not None and "not measured" in advice.lead
    assert recommendation([]) is None


def test_a_figure_that_one_model_lacks_is_a_dash() -> None:
    models = [("a", model("a", 0.1).metrics), ("b", {})]
    lines = evidence.privacy_lines(models)
    assert len(lines) == 10 and all(line.values[1] == "–" for line in lines)
    assert evidence.privacy_lines([("b", {})]) == () == evidence.utility_lines([("b", {})])
    assert [line.values for line in evidence.utility_lines(models)][0] == ("0.875", "–")


def test_numbers_as_people_read_them() -> None:
    assert evidence.decimal(-0.0001, 3) == "0.000" and evidence.decimal(-0.5, 1) == "−0.5"
    assert evidence.percent(0.1234) == "12.3\u202f%" and evidence.percent(None) == "–"
    assert evidence.percent(-0.001, 0) == "0\u202f%"
    exact = next(
        line for line in evidence.privacy_lines([("a", model("a", 0.1).metrics)]) if line.name == "Exact copies"
    )
    assert exact.reference == "fewer than 5"


def test_missing_values_the_worst_first(adult_dir) -> None:
    report = examples.report_of(examples.read(adult_dir).slice(0, 3000), "j", {"m": 0.3})
    lines = evidence.missing_lines(report.columns, 1)
    assert {line.name for line in lines} >= {"workclass", "occupation", "native-country"}
    assert all("%" in line.values[0] and "holdout" in line.reference for line in lines)


def test_every_figure_is_in_the_table() -> None:
    table = metrics_table([model("m", 0.7)]).to_pandas().set_index(["property", "name"])["value"]
    assert table["privacy.pull", "share"] == 0.97
    assert table["detection.giveaways.drop", "a"] == 0.1
    assert table["utility.importance.columns.real", "b"] == 0.1
    assert table["utility.survival.curves.real.survival", "1"] == 0.8


def test_steps_end_where_too_few_are_at_risk() -> None:
    plot = survival_plot(model("m", 0.1).metrics["utility"]["survival"], 300, 100)
    assert plot is not None
    assert plot.synthetic == "0.0,0.0 100.0,0.0 100.0,20.0 200.0,20.0 200.0,40.0"
    assert plot.summary.startswith("log-rank against real rows p = 0.400")
    assert survival_plot({}, 300, 100) is None
    assert dataclasses.asdict(plot)["ticks"][1] == (50.0, "0.5")
