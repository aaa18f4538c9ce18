"""Proof that this user wrote a file which runs code when it is opened: a signature by a key outside of every run.

A pickle in a run directory is opened only if ``private/signatures`` holds a signature of it. A signature is the
HMAC-SHA-256 (RFC 2104) of the content's SHA-256, by the user's own key: ``$SHARDSYNTH_KEY``, or
``~/.config/shardsynth/key``. Whoever prepares a run directory for somebody else does not have that key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from shardsynth.errors import RunError
from shardsynth.standalone.files import create_once, write_atomic

#: Variable with the path of the key.
VARIABLE = "SHARDSYNTH_KEY"
_KEY_BYTES = 32


def key_file() -> Path:
    """Path of the user's key, whether it exists or not."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "shardsynth" / "key"


def make_key() -> Path:
    """Make the user's key, 32 random bytes that only the user can read, unless there is one; its path.

    Raises:
        RunError: It cannot be made or read, or is no key.
    """
    path = key_file()
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            create_once(path, secrets.token_bytes(_KEY_BYTES), 0o600)
    except OSError as error:
        raise RunError(
            f"{path}: the key that signs stock models and constraints of your own cannot be made: {error.strerror}; "
            f"set {VARIABLE} to a file that all machines of the run see"
        ) from None
    if _key() is None:
        raise RunError(f"{path}: no key that you can read; remove it, or set {VARIABLE} to another file")
    return path


def _key() -> bytes | None:
    try:
        key = key_file().read_bytes()
    except OSError:
        return None
    return key if len(key) >= _KEY_BYTES else None


def _signature(key: bytes, sha256: str) -> str:
    return hmac.new(key, sha256.encode("ascii"), hashlib.sha256).hexdigest()


def sign(folder: Path, sha256: str) -> None:
    """Sign content by the user's key, which is made if there is none.

    Args:
        folder: Folder of the run's signatures.
        sha256: SHA-256 of the content, in hexadecimal.

    Raises:
        RunError: There can be no key here.
    """
    make_key()
    key = _key()
    assert key is not None
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / sha256, _signature(key, sha256) + "\n", 0o600)


def is_signed(folder: Path, sha256: str) -> bool:
    """Whether this user signed content; False without a key. For the arguments see ``sign``."""
    key = _key()
    try:
        found = (folder / sha256).read_bytes().strip()
    except OSError:
        return False
    return key is not None and hmac.compare_digest(found, _signature(key, sha256).encode("ascii"))
