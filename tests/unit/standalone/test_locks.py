"""One writer at a time: the second says who writes; what a killed process left is removed where that is sure."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest

from shardsynth.errors import RunError
from shardsynth.standalone.locks import holder_of, is_gone, sole_writer, this_process

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


@pytest.mark.parametrize("text", ["", "null", "[]", '{"host": 3}', '{"host": "a", "pid": "x", "at": 1}', "[" * 99_999])
def test_a_damaged_lock_is_named(tmp_path, text):
    (tmp_path / ".out.lock").write_text(text)
    with pytest.raises(RunError, match="a damaged lock; remove it"), sole_writer(tmp_path / "out", "init"):
        pass
