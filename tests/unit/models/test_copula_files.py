"""The native copula's files: the same model, the same bytes; what is no model is named."""

from __future__ import annotations

import pytest
from tests.tables.copula_by_hand import adult_copula, mds_copula, stream

from shardsynth.errors import ModelError
from shardsynth.models.copula.model import GaussianCopula


@pytest.fixture(scope="module")
def adult_model(adult_dir) -> GaussianCopula:
    return adult_copula(adult_dir)


@pytest.fixture(scope="module")
def mds_model(mds_dir) -> GaussianCopula:
    return mds_copula(mds_dir)


def test_a_saved_model_is_the_same_model_and_the_same_bytes(adult_model, mds_model, tmp_path):
    for name, model in {"adult": adult_model, "mds": mds_model}.items():
        first, second = tmp_path / name / "a", tmp_path / name / "b"
        model.save(first)
        loaded = GaussianCopula.load(first)
        loaded.save(second)
        assert {p.name for p in first.iterdir()} == {"model.json", "model.safetensors"}
        for file in first.iterdir():
            assert file.read_bytes() == (second / file.name).read_bytes()
        assert stream(loaded.draw(2, 3, 1000)) == stream(model.draw(2, 3, 1000))
        assert loaded.learned_distributions == model.learned_distributions


def test_what_is_no_model_is_named(tmp_path, adult_model):
    saved = tmp_path / "saved"
    adult_model.save(saved)
    with pytest.raises(ModelError, match=r"model\.json"):
        GaussianCopula.load(tmp_path)
    (tmp_path / "model.json").write_text('{"engine": "sdv"}')
    with pytest.raises(ModelError, match="not a native Gaussian copula"):
        GaussianCopula.load(tmp_path)
    text = (saved / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(ModelError, match="later shardsynth"):
        GaussianCopula.load(tmp_path)
    (tmp_path / "model.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="safetensors"):
        GaussianCopula.load(tmp_path)
