"""The native model families, one entry each: check the options, fit a model, load a model.

Nothing heavy is imported before a family is used: planning needs neither torch nor sdv.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.errors import MissingLibrary, ModelError
from shardsynth.models.base import Fitted, Fitting, NativeModel


@dataclass(frozen=True)
class Family:
    """A native family.

    Attributes:
        check: Checks options against the table's schema and its columns (None: they are not known yet). Raises JobError
            for an option that the family does not have, or that does not fit the table.
        fit: Fits a model.
        load: Reads a model folder.
        trains: Whether fitting is training: it uses several threads, on which the weights depend, and checkpoints.
    """

    check: Callable[[Mapping[str, Any], pa.Schema, Sequence[Column] | None], None]
    fit: Callable[[Fitting], Fitted]
    load: Callable[[Path], NativeModel]
    trains: bool = False


def _copula() -> Family:
    def check(options: Mapping[str, Any], schema: pa.Schema, columns: Sequence[Column] | None) -> None:
        from shardsynth.models.columns.options import FitOptions

        FitOptions.parse(options).check_table(schema, columns)

    def fit(fitting: Fitting) -> Fitted:
        from shardsynth.models.columns.options import FitOptions
        from shardsynth.models.copula.class_fit import with_classes
        from shardsynth.models.copula.fit import fit_copula
        from shardsynth.models.copula.guess_missing_rules import guess_rules
        from shardsynth.models.copula.model import GaussianCopula

        setup = fitting.setup
        options = FitOptions.parse(setup.options)

        def fitted(learned: Collection[str] = ()) -> Any:
            return fit_copula(fitting.profile, setup.coder, fitting.counts, options, fitting.relations, learned)

        fit, classes = fitted(), None
        sample, natural = fitting.profile.sample, options.encoding != "sdv"
        persons = None if fitting.persons is None or not natural else fitting.persons()
        of_the_sample = persons is None or len(persons) == sample.num_rows
        if fitting.target is not None and not setup.coder.wide and natural and of_the_sample:
            fit, classes = with_classes(fit, fitted, fitting.target, sample, setup.coder, options.protection, persons)
        model = GaussianCopula.from_fit(
            fit, setup.schema, setup.columns, generators=setup.generators, name=setup.name or "gaussian_copula"
        )
        if natural and of_the_sample:
            model = model.with_rules(
                guess_rules(
                    fit.columns,
                    fit.latents,
                    fit.relations,
                    sample,
                    setup.coder,
                    fitting.counts,
                    options.protection,
                    persons,
                )
            )
        model = model if classes is None else model.with_classes(classes)
        return Fitted(model, fitting.counts.rows, model.notes)

    def load(folder: Path) -> NativeModel:
        from shardsynth.models.copula.model import GaussianCopula

        return GaussianCopula.load(folder)

    return Family(check, fit, load)


def _deep(family: str) -> Family:
    def check(options: Mapping[str, Any], schema: pa.Schema, columns: Sequence[Column] | None) -> None:
        from shardsynth.models.ctgan.options import DeepOptions

        DeepOptions.parse(family, options).check_columns(schema.names)

    def fit(fitting: Fitting) -> Fitted:
        _need_torch(family)
        from shardsynth.models.ctgan.fit import fit_deep

        model = fit_deep(family, fitting)
        return Fitted(model, fitting.training_rows, model.notes, model.loss)

    def load(folder: Path) -> NativeModel:
        _need_torch(family)
        from shardsynth.models.ctgan.model import DeepModel

        return DeepModel.load(folder)

    return Family(check, fit, load, trains=True)


def _autoregressive() -> Family:
    def check(options: Mapping[str, Any], schema: pa.Schema, columns: Sequence[Column] | None) -> None:
        from shardsynth.models.autoregressive.options import AutoregressiveOptions

        AutoregressiveOptions.parse(options)

    def fit(fitting: Fitting) -> Fitted:
        _need_torch("autoregressive")
        from shardsynth.models.autoregressive.fit import fit_autoregressive

        model = fit_autoregressive(fitting)
        return Fitted(model, fitting.training_rows, model.notes, model.loss)

    def load(folder: Path) -> NativeModel:
        _need_torch("autoregressive")
        from shardsynth.models.autoregressive.model import AutoregressiveModel

        return AutoregressiveModel.load(folder)

    return Family(check, fit, load, trains=True)


#: What ``model.json`` calls a model of several tables.
OF_TABLES = "autoregressive_tables"

#: Every family of ``job.FAMILIES`` that has a native engine.
NATIVE: dict[str, Family] = {
    "autoregressive": _autoregressive(),
    "gaussian_copula": _copula(),
    "copulagan": _deep("copulagan"),
    "ctgan": _deep("ctgan"),
    "tvae": _deep("tvae"),
}


def load_native(folder: Path, family: str) -> NativeModel:
    """Load the model in a folder.

    Args:
        folder: The model's.
        family: As its ``model.json`` names it.

    Raises:
        ModelError: This version has no such family, or the folder cannot be read.
    """
    if family == OF_TABLES:
        raise ModelError(
            f"{folder}: a model of several tables: `shardsynth sample` makes more subjects of it; nothing else opens "
            "it so far"
        )
    if family not in NATIVE:
        raise ModelError(f"{folder}: no native family is called {family!r} here; a newer shardsynth may have made it")
    return NATIVE[family].load(folder)


def _need_torch(family: str) -> None:
    if find_spec("torch") is None:
        raise MissingLibrary(f"{family}: needs torch, not installed here: pip install 'shardsynth[all]'")
