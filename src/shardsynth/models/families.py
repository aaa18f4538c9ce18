"""The native model families, one entry each: how options are checked, how a model is fitted, how it is loaded.

Nothing heavy is imported before a family is used: planning wants neither torch nor sdv.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.errors import JobError, ModelError
from shardsynth.models.base import Fitted, Fitting, Model


@dataclass(frozen=True)
class Family:
    """A native family.

    Attributes:
        check: Raises JobError for options that the family does not have.
        fit: Fits a model.
        load: Reads a model folder.
        trains: Whether fitting is training: it uses several threads, on which the outcome depends, and checkpoints.
    """

    check: Callable[[Mapping[str, Any]], object]
    fit: Callable[[Fitting], Fitted]
    load: Callable[[Path], Model]
    trains: bool = False


def _copula() -> Family:
    def check(options: Mapping[str, Any]) -> object:
        from shardsynth.models.columns.options import FitOptions

        return FitOptions.parse(options)

    def fit(given: Fitting) -> Fitted:
        from shardsynth.models.copula.fit import fit_copula
        from shardsynth.models.copula.model import GaussianCopula

        found = fit_copula(given.profile, given.coder, given.counts, given.options, given.relations)
        model = GaussianCopula.from_fit(
            found, given.schema, given.columns, generators=given.generators, name=given.name
        )
        return Fitted(model, given.counts.rows, tuple(found.notes))

    def load(folder: Path) -> Model:
        from shardsynth.models.copula.model import GaussianCopula

        return GaussianCopula.load(folder)

    return Family(check, fit, load)


def _deep(family: str) -> Family:
    def check(options: Mapping[str, Any]) -> object:
        from shardsynth.models.ctgan.options import DeepOptions

        return DeepOptions.parse(family, options)

    def fit(given: Fitting) -> Fitted:
        _need_torch(family)
        from shardsynth.models.ctgan.fit import fit_deep

        model = fit_deep(
            family,
            given.profile,
            given.coder,
            given.counts,
            given.schema,
            given.columns,
            given.options,
            seed=given.seed,
            threads=given.threads,
            checkpoint=given.checkpoint,
            progress=given.progress,
            should_stop=given.should_stop,
            generators=given.generators,
            name=given.name,
            rows=given.rows,
            scratch=given.scratch,
            score=given.score,
        )
        rows = given.counts.rows if given.rows is not None else given.profile.sample.num_rows
        return Fitted(model, rows, model.notes, model.loss)

    def load(folder: Path) -> Model:
        _need_torch(family)
        from shardsynth.models.ctgan.model import DeepModel

        return DeepModel.load(folder)

    return Family(check, fit, load, trains=True)


def _autoregressive() -> Family:
    def check(options: Mapping[str, Any]) -> object:
        from shardsynth.models.autoregressive.options import AutoregressiveOptions

        return AutoregressiveOptions.parse(options)

    def fit(given: Fitting) -> Fitted:
        _need_torch("autoregressive")
        from shardsynth.models.autoregressive.fit import fit_autoregressive

        model = fit_autoregressive(given)
        rows = given.counts.rows if given.rows is not None else given.profile.sample.num_rows
        return Fitted(model, rows, model.notes, model.loss)

    def load(folder: Path) -> Model:
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


def load_native(folder: Path, family: str) -> Model:
    """The model in a folder, by the family that its card names.

    Raises:
        ModelError: No family of this version is called so, or the folder cannot be read.
    """
    if family not in NATIVE:
        raise ModelError(f"{folder}: no native family is called {family!r} here; a newer shardsynth may have made it")
    return NATIVE[family].load(folder)


def _need_torch(family: str) -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise JobError(f"{family}: needs torch, not installed here: pip install 'shardsynth[all]'")
