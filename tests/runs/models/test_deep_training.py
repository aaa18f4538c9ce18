"""Training on all rows from files, and stopping early: neither changes what it should not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.tables import mixed_table
from tests.tables.deep import Prepared, fit, prepare

from shardsynth.errors import JobError, Saved
from shardsynth.models.ctgan.model import DeepModel

OPTIONS: dict[str, dict[str, Any]] = {
    "ctgan": {"batch_size": 50, "pac": 5, "generator_dim": [16], "discriminator_dim": [16], "normalisation_rows": 500},
    "tvae": {"batch_size": 50, "compress_dims": [16], "decompress_dims": [16]},
}
FAMILIES = pytest.mark.parametrize("family", list(OPTIONS))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(mixed_table(600), {"patient": "id"})


def same(one: DeepModel, other: DeepModel) -> bool:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in ours.items())


@FAMILIES
def test_rows_streamed_into_files_train_the_same_weights_as_rows_in_memory(
    family: str, prepared: Prepared, tmp_path: Path
) -> None:
    options = {**OPTIONS[family], "epochs": 2}
    table = prepared.profile.sample

    def batches():
        yield from table.to_batches(max_chunksize=table.num_rows)

    mapped = fit(family, prepared, options, rows=batches, scratch=tmp_path)
    assert (tmp_path / ".codes.tmp").stat().st_size > 0
    assert (tmp_path / ".order.tmp").exists() == (family == "ctgan")
    assert same(mapped, fit(family, prepared, options))


def test_a_stream_that_lost_rows_is_noticed(prepared: Prepared, tmp_path: Path) -> None:
    rows = prepared.profile.sample.slice(0, 500).to_batches
    with pytest.raises(ValueError, match="500 training rows, 600 expected"):
        fit("tvae", prepared, {**OPTIONS["tvae"], "epochs": 1}, rows=rows, scratch=tmp_path)


class Falling:
    """A score that is best at the second look."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, batch: pa.RecordBatch) -> float:
        assert batch.num_rows == 300
        self.looks += 1
        return [0.5, 0.8, 0.7, 0.6, 0.6, 0.6][self.looks - 1]


@FAMILIES
def test_training_stops_when_it_gets_no_better_and_the_best_weights_stay(family: str, prepared: Prepared) -> None:
    options = {**OPTIONS[family], "epochs": 50, "check_epochs": 2, "patience": 2, "check_rows": 300}
    model = fit(family, prepared, options, score=Falling())
    assert model.loss is not None
    assert model.loss["epoch"].to_pylist() == list(range(8))
    assert model.loss["quality"].to_pylist() == [None, 0.5, None, 0.8, None, 0.7, None, 0.6]
    # The looks change nothing: four epochs alone give the same weights (batch statistics of ctgan are settled anew).
    assert same(model, fit(family, prepared, {**OPTIONS[family], "epochs": 4}))


def test_a_stopped_check_goes_on_where_it_was(prepared: Prepared, tmp_path: Path) -> None:
    options = {**OPTIONS["tvae"], "epochs": 50, "check_epochs": 2, "patience": 2, "check_rows": 300}
    whole = fit("tvae", prepared, options, score=Falling())
    score, runs = Falling(), 0
    while True:
        steps = iter(range(10**6))
        try:
            model = fit(
                "tvae", prepared, options, score=score,
                checkpoint=tmp_path / "c", should_stop=lambda: next(steps) >= 30,  # noqa: B023
            )  # fmt: skip
            break
        except Saved:
            runs += 1
    assert runs >= 3 and score.looks == 4
    assert same(model, whole) and model.loss is not None and model.loss.equals(whole.loss)


def test_a_check_without_a_score_is_refused(prepared: Prepared) -> None:
    with pytest.raises(JobError, match="check_epochs"):
        fit("tvae", prepared, {**OPTIONS["tvae"], "check_epochs": 1})
    with pytest.raises(JobError, match="check_epochs: wanted not below 0, found -1"):
        fit("tvae", prepared, {**OPTIONS["tvae"], "check_epochs": -1})


def test_infinite_values_never_reach_a_network(prepared: Prepared) -> None:
    values = np.array([1.5, np.nan, 3.25, 2.0] * 50)
    drawn = fit("tvae", prepare(pa.table({"x": values, "c": ["a", "b"] * 100})), {**OPTIONS["tvae"], "epochs": 2})
    found = drawn.draw(0, 0, 300)["x"].to_numpy()
    assert np.isnan(found).any() and not np.isinf(found).any()


@pytest.mark.needs("a GPU")
@pytest.mark.parametrize("family", ["copulagan", "ctgan", "tvae"])
def test_on_a_gpu_a_training_is_repeated_and_resumed_to_the_same_weights(
    family: str, prepared: Prepared, tmp_path: Path
) -> None:
    options = {**OPTIONS["tvae" if family == "tvae" else "ctgan"], "epochs": 40, "batch_size": 100}
    whole = fit(family, prepared, options, device="cuda")
    assert same(whole, fit(family, prepared, options, device="cuda"))
    left = iter(range(10**6))
    with pytest.raises(Saved):
        fit(
            family,
            prepared,
            options,
            device="cuda",
            checkpoint=tmp_path / "c",
            should_stop=lambda: next(left) >= 100,
        )
    assert same(whole, fit(family, prepared, options, device="cuda", checkpoint=tmp_path / "c"))
