"""Known rows of a table: where the ids of completed rows come from."""

import json

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.copula import simple_fit

from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sources.known import complete_table

OWN_ROWS = 3000


@pytest.fixture(scope="module")
def model() -> GaussianCopula:
    rng = np.random.default_rng(0)
    table = pa.table({"id": [f"P{i:06d}" for i in range(OWN_ROWS)], "x": rng.normal(size=OWN_ROWS)})
    generators = {"id": {"kind": "string", "regex": "P[0-9]{6}", "key": 1, "missing": 0.0, "repeat": 1}}
    return GaussianCopula.from_fit(simple_fit(table), table.schema, generators=generators)


@pytest.fixture
def folder(tmp_path):
    card = {"rows": OWN_ROWS, "seed": 0, "engine": "native", "family": "gaussian_copula"}
    (tmp_path / "model.json").write_text(json.dumps(card))
    return tmp_path


def test_gaps_of_a_known_id_get_ids_of_no_row_of_the_run(model, folder):
    rows = pa.table({"id": ["Z1", None, None, None, "Z2", None]})
    ids = complete_table(model, None, folder, rows, 0, None)["id"].to_pylist()
    assert (ids[0], ids[4], len(set(ids)), None in ids) == ("Z1", "Z2", 6, False)
    own = set(model.draw(0, 0, OWN_ROWS)["id"].to_pylist())
    assert len(own) == OWN_ROWS and not own & set(ids)
    assert complete_table(model, None, folder, rows, 0, None)["id"].to_pylist() == ids
    assert len(list((folder / "ledger").iterdir())) == 1


def test_rows_whose_ids_are_all_known_take_no_number(model, folder):
    rows = pa.table({"id": ["Z1", "Z2"], "x": [0.5, None]})
    assert complete_table(model, None, folder, rows, 0, None)["id"].to_pylist() == ["Z1", "Z2"]
    assert not (folder / "ledger").exists()
