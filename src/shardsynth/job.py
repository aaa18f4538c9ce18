"""The job file: one pydantic model, every option documented once.

`docs/job-file.md` is generated from the descriptions here (`python -m shardsynth.commands.reference docs/*.md`).
"""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import re
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shardsynth.cluster import STAGES, Cluster, Resources
from shardsynth.errors import JobError, did_you_mean
from shardsynth.options import Extremes, Options, Rare, parse_rows, row_count
from shardsynth.standalone.plain_values import problems
from shardsynth.standalone.regular import refuse_special

#: The section `cluster` stands in a module of its own; this one is the door to the whole job file.
__all__ = ["FAMILIES", "STAGES", "STOCK_FAMILIES", "Cluster", "Job", "ModelEntry", "Resources", "Sample"]
__all__ += ["apply_overrides", "load_yaml", "parse_rows"]

#: The model families; each has an entry in models/families.py.
FAMILIES = ("autoregressive", "gaussian_copula", "copulagan", "ctgan", "tvae")
STOCK_FAMILIES = ("gaussian_copula", "copulagan", "ctgan", "tvae")
#: Families that can be fitted under differential privacy -> the options that they have then.
_DP_OPTIONS = {
    "autoregressive": {
        *("locales", "order", "bins", "max_categories", "embedding", "hidden", "batch_size", "learning_rate"),
        *("max_epochs", "calibrate", "temperature", "top_p", "device", "checkpoint_minutes"),
    },
    "gaussian_copula": {"locales"},
}
_BASE_60 = re.compile(r"^[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?$")
#: A name that becomes a folder.
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
_TIMES = re.compile(r"^(\d+(\.\d+)?)\s*x$")


class _Options(Options):
    model_config = ConfigDict(populate_by_name=True)


class Fit(_Options):
    """What the models are fitted on."""

    rows: Literal["sample", "all"] = Field(
        "sample",
        description="Rows that native trained models (autoregressive, deep) learn from: a uniform `sample` of `sample_rows` of the training "
        "rows, or `all` of them, read once from the shards and kept as codes in files of the run directory.",
    )
    sample_rows: int = Field(
        200_000,
        ge=1,
        description="Rows of the uniform row sample that deep models, stock engines and checks are fitted on.",
    )


class Quota(_Options):
    """A number or share of rows that meet a condition."""

    where: Union[str, Dict[str, Any]] = Field(
        description='Text such as `Gender == "F" and 60 <= AGE < 80 and notnull(WBC)`, or a mapping of columns to a value, '
        "a list of values, null, or a mapping of operators, such as `{AGE: {'>=': 60}}`."
    )
    rows: Optional[int] = Field(None, ge=0, description="Rows that meet it; or `share`.")
    share: Optional[float] = Field(None, ge=0, le=1, description="Share of `sample.rows` that meets it; or `rows`.")

    @field_validator("rows", mode="before")
    @classmethod
    def _row_count(cls, value: Any) -> Any:
        return None if value is None else row_count(value)

    @model_validator(mode="after")
    def _check(self) -> Quota:
        if (self.rows is None) == (self.share is None):
            raise ValueError("wanted either `rows` or `share`, such as `{where: ..., share: 0.25}`")
        return self


