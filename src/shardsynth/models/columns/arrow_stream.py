"""A look at an Arrow IPC stream before Arrow reads it: its buffers must be stored as they are.

A compressed buffer says itself how large it becomes, and may become a thousand times its size. Arrow has no option to
refuse it, so the flag is read from the message (a flatbuffer, see Message.fbs and Schema.fbs of Arrow's format).
"""

from __future__ import annotations

import struct

import pyarrow as pa

#: Places of fields in the tables ``Message`` and ``RecordBatch``.
_HEADER, _COMPRESSION = 2, 3


def is_plain_stream(content: bytes) -> bool:
    """Whether a stream holds a schema and one record batch that is not compressed.

    Raises:
        ArrowException: It is no stream.
    """
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(content))
    messages: list[pa.ipc.Message] = []
    while len(messages) < 3:
        try:
            messages.append(reader.read_next_message())
        except StopIteration:
            break
    if [message.type for message in messages] != ["schema", "record batch"]:
        return False
    metadata = messages[1].metadata.to_pybytes()
    try:
        root = _offset(metadata, 0)
        header = _field(metadata, root, _HEADER)
        return header > 0 and not _field(metadata, header + _offset(metadata, header), _COMPRESSION)
    except struct.error:
        return False


def _offset(buffer: bytes, place: int) -> int:
    return int(struct.unpack_from("<I", buffer, place)[0])


def _field(buffer: bytes, table: int, number: int) -> int:
    """Place of a field of a table; 0 where the table does not have it."""
    fields = table - struct.unpack_from("<i", buffer, table)[0]
    if fields < 0 or 4 + 2 * number >= struct.unpack_from("<H", buffer, fields)[0]:
        return 0
    place = struct.unpack_from("<H", buffer, fields + 4 + 2 * number)[0]
    return table + place if place else 0
