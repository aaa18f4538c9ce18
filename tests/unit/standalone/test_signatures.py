"""Signatures by the user's own key: only what the same user signed counts."""

from __future__ import annotations

import hashlib
import stat

import pytest

from shardsynth.errors import RunError
from shardsynth.standalone.signatures import is_signed, make_key, sign

CONTENT, OTHER = (hashlib.sha256(text).hexdigest() for text in (b"a pickle", b"another"))


@pytest.fixture
def key(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARDSYNTH_KEY", str(tmp_path / "home" / "key"))
    return tmp_path / "home" / "key"


def test_what_was_signed_is_signed_and_nothing_else(key, tmp_path):
    folder = tmp_path / "signatures"
    assert not is_signed(folder, CONTENT) and not key.exists()
    sign(folder, CONTENT)
    assert is_signed(folder, CONTENT) and not is_signed(folder, OTHER)
    (folder / OTHER).write_bytes((folder / CONTENT).read_bytes())
    assert not is_signed(folder, OTHER), "another content's signature"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 32
    sign(folder, OTHER)
    assert is_signed(folder, OTHER) and is_signed(folder, CONTENT), "the key stays"


def test_another_users_signature_is_none(key, tmp_path, monkeypatch):
    sign(tmp_path, CONTENT)
    monkeypatch.setenv("SHARDSYNTH_KEY", str(tmp_path / "another"))
    assert not is_signed(tmp_path, CONTENT), "without a key"
    make_key()
    assert not is_signed(tmp_path, CONTENT)


@pytest.mark.parametrize("content", [b"", b"short"])
def test_what_is_no_key_is_said(key, content):
    key.parent.mkdir()
    key.write_bytes(content)
    with pytest.raises(RunError, match="no key that you can read"):
        make_key()


def test_a_place_where_no_key_can_be_made_is_said(key):
    key.parent.write_text("a file")
    with pytest.raises(RunError, match="cannot be made.*SHARDSYNTH_KEY"):
        make_key()


def test_the_key_lies_in_the_users_configuration(tmp_path, monkeypatch):
    monkeypatch.delenv("SHARDSYNTH_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert make_key() == tmp_path / "shardsynth" / "key"
