from __future__ import annotations

import json
from typing import Any

import pytest

from shardsynth.errors import JobError, ModelError, did_you_mean
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.columns.column_options import ColumnOptions
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.ctgan.options import FAMILIES, DeepOptions
from shardsynth.models.sdv.options import _MODELS
from shardsynth.models.training.options import TrainedOptions
from shardsynth.options import Options, keys, wanted

STORED = {
    "embedding_dim": 128,
    "generator_dim": [256, 256],
    "discriminator_dim": [256, 256],
    "generator_lr": 2e-4,
    "generator_decay": 1e-6,
    "discriminator_lr": 2e-4,
    "discriminator_decay": 1e-6,
    "discriminator_steps": 1,
    "reuse_rows": True,
    "averaging": 0.1,
    "pac": 10,
    "log_frequency": True,
    "compress_dims": [128, 128],
    "decompress_dims": [128, 128],
    "l2scale": 1e-5,
    "loss_factor": 2,
    "batch_size": 500,
    "epochs": 300,
    "enforce_min_max_values": True,
    "condvec": "true",
    "decode": "sample",
    "device": "auto",
    "precision": "float32",
    "max_categories": 1000,
    "max_clusters": 10,
    "weight_threshold": 0.005,
    "checkpoint_minutes": 10.0,
    "normalisation_rows": 100_000,
    "check_epochs": 0,
    "patience": 3,
    "check_rows": 20_000,
    "replicas": 1,
    "default_marginal": "empirical",
    "marginals": {},
    "protection": {"min_count": 5, "rare": "drop", "clip": True},
}


def text(options: TrainedOptions) -> str:
    return json.dumps(options.to_json(), sort_keys=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_options_in_a_models_file_are_those_of_earlier_versions(family: str) -> None:
    written = json.dumps({**STORED, "family": family}, sort_keys=True)
    assert text(DeepOptions.parse(family, {"extremes": "clip"})) == written
    assert text(DeepOptions.from_json(json.loads(written))) == written  # a 2 stays a 2, not 2.0


def test_what_was_given_comes_back_from_a_models_file() -> None:
    given: dict[str, Any] = {"rare": {"min_count": 9, "as": "other"}, "extremes": "keep", "verbose": True}
    deep = DeepOptions.parse("copulagan", {**given, "marginals": {"x": "beta", "default": "norm"}, "pac": 1})
    assert text(DeepOptions.from_json(json.loads(text(deep)))) == text(deep)
    single = AutoregressiveOptions.parse({**given, "bins": 64.0, "balance": 2020})
    assert text(AutoregressiveOptions.from_json(json.loads(text(single)))) == text(single)
    assert (single.bins, single.balance, single.protection.min_count, single.protection.clip) == (64, "2020", 9, False)
    with pytest.raises(ModelError, match="does not know: width"):
        AutoregressiveOptions.from_json({**single.to_json(), "width": 3})


def test_options_do_not_change() -> None:
    options = AutoregressiveOptions.parse()
    with pytest.raises(ValueError, match="frozen"):
        options.bins = 3  # type: ignore[misc]
    assert options.sampled(0.5, None, None) == AutoregressiveOptions.parse({"temperature": 0.5})
    with pytest.raises(JobError, match="autoregressive: top_p: wanted a number from 0.01 to 1, found 2"):
        options.sampled(None, 2, None)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("ctgan", {"epochs": "300", "generator_lr": "1e-4", "generator_dim": [64.0], "condvec": True}, ""),
        ("ctgan", {"epochs": True}, "ctgan: epochs: wanted a whole number, at least 1, found bool True"),
        ("ctgan", {"epochs": 0}, "ctgan: epochs: wanted at least 1, found 0"),
        ("ctgan", {"epochs": None}, "ctgan: epochs: wanted a whole number, at least 1, found nothing"),
        ("ctgan", {"precision": "bf61"}, "ctgan: precision is one of float32, bf16, not 'bf61'; did you mean 'bf16'?"),
        ("ctgan", {"generator_dim": [64, -1]}, "ctgan: generator_dim: wanted a list of widths such as [256, 256], found -1"),
        ("tvae", {"rare": {"as": "dorp"}}, "tvae: rare.as is one of other, drop, keep, not 'dorp'; did you mean 'drop'?"),
        ("tvae", {"rare": {"min_cuont": 3}}, "tvae: rare: no option is called 'min_cuont'; did you mean 'min_count'?"),
        ("tvae", {"epochs": 0, "l2scale": -1}, "tvae: l2scale: wanted not below 0, found -1"),
    ],
)  # fmt: skip
def test_one_error_names_option_found_and_wanted(family: str, options: dict[str, Any], message: str) -> None:
    if not message:
        parsed = DeepOptions.parse(family, options)
        assert (parsed.epochs, parsed.generator_lr, parsed.generator_dim, parsed.condvec) == (300, 1e-4, (64,), "true")
        return
    with pytest.raises(JobError) as caught:
        DeepOptions.parse(family, options)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_column_may_be_called_as_an_option_is() -> None:
    with pytest.raises(
        JobError, match="gaussian_copula: columns.min: no option is called 'maximum'; did you mean 'max'"
    ):
        FitOptions.parse({"columns": {"min": {"maximum": 3}}})
    assert FitOptions.parse({"columns": {2020: {"min": 1}}}).column_options("2020") == ColumnOptions(min=1)
    with pytest.raises(JobError, match="no option is called '2020'"):
        FitOptions.parse({2020: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize("model", [DeepOptions, AutoregressiveOptions, FitOptions, ColumnOptions, *_MODELS.values()])
def test_every_option_is_described(model: type[Options]) -> None:
    for key, info in keys(model).items():
        assert key == "family" or info.description, key
        assert wanted(info), key


def test_the_nearest_word() -> None:
    assert did_you_mean("epoch", ["epochs", "pac"]) == "; did you mean 'epochs'?"
    assert did_you_mean("AGE", ["age", "sex"]) == "; did you mean 'age'?"
    assert did_you_mean(2020, ["age", "sex"]) == ""
