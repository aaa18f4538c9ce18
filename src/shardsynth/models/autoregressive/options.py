"""Options of the autoregressive model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from shardsynth.errors import JobError
from shardsynth.models.columns.marginals import Protection
from shardsynth.models.columns.options import FitOptions

_CHOICES = {"order": ("any", "fixed"), "device": ("auto", "cpu", "cuda")}
_RANGES: dict[str, tuple[float, float]] = {
    "bins": (0, 1000),
    "max_categories": (2, 10_000),
    "embedding": (0, 4096),
    "hidden": (0, 4096),
    "dropout": (0.0, 0.9),
    "batch_size": (0, 1_000_000),
    "learning_rate": (1e-6, 1.0),
    "max_epochs": (1, 100_000),
    "patience": (1, 1000),
    "widest_gap": (0.0, 1000.0),
    "validation": (0.01, 0.5),
    "temperature": (0.05, 10.0),
    "top_p": (0.01, 1.0),
    "checkpoint_minutes": (0.0, 1e6),
}


@dataclass(frozen=True)
class AutoregressiveOptions:
    """How an autoregressive model is built, trained and sampled. 0 means "by the table".

    Attributes:
        order: ``any``: rows can be drawn given any set of columns; ``fixed``: only schema order is learned, which is
            a little better and faster where no conditions are wanted.
        bins: Codes of a numeric column.
        max_categories: Codes of a category column; the rarer categories of a larger one share codes.
        embedding: Width of the context.
        hidden: Width of each column's own hidden layer.
        dropout: Share of the context and of the hidden units that a training step leaves out, against remembering rows;
            rounded to 256ths.
        batch_size: Rows of a step.
        learning_rate: Adam's, before it is brought down to zero.
        max_epochs: Passes over the training rows at most; training usually stops itself long before.
        patience: Checks on the held-out rows without improvement before the learning rate is brought down.
        widest_gap: Standard errors by which rows that are trained on may do better than held-out ones: smaller stops
            earlier and tells less of the training rows, larger learns more of them.
        validation: Share of the training sample held out to decide when to stop.
        calibrate: Whether each column's bias is set so that the model's own rows have the counted frequencies.
        temperature: At sampling: below 1 sharper, above 1 flatter than learned.
        top_p: At sampling: only the most probable codes that together hold this probability.
        balance: Category column whose categories are drawn equally often; none if empty.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint_minutes: Minutes between two checkpoints.
        protection: What the model may hold of rare values.
    """

    order: str = "any"
    bins: int = 0
    max_categories: int = 1000
    embedding: int = 0
    hidden: int = 0
    dropout: float = 0.2
    batch_size: int = 0
    learning_rate: float = 2e-3
    max_epochs: int = 200
    patience: int = 3
    widest_gap: float = 4.5
    validation: float = 0.1
    calibrate: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    balance: str = ""
    device: str = "auto"
    checkpoint_minutes: float = 10.0
    protection: Protection = field(default_factory=Protection)

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None = None) -> AutoregressiveOptions:
        """Options from a model's entry in a job file.

        Args:
            options: The attributes above, and the job's ``rare`` and ``extremes``.

        Raises:
            JobError: An unknown or impossible option, with the nearest valid one.
        """
        given = {key: value for key, value in dict(options or {}).items() if key not in ("locales", "verbose")}
        shared: dict[str, Any] = {k: given.pop(k) for k in ("rare", "extremes") if k in given}
        held = FitOptions.parse(shared, family="autoregressive")
        valid = [f.name for f in fields(cls) if f.name != "protection"]
        for key in given:
            if key not in valid:
                near = difflib.get_close_matches(key, valid, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid)}"
                raise JobError(f"autoregressive: no option is called {key!r}{hint}")
        values = {key: _checked(key, getattr(cls, key), value) for key, value in given.items()}
        return cls(protection=held.protection, **values)

    def sampled(self, temperature: float | None, top_p: float | None, balance: str | None) -> AutoregressiveOptions:
        """The same, sampled otherwise; what is None stays."""
        given: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "balance": balance}
        changed = {key: _checked(key, getattr(self, key), value) for key, value in given.items() if value is not None}
        return replace(self, **changed)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AutoregressiveOptions:
        """Inverse of ``to_json``."""
        return cls(**{**data, "protection": Protection(**data["protection"])})


def _checked(key: str, default: Any, value: Any) -> Any:
    """A given value in the type of the default, in its range."""
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise JobError(f"autoregressive: {key}: wanted true or false, found {type(value).__name__}")
    if isinstance(default, str):
        if key in _CHOICES and value not in _CHOICES[key]:
            raise JobError(f"autoregressive: {key} is one of {', '.join(_CHOICES[key])}, not {value!r}")
        return str(value)
    low, high = _RANGES[key]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or (isinstance(default, int) and value != int(value)) or not low <= value <= high:
        kind = "a whole number" if isinstance(default, int) else "a number"
        found = value if number else type(value).__name__
        raise JobError(f"autoregressive: {key}: wanted {kind} from {low:g} to {high:g}, found {found}")
    return type(default)(value)
