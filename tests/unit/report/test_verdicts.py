from __future__ import annotations

from shardsynth.report.page import ModelReport
from shardsynth.report.verdicts import card, compared_score, floor, headline, level_of, side_by_side


def metrics(score: float, every: float, equal: float, held: float) -> dict[str, object]:
    return {
        "family": "ctgan",
        "engine": "sdv",
        "rows": {"real": 900, "synthetic": 5000, "holdout": 100, "fitted": 300, "sampled": True},
        "quality": {
            "score": score,
            "column_shapes": score,
            "column_pair_trends": None,
            "all_pairs": {"score": every},
            "columns": {"a": {"metric": "KSComplement", "score": score}},
            "pairs": [],
            "holdout": {"score": held, "column_shapes": held, "all_pairs": {"score": held}},
            "at_holdout_rows": {"score": equal, "column_shapes": equal, "all_pairs": {"score": every}, "rows": 100},
        },
        "diagnostic": {"score": 0.9, "data_validity": 0.8, "data_structure": 1.0, "columns": {"a": {"score": 0.8}}},
        "seconds": {"fit": 100.0, "sample": 2.0},
        "rows_per_second": 2500.0,
    }


def test_the_verdict_follows_the_larger_gap_to_the_holdout_at_equal_rows() -> None:
    found = card("m", metrics(0.99, 0.95, 0.96, 0.97))
    assert (found.score, found.reference, found.equal_rows) == (0.96, 0.97, 100)
    assert found.level == "best"
    assert card("m", metrics(0.99, 0.90, 0.96, 0.97)).level == "fair"
    assert card("m", metrics(0.99, 0.5, 0.96, 0.97)).verdict == "Far from real"


def test_levels() -> None:
    assert [level_of(0.95, r)[0] for r in (0.95, 0.97, 0.99, 1.05, 1.06)] == ["best", "best", "good", "fair", "poor"]
    assert level_of(0.95, None)[0] == "good"
    assert level_of(None, 1.0)[0] == "none"


def test_a_model_fitted_on_a_sample_says_so_and_so_do_broken_values() -> None:
    warnings = card("m", metrics(0.9, 0.9, 0.9, 0.9)).warnings
    assert "300 of the 900 training rows" in warnings[0]
    assert warnings[1].startswith("Validity 0.800") and "\u2068a\u2069" in warnings[1]


def test_a_card_without_holdout_or_any_score() -> None:
    found = card("m", {"quality": {"score": 0.9}})
    assert (found.score, found.reference, found.equal_rows) == (0.9, None, None)
    empty = card("m", {})
    assert empty.score is None and empty.verdict == "No score" and empty.rows == ()


def test_only_a_perfect_score_reads_one() -> None:
    assert (floor(0.99999), floor(1.0), floor(0.9), floor(None)) == ("0.999", "1.000", "0.900", "–")


def test_the_headline_names_the_best_and_admits_what_was_not_measured() -> None:
    models = [ModelReport("a", metrics(0.9, 0.9, 0.9, 0.97)), ModelReport("b", metrics(0.9, 0.9, 0.95, 0.97))]
    first, second = headline(models)
    assert "b" in first and "0.950" in first and "0.970" in first
    assert "Privacy was not measured" in second
    assert headline([]) == ("No model has a score yet.",)


def test_side_by_side_marks_the_best() -> None:
    lines = side_by_side([("a", metrics(0.9, 0.9, 0.9, 0.97)), ("b", metrics(0.95, 0.9, 0.9, 0.97))])
    by_name = {line.name: line for line in lines}
    assert by_name["Overall"].values == ("0.900", "0.950") and by_name["Overall"].best == (False, True)
    assert by_name["Overall, all pairs"].best == (False, False)
    assert by_name["Overall"].holdout == "0.970"
    assert "Linked pairs" not in by_name


def test_the_verdict_and_the_comparison_follow_the_bins_of_the_real_table() -> None:
    figures = metrics(0.99, 0.5, 0.96, 0.97)
    quality = figures["quality"]
    assert isinstance(quality, dict)
    for part, score in ((quality, 0.98), (quality["holdout"], 0.97), (quality["at_holdout_rows"], 0.965)):
        part["real_bins"] = {"score": score, "column_pair_trends": score, "all_pairs": {"score": score}}
    found = card("m", figures)
    assert found.verdict == "Very close to real"
    assert found.score == 0.96  # SDMetrics' own stays the printed one
    assert compared_score(figures) == 0.965
    assert {"Overall, real bins", "Linked pairs, real bins"} <= {line.name for line in found.rows}
