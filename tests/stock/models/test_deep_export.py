"""Deep models to stock SDV and back: SDV samples an export with the same statistics, and pickles of SDV come in."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tests.tables.deep import fit, prepare

from shardsynth.api import export_model, import_stock_model, load_model
from shardsynth.errors import ModelError
from shardsynth.models.ctgan.model import DeepModel
from shardsynth.models.sdv.import_model import import_stock
from shardsynth.models.sdv.state import silenced

pytest.importorskip("sdv")
ROWS = 20_000
SMALL: dict[str, dict[str, Any]] = {
    "ctgan": {"generator_dim": [24, 16], "discriminator_dim": [16], "normalisation_rows": 20_000},
    "copulagan": {"generator_dim": [24], "discriminator_dim": [16], "normalisation_rows": 20_000},
    "tvae": {"compress_dims": [32], "decompress_dims": [32], "decode": "argmax"},
}
FAMILIES = pytest.mark.parametrize("family", list(SMALL))


def small_table(rows: int = 450) -> pa.Table:
    rng = np.random.default_rng(0)
    latent = rng.standard_normal(rows)
    days = (np.datetime64("2010-01-01") + (1000 + 300 * latent).astype("timedelta64[D]")).astype("datetime64[ms]")
    return pa.table(
        {
            "key": pa.array([f"P-{n:06d}" for n in range(rows)]),
            "stage": pa.array(np.where(latent > 0.3, "late", "early"), mask=rng.random(rows) < 0.15),
            "dose": pa.array(np.round(30 + 8 * latent, 1), mask=rng.random(rows) < 0.2),
            "none": pa.nulls(rows, pa.float64()),
            "flag": pa.array((rng.random(rows) < 0.3).astype(np.int8)),
            "site": pa.array(["north"] * rows),
            "seen": pa.array(days, pa.timestamp("ms")),
        }
    )


@pytest.fixture(scope="module")
def models() -> dict[str, DeepModel]:
    prepared = prepare(small_table(), {"key": "id"})
    common = {"epochs": 15, "batch_size": 100, "embedding_dim": 8}
    return {family: fit(family, prepared, {**common, **options}) for family, options in SMALL.items()}


def statistics(frame: pd.DataFrame) -> dict[str, float]:
    """Means and shares that two samples of one distribution share."""
    seen = (frame["seen"] - pd.Timestamp("2010-01-01")).dt.days
    dose = frame["dose"].astype(float)
    return {
        "late": float((frame["stage"] == "late").mean()),
        "stage missing": float(frame["stage"].isna().mean()),
        "dose missing": float(dose.isna().mean()),
        "flag": float((frame["flag"].astype(int) == 1).mean()),
        "dose": float(dose.mean()) / 30,
        "dose spread": float(dose.std()) / 30,
        "seen": float(seen.mean()) / 3000,
        "seen spread": float(seen.std()) / 3000,
        "late and flagged": float(((frame["stage"] == "late") & (frame["flag"].astype(int) == 1)).mean()),
        "dose of the late": float(dose[frame["stage"] == "late"].mean()) / 30,
    }


def close(ours: pd.DataFrame, theirs: pd.DataFrame, slack: float = 0.02) -> None:
    one, other = statistics(ours), statistics(theirs)
    for name, value in one.items():
        both_absent = np.isnan(value) and np.isnan(other[name])
        assert both_absent or abs(value - other[name]) < slack, (name, value, other[name])


@FAMILIES
def test_sdv_samples_an_export_with_the_models_statistics(
    family: str, models: dict[str, DeepModel], tmp_path: Path
) -> None:
    models[family].save(tmp_path / "native")
    said = list(export_model(tmp_path / "native", tmp_path / "out.pkl"))
    assert said[0].endswith({"ctgan": "CTGAN", "copulagan": "CopulaGAN", "tvae": "TVAE"}[family] + "Synthesizer")
    synthesizer = pickle.loads((tmp_path / "out.pkl").read_bytes())
    with silenced():
        sampled = synthesizer.sample(ROWS)["table"]
    assert list(sampled.columns) == models[family].schema.names
    assert sampled["none"].isna().all() and set(sampled["site"]) == {"north"} and sampled["key"].is_unique
    close(models[family].draw(0, 0, ROWS).to_pandas(), sampled, 0.03 if family == "copulagan" else 0.02)

    back = import_stock(tmp_path / "out.pkl", trust=True)
    assert back.options.family == family
    back = replace(back, options=back.options.model_copy(update={"decode": models[family].options.decode}))
    close(models[family].draw(0, 0, ROWS).to_pandas(), back.draw(1, 0, ROWS).to_pandas(), 0.03)


@pytest.fixture(scope="module")
def stock() -> dict[str, Any]:
    """SDV's own, trained a little, with a constant column and numbers missing by chance."""
    import sdv.single_table
    from sdv.metadata import Metadata

    frame = small_table().drop_columns(["none"]).to_pandas()
    made = {}
    with silenced():
        metadata = Metadata.detect_from_dataframes({"table": frame})
        for name, options in {
            "CTGAN": {"generator_dim": (24, 16), "discriminator_dim": (16,)},
            "CopulaGAN": {"generator_dim": (24,), "discriminator_dim": (16,)},
            "TVAE": {"compress_dims": (32,), "decompress_dims": (32,)},
        }.items():
            torch.manual_seed(0)
            synthesizer = getattr(sdv.single_table, f"{name}Synthesizer")(
                metadata, epochs=20, batch_size=100, embedding_dim=8, enable_gpu=False, **options
            )
            synthesizer.fit({"table": frame})
            made[name] = synthesizer
    return made


