"""Commands on a table: ``init`` writes a job file for it, ``import`` turns it into Parquet shards."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Optional  # typer evaluates the annotations

import typer

from shardsynth.cli.arguments import Debug, RunFolder, ShowValues
from shardsynth.cli.terminal import StepLine
from shardsynth.errors import InputError, JobError


def init(
    output: Annotated[Path, typer.Option("-o", "--output", help="Job file to write.")],
    source: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="DATA...", help="Folder, glob or files of Parquet shards; folders of several tables."),
    ] = None,
    sequence_key: Annotated[
        Optional[str],
        typer.Option("--sequence-key", metavar="COLUMN", help="Rows of one value are a subject's, in time."),
    ] = None,
    run_folder: Annotated[Optional[str], typer.Option("--run", help="Run directory to name in it.")] = None,
    from_config: Annotated[
        Optional[Path],
        typer.Option("--from-config", help="Take table, model and settings from a config.yaml of SDV 0.17's time."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the job file.")] = False,
    widen: Annotated[
        bool, typer.Option("--widen", help="Let shards of 64-bit integers and floats agree, which can lose digits.")
    ] = False,
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Look at the shards and write a job file with the detected metadata."""
    from shardsynth.commands.init import write_job
    from shardsynth.commands.init_tables import are_several, write_tables_job
    from shardsynth.commands.old_config import import_old_table, read_old

    if (from_config is None) == (not source):
        raise JobError("init: wanted either DATA, the shards, or --from-config FILE, which names its own table")
    if source and (sequence_key is not None or are_several(source)):
        if sequence_key is not None and len(source) > 1:
            raise JobError("init: --sequence-key is for one table; wanted one DATA")
        for line in write_tables_job(
            source, output, run_folder, sequence_key=sequence_key, force=force, progress=StepLine()
        ):
            print(line, flush=True)
        return
    config = None
    if from_config is not None:
        if output.exists() and not force:
            raise JobError(f"{output}: exists already; --force overwrites it, or choose another name")
        config = read_old(from_config)
        folder, *lines = import_old_table(config, output, force=force)
        source = [folder]
        for line in lines:
            print(line)
    assert source is not None
    try:
        shards = source if len(source) > 1 else source[0]
        for line in write_job(shards, output, run_folder, force=force, widen=widen, old=config, progress=StepLine()):
            print(line, flush=True)
    except BaseException:
        if config is not None and config.needs_import:  # the next try imports the table again
            shutil.rmtree(source[0], ignore_errors=True)
        raise


def import_table(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="CSV, TSV, JSON Lines, Excel, Feather, SPSS, Stata, SAS or R file, or a database."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the shards.")],
    types: Annotated[
        Optional[list[str]],
        typer.Option("--type", metavar="COLUMN=TYPE", help="Arrow type of a column, such as age=int8."),
    ] = None,
    rows_per_shard: Annotated[str, typer.Option("--rows-per-shard", help="Rows of one shard.")] = "1e6",
    delimiter: Annotated[Optional[str], typer.Option("--delimiter", help="Field separator of a text table.")] = None,
    sheet: Annotated[
        Optional[str], typer.Option("--sheet", help="Sheet of an Excel file, or data frame of an .RData file.")
    ] = None,
    leave_out: Annotated[
        Optional[list[str]],
        typer.Option("--leave-out", metavar="COLUMN", help="Column to leave out (may be given several times)."),
    ] = None,
    unnest: Annotated[
        bool, typer.Option("--unnest", help="TABLE is Parquet, a file or folder: make columns of its structs.")
    ] = False,
    all_sheets: Annotated[
        bool, typer.Option("--all-sheets", help="Take every sheet, or data frame, as a table in a folder of its own.")
    ] = False,
    dictionary: Annotated[
        Optional[Path],
        typer.Option("--dictionary", metavar="FILE", help="Data dictionary of REDCap, for a raw export of its data."),
    ] = None,
    sql: Annotated[
        Optional[str], typer.Option("--sql", metavar="QUERY", help="What to read of a file of DuckDB or SQLite.")
    ] = None,
    catalog: Annotated[
        Optional[Path], typer.Option("--catalog", metavar="FILE", help="Value labels of a .sas7bdat file: .sas7bcat.")
    ] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="Encoding of a text table.")] = "utf-8",
    null: Annotated[
        Optional[list[str]],
        typer.Option("--null", help="One more text that means missing (may be given several times)."),
    ] = None,
    skip_rows: Annotated[
        int, typer.Option("--skip-rows", min=0, help="Lines above the header of a text table, or rows of a sheet.")
    ] = 0,
    max_unpacked: Annotated[
        Optional[str],
        typer.Option(
            "--max-unpacked",
            metavar="SIZE",
            help="Most that a packed file may unpack to, such as 50GB (default: 100 times its size, and at least 1 GB; of "
            "a workbook at least 256 MB).",
        ),
    ] = None,
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Turn CSV, TSV, JSON Lines, Excel, Feather, SPSS, Stata, SAS, R, DuckDB or SQLite into Parquet shards."""
    from shardsynth.data.column_looks import ColumnLook, look_lines
    from shardsynth.data.importer import import_redcap, import_sheets
    from shardsynth.data.importer import import_table as write_shards
    from shardsynth.data.text_types import NULL_TEXTS
    from shardsynth.data.unpacking import parse_size
    from shardsynth.job import parse_rows

    type_by_column = {}
    for item in types or []:
        column, equals, name = item.rpartition("=")
        if not equals:
            raise InputError(f"--type {item!r}: wanted COLUMN=TYPE, such as age=int8")
        type_by_column[column] = name
    if all_sheets and (sheet is not None or dictionary is not None):
        raise InputError("--all-sheets: goes neither with --sheet nor with --dictionary")
    looks: list[ColumnLook] = []
    options: dict[str, Any] = {
        "types": type_by_column,
        "rows_per_shard": parse_rows(rows_per_shard),
        "delimiter": delimiter,
        "null_values": None if null is None else [*NULL_TEXTS, *null],
        "encoding": encoding,
        "show_values": show_values,
        "max_unpacked": None if max_unpacked is None else parse_size(max_unpacked),
        "skip_rows": skip_rows,
        "leave_out": leave_out or (),
    }
    if all_sheets:
        for name, shards in import_sheets(source, output, **options).items():
            print(f"{len(shards)} shards in {output / name}")
        return
    if dictionary is not None:
        tables = import_redcap(source, dictionary, output, looks=looks, **options)
        for line in look_lines(looks):
            print(line)
        for name, rows in tables:
            print(f"{rows:,} rows in {output / name if len(tables) > 1 else output}")
        return
    paths = write_shards(source, output, sheet=sheet, query=sql, catalog=catalog, unnest=unnest, looks=looks, **options)
    for line in look_lines(looks):
        print(line)
    print(f"{len(paths)} shards in {output}")


def export_table(
    run: RunFolder,
    model: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model in the run.")],
    output: Annotated[
        Optional[Path],
        typer.Option(
            "-o",
            "--output",
            help="File to write: .sav, .zsav, .dta, .xpt, .rds, .csv, .xlsx or .feather (default: the ending of the file that "
            "the table was imported from, else .csv).",
        ),
    ] = None,
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Write a model's samples as one file, with labels and formats, and a data dictionary."""
    from shardsynth.commands.export_table import export_table as write_table

    for path in write_table(run, model, output):
        print(f"wrote {path}")
