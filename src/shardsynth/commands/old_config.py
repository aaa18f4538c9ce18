"""`init --from-config`: turns a configuration that scripts around SDV 0.17 read into a job.

It reads ``models.active`` and, in the section of the model named there, ``data_path``, ``primary_key``,
``regex_primary_key``, ``epochs``, ``batch_size``, ``num_rows``, ``Anonymization`` and ``field_distributions``. Any
other setting is an error: it would be lost, and nobody would notice.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shardsynth.data.importer import import_table
from shardsynth.data.sheets import sheet_names
from shardsynth.errors import JobError, did_you_mean
from shardsynth.job import parse_rows
from shardsynth.standalone.regular import read_regular

#: Model names of SDV 0.17, in small letters, and our families.
FAMILIES = {"gaussiancopula": "gaussian_copula", "copulagan": "copulagan", "ctgan": "ctgan", "tvae": "tvae"}
#: Names that SDV 0.17 had for a column's distribution, and SDV's names of today.
DISTRIBUTIONS = {
    "gaussian": "norm",
    "norm": "norm",
    "gamma": "gamma",
    "beta": "beta",
    "gaussian_kde": "gaussian_kde",
    "truncated_gaussian": "truncnorm",
    "truncnorm": "truncnorm",
    "bounded": "truncnorm",
    "uniform": "uniform",
}
_KEYS = (
    "data_path",
    "primary_key",
    "regex_primary_key",
    "epochs",
    "batch_size",
    "num_rows",
    "Anonymization",
    "field_distributions",
)
_ANONYMIZATION = ("active", "name_of_the_fields", "category_of_the_fields")
#: Endings of tables that must be imported first.
_FOREIGN_ENDINGS = (
    ".csv",
    ".tsv",
    ".tab",
    ".txt",
    ".xlsx",
    ".xlsm",
    ".xls",
    ".feather",
    ".arrow",
    ".gz",
    ".bz2",
    ".zst",
)


@dataclass(frozen=True)
class OldConfig:
    """Settings of an old configuration.

    Attributes:
        data: Its table.
        family: Model family.
        options: The family's options, by their names of today.
        rows: Rows to make; None: as many as the input has.
        primary_key: Key column, or None.
        regex: Format of the keys, or None.
        anonymize: Column -> Faker function.
    """

    data: Path
    family: str
    options: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None
    primary_key: str | None = None
    regex: str | None = None
    anonymize: dict[str, str] = field(default_factory=dict)

    @property
    def needs_import(self) -> bool:
        """Whether the table must be turned into Parquet first."""
        return self.data.suffix.lower() in _FOREIGN_ENDINGS

    def apply(self, metadata: dict[str, Any], job: dict[str, Any]) -> list[str]:
        """Change detected metadata and a job, in place, to what the configuration says.

        Args:
            metadata: SDV's V2 form, one table.
            job: The content of a job file.

        Returns:
            Lines that say which settings are left out.

        Raises:
            JobError: It names a column that the table does not have.
        """
        (table,) = metadata["tables"].values()
        for name in (*([self.primary_key] if self.primary_key else []), *self.anonymize):
            _known(name, table["columns"], "no column is called")
        for name in self.options.get("numerical_distributions", {}):
            _known(name, table["columns"], "field_distributions: no column is called")
        if self.primary_key:
            table["primary_key"] = self.primary_key
            table["columns"][self.primary_key] = {"sdtype": "id"}
            if self.regex:
                table["columns"][self.primary_key]["regex_format"] = self.regex
        options, lines = dict(self.options), []
        if "numerical_distributions" in options:
            distributions = options.pop("numerical_distributions")
            sdtypes = {name: table["columns"][name]["sdtype"] for name in distributions}
            left_out = [name for name, sdtype in sdtypes.items() if sdtype not in ("numerical", "datetime")]
            left_out += [name for name in self.anonymize if name in distributions and name not in left_out]
            lines = [
                f"field_distributions: column {name!r} is {sdtypes[name]!r}: its distribution is left out"
                for name in left_out
            ]
            numeric = {name: distribution for name, distribution in distributions.items() if name not in left_out}
            options.update({"numerical_distributions": numeric} if numeric else {})
        job["models"] = {self.family: options}
        if self.rows is not None:
            job["sample"]["rows"] = self.rows
        if self.anonymize:
            job["anonymize"] = {**job.get("anonymize", {}), **self.anonymize}
        return lines


def read_old(path: Path) -> OldConfig:
    """Read a configuration file.

    Raises:
        JobError: The file cannot be read, is not valid YAML, or has another layout; the message names the key, and the
            known key that is most like it.
    """
    try:
        data = yaml.safe_load(read_regular(path).decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise JobError(f"{path}: is not valid YAML") from None
    try:
        return _parsed(data, path.parent)
    except JobError as error:
        raise JobError(f"{path}: {error}") from None


def _parsed(data: Any, folder: Path) -> OldConfig:
    models = data.get("models") if isinstance(data, Mapping) else None
    if not isinstance(models, Mapping) or "active" not in models:
        raise JobError("wanted a mapping with `models.active`, as scripts around SDV 0.17 read it")
    active = models["active"]
    if isinstance(active, list):
        if len(active) != 1:
            raise JobError(f"models.active names {len(active)} models; write one job for each")
        active = active[0]
    family = FAMILIES[_known(_plain(str(active)), FAMILIES, "models.active: no model is called")]
    # A model's section stands under `models` or beside it.
    sections = {_plain(str(key)): section for place in (models, data) for key, section in place.items()}
    section = sections.get(_plain(str(active)))
    if not isinstance(section, Mapping):
        raise JobError(f"models.active is {active!r}, but there is no section of that name with its settings")
    for key in section:
        _known(str(key), _KEYS, f"{active}: no setting is known as")
    if not section.get("data_path"):
        raise JobError(f"{active}.data_path is missing: name the file of the table")
    options: dict[str, Any] = {}
    if family != "gaussian_copula":
        options = {key: int(section[key]) for key in ("epochs", "batch_size") if section.get(key) is not None}
    distributions = section.get("field_distributions") or {}
    if distributions and family not in ("gaussian_copula", "copulagan"):
        raise JobError(f"{active}.field_distributions: a {family} has none; leave them out")
    if distributions:
        options["numerical_distributions"] = {
            str(column): DISTRIBUTIONS[
                _known(str(name), DISTRIBUTIONS, f"{active}.field_distributions: no distribution")
            ]
            for column, name in dict(distributions).items()
        }
    table = Path(str(section["data_path"])).expanduser()
    rows = section.get("num_rows")
    return OldConfig(
        data=table if table.is_absolute() or table.exists() else folder / table,
        family=family,
        options=options,
        rows=None if rows is None else parse_rows(rows),
        primary_key=None if not section.get("primary_key") else str(section["primary_key"]),
        regex=None if not section.get("regex_primary_key") else str(section["regex_primary_key"]),
        anonymize=_anonymize(section.get("Anonymization") or {}, str(active)),
    )


def _anonymize(settings: Any, active: str) -> dict[str, str]:
    """Column -> Faker function of an ``Anonymization`` section; empty where it is not active."""
    where = f"{active}.Anonymization"
    if not isinstance(settings, Mapping):
        raise JobError(f"{where}: wanted a mapping with {', '.join(_ANONYMIZATION)}")
    for key in settings:
        _known(str(key), _ANONYMIZATION, f"{where}: no setting is known as")
    if not settings.get("active"):
        return {}
    columns, functions = (_names(settings.get(key)) for key in _ANONYMIZATION[1:])
    if len(columns) != len(functions):
        raise JobError(f"{where}: {len(columns)} fields are named, but {len(functions)} categories")
    return dict(zip(columns, functions))


def _names(value: Any) -> list[str]:
    """Names from a setting: one name, or a list of names and of lists of one name, as SDV 0.17 allowed."""
    items = [] if value is None else value if isinstance(value, list) else [value]
    return [str(item[0]) if isinstance(item, list) and len(item) == 1 else str(item) for item in items]


def _plain(name: str) -> str:
    """A model's name in small letters only: ``CTGAN_Model`` and ``ctgan`` are the same."""
    return re.sub(r"synthesizer$|model$", "", re.sub(r"[^a-z]", "", name.lower()))


