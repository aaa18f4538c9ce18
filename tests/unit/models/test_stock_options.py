"""The stock engine: real SDV synthesizers, chunk by chunk, in exactly the input's schema."""

from __future__ import annotations

from typing import Any

import pytest

from shardsynth.errors import JobError
from shardsynth.models.sdv.options import validate_options


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("ctgn", {}, "no model family is called 'ctgn'.*did you mean 'ctgan'"),
        ("ctgan", {"epoch": 3}, "ctgan has no option 'epoch'.*did you mean 'epochs'"),
        ("tvae", {"pac": 3}, "tvae has no option 'pac'"),
        ("ctgan", {"cuda": True}, "called 'enable_gpu' now"),
        ("ctgan", {"epochs": "many"}, "ctgan.epochs: wanted a whole number"),
        ("ctgan", {"epochs": 0}, "ctgan.epochs: wanted at least 1"),
        ("ctgan", {"batch_size": 15}, "even and a multiple of pac"),
        ("copulagan", {"pac": 7}, "even and a multiple of pac"),
        ("tvae", {"compress_dims": 7}, "list of layer sizes"),
        ("ctgan", {"enable_gpu": 1}, "true or false"),
        ("ctgan", {"generator_lr": -1}, "not below 0"),
        ("gaussian_copula", {"default_distribution": "nrom"}, "did you mean 'norm'"),
        ("gaussian_copula", {"numerical_distributions": {"agee": "beta"}}, "'agee'.*did you mean 'age'"),
        ("gaussian_copula", {"numerical_distributions": {"age": "bta"}}, "did you mean 'beta'"),
        ("gaussian_copula", {"locales": 3}, "a locale"),
    ],
)
def test_wrong_options(family: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        validate_options(family, options, ["age", "sex"])
