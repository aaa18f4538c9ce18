"""CTGAN and CopulaGAN: the ctgan package's networks and losses to 1e-5, and rows that depend on their number alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
from tests.tables.deep import fit, prepare, read

SMALL = {
    "epochs": 2,
    "batch_size": 100,
    "generator_dim": [16, 16],
    "discriminator_dim": [16],
    "embedding_dim": 8,
    "normalisation_rows": 2000,
}


def test_adult_is_learned(adult_dir: Path) -> None:
    prepared = prepare(read(adult_dir))
    small = {**SMALL, "batch_size": 500, "epochs": 1, "generator_dim": [32], "embedding_dim": 16}
    drawn = fit("ctgan", prepared, small).draw(0, 0, 5000)
    share = pc.mean(pc.equal(drawn["income"].dictionary_decode(), "<=50K")).as_py()
    assert drawn.schema.equals(prepared.table.schema, check_metadata=True)
    assert 0.3 < share < 1.0