class Sample(_Options):
    """How many rows are made, under which conditions, and in what pieces."""

    rows: Union[int, str] = Field("1x", description='Rows per model: a number, or "1x", "10x" of the input rows.')
    rows_per_shard: int = Field(1_000_000, ge=1, description="Rows of one output part.")
    chunk_rows: Optional[int] = Field(
        None,
        ge=1,
        description="Rows that share one random stream in stock engines (default: 50,000, or rows_per_shard if smaller). "
        "Another value gives other rows.",
    )
    tasks: Optional[int] = Field(None, ge=1, description="Tasks per model for sampling (default: one per output part).")
    conditions: List[Quota] = Field(
        [],
        description="Conditions with the rows or the share of each, made in this order before the rows without one. "
        "Native engines; exact for the Gaussian copula. Scores still compare with all real rows.",
    )
    balance: Optional[str] = Field(
        None,
        description="Column of categories: every class that enough rows have is made equally often, one after the other.",
    )
    coalesce_mb: Optional[int] = Field(
        None,
        ge=1,
        description="Merge also writes the parts again as files of about this many MB, under samples/<model>/_coalesced.",
    )

    @field_validator("rows", "rows_per_shard", "chunk_rows", mode="before")
    @classmethod
    def _row_count(cls, value: Any) -> Any:
        if isinstance(value, str) and _TIMES.match(value):
            if not float(value.rstrip("x ")) < 2**63:
                raise ValueError(f"{value[:40]!r} is no factor below 2^63; wanted such as `10x`")
            return value
        return None if value is None else row_count(value)

    @model_validator(mode="after")
    def _check(self) -> Sample:
        if self.balance is not None and self.conditions:
            raise ValueError("balance and conditions exclude each other; give the shares of the classes as conditions")
        if sum(quota.share or 0.0 for quota in self.conditions) > 1 + 1e-9:
            raise ValueError("the shares of the conditions add up to more than 1")
        return self

    def total_rows(self, input_rows: int) -> int:
        """Rows to make per model for an input of ``input_rows`` rows."""
        if isinstance(self.rows, str):
            match = _TIMES.match(self.rows)
            factor = float(match.group(1)) if match else 1.0
            return round(input_rows * factor)
        return self.rows


class Survival(_Options):
    """Columns of a survival analysis."""

    time: str = Field(description="Column of follow-up times, a number.")
    event: str = Field(
        description="Column that says whether the event happened: true or 1; 0 and missing ones are no event. Other codes want "
        "`value`."
    )
    value: Optional[str] = Field(
        None,
        description="The event's value where the column is text or has codes other than 0 and 1, such as `1:DECEASED` or `2`. "
        "Rows with another value are censored, also those that end otherwise.",
    )

    @field_validator("value", mode="before")
    @classmethod
    def _code(cls, value: Any) -> Any:
        """A number or true as it is written in the column."""
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, int) else value


class Evaluate(_Options):
    """How the synthetic rows are judged."""

    holdout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the input rows, chosen by hash, that no fit ever sees: the reference of every figure.",
    )
    group: Optional[str] = Field(None, description="The older name of `person`.")
    target: Optional[str] = Field(
        None,
        description="Column that a model trained on synthetic rows should predict: of real held-out rows, beside one "
        "trained on real rows.",
    )
    sensitive: Optional[List[str]] = Field(
        None,
        description="Columns whose values an attacker tries to guess from the others (default: the target, else the first ten).",
    )
    survival: Optional[Survival] = Field(None, description="Compare survival curves: `{time: COLUMN, event: COLUMN}`.")

    def columns(self) -> Dict[str, str]:
        """Option -> the column that it names."""
        names: dict[str, str | None] = {"group": self.group, "target": self.target}
        if self.survival is not None:
            names.update({"survival.time": self.survival.time, "survival.event": self.survival.event})
        names.update({f"sensitive[{place}]": name for place, name in enumerate(self.sensitive or [])})
        return {option: name for option, name in names.items() if name is not None}


class ModelEntry(_Options):
    """One model of the job: its family, its engine and the family's own options."""

    model: str = Field(
        "",
        description="Model family: autoregressive, gaussian_copula, copulagan, ctgan or tvae (default: the model's name).",
    )
    engine: Literal["native", "sdv"] = Field("native", description="`native`: ours; `sdv`: the stock SDV synthesizer.")
    options: Dict[str, Any] = Field(default_factory=dict, description="The family's own options, by SDV's names.")


