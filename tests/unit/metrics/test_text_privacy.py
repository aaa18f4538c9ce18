"""Text columns that give away real persons' values."""

from __future__ import annotations

import pyarrow as pa

from shardsynth.metrics.text_privacy import text_privacy
from shardsynth.report.judgement import verdicts

REAL = pa.table(
    {
        "name": [f"Ada {chr(65 + i % 20)}" for i in range(200)],
        "stage": ["I", "II"] * 100,
        "place": ["North"] * 197 + ["Hill End"] * 3,
        "key": [f"P{i:04d}" for i in range(200)],
    }
)
LEARNED = {"name": True, "stage": True, "place": True, "key": False}


def test_real_names_rare_places_and_keys_are_told() -> None:
    figures, found = text_privacy(REAL, REAL, LEARNED, {"name": "its values are persons' names"}, 5)
    assert figures["name"] == {"real": 1.0, "rare": 0.0, "person": True}
    assert figures["place"] == {"real": 1.0, "rare": 3 / 200, "person": False}
    assert [(f["level"], f["measure"]) for f in found] == [
        *(("fail", "text.name"), ("fail", "text.place"), ("caution", "text.key"))
    ]
    assert "Ada" not in str(found) and "Hill End" not in str(found)
    privacy = verdicts("m", {"privacy": {"findings": found}})[1]
    assert (privacy.level, privacy.words, privacy.detail) == ("poor", "Gives away real values", "of 2 text columns")


def test_made_up_values_and_common_ones_are_fine() -> None:
    made = pa.table(
        {
            "name": ["Bo Berg", None] * 100,
            "stage": pa.array(["I", "II"] * 100).dictionary_encode(),
            "place": ["North"] * 200,
            "key": [f"P{i:04d}" for i in range(195, 395)],
        }
    )
    figures, found = text_privacy(REAL, made, LEARNED, {"name": "..."}, 5)
    assert found == [] and figures["name"]["real"] == 0 and figures["key"]["real"] == 5 / 200
    assert verdicts("m", {"privacy": {"findings": found}})[1].words == "Not measured"
