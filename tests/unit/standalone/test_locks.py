"""One writer at a time: the second says who writes; what a killed process left is removed where that is sure."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading

import pytest

from shardsynth.errors import RunError
from shardsynth.standalone.files import create_once
from shardsynth.standalone.locks import holder_of, is_gone, remove_lock, sole_writer, this_process

CONTAINER = json.loads(this_process())["where"].partition(" ")[2]
ENDED = 2**22 - 3  # more than any process number here: pid_max is at most 2^22


def test_the_second_writer_says_who_writes(tmp_path):
    target = tmp_path / "new" / "out.tar.gz"
    with sole_writer(target, "pack"):
        lock = target.parent / ".out.tar.gz.lock"
        with pytest.raises(RunError) as caught, sole_writer(target, "pack"):
            pass
        said = str(caught.value)
        assert f"`shardsynth pack` writes it already: process {os.getpid()} on {socket.gethostname()} since" in said
        assert said.endswith(f"remove {lock}") and lock.exists()
    assert not lock.exists()
    with sole_writer(target, "pack"):
        pass


def test_of_many_at_once_one_holds_the_lock(tmp_path):
    inside, most, refused = [], [], []
    start = threading.Barrier(8)

    def write() -> None:
        start.wait()
        for _ in range(20):
            try:
                with sole_writer(tmp_path / "out", "export"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except RunError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) + len(refused) == 160


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"pid": ENDED}, True),
        ({"pid": 10**30}, True),
        ({"pid": ENDED, "host": "another"}, False),
        ({"pid": ENDED, "where": "another boot or container"}, False),
        ({"where": f"an-earlier-boot {CONTAINER}", "at": 5}, True),
        ({"where": f"an-earlier-boot {CONTAINER}"}, False),  # it is younger than this boot: of another machine
        ({"where": f"an-earlier-boot {CONTAINER}", "at": 5, "host": "another"}, False),
        ({}, False),
    ],
)
def test_a_lock_of_a_process_that_ended_is_removed_only_where_that_is_sure(tmp_path, changes, gone):
    lock = tmp_path / ".out.lock"
    lock.write_text(json.dumps({**json.loads(this_process("init")), **changes}))
    assert is_gone(holder_of(lock)) is gone
    if gone:
        with sole_writer(tmp_path / "out", "init"):
            pass
        assert not lock.exists()
    else:
        with pytest.raises(RunError, match="if that process is gone, remove"), sole_writer(tmp_path / "out", "init"):
            pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"host": 3}',
        '{"host": "a", "pid": "x", "at": 1}',
        '{"host": "a", "pid": 1, "at": 1e30}',
        '{"host": "a", "pid": 1, "at": NaN}',
        "[" * 99_999,
    ],
)
def test_a_damaged_lock_is_named(tmp_path, text):
    lock = tmp_path / ".out.lock"
    lock.write_text(text)
    assert holder_of(lock) is None, "it may be half written"
    os.utime(lock, (0, 0))
    with pytest.raises(RunError, match="a damaged lock; remove it"), sole_writer(tmp_path / "out", "init"):
        pass


def test_a_lock_that_is_being_written_is_waited_for(tmp_path):
    lock = tmp_path / ".out.lock"
    lock.write_text("")  # as without hard links
    threading.Timer(0.1, lambda: lock.write_bytes(this_process("pack"))).start()
    with pytest.raises(RunError, match="`shardsynth pack` writes it already"), sole_writer(tmp_path / "out", "init"):
        pass


@pytest.mark.parametrize("links", [True, False])
def test_of_two_that_find_a_stale_lock_one_takes_it(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    lock, target = tmp_path / ".out.lock", tmp_path / "out"
    stale = json.dumps({**json.loads(this_process("init")), "pid": ENDED}).encode()
    lock.write_bytes(stale)
    with sole_writer(target, "pack"):
        remove_lock(lock, stale)  # the second one goes on where it has read the stale lock
        assert holder_of(lock).what == "pack"
        with pytest.raises(RunError, match="`shardsynth pack` writes it already"), sole_writer(target, "init"):
            pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_taken_between_look_and_removal_is_put_back(tmp_path, monkeypatch):
    lock, rename = tmp_path / "lock", os.rename
    lock.write_text("stale")

    def late(source: str, target: str) -> None:
        lock.unlink()
        lock.write_text("of another")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    remove_lock(lock, b"stale")
    assert lock.read_text() == "of another" and list(tmp_path.iterdir()) == [lock]


def test_a_lock_of_another_is_not_given_back(tmp_path):
    lock = tmp_path / ".out.lock"
    with sole_writer(tmp_path / "out", "init"):
        lock.write_text("of another")
    assert lock.read_text() == "of another"


def test_what_was_created_counts_where_nfs_says_that_it_was_there(tmp_path, monkeypatch):
    link = os.link

    def repeated(source: str, target: str) -> None:
        link(source, target)
        raise FileExistsError(target)  # the answer to the request that was sent again

    monkeypatch.setattr(os, "link", repeated)
    assert create_once(tmp_path / "a", b"1")
    monkeypatch.setattr(os, "link", link)
    assert not create_once(tmp_path / "a", b"2") and (tmp_path / "a").read_bytes() == b"1"


def without_links(source: str, target: str) -> None:
    raise PermissionError(errno.EPERM, "no hard links", source, None, target)
