from __future__ import annotations

import base64
import itertools
import math

from shardsynth.report.plots import MOST_COLUMNS, curve_plot, pair_maps


def pair(a: str, b: str, score: float | None, real: float | None = None, **more: object) -> dict[str, object]:
    return {"columns": [a, b], "score": score, "real": real, "real_association": None, "synthetic": None, **more}


def test_the_triangle_is_packed_in_table_order() -> None:
    pairs = [pair("c", "a", 0.5, 0.3, synthetic=-0.25), pair("a", "b", 1.0, -1.0), pair("b", "c", None)]
    maps = pair_maps(["a", "b", "c"], [{"pairs": pairs}])
    assert maps.columns == ("a", "b", "c")
    assert list(base64.b64decode(maps.real)) == [0, 130, 255]
    assert list(base64.b64decode(maps.synthetic[0])) == [255, 75, 255]
    assert list(base64.b64decode(maps.scores[0])) == [200, 100, 255]


def test_the_association_stands_in_where_there_is_no_correlation() -> None:
    found = pair("a", "b", 0.9, real_association=0.4, synthetic_association=0.1)
    maps = pair_maps(["a", "b"], [{"pairs": [found]}])
    assert (maps.worst[0][0].real, maps.worst[0][0].synthetic) == (0.4, 0.1)


def test_the_worst_come_first_with_the_holdouts_score_beside() -> None:
    pairs = [pair("a", "b", 0.9), pair("a", "c", 0.1), pair("b", "c", 0.4)]
    quality = {"pairs": pairs, "pairs_total": 7, "holdout": {"pairs": [pair("a", "c", 0.8)]}}
    maps = pair_maps(["a", "b", "c"], [quality])
    assert [(w.first, w.second, w.score, w.holdout) for w in maps.worst[0]][:2] == [
        ("a", "c", 0.1, 0.8),
        ("b", "c", 0.4, None),
    ]
    assert maps.pairs == (7,)


def test_a_very_wide_table_shows_its_worst_columns() -> None:
    names = [f"c{k}" for k in range(MOST_COLUMNS + 60)]
    pairs = [
        pair(a, b, 0.2 if "c7" in (a, b) else 0.9) for a, b in itertools.combinations(names, 2) if a < "c2" or a == "c7"
    ]
    maps = pair_maps(names, [{"pairs": pairs}])
    assert len(maps.columns) == MOST_COLUMNS and "c7" in maps.columns


def test_nothing_scored() -> None:
    maps = pair_maps(["a"], [{}])
    assert maps.columns == () and maps.worst == ((),)


def test_losses_become_points_and_gaps_are_left_out() -> None:
    plot = curve_plot({"loss": [3.0, math.nan, 1.0], "none": [math.nan]}, 100, 50)
    assert plot is not None and plot.epochs == 3
    (curve,) = plot.curves
    assert (curve.first, curve.last) == (3.0, 1.0)
    assert [point.split(",")[0] for point in curve.points.split()] == ["0.0", "100.0"]
    assert 2 <= len(plot.marks) <= 6
    assert curve_plot({}, 100, 50) is None


def test_a_flat_or_long_curve_is_drawn_too() -> None:
    flat = curve_plot({"loss": [0.0] * 5}, 100, 50)
    assert flat is not None and flat.marks
    long = curve_plot({"loss": [float(k) for k in range(5000)]}, 100, 50)
    assert long is not None and len(long.curves[0].points.split()) == 400