@pytest.mark.parametrize("name", ["CTGAN", "CopulaGAN", "TVAE"])
def test_a_stock_pickle_becomes_a_native_model(name: str, stock: dict[str, Any], tmp_path: Path) -> None:
    with silenced():
        stock[name].save(str(tmp_path / "stock.pkl"))
    with pytest.raises(ModelError, match="opening a pickle runs the code in it"):
        import_stock(tmp_path / "stock.pkl")
    (line,) = import_stock_model(tmp_path / "stock.pkl", tmp_path / "native", trust_pickle=True)
    assert f"a native {name.lower()};" in line
    model = DeepModel.load(tmp_path / "native")
    drawn = load_model(tmp_path / "native").sample(ROWS).to_pandas()
    assert set(drawn["site"]) == {"north"} and drawn["key"].is_unique
    if name == "TVAE":  # the same decoder; SDV takes the likeliest category
        drawn = (
            replace(model, options=model.options.model_copy(update={"decode": "argmax"})).draw(0, 0, ROWS).to_pandas()
        )
        with silenced():
            close(drawn, stock[name].sample(ROWS)["table"], 0.03)
        return
    # As SDV makes them: categories by log frequencies. Its normalisation by batches of 100 makes the rest fuzzy.
    as_stock = replace(model, options=model.options.model_copy(update={"condvec": "log"})).draw(0, 0, ROWS).to_pandas()
    with silenced():
        close(as_stock, stock[name].sample(ROWS)["table"], 0.08)


def test_a_pickle_of_a_gpu_opens_on_a_cpu(stock: dict[str, Any], tmp_path: Path, monkeypatch) -> None:
    """Storages tagged as a GPU's, as torch writes them there; without a GPU plain loading fails."""
    import torch.serialization

    plain, tagged = tmp_path / "plain.pkl", tmp_path / "gpu.pkl"
    plain.write_bytes(pickle.dumps(stock["CTGAN"]))
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        tagged.write_bytes(pickle.dumps(stock["CTGAN"]))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            pickle.loads(tagged.read_bytes())
    assert import_stock(tagged, trust=True).draw(0, 0, 200).equals(import_stock(plain, trust=True).draw(0, 0, 200))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            pickle.loads(tagged.read_bytes())  # nothing was left patched
