"""Pseudonyms: with one key, the same value always gets the same pseudonym. The key is not stored in a run.

A pseudonym is the HMAC-SHA256 of the value (Krawczyk, Bellare and Canetti 1997, RFC 2104), cut to 80 bits and written
in base32, or to 62 bits for integers. Real values are replaced when they are read: nothing in a run contains them, not
even the profile or the row sample. Who has the key can compute the pseudonym of a known value. Nobody can compute the
value from the pseudonym without the key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import stat
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from shardsynth.data.values import decoded, kind_of, plain_type
from shardsynth.errors import JobError
from shardsynth.standalone.regular import read_regular

#: A key has at least so many bytes.
LEAST_KEY = 16
_TEXT_BYTES = 10


def read_key(path: str, column: str) -> bytes:
    """The key in a file that only its owner can read.

    Args:
        path: The file; ``~`` is the home folder.
        column: The column, for errors.

    Raises:
        JobError: There is no such file, others can read it, or it has less than ``LEAST_KEY`` bytes.
    """
    where = f"pseudonymize.{column}: the key file {path}"
    file = Path(path).expanduser()
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        key = read_regular(file)
    except OSError as error:
        raise JobError(f"{where} cannot be read: {error.strerror}; `openssl rand -out FILE 32` makes one") from None
    if mode & 0o077:
        raise JobError(f"{where} can be read by others (mode {mode:04o}); `chmod 600` it")
    if len(key) < LEAST_KEY:
        raise JobError(f"{where} holds {len(key)} bytes, wanted {LEAST_KEY} or more; `openssl rand -out FILE 32`")
    return key


def check_column(field: pa.Field) -> None:
    """Check that a column can hold pseudonyms.

    Raises:
        JobError: Its type is neither text nor a 64-bit integer.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if kind_of(kind) == "text" or kind in (pa.int64(), pa.uint64()):
        return
    raise JobError(
        f"pseudonymize.{field.name}: a column of type {field.type} cannot hold pseudonyms, wanted text or 64-bit "
        "integers; write the shards with such a column"
    )


class Pseudonyms:
    """Replaces the values of some columns by pseudonyms.

    Args:
        keys: Name of a column -> its key.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)

    def replaced(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with pseudonyms in place of the values; missing values stay missing."""
        arrays = [
            _replaced(batch.column(f.name), self._keys[f.name], f.type) if f.name in self._keys else batch.column(i)
            for i, f in enumerate(batch.schema)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)

    def fingerprints(self) -> dict[str, str]:
        """Column -> fingerprint of its key: two keys have different ones, and no key can be computed from it."""
        return {
            name: hmac.new(key, b"shardsynth key", hashlib.sha256).hexdigest()[:16] for name, key in self._keys.items()
        }


def pseudonym(key: bytes, value: str | int, *, number: bool = False) -> str | int:
    """Pseudonym of one value: 16 letters and digits, or, for a number, an integer from 0 to 2^62 - 1."""
    digest = hmac.new(key, str(value).encode("utf-8"), hashlib.sha256).digest()
    if number:
        return int.from_bytes(digest[:8], "big") >> 2
    return base64.b32encode(digest[:_TEXT_BYTES]).decode("ascii").lower()


def _replaced(array: pa.Array, key: bytes, kind: pa.DataType) -> pa.Array:
    plain = decoded(array)
    coded = plain.dictionary_encode()
    number = kind_of(plain.type) == "integer"
    values = [pseudonym(key, value, number=number) for value in coded.dictionary.to_pylist()]
    dictionary = pa.array(values, plain_type(plain.type))
    if pa.types.is_dictionary(kind):
        indices = coded.indices.cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered)
    replaced = dictionary.take(coded.indices)
    return replaced if replaced.type == kind else replaced.cast(kind)
