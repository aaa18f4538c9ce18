"""Local midnights, and levels of ordered dictionaries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from shardsynth.data.writings import Levels, LocalMidnights, local_midnights, writing_from
from shardsynth.summaries.text import TextTally

BERLIN = pa.timestamp("us", "Europe/Berlin")


def midnights(zone: str = "Europe/Berlin") -> np.ndarray:
    days = pd.date_range("2021-01-01", "2021-12-31", freq="D", tz=zone)
    return days.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def test_midnights_of_a_zone_are_found_and_drawn_instants_moved_to_the_nearest() -> None:
    found = local_midnights(midnights(), BERLIN)
    assert found == LocalMidnights("Europe/Berlin", "us")
    assert writing_from(found.text) == found
    hours = np.random.default_rng(0).integers(-11, 12, 365) * 3_600_000_000
    assert found.write(midnights() + hours).tolist() == midnights().tolist()
    far = np.array([2**63 - 1, 1 - 2**63])
    assert found.write(far).tolist() == far.tolist()


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (midnights() + 1, BERLIN),
        (midnights("UTC"), pa.timestamp("us", "UTC")),
        (midnights(), pa.timestamp("us")),
        (midnights()[:1], BERLIN),
    ],
)
def test_other_instants_are_none(values: np.ndarray, type_: pa.DataType) -> None:
    assert local_midnights(values, type_) is None


def ordered(levels: list[str], values: list[str | None]) -> pa.DictionaryArray:
    codes = pa.array([None if value is None else levels.index(value) for value in values], pa.int8())
    return pa.DictionaryArray.from_arrays(codes, levels, ordered=True)


def test_levels_keep_their_order_over_batches_and_merges() -> None:
    batches = [ordered(["low", "mid", "high"], ["low", "high"]), ordered(["low", "high", "top"], ["top", None])]
    one, two = (TextTally(batches[0].type, 100) for _ in range(2))
    for tally, order in ((one, batches), (two, batches[::-1])):
        for batch in order:
            tally.update(batch)
    assert one.levels == two.levels == ["low", "mid", "high", "top"]
    loaded = TextTally(batches[0].type, 100)
    loaded.from_members(*one.to_members())
    assert loaded.levels == one.levels
    assert "orders" not in TextTally(pa.string(), 100).to_members()[0]


def test_an_array_gets_all_levels() -> None:
    array = Levels(("low", "mid", "high")).write(ordered(["high", "low", "other"], ["low", None, "other"]))
    assert array.dictionary.to_pylist() == ["low", "mid", "high", "other"]
    assert array.to_pylist() == ["low", None, "other"] and array.type.ordered
    assert writing_from(Levels(("a", "b")).text) == Levels(("a", "b"))
    assert writing_from("%Y") is writing_from(None) is None
    with pytest.raises(ValueError):
        writing_from('{"midnights": "UTC", "unit": "h"}')
