"""Damaged files of a run: one error that names the file, or the task is done again; never a wait, never a traceback."""

from __future__ import annotations

import json
import os

import pytest
from pydantic import BaseModel

from shardsynth.errors import InputError, RunError
from shardsynth.executors.slurm.element import elements_file
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.run.documents import Manifest, Metrics, PlanFile, RowEntry, checked, read_document, with_checksum
from shardsynth.run.records import Damaged, read_record
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import give_final_name, sha256_of


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Manifest, "null", "the file: Input should be"),
        (Manifest, '{"rows": -1, "parts": []}', "rows: Input should be greater"),
        (Manifest, '{"rows": 1, "parts": [{"path": "../x", "rows": 1}]}', "parts.0.path"),
        (Metrics, '{"quality": {"score": "high"}}', "quality.score"),
        (RowEntry, '{"first_row": 1e400, "rows": 1, "seed": 0, "where": null}', "first_row"),
        (PlanFile, '{"identity": "a", "tasks": {"sample": [1]}}', "tasks.sample.0"),
        (PlanFile, "[" * 100_000, "nested too deeply"),
        (PlanFile, b"\xff", "not UTF-8 text"),
        (PlanFile, '{"identity": "a", "checksum": "b"}', "its content is not what its checksum says"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, kind, text, message):
    path = tmp_path / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunError, match="file.json: damaged") as caught:
        read_document(path, kind, "do this")
    assert message in str(caught.value) and str(caught.value).endswith("; do this") and "\n" not in str(caught.value)


def test_a_document_with_its_checksum_is_read_in_any_layout():
    data = {"identity": "é", "rows": 3, "notes": ["a"]}
    assert checked(json.dumps(with_checksum(data), indent=3), PlanFile) == data


@pytest.mark.parametrize("obstacle", ["folder", "link", "fifo", "null"])
def test_a_record_that_is_no_file_does_not_count_and_is_put_aside(tmp_path, obstacle):
    path = tmp_path / "0.json"
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "link":
        path.symlink_to(tmp_path / "nothing")
    elif obstacle == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("null")
        os.utime(path, (0, 0))
    assert isinstance(read_record(path, "fit", 0), Damaged)
    assert not os.path.lexists(path) and read_record(path, "fit", 0) is None


def test_a_record_that_was_changed_does_not_count(tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    with run.attempt("fit", 0) as attempt:
        attempt.output(run.root / "out").write_text("x")
        attempt.commit(rows=3)
    record = run.record("fit", 0)
    assert run.committed("fit", 0) is not None
    record.write_text(record.read_text().replace('"rows": 3', '"rows": 4'))
    assert run.committed("fit", 0) is None


def test_a_folder_where_an_output_belongs_is_put_aside(tmp_path):
    (tmp_path / "new").write_text("x")
    (tmp_path / "out" / "inside").mkdir(parents=True)
    give_final_name(tmp_path / "new", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "x"
    (aside,) = tmp_path.glob(".out.*.damaged")
    assert (aside / "inside").is_dir()


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (sha256_of, lambda path: read_document(path, Manifest)):
        with pytest.raises(InputError, match=r"pipe: is a FIFO \(named pipe\), and a file is wanted"):
            read(tmp_path / "pipe")


def test_keys_that_are_numbers_are_text_in_the_checksum_as_in_the_file():
    data = with_checksum({"options": {1: "norm", 2: "norm", 10: "beta"}})
    assert checked(json.dumps(data), _Anything) == {"options": {"1": "norm", "2": "norm", "10": "beta"}}


class _Anything(BaseModel):
    pass


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    run = RunDir(tmp_path / "run")
    run.create()
    found = Ledger(run)
    found.append(name="a", stage="fit", model="m", asked={"mem_gb": 1.0})
    found.append(name="a", job=7)
    return found


def test_a_line_that_a_kill_cut_short_is_left_out_and_the_next_one_is_whole(ledger):
    ledger.path.write_bytes(ledger.path.read_bytes()[:-20])
    ledger.append(name="b", stage="sample", model="m", asked={})
    assert [(array.name, array.job) for array in ledger.read()] == [("a", None), ("b", None)]


@pytest.mark.parametrize("end", ["", "\n", '{"name": "a", "job": 8}\n', '\n{"name": "a", "job": 8}\n'])
def test_an_entry_that_was_cut_at_any_place_is_left_out_and_what_follows_counts(ledger, end):
    whole = ledger.path.read_bytes()
    entry = json.dumps({"name": "b", "stage": "fit", "model": "m", "asked": {"gres": 'a"{', "time": "10"}, "at": 5.0})
    for length in range(1, len(entry)):
        ledger.path.write_bytes(whole + entry[:length].encode() + end.encode())
        assert [(array.name, array.job) for array in ledger.read()] == [("a", 8 if "8" in end else 7)], entry[:length]
    ledger.path.write_bytes(whole + entry.encode() + end.encode())
    assert [array.name for array in ledger.read()] == ["a", "b"]


@pytest.mark.parametrize("line", ['{"name": 3}', '{"name": "a", "job": "x"}', '{"name": "a", "asked": []}', "{nul}"])
def test_a_damaged_line_of_the_ledger_is_named(ledger, line):
    with ledger.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RunError, match=r"jobs.jsonl: line 3 is damaged"):
        ledger.read()


def test_other_damaged_files_of_slurm_are_named(ledger):
    path = elements_file(ledger.run.root, "a")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("0 0-99999999999\n")
    with pytest.raises(RunError, match="wanted a line of task numbers for each element"):
        ledger.read()
    (ledger.folder / "id").write_text("../x")
    with pytest.raises(RunError, match="wanted 8 hexadecimal digits"):
        ledger.prefix()
    (ledger.folder / "lock").write_text("null")
    os.utime(ledger.folder / "lock", (0, 0))
    with pytest.raises(RunError, match=r"lock: a damaged lock"), ledger.exclusively():
        pass
