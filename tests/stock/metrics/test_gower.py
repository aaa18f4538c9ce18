"""Gower distances against the definition, pair by pair, and against SDMetrics' distance to the closest record."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.counted import coder_of

from shardsynth.metrics.gower import Space


def test_the_distance_is_sdmetrics(adult_dir, mds_dir) -> None:
    pytest.importorskip("sdmetrics")
    import pyarrow.parquet as pq
    from sdmetrics.single_table.privacy.dcr_utils import calculate_dcr

    for folder, few in ((adult_dir, 0), (mds_dir, 4)):
        table = pq.read_table(folder).combine_chunks()
        table = table.drop_columns([name for name in ("ID",) if name in table.column_names])
        roles = {}
        for f in table.schema:
            kind = f.type.value_type if pa.types.is_dictionary(f.type) else f.type
            flag = len(table[f.name].unique()) <= few and pa.types.is_integer(kind)
            roles[f.name] = "categorical" if pa.types.is_string(kind) or flag else "numerical"
        rng = np.random.default_rng(1)
        order = rng.permutation(table.num_rows)
        real, made = (table.take(pa.array(order[part])) for part in (slice(0, 250), slice(250, 400)))
        space = Space.of(coder_of(table, roles), [real])  # SDMetrics' range is that of the reference alone
        mine = space.nearest(space.encode(made), space.encode(real)).distance[:, 0]
        metadata = {"columns": {name: {"sdtype": sdtype} for name, sdtype in roles.items()}}
        frames = [t.to_pandas() for t in (made, real)]
        for frame in frames:
            for name, sdtype in roles.items():
                if sdtype == "categorical":
                    frame[name] = frame[name].astype(object)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = calculate_dcr(frames[0], frames[1], metadata).to_numpy()
        # They cap a difference at one range of the reference; we leave what lies outside it where it is.
        assert np.abs(mine - theirs).max() < 0.01
        assert np.median(np.abs(mine - theirs)) < 2e-6
