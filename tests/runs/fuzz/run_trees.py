"""Damaged run directories by every command that reads one: what is wrong is named, made again, or the result is right."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.runs.fuzz.frame import Subject, Wrong

import shardsynth as ss
from shardsynth.cli import app
from shardsynth.cli.exits import exit_on_error
from shardsynth.executors.slurm.element import elements_file
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.run.committed import recorded
from shardsynth.run.integrity import find_damage

#: What stands in the place of a value of a JSON file.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "a", "../../x", "/x", "\0", "\ud800",
    "x" * 10_000, [], {}, [None], [[]], {"a": 1}, 0.5,
)  # fmt: skip
#: What stands in the place of a whole file.
CONTENTS = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'"a"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\xff\xfe",
    b"\0" * 100,
    b"nul",
)
#: Endings of the files that only say how things stand; the others hold rows, figures and models.
BOOKS = (".json", ".jsonl", ".yaml", ".txt", "id", "lock")


@dataclass(frozen=True)
class Prepared:
    """Run directories as they were made, by name, and the checksums of their outputs."""

    folder: Path
    sums: dict[str, dict[str, str]]

    @property
    def work(self) -> Path:
        """Where each try has its copy: the same path each time, since plans hold absolute ones."""
        return self.folder / "work"


def prepare(folder: Path) -> Prepared:
    """A finished run, one that stopped after its fit, one that was submitted, and rows that `sample` made."""
    work = folder / "work"
    work.mkdir()
    table = pa.table({"a": list(range(60)), "b": ["x", "y", "z"] * 20, "t": [0.5 * i for i in range(60)]})
    pq.write_table(table, work / "shard.parquet")
    columns = {"a": {"sdtype": "numerical"}, "b": {"sdtype": "categorical"}, "t": {"sdtype": "numerical"}}
    metadata = {"tables": {"table": {"columns": columns}}, "relationships": [], "METADATA_SPEC_VERSION": "V1"}
    (work / "metadata.json").write_text(json.dumps(metadata))
    job = ss.Job.parse(
        {
            "input": str(work / "shard.parquet"),
            "output": str(work / "run"),
            "metadata": str(work / "metadata.json"),
            "models": {"m": {"model": "gaussian_copula"}},
            "sample": {"rows": 40, "rows_per_shard": 20},
            "cluster": {"executor": "debug", "workers": 1},
        }
    )
    run = ss.run_job(job)
    app(["sample", str(run.dir.model("m")), "--rows", "10", "--output", str(work / "rows")], standalone_mode=False)
    kept = folder / "kept"
    kept.mkdir()
    shutil.copytree(work, kept / "finished", symlinks=True)
    for path in work.glob("run/tasks/[smr]*/0/*"):
        path.unlink()
    for path in [*work.glob("run/samples"), *work.glob("run/report"), *work.glob("run/metrics")]:
        shutil.rmtree(path)
    shutil.copytree(work, kept / "stopped", symlinks=True)
    ledger = Ledger(run.dir)
    for number, stage in enumerate(("sample", "score")):
        name = f"{ledger.prefix()}0000-{stage}"
        ledger.append(name=name, stage=stage, model="m", asked={"mem_gb": 1.0, "time": "10", "cpus": 1})
        ledger.append(name=name, job=10 + number)
        path = elements_file(run.dir.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 0\n1 1\n")
    (ledger.folder / "failures").mkdir(exist_ok=True)
    (ledger.folder / "failures" / "sample-0.json").write_text(
        json.dumps({"stage": "sample", "index": 0, "error": "it failed"})
    )
    shutil.copytree(work, kept / "submitted", symlinks=True)
    sums = {name.name: {str(p.relative_to(name)): _sum(p) for p in _outputs(name)} for name in kept.iterdir()}
    return Prepared(folder, sums)


def _outputs(work: Path) -> list[Path]:
    """The parts and the model."""
    patterns = ("run/samples/m/*.parquet", "run/models/m/model.*", "rows/*.parquet")
    return sorted(path for pattern in patterns for path in work.glob(pattern) if path.is_file())


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def typed(command: Callable[[Path, Random], None], work: Path, random: Random) -> tuple[int, str]:
    """Exit code of a command as a user types it, and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            exit_on_error(lambda: command(work, random))
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


