"""What is opened for appending is a regular file; nothing waits for the other end of a FIFO."""

import os

import pytest

from shardsynth.errors import InputError
from shardsynth.standalone.regular import open_to_append, read_regular


def test_a_file_is_made_for_this_user_alone_and_appended_to(tmp_path):
    path = tmp_path / "log"
    for text in ("a\n", "b\n"):
        with os.fdopen(open_to_append(path), "w") as file:
            file.write(text)
    assert path.read_text() == "a\nb\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_fifo_is_refused(tmp_path):
    os.mkfifo(tmp_path / "log")
    for opened in (open_to_append, read_regular):
        with pytest.raises(InputError, match="is a FIFO"):
            opened(tmp_path / "log")


def test_a_link_is_not_followed(tmp_path):
    """A run directory that somebody else prepared cannot have lines added to another file of this user."""
    (tmp_path / "other").write_text("mine\n")
    (tmp_path / "log").symlink_to("other")
    with pytest.raises(OSError, match="log"):
        open_to_append(tmp_path / "log")
    assert (tmp_path / "other").read_text() == "mine\n"
