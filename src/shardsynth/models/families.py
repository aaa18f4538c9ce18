"""The native model families, one entry each: how options are checked, how a model is fitted, how it is loaded.

Nothing heavy is imported before a family is used: planning wants neither torch nor sdv.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.errors import JobError, ModelError
from shardsynth.models.base import Fitted, Fitting, NativeModel


@dataclass(frozen=True)
class Family:
    """A native family.

    Attributes:
        check: Preflight: raises JobError for options that the family does not have, or that do not go with the table's
            schema or, where they are known already, its columns (else None).
        fit: Fits a model.
        load: Reads a model folder.
        trains: Whether fitting is training: it uses several threads, on which the outcome depends, and checkpoints.
    """

    check: Callable[[Mapping[str, Any], pa.Schema, Sequence[Column] | None], None]
    fit: Callable[[Fitting], Fitted]
    load: Callable[[Path], NativeModel]
    trains: bool = False


def _copula() -> Family:
    def check(options: Mapping[str, Any], schema: pa.Schema, columns: Sequence[Column] | None) -> None:
        from shardsynth.models.columns.options import FitOptions

        FitOptions.parse(options).check_table(schema, columns)

    def fit(given: Fitting) -> Fitted:
        from shardsynth.models.copula.fit import fit_copula
        from shardsynth.models.copula.model import GaussianCopula

        setup = given.setup
        fit = fit_copula(given.profile, setup.coder, given.counts, setup.options, given.relations)
        model = GaussianCopula.from_fit(
            fit, setup.schema, setup.columns, generators=setup.generators, name=setup.name or "gaussian_copula"
        )
        return Fitted(model, given.counts.rows, tuple(fit.notes))

    def load(folder: Path) -> NativeModel:
        from shardsynth.models.copula.model import GaussianCopula

        return GaussianCopula.load(folder)

    return Family(check, fit, load)


def _deep(family: str) -> Family:
    def check(options: Mapping[str, Any], schema: pa.Schema, columns: Sequence[Column] | None) -> None:
        from shardsynth.models.ctgan.options import DeepOptions

        DeepOptions.parse(family, options).check_columns(schema.names)

    def fit(given: Fitting) -> Fitted:
        _need_torch(family)
        from shardsynth.models.ctgan.fit import fit_deep

        model = fit_deep(family, given)
        return Fitted(model, given.training_rows, model.notes, model.loss)

    def load(folder: Path) -> NativeModel:
        _need_torch(family)
        from shardsynth.models.ctgan.model import DeepModel

        return DeepModel.load(folder)

    return Family(check, fit, load, trains=True)


def _autoregressive() -> Family:
    def check(options: Mapping[str, Any], schema: pa.Schema, columns: Sequence[Column] | None) -> None:
        from shardsynth.models.autoregressive.options import AutoregressiveOptions

        AutoregressiveOptions.parse(options)

    def fit(given: Fitting) -> Fitted:
        _need_torch("autoregressive")
        from shardsynth.models.autoregressive.fit import fit_autoregressive

        model = fit_autoregressive(given)
        return Fitted(model, given.training_rows, model.notes, model.loss)

    def load(folder: Path) -> NativeModel:
        _need_torch("autoregressive")
        from shardsynth.models.autoregressive.model import AutoregressiveModel

        return AutoregressiveModel.load(folder)

    return Family(check, fit, load, trains=True)


#: Every family of ``job.FAMILIES`` that has a native engine.
NATIVE: dict[str, Family] = {
    "autoregressive": _autoregressive(),
    "gaussian_copula": _copula(),
    "copulagan": _deep("copulagan"),
    "ctgan": _deep("ctgan"),
    "tvae": _deep("tvae"),
}


def load_native(folder: Path, family: str) -> NativeModel:
    """The model in a folder, by the family that its card names.

    Raises:
        ModelError: No family of this version is called so, or the folder cannot be read.
    """
    if family not in NATIVE:
        raise ModelError(f"{folder}: no native family is called {family!r} here; a newer shardsynth may have made it")
    return NATIVE[family].load(folder)


def _need_torch(family: str) -> None:
    if find_spec("torch") is None:
        raise JobError(f"{family}: needs torch, not installed here: pip install 'shardsynth[all]'")
