"""Options of the native CTGAN, CopulaGAN and TVAE: SDV's names and defaults, and a few of our own."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from shardsynth.errors import JobError
from shardsynth.models.columns.marginals import Protection
from shardsynth.models.columns.options import EMPIRICAL, FitOptions

FAMILIES = ("ctgan", "copulagan", "tvae")
#: SDV's options that change nothing here: the format is always the input's, progress is always told.
_WITHOUT_EFFECT = ("enforce_rounding", "verbose", "locales")
_MARGINALS = ("marginals", "default_distribution", "numerical_distributions")
#: Codes, one for missing included, are int16.
_MOST_CATEGORIES = 32_767


@dataclass(frozen=True)
class DeepOptions:
    """How a deep model is built and trained.

    Attributes:
        family: ``ctgan``, ``copulagan`` or ``tvae``.
        embedding_dim: Size of the latent noise.
        generator_dim: Widths of the generator's residual layers.
        discriminator_dim: Widths of the discriminator's layers.
        generator_lr: Adam's learning rate.
        generator_decay: Adam's weight decay.
        discriminator_lr: As for the generator.
        discriminator_decay: As for the generator.
        discriminator_steps: Discriminator updates to one of the generator.
        reuse_rows: Whether the generator's step judges the rows that have just taught the discriminator, as DCGANs are
            trained, rather than new ones, as in the stock package.
        averaging: Share of the steps so far over whose weights a GAN's generator is averaged; 0: the last weights, as
            in the stock package.
        pac: Rows that the discriminator judges together; divides ``batch_size``.
        log_frequency: Whether training draws condition categories by log frequency (else by frequency).
        compress_dims: Widths of TVAE's encoder.
        decompress_dims: Widths of TVAE's decoder.
        l2scale: Weight decay of TVAE.
        loss_factor: Weight of TVAE's reconstruction loss.
        batch_size: Rows of a step.
        epochs: Passes over the training rows.
        enforce_min_max_values: Whether values are kept between the (protected) minimum and maximum.
        condvec: Condition vectors at sampling: ``true`` frequencies, or ``log`` as in the stock package.
        decode: TVAE's categories at sampling: ``sample`` from the decoder's distribution, or its ``argmax`` as in the
            stock package.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: Of the matrix products of sampling, and of a GAN's training: ``float32``, or ``bf16``, which is
            faster on CPUs that multiply it (AVX512-BF16, AMX) and slower on others. All else is float32.
        max_categories: Categories of a column that are learned one by one; the rest share one token, which sampling
            expands by their frequencies.
        max_clusters: Modes of a numeric column at most.
        weight_threshold: Modes with less of the rows are dropped.
        checkpoint_minutes: Minutes between two checkpoints.
        normalisation_rows: Generated rows on which a trained generator's batch normalisation is settled.
        check_epochs: Epochs between two looks at the quality of the rows (all pairs, by SDMetrics' definitions); the
            best weights are kept. 0: never.
        patience: Such looks without a better score after which training stops.
        check_rows: Rows that are scored.
        replicas: Trainings from as many seeds, each a task of its own; the best by quality is kept.
        default_marginal: CopulaGAN's transform of numeric columns: ``empirical``, or one of SDV's names.
        marginals: The same by column name.
        protection: What the model may hold of rare values.
    """

    family: str = "ctgan"
    embedding_dim: int = 128
    generator_dim: tuple[int, ...] = (256, 256)
    discriminator_dim: tuple[int, ...] = (256, 256)
    generator_lr: float = 2e-4
    generator_decay: float = 1e-6
    discriminator_lr: float = 2e-4
    discriminator_decay: float = 1e-6
    discriminator_steps: int = 1
    reuse_rows: bool = True
    averaging: float = 0.1
    pac: int = 10
    log_frequency: bool = True
    compress_dims: tuple[int, ...] = (128, 128)
    decompress_dims: tuple[int, ...] = (128, 128)
    l2scale: float = 1e-5
    loss_factor: float = 2
    batch_size: int = 500
    epochs: int = 300
    enforce_min_max_values: bool = True
    condvec: str = "true"
    decode: str = "sample"
    device: str = "auto"
    precision: str = "float32"
    max_categories: int = 1_000
    max_clusters: int = 10
    weight_threshold: float = 0.005
    checkpoint_minutes: float = 10.0
    normalisation_rows: int = 100_000
    check_epochs: int = 0
    patience: int = 3
    check_rows: int = 20_000
    replicas: int = 1
    default_marginal: str = EMPIRICAL
    marginals: Mapping[str, str] = field(default_factory=dict)
    protection: Protection = field(default_factory=Protection)

    @classmethod
    def parse(cls, family: str, options: Mapping[str, Any] | None = None) -> DeepOptions:
        """Options from a model's entry in a job file.

        Args:
            family: ``ctgan``, ``copulagan`` or ``tvae``.
            options: The attributes above; SDV's ``enable_gpu: false`` (``device: cpu``); for CopulaGAN ``marginals``,
                or SDV's ``default_distribution`` and ``numerical_distributions``; the job's ``rare`` and ``extremes``.

        Raises:
            JobError: An unknown or impossible option, with the nearest valid one.
        """
        given = {key: value for key, value in dict(options or {}).items() if key not in _WITHOUT_EFFECT}
        own = _MARGINALS if family == "copulagan" else ()
        shared: dict[str, Any] = {key: given.pop(key) for key in (*own, "rare", "extremes") if key in given}
        held = FitOptions.parse(shared, family=family)
        if given.pop("enable_gpu", True) is False:
            given["device"] = "cpu"
        valid = option_names(family)
        for key in given:
            if key not in valid:
                near = difflib.get_close_matches(str(key), [*valid, *own], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid)}"
                raise JobError(f"{family}: no option is called {key!r}{hint}")
        defaults = cls(family)
        values = {key: _like(family, key, getattr(defaults, key), value) for key, value in given.items()}
        parsed = cls(
            family=family,
            default_marginal=held.default,
            marginals=held.marginals,
            protection=held.protection,
            **values,
        )
        parsed._check()
        return parsed

    def _check(self) -> None:
        for key, choices in (
            ("condvec", ("true", "log")),
            ("decode", ("sample", "argmax")),
            ("device", ("auto", "cpu", "cuda")),
            ("precision", ("float32", "bf16")),
        ):
            if getattr(self, key) not in choices:
                raise JobError(f"{self.family}: {key} is one of {', '.join(choices)}, not {getattr(self, key)!r}")
        for key in (
            "embedding_dim",
            "batch_size",
            "epochs",
            "pac",
            "discriminator_steps",
            "max_clusters",
            "normalisation_rows",
            "patience",
            "check_rows",
            "replicas",
        ):
            if getattr(self, key) < 1:
                raise JobError(f"{self.family}: {key} is {getattr(self, key)}; wanted at least 1")
        for key, what in (("averaging", "steps"), ("weight_threshold", "rows")):
            if not 0 <= getattr(self, key) <= 1:
                raise JobError(f"{self.family}: {key} is {getattr(self, key)}; wanted a share of the {what}, 0 to 1")
        for key in ("generator_lr", "discriminator_lr", "loss_factor"):
            if not getattr(self, key) > 0:
                raise JobError(f"{self.family}: {key} is {getattr(self, key)}; wanted more than 0")
        for key in ("generator_decay", "discriminator_decay", "l2scale", "checkpoint_minutes"):
            if not getattr(self, key) >= 0:
                raise JobError(f"{self.family}: {key} is {getattr(self, key)}; wanted at least 0")
        if self.check_epochs < 0:
            raise JobError(f"{self.family}: check_epochs is {self.check_epochs}; wanted 0 (never) or more")
        if not 2 <= self.max_categories <= _MOST_CATEGORIES:
            raise JobError(f"{self.family}: max_categories is {self.max_categories}; wanted 2 to {_MOST_CATEGORIES}")
        if self.family == "tvae":
            return
        if self.batch_size % self.pac:
            down = self.batch_size // self.pac * self.pac
            raise JobError(
                f"{self.family}: pac {self.pac} does not divide batch_size {self.batch_size}: the discriminator judges "
                f"pac rows together; take batch_size {down or self.pac} or another pac"
            )
        if self.batch_size < 2:
            raise JobError(f"{self.family}: batch_size is 1; batch normalisation wants at least 2")

    def check_columns(self, names: list[str]) -> None:
        """JobError if a marginal is given for a column that is not there."""
        FitOptions(marginals=self.marginals).check_columns(names, family=self.family)

    @property
    def is_gan(self) -> bool:
        """Whether the networks are CTGAN's."""
        return self.family != "tvae"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "marginals": dict(self.marginals)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeepOptions:
        """Inverse of ``to_json``."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        values["protection"] = Protection(**data["protection"])
        return cls(**values)


_GAN = (
    "generator_dim",
    "discriminator_dim",
    "generator_lr",
    "generator_decay",
    "discriminator_lr",
    "discriminator_decay",
    "discriminator_steps",
    "reuse_rows",
    "averaging",
    "pac",
    "log_frequency",
    "condvec",
    "normalisation_rows",
)
_VAE = ("compress_dims", "decompress_dims", "l2scale", "loss_factor", "decode")
_INTERNAL = ("family", "default_marginal", "marginals", "protection")


def option_names(family: str) -> tuple[str, ...]:
    """Names of the options that a family takes (besides SDV's that change nothing here)."""
    absent = _VAE if family != "tvae" else _GAN
    return tuple(f.name for f in fields(DeepOptions) if f.name not in (*absent, *_INTERNAL))


def _like(family: str, key: str, default: Any, value: Any) -> Any:
    """A given value in the type of the default."""
    try:
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise TypeError
            return value
        if isinstance(default, tuple):
            if not isinstance(value, (list, tuple)) or (not value and key == "discriminator_dim"):
                raise TypeError  # the penalty on the discriminator's gradient wants a hidden layer
            if any(isinstance(v, bool) or int(v) != v or v < 1 for v in value):
                raise ValueError
            return tuple(int(v) for v in value)
        if isinstance(default, str):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(default, int) and not isinstance(value, bool) and float(value) == int(value):
            return int(value) if key != "loss_factor" else float(value)
        if isinstance(default, (int, float)) and not isinstance(value, bool):
            if isinstance(default, int) and key != "loss_factor":
                raise ValueError
            if math.isinf(float(value)):
                raise ValueError
            return float(value)
        raise TypeError
    except (TypeError, ValueError, OverflowError):
        wanted = {bool: "true or false", tuple: "a list of widths such as [256, 256]", int: "a whole number"}
        kind = wanted.get(type(default), "a number")
        raise JobError(f"{family}: {key}: wanted {kind}, found {type(value).__name__}") from None
