"""Options of SDV's own synthesizers, by SDV's names, so that a job can be checked without importing sdv.

Names and defaults are those of the classes of SDV 2.0; a test compares them with the installed ones.
"""

# ruff: noqa: UP045
from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Collection
from typing import Annotated, Any, Literal, Optional, get_args

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, model_validator

from shardsynth.errors import JobError, did_you_mean
from shardsynth.options import Options, Text, keys

_Size = Annotated[StrictInt, Field(ge=1)]
_Sizes = Annotated[tuple[_Size, ...], "a list of layer sizes, such as [256, 256]"]
_Share = Annotated[StrictFloat, Field(ge=0.0)]
_Locales = Annotated[
    list[str],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    "a locale or a list of them, such as [en_US]",
]
_Distribution = Literal["norm", "beta", "truncnorm", "gamma", "uniform", "gaussian_kde"]
#: Names of marginal distributions that SDV knows.
DISTRIBUTIONS: tuple[str, ...] = get_args(_Distribution)


class _Base(Options):
    enforce_min_max_values: StrictBool = Field(True, description="Whether values are kept between the input's ends.")
    enforce_rounding: StrictBool = Field(True, description="Whether values have the decimal places of the input.")


class _Localised(Options):
    locales: _Locales = Field(["en_US"], description="Faker's locales for generated columns.")


class _Distributions(Options):
    numerical_distributions: Annotated[Optional[dict[Text, _Distribution]], "a mapping of column to distribution"] = (
        Field(None, description="Distributions by column.")
    )
    default_distribution: Optional[_Distribution] = Field(None, description="Distribution of the other columns.")


class _Trained(_Base):
    embedding_dim: _Size = Field(128, description="Size of the latent noise.")
    batch_size: _Size = Field(500, description="Rows of a step.")
    epochs: _Size = Field(300, description="Passes over the rows.")
    verbose: StrictBool = Field(False, description="Whether SDV tells its progress.")
    enable_gpu: StrictBool = Field(True, description="Whether a GPU is taken where there is one.")


class _Copula(_Base, _Localised, _Distributions):
    pass


class _Ctgan(_Trained, _Localised):
    generator_dim: _Sizes = Field((256, 256), description="Widths of the generator's residual layers.")
    discriminator_dim: _Sizes = Field((256, 256), description="Widths of the discriminator's layers.")
    generator_lr: _Share = Field(2e-4, description="Adam's learning rate of the generator.")
    generator_decay: _Share = Field(1e-6, description="Adam's weight decay of the generator.")
    discriminator_lr: _Share = Field(2e-4, description="Adam's learning rate of the discriminator.")
    discriminator_decay: _Share = Field(1e-6, description="Adam's weight decay of the discriminator.")
    discriminator_steps: _Size = Field(1, description="Updates of the discriminator to one of the generator.")
    log_frequency: StrictBool = Field(True, description="Whether conditions are drawn by log frequency.")
    pac: _Size = Field(10, description="Rows that the discriminator judges together.")

    @model_validator(mode="after")
    def _check(self) -> _Ctgan:
        batch, pac = self.batch_size, self.pac
        if batch % 2 or batch % pac:
            raise ValueError(f"batch_size must be even and a multiple of pac, found {batch} and pac {pac}")
        return self


class _CopulaGan(_Ctgan, _Distributions):
    pass


class _Tvae(_Trained):
    compress_dims: _Sizes = Field((128, 128), description="Widths of the encoder's layers.")
    decompress_dims: _Sizes = Field((128, 128), description="Widths of the decoder's layers.")
    l2scale: _Share = Field(1e-5, description="Weight decay.")
    loss_factor: _Share = Field(2, description="Weight of the reconstruction loss.")


_MODELS: dict[str, type[Options]] = {
    "gaussian_copula": _Copula,
    "ctgan": _Ctgan,
    "copulagan": _CopulaGan,
    "tvae": _Tvae,
}
#: Family -> option -> SDV's default.
OPTIONS = {family: {key: info.default for key, info in keys(model).items()} for family, model in _MODELS.items()}
#: Family -> name of its class in ``sdv.single_table``.
CLASSES = {
    "gaussian_copula": "GaussianCopulaSynthesizer",
    "ctgan": "CTGANSynthesizer",
    "copulagan": "CopulaGANSynthesizer",
    "tvae": "TVAESynthesizer",
}
_FORMER_NAMES = {"cuda": "enable_gpu", "field_distributions": "numerical_distributions"}


def validate_options(family: str, options: dict[str, Any], columns: Collection[str] | None = None) -> dict[str, Any]:
    """Check options; returns them as SDV's constructor takes them, with tuples for lists of layer sizes.

    Args:
        family: ``gaussian_copula``, ``copulagan``, ``ctgan`` or ``tvae``.
        options: By SDV's names; the others have SDV's defaults.
        columns: The table's column names, to check those of ``numerical_distributions``; None: not checked.

    Raises:
        JobError: A family or option is unknown (the error names the nearest valid one), a value has the wrong type, or
            two values cannot be combined.
    """
    if family not in OPTIONS:
        hint = f"; families: {', '.join(OPTIONS)}{did_you_mean(family, OPTIONS)}"
        raise JobError(f"no model family is called {family!r}{hint}")
    known = OPTIONS[family]
    for name in options:
        if name not in known:
            now = _FORMER_NAMES.get(name)
            hint = f"; it is called {now!r} now" if now in known else did_you_mean(name, known)
            raise JobError(f"{family} has no option {name!r}; its options: {', '.join(known)}{hint}")
    parsed = dict(_MODELS[family].checked(family, options, at="."))
    for column in parsed.get("numerical_distributions") or {}:
        if columns is not None and column not in columns:
            where = f"{family}.numerical_distributions"
            raise JobError(f"{where}: no column is called {column!r}{did_you_mean(column, columns)}")
    return {name: value if value == parsed[name] else parsed[name] for name, value in options.items()}
