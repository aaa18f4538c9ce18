"""A table on which all five of SDV's constraint classes hold, with gaps of every pattern."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

CONSTRAINTS = [
    {"class_name": "Inequality", "parameters": {"low_column_name": "start", "high_column_name": "end"}},
    {
        "class_name": "Range",
        "parameters": {"low_column_name": "low", "middle_column_name": "mid", "high_column_name": "high"},
    },
    {"class_name": "FixedCombinations", "parameters": {"column_names": ["country", "city", "zone"]}},
    {"class_name": "FixedIncrements", "parameters": {"column_name": "dose", "increment_value": 25}},
    {"class_name": "OneHotEncoding", "parameters": {"column_names": ["arm_a", "arm_b", "arm_c"]}},
]


def constrained_table(rows: int = 2000, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal(rows)

    def gaps(share):
        return rng.random(rows) < share

    start = np.datetime64("2015-01-01") + (500 * rng.random(rows)).astype("timedelta64[D]")
    end = start + np.maximum(0, 30 + 20 * latent).astype("timedelta64[D]")
    low = np.round(10 + 3 * latent, 1)
    mid = np.round(low + 0.1 + rng.gamma(2, 1, rows), 1)
    high = np.round(mid + 0.1 + rng.gamma(1, 2, rows), 2)
    place = rng.choice(5, rows, p=[0.4, 0.3, 0.2, 0.08, 0.02])
    country = np.array(["DE", "DE", "FR", "FR", "FR"])[place]
    city = np.array(["Ulm", "Kiel", "Lyon", "Metz", None], dtype=object)[place]
    arm = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    columns = {
        "id": pa.array([f"P{n:05d}" for n in rng.permutation(90_000)[:rows] + 10_000]),
        "start": pa.array(start.astype("datetime64[D]"), pa.date32(), mask=gaps(0.05)),
        "end": pa.array(end.astype("datetime64[ms]"), pa.timestamp("ms"), mask=gaps(0.1)),
        "low": pa.array(low.astype(np.float32), mask=gaps(0.1)),
        "mid": pa.array(mid, mask=gaps(0.2)),
        "high": pa.array(high, mask=gaps(0.3)),
        "country": pa.array(country).dictionary_encode(),
        "city": pa.array(city.tolist(), pa.string()),
        "zone": pa.array(np.array([1, 1, 2, 3, 3], np.int8)[place]),
        "dose": pa.array((25 * np.clip(8 + 4 * latent, 0, 40).astype(int)).astype(np.int16), mask=gaps(0.1)),
        "arm_a": pa.array((arm == 0).astype(np.int8)),
        "arm_b": pa.array(arm == 1),
        "arm_c": pa.array((arm == 2).astype(np.float64)),
        "age": pa.array(np.clip(60 + 10 * latent + rng.normal(0, 4, rows), 18, 99).astype(np.int16)),
        "free": pa.array(rng.random(rows)),
    }
    return pa.table(columns)


METADATA = {
    "tables": {
        "table": {
            "columns": {
                "id": {"sdtype": "id"},
                "start": {"sdtype": "datetime"},
                "end": {"sdtype": "datetime"},
                **{name: {"sdtype": "numerical"} for name in ("low", "mid", "high", "dose", "age", "free")},
                **{name: {"sdtype": "categorical"} for name in ("country", "city", "zone", "arm_a", "arm_c")},
                "arm_b": {"sdtype": "boolean"},
            },
            "primary_key": "id",
        }
    },
    "METADATA_SPEC_VERSION": "V2",
}
