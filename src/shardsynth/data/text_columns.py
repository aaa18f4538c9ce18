"""The columns of a text table while it is read: what each holds so far, and its values as soon as they are known."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.column_looks import ColumnLook
from shardsynth.data.plain_texts import plain_texts
from shardsynth.data.text_types import Guess, TargetType, convert, guess_trimmed, trimmed


@dataclass
class TextColumn:
    """One column.

    Attributes:
        look: What is shown of it.
        nulls: Texts that mean missing.
        target: The type that the user gave; None: it is guessed.
        metadata: Of its field.
        guess: The narrowest family of types for all texts so far.
    """

    look: ColumnLook
    nulls: tuple[str, ...]
    target: TargetType | None = None
    metadata: dict[bytes, bytes] | None = None
    guess: Guess = Guess()

    @property
    def type(self) -> pa.DataType:
        """The type for all texts so far."""
        return self.target.type if self.target is not None else self.guess.type

    def read(self, texts: pa.Array) -> pa.Array | None:
        """Look at a batch of texts; its values where they are read by the way."""
        if self.target is not None or self.guess.family == "string":
            self._look(texts)
            return None
        plain = plain_texts(texts, self.nulls)
        if plain is None:
            bare = trimmed(texts, self.nulls)
            self.look.update(bare)
            self.guess = self.guess.join(guess_trimmed(bare))
            return None
        if self.look.wants_texts:
            self.look.update(trimmed(texts, self.nulls))
        else:
            self.look.count(len(texts), plain[1].null_count, 0)
        self.guess = self.guess.join(plain[0])
        return plain[1]

    def values(self, texts: pa.Array, read: pa.Array | None, type_: pa.DataType) -> pa.Array:
        """The values of a batch in a type that all its texts fit, or that the user gave.

        Args:
            texts: The batch.
            read: What ``read`` gave for it.
            type_: The type.

        Raises:
            Misfit: A text does not fit the type that the user gave.
        """
        if read is not None:
            return read if read.type == type_ else read.cast(type_)
        return convert(texts, self.target or TargetType(type_), self.nulls)

    def _look(self, texts: pa.Array) -> None:
        if self.look.wants_texts:
            self.look.update(trimmed(texts, self.nulls))
        else:
            self.look.count(len(texts), texts.null_count, pc.sum(pc.equal(texts, ".")).as_py() or 0)
