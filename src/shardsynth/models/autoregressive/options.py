"""Options of the autoregressive model."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Mapping
from typing import Any, Literal, Optional

from pydantic import Field, StrictBool

from shardsynth.models.training.options import TrainedOptions
from shardsynth.options import Number, Text, Whole

#: A ``widest_gap`` of an older job from which nothing was bounded.
_NO_BOUND = 100


class AutoregressiveOptions(TrainedOptions):
    """How an autoregressive model is built, trained and sampled. A size of 0 follows from the table."""

    order: Literal["any", "fixed"] = Field("any", description="Orders of the columns that are learned, see below.")
    bins: Whole = Field(0, ge=0, le=1000, description="Codes of a numeric column; 0: by the table.")
    max_categories: Whole = Field(1000, ge=2, le=10_000, description="Codes of a category column; the rarest share.")
    embedding: Whole = Field(0, ge=0, le=4096, description="Width of the context; 0: by the table.")
    hidden: Whole = Field(0, ge=0, le=4096, description="Width of each column's own hidden layer; 0: by the table.")
    dropout: Optional[Number] = Field(  # noqa: UP045 -- pydantic on Python 3.9
        None, ge=0.0, le=0.9, description="Share of the network that a step leaves out; without it, by the table."
    )
    batch_size: Whole = Field(0, ge=0, le=1_000_000, description="Rows of a step; 0: by the table.")
    learning_rate: Optional[Number] = Field(  # noqa: UP045
        None,
        ge=1e-6,
        le=1.0,
        description="Adam's, before it falls to zero; without it, 0.006, of several tables 0.002.",
    )
    max_epochs: Whole = Field(200, ge=1, le=100_000, description="Passes over the training rows at most.")
    patience: Whole = Field(3, ge=1, le=1000, description="Checks without a better loss before the rate comes down.")
    membership: Number = Field(0.54, ge=0.5, le=1.0, description="Largest AUC of an attack by the loss, see below.")
    validation: Number = Field(0.1, ge=0.01, le=0.5, description="Share of the rows held out to say when to stop.")
    calibrate: StrictBool = Field(True, description="The frequencies of drawn rows are set to the counted ones.")
    temperature: Number = Field(1.0, ge=0.05, le=10.0, description="At sampling: below 1 sharper, above 1 flatter.")
    top_p: Number = Field(1.0, ge=0.01, le=1.0, description="At sampling: the likeliest codes, of this probability.")
    balance: Text = Field("", description="At sampling: a category column whose categories come equally often.")
    checkpoint_minutes: Number = Field(10.0, ge=0.0, le=1e6, description="Minutes between two checkpoints.")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None = None) -> AutoregressiveOptions:
        """Options from a model's entry in a job file.

        Raises:
            JobError: An option is unknown or has a wrong value.
        """
        return cls.checked("autoregressive", _without_old_bound(options or {}))

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> AutoregressiveOptions:
        """Options of a model file. Older ones hold a bound in standard errors, which said when to stop."""
        return super().from_json(_without_old_bound(options))

    def sampled(self, temperature: float | None, top_p: float | None, balance: str | None) -> AutoregressiveOptions:
        """The same options, but for those of sampling; an argument that is None changes nothing.

        Raises:
            JobError: A value is out of range.
        """
        sampling = {"temperature": temperature, "top_p": top_p, "balance": balance}
        changed = {key: value for key, value in sampling.items() if value is not None}
        parsed = self.parse(changed)
        return self.model_copy(update={key: getattr(parsed, key) for key in changed})


def _without_old_bound(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without the bound in standard errors of older jobs; one so wide that it never held sets none."""
    kept = dict(options)
    gap = kept.pop("widest_gap", None)
    if type(gap) in (int, float) and gap >= _NO_BOUND:
        kept.setdefault("membership", 1.0)
    return kept