class Constraint(_Options):
    """A rule that every row satisfies, in SDV's own JSON form."""

    class_name: str = Field(
        description="SDV's class: Inequality, Range, FixedCombinations, FixedIncrements or OneHotEncoding; or a class of "
        "yours, derived from sdv.cag.ProgrammableConstraint, as `package.module:Class` or `file.py:Class`."
    )
    parameters: Dict[str, Any] = Field(
        default_factory=dict, description="The class's parameters, by SDV's names: `{column_names: [WHO_2016, IPSSR]}`."
    )


class Privacy(_Options):
    """Differential privacy: noise on a copula's counts, or on a training's steps (needs `shardsynth[privacy]`)."""

    epsilon: float = Field(gt=0, description="Budget of this run: smaller is more private, and noisier.")
    delta: float = Field(1e-6, gt=0, lt=1, description="Probability with which the guarantee may fail; under 1/rows.")


class TableEntry(_Options):
    """One of the tables of a job of several tables."""

    input: Union[str, List[str]] = Field(description="Folder, glob, file or list of its Parquet shards.")
    orphans: Literal["error", "drop"] = Field(
        "error",
        description="Rows whose owner is not there, or that name none: an `error` that says how many, or `drop` them.",
    )
    copied: bool = Field(
        False,
        alias="copy",
        description="A public list, such as codes and their texts: it is copied as it is, and not learned. Columns that name "
        "its rows are learned as categories.",
    )


