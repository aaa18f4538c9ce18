"""`init --from-config`: the configuration that scripts around SDV 0.17 read, as a job of today.

Read are ``models.active`` and, of the model that it names, ``data_path``, ``primary_key``, ``regex_primary_key``,
``epochs``, ``batch_size``, ``num_rows``, ``Anonymization`` and ``field_distributions``. Anything else is an error: it
would otherwise be lost without a word.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shardsynth.errors import JobError, did_you_mean
from shardsynth.job import parse_rows

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
_TABLES = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".xls", ".feather", ".arrow", ".gz", ".bz2", ".zst")


@dataclass(frozen=True)
class OldConfig:
    """What an old configuration asks for.

    Attributes:
        data: Its table.
        family: Model family.
        options: The family's options, by today's names.
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
        """Whether the table is no Parquet yet."""
        return self.data.suffix.lower() in _TABLES

    def applied(self, metadata: dict[str, Any], job: dict[str, Any]) -> list[str]:
        """Change detected metadata and a job to what the configuration says; returns what cannot be kept, as text.

        Raises:
            JobError: It names a column that the table has not.
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
        options, said = dict(self.options), []
        if "numerical_distributions" in options:
            chosen = options.pop("numerical_distributions")
            kinds = {name: table["columns"][name]["sdtype"] for name in chosen}
            left = [name for name, kind in kinds.items() if kind not in ("numerical", "datetime")]
            left += [name for name in self.anonymize if name in chosen and name not in left]
            said = [
                f"field_distributions: column {name!r} is {kinds[name]!r}: its distribution is left out"
                for name in left
            ]
            kept = {name: distribution for name, distribution in chosen.items() if name not in left}
            options.update({"numerical_distributions": kept} if kept else {})
        job["models"] = {self.family: options}
        if self.rows is not None:
            job["sample"]["rows"] = self.rows
        if self.anonymize:
            job["anonymize"] = self.anonymize
        return said


def read_old(path: Path) -> OldConfig:
    """Read a configuration.

    Raises:
        JobError: Not of that layout; says which key, and the nearest that is known.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError:
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
    family = _family(str(active))
    blocks = {_plain(str(key)): block for place in (models, data) for key, block in place.items()}
    block = blocks.get(_plain(str(active)))
    if not isinstance(block, Mapping):
        raise JobError(f"models.active is {active!r}, but there is no section of that name with its settings")
    for key in block:
        _known(str(key), _KEYS, f"{active}: no setting is known as")
    if not block.get("data_path"):
        raise JobError(f"{active}.data_path is missing: where does the table lie?")
    options = {key: int(block[key]) for key in ("epochs", "batch_size") if block.get(key) is not None}
    if family == "gaussian_copula":
        options = {}
    distributions = block.get("field_distributions") or {}
    if distributions and family not in ("gaussian_copula", "copulagan"):
        raise JobError(f"{active}.field_distributions: a {family} has none; leave them out")
    chosen: dict[str, Any] = dict(options)
    if distributions:
        chosen["numerical_distributions"] = {
            str(column): DISTRIBUTIONS[
                _known(str(name), DISTRIBUTIONS, f"{active}.field_distributions: no distribution")
            ]
            for column, name in dict(distributions).items()
        }
    table = Path(str(block["data_path"])).expanduser()
    rows = block.get("num_rows")
    return OldConfig(
        table if table.is_absolute() or table.exists() else folder / table,
        family,
        chosen,
        None if rows is None else parse_rows(rows),
        None if not block.get("primary_key") else str(block["primary_key"]),
        None if not block.get("regex_primary_key") else str(block["regex_primary_key"]),
        _anonymized(block.get("Anonymization") or {}, str(active)),
    )


def _anonymized(settings: Any, active: str) -> dict[str, str]:
    where = f"{active}.Anonymization"
    if not isinstance(settings, Mapping):
        raise JobError(f"{where}: wanted a mapping with {', '.join(_ANONYMIZATION)}")
    for key in settings:
        _known(str(key), _ANONYMIZATION, f"{where}: no setting is known as")
    if not settings.get("active"):
        return {}
    names, kinds = (_listed(settings.get(key)) for key in _ANONYMIZATION[1:])
    if len(names) != len(kinds):
        raise JobError(f"{where}: {len(names)} fields are named, but {len(kinds)} categories")
    return dict(zip(names, kinds))


def _listed(value: Any) -> list[str]:
    """A list of names; a name that stands in a list of its own, as SDV 0.17 allowed, is taken out of it."""
    several = [] if value is None else value if isinstance(value, list) else [value]
    return [str(one[0]) if isinstance(one, list) and len(one) == 1 else str(one) for one in several]


def _plain(name: str) -> str:
    return re.sub(r"synthesizer$|model$", "", re.sub(r"[^a-z]", "", name.lower()))


def _family(active: str) -> str:
    return FAMILIES[_known(_plain(active), FAMILIES, "models.active: no model is called")]


def _known(word: str, words: Collection[str], problem: str) -> str:
    if word in words:
        return word
    hint = did_you_mean(word, words) or f"; known: {', '.join(list(words)[:12])}"
    raise JobError(f"{problem} {word!r}{hint}")


def import_old_table(config: OldConfig, output: Path, *, force: bool = False) -> Iterator[str]:
    """Import the configuration's table beside the job file, if it is no Parquet yet; yields the folder, then lines.

    With ``force``, the shards of an import before are replaced.
    """
    from shardsynth.data.foreign import sheet_names
    from shardsynth.data.importer import import_table

    if not config.needs_import:
        yield str(config.data)
        return
    folder = output.with_suffix(".data")
    if not config.data.is_file():
        raise JobError(f"{config.data}: there is no such file")
    if force and folder.is_dir() and all(path.match("part-*.parquet") for path in folder.iterdir()):
        shutil.rmtree(folder)
    sheets = sheet_names(config.data)
    shards = import_table(config.data, folder, sheet=sheets[0] if sheets else None)
    yield str(folder)
    if len(sheets) > 1:
        yield f"{config.data} has {len(sheets)} sheets: the first, {sheets[0]!r}, is taken, as pandas does"
    yield f"imported {config.data} as {len(shards)} Parquet shard(s) in {folder}"
