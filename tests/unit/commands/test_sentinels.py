"""What `init` says of values far from all others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.counted import profile_of

from shardsynth.commands.written_columns import sentinel_lines


@pytest.mark.parametrize("type_", [pa.timestamp("us"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("s")], ids=str)
def test_times_that_no_calendar_has_are_named(type_) -> None:
    second = 10 ** (0 if type_.unit == "s" else 6)
    until = (18_262 + np.arange(1500) % 700) * 86_400 * second
    until[::10] = 2**63 - 1
    table = pa.table({"until": pa.array(until).cast(type_)})
    metadata = {"tables": {"table": {"columns": {"until": {"sdtype": "datetime"}}}}}
    (line,) = sentinel_lines(metadata, profile_of(table), table.schema)
    assert "column 'until': 10.0% of its values, 1 like '" in line and "lie far from all others" in line