class Job(_Options):
    """One job: shards in, models, synthetic shards and a report out."""

    input: Union[str, List[str]] = Field(
        "", description="Folder, glob, file or list of Parquet shards; or `tables`, one of the two is needed."
    )
    tables: Dict[str, TableEntry] = Field(
        default_factory=dict,
        description="In place of `input`, tables that belong together: name -> `{input: SHARDS, orphans: error|drop, copy: false}`, or the shards "
        "alone. `metadata` says their keys and relationships; of a single table, its `sequence_key`.",
    )
    output: str = Field(description="The run directory.")
    widen: bool = Field(
        False,
        description="Whether shards that write a column in types of which one can lose the last digits of the other (64-bit "
        "integers and floats) agree on the wider one. Types that lose nothing always agree.",
    )
    metadata: Optional[str] = Field(
        None, description="SDV Metadata V2 file; detected and written to the run directory otherwise."
    )
    access: Literal["owner", "group"] = Field(
        "owner",
        description="Who may read the run's folder, where the run makes it: its `owner` alone, or also the `group` of the folder that it "
        "lies in; `private/` stays the owner's. A folder that exists keeps its mode and group.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Everything random follows from it.")
    models: Dict[str, ModelEntry] = Field(
        description="Name -> options. The name is free when `model:` says which family; `engine: native|sdv`; the rest are the family's options."
    )
    sample: Sample = Field(Sample(), description="How many rows, in what pieces.")
    fit: Fit = Field(Fit(), description="What the models are fitted on.")
    person: Optional[str] = Field(
        None,
        description="Column whose values are persons, such as a patient number, where a person has several rows. Then "
        "`rare`, `extremes`, the holdout, the figures and the page count persons, not rows.",
    )
    rare: Rare = Field(Rare(), description="What a native model may hold of rare categories and bins.")
    extremes: Extremes = Field(
        "tail",
        description="What a native model holds beyond the fifth most extreme values (with `person`: those of the fifth most "
        "extreme person). `tail`: a tail fitted without the values there, so that synthetic extremes spread as real ones and no real "
        "one is published. `clip`: nothing. `keep`: the real minimum and maximum.",
    )
    constraints: List[Constraint] = Field(
        default_factory=list,
        description="Rules that every row satisfies: a list of `{class_name, parameters}`, SDV's own constraints. "
        "Learned on the row sample, kept by construction, checked by SDV on every row that is written.",
    )
    anonymize: Dict[str, str] = Field(
        default_factory=dict,
        description="Column -> a Faker function (`name`, `email`, `company`, ...) that makes its values: not learned, "
        "whatever the metadata say.",
    )
    pseudonymize: Dict[str, str] = Field(
        default_factory=dict,
        description="Column -> a key file (mode 0600, 16 bytes or more: `openssl rand -out FILE 32`). Its values are "
        "replaced by keyed hashes as they are read, the same value by the same hash wherever the key is the same, and "
        "then learned; the key is nowhere in the run.",
    )
    free_text: List[str] = Field(
        default_factory=list,
        description="Text columns that are learned as categories although they look like free text. Without it, "
        "metadata that call such a column categorical are an error.",
    )
    learn_personal: List[str] = Field(
        default_factory=list,
        description="Columns that are learned although they hold persons' names, addresses or numbers: real ones come "
        "out, and the report says so. Without it, metadata that call such a column categorical or numerical are an error.",
    )
    evaluate: Evaluate = Field(Evaluate(), description="How the synthetic rows are judged.")
    privacy: Optional[Privacy] = Field(
        None,
        description="Differential privacy, `{epsilon: 1.0, delta: 1e-6}`: native Gaussian copulas and autoregressive models, and the metadata "
        "file must say the ranges and categories.",
    )
    cluster: Cluster = Field(Cluster(), description="Where the tasks run.")

    def __repr__(self) -> str:
        return f"Job({self.input or list(self.tables)} -> {self.output}: {', '.join(self.models)})"

    __str__ = __repr__

    @field_validator("tables", mode="before")
    @classmethod
    def _tables(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name in value:
            if not isinstance(name, str) or not _NAME.match(name):
                raise ValueError(
                    f"the name {str(name)[:100]!r} becomes a folder: use letters, digits, '_', '-' and '.'"
                )
        return {name: {"input": entry} if isinstance(entry, (str, list)) else entry for name, entry in value.items()}

    @field_validator("models", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {value: {}}
        if isinstance(value, list):
            if any(isinstance(name, (list, dict)) for name in value):
                raise ValueError("wanted a list of model names, or a mapping of names to options")
            value = {str(name): {} for name in value}
        if not isinstance(value, dict) or not value:
            raise ValueError("wanted at least one model, such as `models: {gaussian_copula: {}}`")
        return {name: _model(str(name), options) for name, options in value.items()}

    @model_validator(mode="after")
    def _check(self) -> Job:
        if self.tables and self.input:
            raise ValueError("input and tables exclude each other; leave input out")
        if not self.tables and "input" not in self.model_fields_set:
            raise ValueError("the key 'input' is missing")
        inputs = {f"tables.{name}.input": entry.input for name, entry in self.tables.items()} or {"input": self.input}
        for key, source in inputs.items():
            if isinstance(source, list) and not source:
                raise ValueError(f"{key}: the list is empty; name at least one shard")
            if not all(path.strip() for path in ([source] if isinstance(source, str) else source)):
                raise ValueError(f"{key}: a path is empty; wanted a folder, glob or file")
        paths = {**inputs, "output": self.output, "metadata": self.metadata, **self.pseudonymize}
        for key, value in paths.items():
            if any("\0" in path for path in ([value] if isinstance(value, str) else value or [])):
                raise ValueError(f"{key}: a path cannot hold a NUL character; leave it out")
        if self.metadata is not None and not self.metadata.strip():
            raise ValueError("metadata: the path is empty; name the file, or leave the key out")
        if not self.output.strip():
            raise ValueError("output: wanted the path of a run directory")
        if self.person is not None and self.evaluate.group is not None:
            raise ValueError("person and evaluate.group are two names of one thing; leave evaluate.group out")
        self._check_privacy()
        return self

    @property
    def holdout_key(self) -> str | None:
        """Column whose value decides on which side of the holdout a row is; None: the row's number decides."""
        return self.person or self.evaluate.group

    def _check_privacy(self) -> None:
        """Refuse every key that would break the guarantee of differential privacy."""
        if self.privacy is None:
            return
        for name, model in self.models.items():
            if model.model not in _DP_OPTIONS or model.engine != "native":
                raise ValueError(
                    f"privacy: covers native Gaussian copulas and autoregressive models, not {name!r} ({model.model}, "
                    f"engine {model.engine}); run it in a job of its own, without privacy"
                )
            others = sorted(set(model.options) - _DP_OPTIONS[model.model])
            if others:
                raise ValueError(
                    f"privacy: models.{name}.{others[0]} cannot be used under differential privacy; leave it out"
                )
        if self.person is not None:
            raise ValueError(
                "privacy: its unit is one row, so a person with several rows would be protected less than it says: "
                "reduce the table to one row a person and leave `person` out"
            )
        for name in ("constraints", "pseudonymize"):
            if getattr(self, name):
                raise ValueError(f"privacy: {name} are learned from the rows; leave them out")
        if self.sample.balance is not None:
            raise ValueError("privacy: sample.balance takes its classes from the rows; leave it out")
        if len(self.models) > 1:
            raise ValueError("privacy: one model a job: each spends a budget of its own")
        if self.metadata is None:
            raise ValueError(
                "privacy: needs `metadata`: a file that gives the publicly known ranges and categories (detected ones "
                "come from the rows)"
            )

    @classmethod
    def parse(cls, data: Any, source: str = "job") -> Job:
        """Job from plain data.

        Args:
            data: Mappings, lists, texts, numbers and None, as YAML gives them.
            source: Name of the job file, for error messages.

        Raises:
            JobError: Names the key, the type of its value and the nearest valid key.
        """
        if not isinstance(data, dict):
            kind = "nothing" if data is None else type(data).__name__
            raise JobError(f"{source}: wanted a mapping of keys such as `input:` and `models:`, found {kind}")
        return cls.planned(_with_person(data), source)

    @classmethod
    def planned(cls, data: Any, source: str) -> Job:
        """Job from plain data as ``to_dict`` gives them, also of an older version.

        A run that was planned with ``evaluate.group``, when it decided about the holdout alone, goes on like this.

        Raises:
            JobError: See ``parse``.
        """
        _refuse_odd(data, source)
        try:
            job = cls.model_validate(data)
        except ValidationError as error:
            raise JobError(f"{source}: " + "; ".join(_explain(cls, item) for item in error.errors())) from None
        _refuse_odd(job.model_dump(by_alias=True), source)  # a text such as "1e400" became a number
        return job

    @classmethod
    def load(cls, path: str | Path, overrides: list[str] | None = None) -> Job:
        """Read a YAML job file and apply ``a.b=c`` overrides.

        Raises:
            JobError: The file cannot be read, is not YAML, or is not a valid job.
        """
        path = Path(path)
        refuse_special(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise JobError(f"no job file at {path}; `shardsynth init DATA -o {path}` writes one") from None
        except (OSError, UnicodeDecodeError) as error:
            raise JobError(f"{path}: cannot be read as text: {error}") from None
        return cls.parse(apply_overrides(load_yaml(text, str(path)), overrides or []), str(path))

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse` turns into an equal job."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        data["models"] = {name: {"model": m.model, "engine": m.engine, **m.options} for name, m in self.models.items()}
        if self.person is None:
            del data["person"]  # the plans of jobs without persons stay what they were
        if not self.learn_personal:
            del data["learn_personal"]
        del data["input" if self.tables else "tables"]
        return data

    def to_yaml(self) -> str:
        """The job as YAML, with every default."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _refuse_odd(data: Any, source: str) -> None:
    """JobError for numbers and texts that nothing can use."""
    odd = list(islice(problems(data), 5))
    if odd:
        raise JobError(f"{source}: " + "; ".join(odd))


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML loader that refuses a key that is there twice (YAML itself would keep the last one), and keeps times as text.

    YAML 1.1 takes ``2:00:00`` for a number to the base 60: 7200, which Slurm would read as minutes.
    """

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and _BASE_60.match(value):
            return self.DEFAULT_SCALAR_TAG
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (dict, list)):
                continue
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(text: str, source: str) -> Any:
    """Plain data of a YAML text; JobError, with the source, line and column, if it is none."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise JobError(f"{source}: is nested too deeply to be a job file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise JobError(f"{source}:{where} is not valid YAML: {problem}") from None
    except (ValueError, OverflowError):
        raise JobError(
            f"{source}: holds a date that does not exist, or a number of too many digits; put it in quotes if it is a text"
        ) from None


def apply_overrides(data: Any, overrides: list[str]) -> Any:
    """Set ``a.b=c`` in nested plain data, in place; values are read as YAML.

    Raises:
        JobError: An override is not KEY=VALUE, or its key is under a value that is not a mapping.
    """
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise JobError(f"--set {override!r}: wanted KEY=VALUE, such as sample.rows=1e6")
        node = data
        parts = key.strip().split(".")
        for part in parts[:-1]:
            if not isinstance(node, dict):
                raise JobError(f"--set {key}: {part!r} is under a value that is not a mapping")
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        node[parts[-1]] = load_yaml(value, f"--set {key}") if value.strip() else value
    return data


def _with_person(data: dict[str, Any]) -> dict[str, Any]:
    """Plain data of a job in which the older key ``evaluate.group`` is called ``person``.

    Under differential privacy, whose unit is one row, it goes on to decide about the holdout alone.
    """
    evaluate = data.get("evaluate")
    if not isinstance(evaluate, dict) or not isinstance(evaluate.get("group"), str) or data.get("privacy") is not None:
        return data
    if data.get("person") not in (None, evaluate["group"]):
        return data  # refused
    others = {key: value for key, value in evaluate.items() if key != "group"}
    return {**data, "person": evaluate["group"], "evaluate": others}


def _model(name: str, options: Any) -> Any:
    if isinstance(options, ModelEntry):
        return options
    options = dict(options or {}) if isinstance(options, (dict, type(None))) else options
    if not isinstance(options, dict):
        raise ValueError(f"models.{name}: wanted a mapping of options, found {type(options).__name__}")
    if not _NAME.match(name):
        raise ValueError(f"models: the name {name[:100]!r} becomes a folder: use letters, digits, '_', '-' and '.'")
    family = options.pop("model", name)
    if family not in FAMILIES:
        families = f"; families: {', '.join(FAMILIES)}"
        raise ValueError(
            f"models.{name}: no model family is called {family!r}{families}{did_you_mean(family, FAMILIES)}"
        )
    engine = options.pop("engine", "native")
    if engine == "sdv" and family not in STOCK_FAMILIES:
        raise ValueError(f"models.{name}: SDV has no {family}; leave `engine: sdv` out")
    return {"model": family, "engine": engine, "options": options}


def _explain(model: type[BaseModel], item: Any) -> str:
    """One pydantic error as: key, what was found, what was wanted, the nearest valid key."""
    location = [part for part in item["loc"] if isinstance(part, (str, int))]
    key = ".".join(str(part) for part in location if part not in ("int", "str", "list[str]"))
    if item["type"] == "extra_forbidden":
        owner: Any = model
        for part in location[:-1]:
            info = getattr(owner, "model_fields", {}).get(part)
            annotation = info.annotation if info is not None else None
            inner = [annotation, *getattr(annotation, "__args__", ())]
            owner = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), owner)
        fields = getattr(owner, "model_fields", {})
        names = [info.alias or name for name, info in fields.items()]
        return f"unknown key {key!r}{did_you_mean(location[-1], names) or '; valid keys: ' + ', '.join(names)}"
    message = re.sub(r"^Value error, ", "", item["msg"])
    if item["type"] == "missing":
        return f"the key {key!r} is missing"
    suffix = "" if item["type"] == "value_error" else f", found {type(item.get('input')).__name__}"
    return f"{key}: {message}{suffix}" if key else f"{message}{suffix}"