def _known(word: str, words: Collection[str], problem: str) -> str:
    """The word, if it is one of the words; else JobError, which begins with the problem."""
    if word in words:
        return word
    hint = did_you_mean(word, words) or f"; known: {', '.join(list(words)[:12])}"
    raise JobError(f"{problem} {word!r}{hint}")


def import_old_table(config: OldConfig, output: Path, *, force: bool = False) -> Iterator[str]:
    """Import the configuration's table beside the job file, unless it is Parquet already.

    Args:
        config: The configuration.
        output: Job file; the shards go to ``<output>.data``.
        force: Replace the shards of an earlier import.

    Yields:
        The folder or file of the shards, then lines for the terminal.

    Raises:
        JobError: There is no such table.
        InputError: The table cannot be imported.
    """
    if not config.needs_import:
        yield str(config.data)
        return
    folder = output.with_suffix(".data")
    if not config.data.is_file():
        raise JobError(f"{config.data}: there is no such file; correct data_path in the configuration")
    if force and folder.is_dir() and all(path.match("part-*.parquet") for path in folder.iterdir()):
        shutil.rmtree(folder)
    sheets = sheet_names(config.data)
    shards = import_table(config.data, folder, sheet=sheets[0] if sheets else None)
    yield str(folder)
    if len(sheets) > 1:
        yield f"{config.data} has {len(sheets)} sheets: the first, {sheets[0]!r}, is taken, as pandas does"
    yield f"imported {config.data} as {len(shards)} Parquet shard(s) in {folder}"
