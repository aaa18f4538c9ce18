"""CTGAN and CopulaGAN: the ctgan package's networks and losses to 1e-5, and rows that depend on their number alone."""

from __future__ import annotations

from typing import Any

import pytest

from shardsynth.errors import InputError, JobError
from shardsynth.models.ctgan.options import DeepOptions
from shardsynth.models.training.device import choose_device, runs_on


def test_impossible_options_say_what_to_do() -> None:
    with pytest.raises(JobError, match="pac 7 does not divide batch_size 500.*batch_size 497"):
        DeepOptions.parse("ctgan", {"pac": 7})
    with pytest.raises(JobError, match="did you mean 'epochs'"):
        DeepOptions.parse("ctgan", {"epoch": 7})
    with pytest.raises(JobError, match="compress_dims"):
        DeepOptions.parse("ctgan", {"compress_dims": [128]})
    with pytest.raises(JobError, match="generator_dim: wanted a list of widths"):
        DeepOptions.parse("ctgan", {"generator_dim": 256})
    with pytest.raises(JobError, match="'marginals'; valid"):
        DeepOptions.parse("ctgan", {"marginals": "norm"})
    with pytest.raises(JobError, match="copulagan: marginals: there is no distribution 'norm2'"):
        DeepOptions.parse("copulagan", {"marginals": "norm2"})
    with pytest.raises(JobError, match="copulagan: marginals: no numeric column is called 'agee'; did you mean 'age'"):
        DeepOptions.parse("copulagan", {"marginals": {"agee": "norm"}}).check_columns(["age", "sex"])
    assert DeepOptions.parse("ctgan", {"enable_gpu": False, "verbose": True}).device == "cpu"
    options = DeepOptions.parse("copulagan", {"generator_dim": [8], "numerical_distributions": {"x": "beta"}})
    assert DeepOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("ctgan", "epochs", float("inf")),
        ("ctgan", "generator_dim", "256"),
        ("ctgan", "generator_dim", [1.5]),
        ("ctgan", "discriminator_dim", []),
        ("ctgan", "generator_lr", -1),
        ("ctgan", "discriminator_lr", float("nan")),
        ("ctgan", "generator_decay", -1),
        ("ctgan", "weight_threshold", 2),
        ("ctgan", "checkpoint_minutes", -1),
        ("ctgan", "max_categories", 32_768),
        ("tvae", "loss_factor", 0),
        ("tvae", "l2scale", float("inf")),
    ],
)
def test_a_value_that_cannot_be_trained_with_is_refused_before_anything_runs(family: str, key: str, value: Any) -> None:
    with pytest.raises(JobError, match=f"^{family}: {key}.*wanted"):
        DeepOptions.parse(family, {key: value})


@pytest.mark.parametrize(("built", "capability", "runs"), [
    (["sm_75", "sm_80", "sm_86", "sm_90"], (9, 0), True),
    (["sm_75", "sm_80", "sm_86", "sm_90"], (8, 9), True),  # the machine code of 8.6
    (["sm_86", "sm_90"], (8, 0), False),
    (["sm_80", "sm_90"], (7, 0), False),
    (["sm_80", "sm_90"], (12, 0), False),
    (["sm_80", "compute_90"], (12, 0), True),  # compiled by the driver
    (["sm_90a"], (9, 0), True),
    ([], (8, 0), False),
])  # fmt: skip
def test_which_devices_a_build_of_torch_runs_on(built: list, capability: tuple, runs: bool) -> None:
    assert runs_on(built, *capability) is runs


@pytest.mark.needs("no GPU")
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="device: cuda was asked for, but it cannot be used: .*device: cpu"):
        choose_device("cuda")
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    with pytest.raises(InputError, match="was given a GPU"):
        choose_device("auto")
