"""Options of the native CTGAN, CopulaGAN and TVAE: SDV's names and defaults, and a few of our own."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, model_validator
from pydantic.fields import FieldInfo

from shardsynth.errors import JobError
from shardsynth.models.columns.options import Distributions, check_named
from shardsynth.models.training.options import TrainedOptions
from shardsynth.options import Number, Options, Share, Whole, Widths, keys, unknown

FAMILIES = ("ctgan", "copulagan", "tvae")


class Gan(Options):
    """Options of CTGAN and CopulaGAN alone."""

    generator_dim: Widths = Field((256, 256), description="Widths of the generator's residual layers.")
    # the gradient penalty needs a hidden layer
    discriminator_dim: Widths = Field((256, 256), min_length=1, description="Widths of the discriminator's layers.")
    generator_lr: Number = Field(2e-4, gt=0, description="Adam's learning rate of the generator.")
    generator_decay: Number = Field(1e-6, ge=0, description="Adam's weight decay of the generator.")
    discriminator_lr: Number = Field(2e-4, gt=0, description="Adam's learning rate of the discriminator.")
    discriminator_decay: Number = Field(1e-6, ge=0, description="Adam's weight decay of the discriminator.")
    discriminator_steps: Whole = Field(1, ge=1, description="Updates of the discriminator to one of the generator.")
    reuse_rows: StrictBool = Field(True, description="The generator's step judges the rows of the discriminator's.")
    averaging: Share = Field(0.1, description="Last share of the steps over which the generator is averaged; 0: none.")
    pac: Whole = Field(10, ge=1, description="Rows that the discriminator judges together; divides `batch_size`.")
    log_frequency: StrictBool = Field(True, description="Training draws conditions by log frequency.")
    condvec: Annotated[Literal["true", "log"], BeforeValidator(lambda v: "true" if v is True else v)] = Field(
        "true", description="What sampling draws conditions by: true frequencies, or their logarithm."
    )
    normalisation_rows: Whole = Field(100_000, ge=1, description="Made rows that settle the batch normalisation.")


class Vae(Options):
    """Options of TVAE alone."""

    compress_dims: Widths = Field((128, 128), description="Widths of the encoder's layers.")
    decompress_dims: Widths = Field((128, 128), description="Widths of the decoder's layers.")
    l2scale: Number = Field(1e-5, ge=0, description="Weight decay.")
    loss_factor: Number = Field(2, gt=0, description="Weight of the reconstruction loss.")
    decode: Literal["sample", "argmax"] = Field("sample", description="Categories are drawn, or the likeliest taken.")


class Deep(TrainedOptions):
    """Options that CTGAN, CopulaGAN and TVAE share."""

    embedding_dim: Whole = Field(128, ge=1, description="Size of the latent noise.")
    batch_size: Whole = Field(500, ge=1, description="Rows of a step.")
    epochs: Whole = Field(300, ge=1, description="Passes over the training rows.")
    enforce_min_max_values: StrictBool = Field(True, description="Values are kept between the protected ends.")
    precision: Literal["float32", "bf16"] = Field("float32", description="Of matrix products, see below.")
    max_categories: Whole = Field(  # codes, one for missing included, are int16
        1_000,
        ge=2,
        le=32_767,
        description="Categories of a column that are learned one by one; the rest share one token.",
    )
    max_clusters: Whole = Field(10, ge=1, description="Modes of a numeric column at most.")
    weight_threshold: Share = Field(0.005, description="Modes with a smaller share of the rows are dropped.")
    checkpoint_minutes: Number = Field(10.0, ge=0, description="Minutes between two checkpoints.")
    check_epochs: Whole = Field(0, ge=0, description="Epochs between two checks of drawn rows, see below; 0: none.")
    patience: Whole = Field(3, ge=1, description="Checks without a better score after which training stops.")
    check_rows: Whole = Field(20_000, ge=1, description="Rows that a check scores.")
    replicas: Whole = Field(1, ge=1, description="Trainings from as many seeds; the best by quality is kept.")
    enable_gpu: Any = Field(True, exclude=True, description="SDV's option; `false` is `device: cpu`.")
    enforce_rounding: Any = Field(None, exclude=True, description="SDV's option; changes nothing here.")

    @model_validator(mode="before")
    @classmethod
    def _where(cls, options: Any) -> Any:
        others = {key: value for key, value in options.items() if key != "enable_gpu"}
        return {**others, "device": "cpu"} if options.get("enable_gpu") is False else others


class DeepOptions(Deep, Gan, Vae, Distributions):
    """How a deep model is built and trained; the options of the other families keep their defaults."""

    family: Literal["ctgan", "copulagan", "tvae"] = "ctgan"

    @classmethod
    def parse(cls, family: str, options: Mapping[str, Any] | None = None) -> DeepOptions:
        """Options from a model's entry in a job file.

        Args:
            family: ``ctgan``, ``copulagan`` or ``tvae``.
            options: Options of the family by name, see ``options_of``.

        Raises:
            JobError: An option is unknown (the error names the nearest valid one) or impossible.
        """
        valid = options_of(family)
        for key in options or {}:
            if key not in valid:
                raise JobError(f"{family}: {unknown(key, valid)}")
        return cls.checked(family, {**(options or {}), "family": family})

    @model_validator(mode="after")
    def _check(self) -> DeepOptions:
        if self.is_gan and self.batch_size % self.pac:
            down = self.batch_size // self.pac * self.pac
            raise ValueError(
                f"pac {self.pac} does not divide batch_size {self.batch_size}: the discriminator judges pac rows "
                f"together; take batch_size {down or self.pac} or another pac"
            )
        if self.is_gan and self.batch_size < 2:
            raise ValueError("batch_size is 1; batch normalisation needs at least 2")
        return self

    def check_columns(self, names: Collection[str]) -> None:
        """Check that the columns of ``marginals`` are among ``names``, the numeric columns.

        Raises:
            JobError: One is not.
        """
        check_named(self.family, names, marginals=self.marginals)

    @property
    def is_gan(self) -> bool:
        """Whether the networks are CTGAN's."""
        return self.family != "tvae"


def options_of(family: str) -> dict[str, FieldInfo]:
    """Options that a family takes, by their names in a job file."""
    return keys(Deep, Vae if family == "tvae" else Gan, *((Distributions,) if family == "copulagan" else ()))


def option_names(family: str) -> tuple[str, ...]:
    """Names of the options that say how a family's networks are built and trained."""
    named = keys(Distributions)
    return tuple(key for key, info in options_of(family).items() if not info.exclude and key not in named)
