"""One call for a notebook: a table in, a synthetic table out, with its scores and its report."""

from __future__ import annotations

import html
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.api import Quality, Run, run_job
from shardsynth.commands.init import write_job
from shardsynth.commands.init_tables import write_tables_job
from shardsynth.data.importer import import_table
from shardsynth.errors import InputError, JobError
from shardsynth.job import Job

if TYPE_CHECKING:
    import pandas as pd

#: Endings of files that are shards already; other files are imported.
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Report:
    """The report of a run, which a notebook shows.

    Attributes:
        path: The page, one file without links to others.
    """

    path: Path

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="800" style="border:0"></iframe>'

    def __repr__(self) -> str:
        return f"report: {self.path}"


@dataclass(frozen=True)
class Result:
    """A synthetic table, or several, and what is known of them.

    Attributes:
        run: The finished run: its folder holds the job, the model, the rows, the figures and the report.
        model: Name of the model.
        notes: What was taken for granted of the input, a line each, as `shardsynth init` says it.
    """

    run: Run
    model: str
    notes: tuple[str, ...]
    _frames: Mapping[str | None, _Frame] = field(default_factory=dict, repr=False)
    _folder: Any = field(default=None, repr=False)  # a temporary folder lives as long as its result

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables; empty where there is one without a name."""
        tables = self.run.plan.tables
        return () if tables is None else tuple(table.name for table in tables.tables)

    def to_table(self, table: str | None = None) -> pa.Table:
        """The rows in memory, in the schema of the input; of several tables those of one."""
        return self.run.samples(self.model, table).to_table()

    def to_pandas(self, table: str | None = None) -> pd.DataFrame:
        """The rows as a DataFrame; with the input's dtypes and named index where it was one."""
        rows = self.to_table(table).to_pandas()
        return self._frames[table].like(rows) if table in self._frames else rows

    def report(self) -> Report:
        """The report; in a notebook it is shown."""
        return Report(self.run.report)

    @property
    def quality(self) -> Quality:
        """Fidelity figures, by SDMetrics' definitions."""
        return self.run.quality(self.model)

    @property
    def privacy(self) -> dict[str, Any]:
        """Figures on copies of real rows, as in ``metrics/<model>.json``."""
        return dict(self.run.metrics(self.model).get("privacy") or {})

    def __repr__(self) -> str:
        named = [(name, self.run.samples(self.model, name)) for name in self.tables] or [
            ("", self.run.samples(self.model))
        ]
        made = ", ".join(f"{samples.rows:,}{f' {name}' if name else ' synthetic rows'}" for name, samples in named)
        return "\n".join([f"{made} by {self.model}", *self.run.summary_lines()])