def attempt(prepared: Prepared, random: Random) -> str:
    """Damage one to three files of a run, then call one command; after `resume --verify`, all is as it was."""
    name = random.choice(("finished", "finished", "finished", "stopped", "submitted"))
    work = prepared.work
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(prepared.folder / "kept" / name, work, symlinks=True)
    files = sorted(
        str(p.relative_to(work)) for folder in ("run", "rows") for p in (work / folder).rglob("*") if p.is_file()
    )
    books = [path for path in files if path.endswith(BOOKS)]
    done = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        path = random.choice(books if random.random() < 0.75 else files)
        done.append(f"{damage(work / path, random)} {path}")
    command = random.choice(sorted(COMMANDS))
    code, said = typed(COMMANDS[command], work, random)
    if code not in (0, 1, 2) or "Traceback" in said or ": a bug;" in said or (code and not said.strip()):
        raise Wrong(f"{command} after {done}: exit code {code}: {said[-400:]}")
    if code:
        return f"{command}: refused"
    if command == "resume --verify":
        run = ss.Run(work / "run")
        found = {str(p.relative_to(work)): _sum(p) for p in _outputs(work)}
        wanted = prepared.sums["finished"]
        wrong = [p for p in wanted if p.startswith("run/") and found.get(p) != wanted[p]]
        if wrong or find_damage(run.plan, run.dir) or not len(recorded(run.dir, run.plan)["report"]):
            raise Wrong(f"{command} after {done}: not as it was: {wrong}")
    if command == "pack":
        with tarfile.open(work / "run.tar.gz") as archive:
            for member in archive:
                wanted_sum = prepared.sums["finished"].get(member.name)
                file = archive.extractfile(member)
                if wanted_sum and file is not None and hashlib.sha256(file.read()).hexdigest() != wanted_sum:
                    raise Wrong(f"{command} after {done}: {member.name} was packed as it was damaged")
    return f"{command}: done"


def damage(path: Path, random: Random) -> str:
    """Damage a file; returns how."""
    kinds = ["flip", "cut", "content", "content", "delete", "folder", "link", "fifo"]
    if path.suffix in (".json", ".jsonl"):
        kinds += ["value"] * 6
    kind = random.choice(kinds)
    if not path.is_file() or path.is_symlink():
        return "nothing of"
    stat = path.stat()
    content = bytearray(path.read_bytes())
    if kind == "flip" and content:
        for _ in range(random.choice((1, 1, 4))):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    elif kind == "cut":
        del content[random.randrange(len(content) + 1) :]
    elif kind == "content":
        content = bytearray(random.choice(CONTENTS))
    elif kind == "value":
        content = bytearray(_changed(bytes(content), path.suffix == ".jsonl", random))
    elif kind != "flip":
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(path.with_name("nothing"))
        elif kind == "fifo":
            os.mkfifo(path)
        return kind
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return kind


def _changed(content: bytes, lines: bool, random: Random) -> bytes:
    """A JSON text with another value in one place."""
    texts = content.splitlines() if lines else [content]
    try:
        number = random.randrange(len(texts))
        data = json.loads(texts[number])
    except ValueError:
        return content
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    if isinstance(data, (dict, list)):
        walk(data)
    if not places:
        return content
    shallow = [place for place in places if isinstance(place[0], dict)]
    holder, key = random.choice(shallow if shallow and random.random() < 0.8 else places)
    if random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = random.choice(VALUES)
    texts[number] = json.dumps(data).encode()
    return b"\n".join(texts) + b"\n"


def _cli(*words: str) -> Callable[[Path, Random], None]:
    def call(work: Path, random: Random) -> None:
        app(
            [word.replace("RUN", str(work / "run")).replace("ROWS", str(work / "rows")) for word in words],
            standalone_mode=False,
        )

    return call


def _sample(work: Path, random: Random) -> None:
    output = random.choice((work / "more", work / "rows"))
    go_on = random.choice(([], ["--continue"], ["--same-rows"]))
    app(["sample", str(work / "run/models/m"), "--rows", "10", "--output", str(output), *go_on], standalone_mode=False)


def _logs(work: Path, random: Random) -> None:
    task = random.choice(([], ["sample"], ["sample", "0"], ["fit", "0"]))
    app(["logs", str(work / "run"), *task], standalone_mode=False)


#: What a user types.
COMMANDS: dict[str, Callable[[Path, Random], None]] = {
    "status": _cli("status", "RUN"),
    "status --json": _cli("status", "RUN", "--json"),
    "status --verify": _cli("status", "RUN", "--verify"),
    "status of rows": _cli("status", "ROWS", "--verify"),
    "resume": _cli("resume", "RUN", "--here"),
    "resume --verify": _cli("resume", "RUN", "--here", "--verify"),
    "resume --set": _cli("resume", "RUN", "--set", "cluster.stages.sample.mem_gb=3"),
    "sample": _sample,
    "report": _cli("report", "RUN"),
    "pack": _cli("pack", "RUN"),
    "clean": _cli("clean", "RUN"),
    "clean --private": _cli("clean", "RUN", "--private"),
    "logs": _logs,
    "cancel": _cli("cancel", "RUN"),
    "efficiency": _cli("efficiency", "RUN"),
    "show": _cli("show", "RUN/models/m"),
}

SUBJECT = Subject("run-trees", prepare, attempt)
