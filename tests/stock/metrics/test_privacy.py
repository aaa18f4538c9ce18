"""A planted memoriser fails loudly; independent columns and real rows do not; hand-worked figures."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.planted import Planted, planted

from shardsynth.metrics.gower import Space
from shardsynth.metrics.privacy import Reference, closest_record, compare

SIZES = {"adult": (3000, 400), "mds": (1600, 200)}


@pytest.fixture(scope="module", params=SIZES)
def tables(request: pytest.FixtureRequest) -> Planted:
    return planted(request.param, *SIZES[request.param])


def test_the_share_is_sdmetrics(tables: Planted) -> None:
    pytest.importorskip("sdmetrics")
    from sdmetrics.single_table import DCROverfittingProtection

    size = 150
    train, held, made = (t.slice(0, size) for t in (tables.train, tables.holdout, tables.memorised))
    train = pa.concat_tables([train.slice(0, size // 2), tables.memorised.slice(0, size // 2)])
    reference = Reference(tables.coder, train, held)
    points = reference.space.encode(made)
    own = compare(reference, points, np.zeros(len(points), np.bool_))
    # SDMetrics divides by each side's own range; ours is that of both sides, the same for either distance.
    spaces = [Space.of(tables.coder, [side]) for side in (train, held)]
    near = [s.nearest(s.encode(made), s.encode(side)).distance[:, 0] for s, side in zip(spaces, (train, held))]
    found = closest_record(dataclasses.replace(own, train=near[0], holdout=near[1]))
    sdtypes = {"ordinal": "categorical"}  # SDMetrics leaves ordinal columns out: declared as categories they count
    metadata = {"columns": {c.name: {"sdtype": sdtypes.get(c.sdtype, c.sdtype)} for c in tables.coder.table}}
    frames = [t.to_pandas() for t in (train, made, held)]
    for frame in frames:
        for name, column in metadata["columns"].items():
            if column["sdtype"] == "categorical":
                frame[name] = frame[name].astype(object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = DCROverfittingProtection.compute_breakdown(
            real_training_data={"t": frames[0]},
            synthetic_data={"t": frames[1]},
            real_validation_data=frames[2],
            metadata={"tables": {"t": metadata}},
            table_name="t",
        )
    share = theirs["synthetic_data_percentages"]["closer_to_training"]
    assert found["strictly_closer"] == pytest.approx(share, abs=0.01)
    assert closest_record(own)["strictly_closer"] == pytest.approx(share, abs=0.05)