@dataclass(frozen=True)
class _Frame:
    """What a DataFrame has beyond its Arrow schema: the dtypes, and the names of its index."""

    dtypes: Mapping[str, Any]
    index: tuple[str, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> tuple[_Frame, pa.Table]:
        """It, and the rows; a named index becomes columns."""
        named = [str(name) for name in frame.index.names if name is not None]
        if named and len(named) < frame.index.nlevels:
            raise InputError("the DataFrame's index has levels without a name; name them, or call reset_index()")
        rows = frame.reset_index() if named else frame
        if not all(isinstance(name, str) for name in rows.columns):
            raise InputError("the DataFrame's columns must be named by text: frame.columns = frame.columns.map(str)")
        try:
            table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata()
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            mixed = [name for name in rows.columns if str(rows[name].dtype) == "object" and _is_mixed(rows[name])]
            hint = f": column {mixed[0]!r} mixes types; make it of one" if mixed else ""
            raise InputError(f"the DataFrame cannot be written as Parquet ({type(error).__name__}){hint}") from None
        return cls(dict(rows.dtypes), tuple(named)), table

    def like(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Synthetic rows with these dtypes where their values allow it, and this index."""
        import pandas as pd

        for name, dtype in self.dtypes.items():
            if rows[name].dtype != dtype and not isinstance(dtype, pd.CategoricalDtype):
                try:
                    rows[name] = rows[name].astype(dtype)
                except (TypeError, ValueError):
                    continue  # a missing value that the dtype has no room for
        return rows.set_index(list(self.index)) if self.index else rows


def _is_mixed(values: Any) -> bool:
    return len({type(value) for value in values.dropna().head(10_000)}) > 1


def synthesize(
    data: Any,
    rows: int | str = "1x",
    *,
    model: str = "autoregressive",
    person: str | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool | None = None,
    **keys: Any,
) -> Result:
    """Synthetic rows of a table, with scores and a report, in one call; runs on this machine.

    Args:
        data: A pandas DataFrame, a pyarrow Table, the path of a table (Parquet files or folder, or a file that
            `shardsynth import` reads), or a dictionary of these by name for several tables that belong together.
        rows: Rows to make: a number, or such as ``"10x"`` of the input's; of several tables, subjects.
        model: The model's name: ``autoregressive``, ``gaussian_copula``, ``ctgan``, ``copulagan`` or ``tvae``.
        person: Column that names the person of a row, where several rows are one person's; by default the counts say.
        seed: Any integer; the same call gives the same rows.
        folder: Where the run is kept; by default a temporary folder that goes with the result.
        progress: Whether progress is shown; by default in a terminal or a notebook.
        **keys: Further keys of the job, as in docs/job-file.md: ``evaluate={"holdout": 0.2}``.

    Raises:
        InputError: The data cannot be used.
        JobError: An option is wrong.
        TaskError: A task of the run failed.
    """
    temporary = tempfile.TemporaryDirectory(prefix="shardsynth-") if folder is None else None
    root = Path(temporary.name if temporary is not None else str(folder))
    root.mkdir(parents=True, exist_ok=True)
    frames: dict[str | None, _Frame] = {}
    job_file = root / "job.yaml"
    if isinstance(data, Mapping):
        if not data:
            raise InputError("synthesize: wanted at least one table in the dictionary")
        sources = [_source(each, root / "data" / name, frames, name) for name, each in data.items()]
        lines = write_tables_job(sources, job_file, str(root / "run"), force=True)
    else:
        lines = write_job(_source(data, root / "data", frames, None), job_file, str(root / "run"), force=True)
    notes = tuple(lines)[:-1]  # the last one says which command comes next
    job = Job.load(job_file).to_dict()
    job |= {"seed": seed, "models": {model: {}}, "sample": {**job["sample"], "rows": rows}}
    if person is not None:
        job["person"] = person
    for key, value in keys.items():
        both = isinstance(value, Mapping) and isinstance(job.get(key), Mapping)
        job[key] = {**job[key], **value} if both else value
    if "output" in keys or "input" in keys or "models" in keys:
        raise JobError("synthesize: give `folder`, `data` and `model`, not `output`, `input` and `models`")
    run = run_job(Job.parse(job, "synthesize"), console=_console(progress))
    return Result(run, model, notes, frames, temporary)


def _source(data: Any, folder: Path, frames: dict[str | None, _Frame], name: str | None) -> str:
    """The shards of one table; a DataFrame, a Table or a file of another format is written to ``folder``."""
    if isinstance(data, (str, Path)):
        path = Path(data)
        if not path.is_file() or path.suffix.lower() in _PARQUET:
            return str(data)
        if not folder.is_dir() or not any(folder.iterdir()):
            import_table(path, folder)
        return str(folder)
    if not isinstance(data, pa.Table):
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(data, pandas.DataFrame):
            raise InputError(
                f"synthesize: got {type(data).__name__}; wanted a pandas DataFrame, a pyarrow Table, a path, or a "
                "dictionary of these"
            )
        frames[name], data = _Frame.of(data)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(data.replace_schema_metadata(), folder / "part-00000.parquet")
    return str(folder)


def _console(progress: bool | None) -> Any:
    """Where progress is shown; None: nowhere."""
    from rich.console import Console

    console = Console(stderr=True)
    shown = (console.is_terminal or "ipykernel" in sys.modules) if progress is None else progress
    return console if shown else None
