"""Options of SDV's own synthesizers, by SDV's names, so that a job can be checked where sdv is not imported.

The table is what ``inspect.signature`` says of SDV 2.0's classes; a test holds it equal to the installed ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shardsynth.errors import JobError, did_you_mean

_BASE = {"enforce_min_max_values": True, "enforce_rounding": True}
_DISTRIBUTIONS = {"numerical_distributions": None, "default_distribution": None}
_CTGAN = {
    **_BASE,
    "locales": ["en_US"],
    "embedding_dim": 128,
    "generator_dim": (256, 256),
    "discriminator_dim": (256, 256),
    "generator_lr": 2e-4,
    "generator_decay": 1e-6,
    "discriminator_lr": 2e-4,
    "discriminator_decay": 1e-6,
    "batch_size": 500,
    "discriminator_steps": 1,
    "log_frequency": True,
    "verbose": False,
    "epochs": 300,
    "pac": 10,
    "enable_gpu": True,
}

#: Family -> option -> SDV's default.
OPTIONS: dict[str, dict[str, Any]] = {
    "gaussian_copula": {**_BASE, "locales": ["en_US"], **_DISTRIBUTIONS},
    "ctgan": _CTGAN,
    "copulagan": {**_CTGAN, **_DISTRIBUTIONS},
    "tvae": {
        **_BASE,
        "embedding_dim": 128,
        "compress_dims": (128, 128),
        "decompress_dims": (128, 128),
        "l2scale": 1e-5,
        "batch_size": 500,
        "verbose": False,
        "epochs": 300,
        "loss_factor": 2,
        "enable_gpu": True,
    },
}
#: Family -> name of its class in ``sdv.single_table``.
CLASSES = {
    "gaussian_copula": "GaussianCopulaSynthesizer",
    "ctgan": "CTGANSynthesizer",
    "copulagan": "CopulaGANSynthesizer",
    "tvae": "TVAESynthesizer",
}
#: Names of marginal distributions that SDV knows.
DISTRIBUTIONS = ("norm", "beta", "truncnorm", "gamma", "uniform", "gaussian_kde")
_FORMER_NAMES = {"cuda": "enable_gpu", "field_distributions": "numerical_distributions"}
_AT_LEAST_ONE = {"embedding_dim", "batch_size", "epochs", "pac", "discriminator_steps"}


def validate_options(family: str, options: dict[str, Any], columns: Collection[str] | None = None) -> dict[str, Any]:
    """Options as SDV's constructor takes them, checked; lists of layer sizes become tuples.

    Args:
        family: ``gaussian_copula``, ``copulagan``, ``ctgan`` or ``tvae``.
        options: By SDV's names; what is not given keeps SDV's default.
        columns: The table's column names, to check those of ``numerical_distributions``.

    Raises:
        JobError: An unknown family or option (with the nearest valid one), a value of the wrong type, or values that
            cannot be combined.
    """
    if family not in OPTIONS:
        raise JobError(
            f"no model family is called {family!r}{_nearest(family, OPTIONS)}; families: {', '.join(OPTIONS)}"
        )
    known = OPTIONS[family]
    checked = {}
    for name, value in options.items():
        if name not in known:
            raise JobError(f"{family} has no option {name!r}{_nearest(name, known)}; its options: {', '.join(known)}")
        checked[name] = _checked(family, name, value, known[name])
    for column, distribution in (checked.get("numerical_distributions") or {}).items():
        if columns is not None and column not in columns:
            raise JobError(
                f"{family}.numerical_distributions: no column is called {column!r}{_nearest(column, columns)}"
            )
        _check_distribution(f"{family}.numerical_distributions.{column}", distribution)
    if checked.get("default_distribution") is not None:
        _check_distribution(f"{family}.default_distribution", checked["default_distribution"])
    if "pac" in known:
        batch, pac = checked.get("batch_size", known["batch_size"]), checked.get("pac", known["pac"])
        if batch % 2 or batch % pac:
            raise JobError(f"{family}: batch_size must be even and a multiple of pac, found {batch} and pac {pac}")
    return checked


def _checked(family: str, name: str, value: Any, default: Any) -> Any:
    where = f"{family}.{name}"
    if isinstance(default, bool):
        _require(isinstance(value, bool), where, "true or false", value)
    elif isinstance(default, int) and name != "loss_factor":
        _require(isinstance(value, int) and not isinstance(value, bool), where, "a whole number", value)
        _require(value >= 1 or name not in _AT_LEAST_ONE, where, "at least 1", value)
    elif isinstance(default, (int, float)):
        _require(isinstance(value, (int, float)) and not isinstance(value, bool), where, "a number", value)
        _require(value >= 0, where, "a number not below 0", value)
    elif isinstance(default, tuple):
        sizes = isinstance(value, (list, tuple)) and all(isinstance(v, int) and v > 0 for v in value)
        _require(sizes, where, "a list of layer sizes, such as [256, 256]", value)
        return tuple(value)
    elif name == "locales":
        texts = isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value))
        _require(texts, where, "a locale or a list of them, such as [en_US]", value)
        return [value] if isinstance(value, str) else list(value)
    elif name == "numerical_distributions":
        _require(value is None or isinstance(value, dict), where, "a mapping of column to distribution", value)
    return value


def _require(holds: bool, where: str, wanted: str, value: Any) -> None:
    if not holds:
        raise JobError(f"{where}: wanted {wanted}, found {value!r}")


def _check_distribution(where: str, distribution: Any) -> None:
    if distribution not in DISTRIBUTIONS:
        hint = _nearest(str(distribution), DISTRIBUTIONS)
        raise JobError(f"{where}: no distribution is called {distribution!r}{hint}; known: {', '.join(DISTRIBUTIONS)}")


def _nearest(word: str, words: Collection[str]) -> str:
    if _FORMER_NAMES.get(word) in words:
        return f" (it is called {_FORMER_NAMES[word]!r} now)"
    return did_you_mean(word, words)
