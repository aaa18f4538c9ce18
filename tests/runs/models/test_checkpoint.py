"""A training that was stopped and resumed ends with the weights of one that never was, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tests.tables import mixed_table
from tests.tables.deep import Prepared, fit, prepare

from shardsynth.errors import Saved
from shardsynth.models.ctgan.model import DeepModel
from shardsynth.models.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint

OPTIONS: dict[str, dict[str, Any]] = {
    "ctgan": {"epochs": 3, "batch_size": 50, "generator_dim": [16], "discriminator_dim": [16], "embedding_dim": 8,
              "normalisation_rows": 1000, "discriminator_steps": 2},
    "copulagan": {"epochs": 2, "batch_size": 100, "generator_dim": [16], "discriminator_dim": [16], "embedding_dim": 8,
                  "normalisation_rows": 1000},
    "tvae": {"epochs": 3, "batch_size": 60, "compress_dims": [16], "decompress_dims": [16], "embedding_dim": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(mixed_table(300), {"patient": "id"})


def weights(model: DeepModel) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def stop_after(steps: int) -> Any:
    asked = iter(range(1, 10**9))
    return lambda: next(asked) >= steps


@pytest.mark.parametrize("family", list(OPTIONS))
def test_stopped_twice_and_never_stopped_are_the_same(family: str, prepared: Prepared, tmp_path: Path) -> None:
    whole = fit(family, prepared, OPTIONS[family])
    path, lines = tmp_path / "private" / "checkpoint.safetensors", []
    for steps in (1, 4):
        with pytest.raises(Saved, match="run it again"):
            fit(family, prepared, OPTIONS[family], checkpoint=path, should_stop=stop_after(steps))
    torch.rand(1000)  # the process's own randomness plays no part
    resumed = fit(family, prepared, OPTIONS[family], checkpoint=path, progress=lines.append)
    assert any("resumed at step 5" in line for line in lines)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert whole.loss is not None and resumed.loss is not None and whole.loss.equals(resumed.loss)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_checkpoints_by_the_clock_change_nothing(prepared: Prepared, tmp_path: Path) -> None:
    options = {**OPTIONS["tvae"], "checkpoint_minutes": 1e-9}
    model = fit("tvae", prepared, options, checkpoint=tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").is_file()
    for name, value in weights(fit("tvae", prepared, OPTIONS["tvae"])).items():
        assert torch.equal(value, weights(model)[name])


def test_a_checkpoint_of_another_training_or_a_broken_one_is_not_used(prepared: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(Saved):
        fit("tvae", prepared, OPTIONS["tvae"], checkpoint=path, should_stop=stop_after(2))
    lines: list[str] = []
    fit("tvae", prepared, {**OPTIONS["tvae"], "loss_factor": 3}, checkpoint=path, progress=lines.append)
    assert not any("resumed" in line for line in lines)
    path.write_bytes(path.read_bytes()[:100])
    fit("tvae", prepared, OPTIONS["tvae"], checkpoint=path, progress=lines.append)
    assert not any("resumed" in line for line in lines)


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    def state() -> TrainingState:
        network = torch.nn.Linear(3, 2)
        adam = torch.optim.Adam(network.parameters(), fused=True)
        return TrainingState({"n": network}, {"a": adam}, torch.Generator().manual_seed(1), torch.zeros(2, 1))

    first, second = state(), state()
    first.modules["n"](torch.ones(4, 3)).sum().backward()
    first.optimisers["a"].step()
    torch.rand(3, generator=first.generator)
    first.step = 7
    save_checkpoint(tmp_path / "c", first, "x")
    assert not load_checkpoint(tmp_path / "c", second, "y")
    assert load_checkpoint(tmp_path / "c", second, "x")
    assert second.step == 7
    mine, theirs = first.tensors(), second.tensors()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def test_training_is_the_same_for_the_same_seed_and_another_for_another(prepared: Prepared) -> None:
    one, same, other = (fit("ctgan", prepared, {**OPTIONS["ctgan"], "epochs": 1}, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(v, weights(same)[k]) for k, v in weights(one).items())
    assert not all(torch.equal(v, weights(other)[k]) for k, v in weights(one).items())
    assert isinstance(one.loss, pa.Table) and one.loss.num_rows == 1
