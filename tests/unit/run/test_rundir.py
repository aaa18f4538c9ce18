from __future__ import annotations

import os
import stat
import threading

import pytest

from shardsynth.errors import RunError, SpaceError
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import create_once, no_space_is_clear, write_atomic


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    return run


def commit(run, content=b"rows", index=0):
    with run.attempt("sample", index) as attempt:
        attempt.output(run.part("m", index)).write_bytes(content)
        return attempt.commit(rows=4)


def test_a_commit_puts_the_outputs_in_place(run):
    record = commit(run)
    assert run.part("m", 0).read_bytes() == b"rows"
    assert run.committed("sample", 0) == record
    assert run.committed("sample", 0, verify=True) == record
    assert run.committed("sample", 1) is None


def test_an_attempt_that_fails_leaves_nothing(run):
    with pytest.raises(ZeroDivisionError), run.attempt("sample", 0) as attempt:
        attempt.output(run.part("m", 0)).write_bytes(b"half")
        raise ZeroDivisionError
    assert run.committed("sample", 0) is None
    assert list(run.samples("m").iterdir()) == []


def test_the_first_record_wins_and_the_loser_deletes_its_files(run):
    with run.attempt("sample", 0) as slow:
        slow.output(run.part("m", 0)).write_bytes(b"late")
        first = commit(run, b"early")
        assert slow.commit(rows=4) == first
    assert run.part("m", 0).read_bytes() == b"early"
    assert len(list(run.samples("m").iterdir())) == 1


def test_killed_between_record_and_rename_is_rolled_forward(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "_roll_forward", lambda self, record, verify: True)  # the kill: nothing renamed
        commit(run)
    assert not run.part("m", 0).exists()
    assert run.committed("sample", 0) is not None
    assert run.part("m", 0).read_bytes() == b"rows"


def test_a_deleted_or_cut_output_is_made_again(run):
    commit(run)
    run.part("m", 0).unlink()
    assert run.committed("sample", 0) is None
    commit(run)
    assert run.part("m", 0).read_bytes() == b"rows"
    run.part("m", 0).write_bytes(b"r")
    assert run.committed("sample", 0) is None
    assert commit(run)["rows"] == 4
    assert run.committed("sample", 0, verify=True) is not None


def test_verify_sees_a_changed_byte(run):
    commit(run)
    run.part("m", 0).write_bytes(b"rowz")
    assert run.committed("sample", 0) is not None
    assert run.committed("sample", 0, verify=True) is None


def test_many_attempts_at_once_make_one_record(run):
    records = []
    threads = [threading.Thread(target=lambda: records.append(commit(run))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r["outputs"][0]["temporary"] for r in records}) == 1
    assert sorted(p.name for p in run.samples("m").iterdir()) == ["part-00000.parquet"]


def test_a_record_cut_short_never_happened(run):
    path = run.record("sample", 0)
    path.parent.mkdir(parents=True)
    path.write_text('{"stage": "sam')
    assert run.committed("sample", 0) is None
    commit(run)
    assert run.committed("sample", 0) is not None


def test_the_run_and_what_is_private_are_closed_to_others(run):
    for folder in (run.root, run.private):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def mode(folder):
    return stat.S_IMODE(os.stat(folder).st_mode)


@pytest.mark.parametrize(("access", "expected"), [("owner", 0o2700), ("group", 0o2750)])
def test_a_new_run_in_a_setgid_folder_has_its_group_and_setgid(tmp_path, access, expected):
    tmp_path.chmod(0o2770)
    run = RunDir(tmp_path / "r")
    before = os.umask(0o077)
    try:
        run.write_plan("a: 1\n", {"identity": "one", "job": {"access": access}})
        assert os.umask(0o077) == 0o077, "the process's umask is as it was"
    finally:
        os.umask(before)
    assert (mode(run.root), mode(run.private)) == (expected, 0o2700)
    assert {os.stat(path).st_gid for path in (run.root, run.private, run.plan_file)} == {os.stat(tmp_path).st_gid}
    assert mode(run.plan_file) == mode(run.job_file) == (0o640 if access == "group" else 0o600)


@pytest.mark.parametrize("before", [0o2770, 0o755, 0o2700])
def test_a_folder_that_is_there_keeps_its_mode(tmp_path, before):
    run = RunDir(tmp_path / "r")
    run.root.mkdir()
    run.root.chmod(before)
    run.private.mkdir(mode=0o755)
    run.write_plan("a: 1\n", {"identity": "one"})
    run.write_plan("a: 1\n", {"identity": "one"})
    assert mode(run.root) == before
    assert mode(run.private) & 0o777 == 0o700, "real rows are their owner's alone in any folder"


def test_a_plan_is_written_once_and_another_job_is_refused(tmp_path):
    run = RunDir(tmp_path / "r")
    run.write_plan("a: 1\n", {"identity": "one"})
    run.write_plan("a: 1\n", {"identity": "one"})
    with pytest.raises(RunError, match="another job"):
        run.write_plan("a: 2\n", {"identity": "two"})
    assert run.job_file.read_text() == "a: 1\n"


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(RunError, match="not empty and holds no run"):
        RunDir(tmp_path).write_plan("", {"identity": "one"})


def test_create_once_is_atomic_and_write_atomic_replaces(tmp_path):
    assert create_once(tmp_path / "a", b"1") and not create_once(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
    write_atomic(tmp_path / "a", "3")
    assert (tmp_path / "a").read_text() == "3"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.needs("/dev/full")
def test_a_full_disk_is_clear_and_said_once(tmp_path):
    with (
        pytest.raises(SpaceError, match=r"disk is full: about 5\.0 GB were needed, .* are free; nothing c") as found,
        no_space_is_clear(tmp_path),
        no_space_is_clear(tmp_path / "x", 5_000_000_000),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert str(found.value).count("are free") == 1


@pytest.mark.parametrize(("number", "kind"), [(28, SpaceError), (13, ValueError)])
def test_a_library_that_tells_the_full_disk_in_words(tmp_path, number, kind):
    """As safetensors does, whose own error is no OSError."""
    with pytest.raises(kind), no_space_is_clear(tmp_path):
        raise ValueError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
