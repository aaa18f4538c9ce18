"""What happens to a run that is damaged after it was written: seen, named, made again; never shipped, never trusted."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from tests.finished import final_files, small_job
from tests.here import run_here
from tests.tables import write_shards

from shardsynth import Run
from shardsynth.errors import RunError, TaskError
from shardsynth.stages.rewrite import write_run_report

PART = "samples/gaussian_copula/part-00001.parquet"
MODEL = "models/gaussian_copula/model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(4)
    table = pa.table({"a": rng.integers(0, 90, 400), "b": rng.choice(["x", "y", "z"], 400)})
    return run_here(small_job(write_shards(table, folder / "shards", 2), folder / "run")).dir.root


@pytest.fixture
def run(whole, tmp_path):
    return Run(shutil.copytree(whole, tmp_path / "run", symlinks=True))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def every_output(run):
    return sorted(
        output["path"]
        for record in run.dir.root.glob("tasks/*/*/*.json")
        for output in json.loads(record.read_text())["outputs"]
        if (run.dir.root / output["path"]).exists()
    )


def test_a_flipped_byte_is_seen_in_every_output(run):
    paths = every_output(run)
    assert len(paths) > 25
    assert run.status_lines(verify=True)[-1] == "all done"
    for path in paths:
        flip(run.dir.root / path)
        assert any(line.startswith(f"{path}: damaged") for line in run.status_lines(verify=True)), path
        assert "--verify" in run.status_lines(verify=True)[-1]
        flip(run.dir.root / path)
    assert run.status_lines(verify=True)[-1] == "all done"


def test_a_damaged_part_is_made_again_with_what_depends_on_it_and_nothing_else(run, capsys):
    before = final_files(run.dir.root)
    flip(run.dir.root / PART)
    with pytest.raises(RunError, match=r"part-00001.parquet: damaged.*--verify"):
        run.pack()
    assert not list(run.dir.root.parent.glob("*.tar.gz*")), "no archive, no leftover"
    with pytest.raises(RunError, match=r"not cleaned: .*part-00001"):
        run.clean()
    run.resume(verify=True, console=Console(width=200))
    said = capsys.readouterr().out
    again = [line for line in said.splitlines() if line.startswith("made again")]
    assert [line.split(": ")[1].split(" (")[0] for line in again] == ["sample 1", "score 1", "merge 0", "report 0"]
    assert final_files(run.dir.root) == before
    assert run.status_lines(verify=True)[-1] == "all done"
    run.pack()


def test_a_damaged_model_takes_its_samples_with_it(run):
    before = final_files(run.dir.root)
    flip(run.dir.root / MODEL)
    run.resume(verify=True)
    assert final_files(run.dir.root) == before
    assert len(list(run.dir.root.glob("tasks/sample/0/*.withdrawn"))) == 5
    assert not list(run.dir.root.glob("tasks/profile*/0/*.withdrawn"))


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"stage": "fit"', "\0\0", "3", '{"outputs": 1}', "[" * 9999])
def test_a_damaged_record_is_named_and_its_task_done_again(run, content, capsys):
    """`null` let `resume` run for ever."""
    before = final_files(run.dir.root)
    record = run.dir.record("sample", 2)
    record.write_text(content)
    os.utime(record, (1, 1))
    run.resume(console=Console(width=200))
    assert "a damaged record: its task is done again" in capsys.readouterr().out
    assert record.with_name("2.json.damaged").exists()
    assert final_files(run.dir.root) == before and run.status_lines()[-1] == "all done"


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", ""])
def test_a_record_that_names_a_file_outside_the_run_does_not_count(run, path):
    record = run.dir.record("sample", 2)
    content = json.loads(record.read_text())
    content["outputs"][0]["path"] = path
    record.write_text(json.dumps(content))
    assert run.dir.committed("sample", 2) is None


def test_a_record_of_another_task_does_not_count(run):
    shutil.copy(run.dir.record("sample", 1), run.dir.record("sample", 2))
    assert run.dir.committed("sample", 1) is not None and run.dir.committed("sample", 2) is None


def test_report_again_leaves_the_run_done(run):
    write_run_report(run.dir.root)
    assert run.status_lines(verify=True)[-1] == "all done"
    run.clean()
    run.pack()


def test_links_are_not_followed_when_deleting(run, tmp_path):
    """A user moved a folder to another disk: `clean --private` said "deleted" while all of it was there."""
    outside = tmp_path / "scratch"
    shutil.move(run.dir.private / "summary", outside)
    (run.dir.private / "summary").symlink_to(outside)
    with pytest.raises(TaskError, match=r"freed; still there:\n.*summary: was a link.*scratch"):
        run.clean(private=True)
    assert (outside / "coder").exists() and not run.dir.private.exists()


def test_what_cannot_be_deleted_is_named(run, monkeypatch):
    unlink = Path.unlink

    def refuse(self, missing_ok=False):
        if self.name == "coder":
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(TaskError, match=r"summary/coder: could not be deleted: Permission denied$"):
        run.clean(private=True)


def test_linked_samples_are_packed_and_nobody_is_named(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(run.dir.samples("gaussian_copula"), elsewhere)
    run.dir.samples("gaussian_copula").symlink_to(elsewhere)
    with tarfile.open(run.pack()) as archive:
        members = {member.name: member for member in archive.getmembers()}
    parts = [name for name in members if name.endswith(".parquet") and "/samples/" in name]
    assert len(parts) == 5 and all(member.isfile() for member in members.values())
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(0, 0, "", "")}


def test_a_link_to_another_file_is_not_packed(run, tmp_path):
    page = run.report
    (tmp_path / "secret").write_bytes(b"s" * page.stat().st_size)
    page.unlink()
    page.symlink_to(tmp_path / "secret")
    with pytest.raises(RunError, match=r"index.html: damaged"):
        run.pack()


def test_a_log_that_is_a_fifo_a_link_or_a_folder_is_moved_aside_and_written_anew(run, tmp_path):
    """A write to a FIFO would wait for a reader for ever; one to a link would end in another file."""
    log, other = run.dir.log("report", 0), tmp_path / "other"
    other.write_text("mine\n")
    for make in (os.mkfifo, lambda path: path.symlink_to(other), Path.mkdir):
        for record in run.dir.root.glob("tasks/report/*/*.json"):
            record.unlink()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        make(log)
        run.resume()
        assert log.is_file() and not log.is_symlink()
    assert other.read_text() == "mine\n"


def test_a_report_from_a_damaged_summary_without_a_record_says_so(run):
    (run.dir.private / "summary" / "relations.json").write_text("null")
    run.dir.record("profile_merge", 0).write_text("[]")
    for _ in range(2):
        with pytest.raises(RunError, match=r"tasks/profile_merge/0/0.json.*: damaged.*--verify` makes it again"):
            write_run_report(run.dir.root)
        if run.dir.record("profile_merge", 0).exists():
            os.utime(run.dir.record("profile_merge", 0), (0, 0))  # none that is being written
    run.resume(verify=True)
    write_run_report(run.dir.root)
