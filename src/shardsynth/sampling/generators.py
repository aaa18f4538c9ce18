"""Check a generator of identifiers or personal values that comes from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.values import kind_of
from shardsynth.errors import MetadataError
from shardsynth.sampling import patterns
from shardsynth.sampling.formats import Format
from shardsynth.sampling.identifiers import capacity, makes_numbers
from shardsynth.sampling.personal import check_function

_GROWING = ("regex", "head", "grown", "length", "tail")


class GeneratorError(ValueError):
    """A generator is wrong; the message says what, without its values."""


def check_generator(generator: Mapping[str, Any], type_: pa.DataType) -> None:
    """Check that a generator makes values of a type. Its keys and their types are known to be right.

    Args:
        generator: As a model's file holds it, see ``identifiers``.
        type_: Arrow type of the column.

    Raises:
        GeneratorError: It does not.
    """
    kind, of_type = generator["kind"], kind_of(type_)
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    allowed = {"string": ("text",), "pii": ("text", "integer", "float")}.get(kind, ("integer", "float"))
    if of_type not in allowed:
        raise GeneratorError(f"a generator of kind {kind} makes no values of type {type_}")
    if kind == "pii":
        _check_personal(generator, of_type)
    elif kind == "count":
        _check_count(generator, plain)
    else:
        _check_pattern(generator, plain)
    if capacity(dict(generator)) < 1:
        raise GeneratorError("it makes no value")


def _check_personal(generator: Mapping[str, Any], of_type: str) -> None:
    try:
        for locale in generator["locales"]:
            check_function(generator["function"], locale, text=of_type == "text")
    except MetadataError as error:
        raise GeneratorError(str(error)) from None
    numbering = generator.get("numbering", [1])
    if numbering[0] > numbering[-1]:
        raise GeneratorError("numbering: more values than rows")


def _check_count(generator: Mapping[str, Any], plain: pa.DataType) -> None:
    limits = np.iinfo(plain.to_pandas_dtype()) if pa.types.is_integer(plain) else None
    least, most = (-(2**53), 2**53) if limits is None else (int(limits.min), int(limits.max))
    if not least <= generator["start"] <= generator["limit"] <= most:
        raise GeneratorError(f"start and limit: wanted numbers of type {plain}, the smaller first")


def _check_pattern(generator: Mapping[str, Any], plain: pa.DataType) -> None:
    growing = [name in generator for name in _GROWING]
    if any(growing[1:]) and not all(growing):
        raise GeneratorError("head, grown, length and tail go together")
    try:
        shapes = patterns.shapes(generator["regex"])
        if all(growing):
            patterns.shapes(Format(*(generator[name] for name in _GROWING)).longer(1))
    except (patterns.PatternError, RecursionError, OverflowError, ValueError):
        raise GeneratorError("regex: cannot be enumerated") from None
    if generator["kind"] == "number" and not makes_numbers(shapes, plain):
        raise GeneratorError(f"regex: makes other values than numbers of type {plain}")
