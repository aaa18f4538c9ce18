r"""Conditions as text: one small language, read to its end or refused.

    conditions = test { "and" test }
    test       = comparison | function | "not" test | "(" conditions ")"
    function   = ( "isnull" | "notnull" ) "(" column ")"
    comparison = operand compare operand { compare operand }        40 <= AGE < 60 is two tests
    compare    = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not" "in" | "is" | "is" "not"
    operand    = column | value | list
    list       = ( "[" | "(" | "{" ) [ value { "," value } [ "," ] ] ( "]" | ")" | "}" )
    value      = number | text | "True" | "False" | "None" | "null" | "nan"
    number     = [ "+" | "-" ] digits [ "." digits ] [ "e" [ "+" | "-" ] digits ]       digits may hold "_", as in 1_000
    text       = in single or double quotes; a backslash is written \\, also \' \" \n \r \t \xHH \uHHHH \UHHHHHHHH
    column     = letters, digits and "_", not a digit first; or anything in `backquotes`, where `` is one backquote

Each comparison has one column. A word of the language (``and``, ``or``, ``in``, ``is``, ``not``, ``None``, ``True``,
``False``) is a column where a comparison by a symbol follows it: ``in == 3``. Nothing is run, and nothing is left out:
there are no comments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Union

Value = Union[str, int, float, bool, None]

#: Longest text of conditions, most digits of a whole number, deepest brackets and rows of ``not``.
LONGEST, _DIGITS, _DEEPEST = 100_000, 300, 50
#: Words that are no column, but where a comparison by a symbol follows them.
WORDS = ("and", "or", "in", "is", "not", "None", "True", "False")
_CONSTANTS: dict[str, Value] = {"None": None, "True": True, "False": False, "null": None, "nan": None}
_SYMBOLS = ("==", "!=", "<", "<=", ">", ">=")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`(?:[^`]|``)+`(?!`))
    |(?P<number>(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)(?!\w)
    |(?P<name>[^\W\d]\w*)
    |(?P<symbol>[=!<>]=|[<>()\[\]{},+-])
    )""",
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[^\W\d]\w*")
_ESCAPE = re.compile(r"\\(?:([\\'\"nrt])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)", re.ASCII)
_HELP = '; for example: Gender == "F" and 60 <= AGE < 80 and `hours-per-week` in [20, 40] and notnull(WBC)'


def is_plain(name: str) -> bool:
    """Whether a column's name needs no backticks: Python's identifiers hold more characters (`·`)."""
    return _NAME.fullmatch(name) is not None


class TextError(ValueError):
    """Text that is no condition; the message quotes it, and says what is wrong and where."""


@dataclass(frozen=True)
class Column:
    """The name of a column."""

    name: str


@dataclass(frozen=True)
class Written:
    """A test as it is written: ``operator`` is a symbol, ``in``, ``not in`` or ``null``; ``negated`` by ``not``."""

    column: str
    operator: str
    value: Any
    negated: bool = False


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


def tests_of(text: str) -> list[Written]:
    """The tests of conditions, in their order.

    Raises:
        TextError: The text is not wholly conditions.
    """
    return _Parser(text).whole()


class _Parser:
    """Reads conditions from left to right; ``_at`` is the place among the tokens."""

    def __init__(self, text: str) -> None:
        self.text, self._at = text, 0
        if len(text) > LONGEST:
            raise TextError(f"a condition has at most {LONGEST:,} characters, not {len(text):,}")
        self._tokens = list(self._tokenised())
        self._depth = 0

    def whole(self) -> list[Written]:
        tests = self._conditions()
        if self._next.kind != "end":
            if self._next.text == "or":
                self._fail("'or' is not supported: for one column write `column in [a, b]`, else sample twice")
            self._fail("expected comparisons joined by 'and'")
        return tests

    def _tokenised(self) -> list[_Token]:
        tokens, place = [], 0
        end = len(self.text.rstrip())
        while place < end:
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                place += len(self.text[place:]) - len(self.text[place:].lstrip())
                self._fail(_unreadable(self.text[place]), place)
            kind = match.lastgroup
            tokens.append(_Token(kind, match.group(kind), match.start(kind)))
            place = match.end()
        return [*tokens, _Token("end", "", end)]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    @property
    def _after(self) -> _Token:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _is(self, *texts: str) -> bool:
        """Whether the next token is one of these symbols or words, and not quoted."""
        return self._next.kind in ("name", "symbol") and self._next.text in texts

    def _conditions(self) -> list[Written]:
        tests = self._test()
        while self._is("and"):
            self._take()
            tests += self._test()
        return tests

    def _test(self) -> list[Written]:
        if self._is("not") and not self._names_column():
            self._take()
            tests = self._deeper(self._test)
            if len(tests) != 1:
                self._fail("'not' goes with a single test")
            (test,) = tests
            return [Written(test.column, test.operator, test.value, not test.negated)]
        if self._is("("):
            self._take()
            tests = self._deeper(self._conditions)
            self._close(")")
            return tests
        if self._is("isnull", "notnull") and self._after.text == "(" and self._after.kind == "symbol":
            wanted = self._take().text == "isnull"
            self._take()
            if self._next.kind not in ("name", "quoted"):
                self._fail("expected a column name (one that is no identifier: in backquotes)")
            name = self._name()
            self._close(")")
            return [Written(name, "null", wanted)]
        return self._comparison()

    def _deeper(self, read: Callable[[], list[Written]]) -> list[Written]:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"brackets and 'not' are nested more than {_DEEPEST} deep")
        tests = read()
        self._depth -= 1
        return tests

    def _close(self, bracket: str) -> None:
        if self._is("or"):
            self._fail("'or' is not supported: for one column write `column in [a, b]`, else sample twice")
        if not self._is(bracket):
            self._fail(f"expected {bracket!r}")
        self._take()

    def _comparison(self) -> list[Written]:
        left = self._operand()
        tests = []
        while (operator := self._operator()) is not None:
            right = self._operand(after_symbol=True)
            tests.append(self._pair(left, operator, right))
            left = right
        if not tests:
            self._fail("expected comparisons joined by 'and'")
        return tests

    def _operator(self) -> str | None:
        if self._next.kind == "symbol" and self._next.text in _SYMBOLS:
            return self._take().text
        if self._is("in"):
            return self._take().text
        if self._is("not") and self._after.kind == "name" and self._after.text == "in":
            self._at += 2
            return "not in"
        if not self._is("is"):
            return None
        self._take()
        if self._is("not") and not self._names_column():
            self._take()
            return "!="
        return "=="

    def _pair(self, left: Any, operator: str, right: Any) -> Written:
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
        if isinstance(left, Column) and isinstance(right, Column):
            self._fail("a column can only be compared with values (text needs quotes)")
        if isinstance(left, Column):
            return Written(left.name, operator, right)
        if isinstance(right, Column) and operator in mirrored:
            return Written(right.name, mirrored[operator], left)
        self._fail("each comparison needs a column name (a name that is no identifier: in backquotes)")

    def _names_column(self) -> bool:
        """Whether a word is a column here: a comparison by a symbol follows it."""
        return self._after.kind == "symbol" and self._after.text in _SYMBOLS

    def _operand(self, *, after_symbol: bool = False) -> Any:
        token = self._next
        if token.kind in ("text", "number") or (token.kind == "symbol" and token.text in "+-"):
            return self._value()
        if token.kind == "symbol" and token.text in _BRACKETS:
            return self._list()
        if token.kind == "quoted":
            return Column(self._name())
        if token.kind != "name":
            self._fail("expected a column name or a value")
        if self._after.kind == "symbol" and self._after.text == "(":
            self._fail("each comparison needs a column name; the only functions are isnull(column) and notnull(column)")
        constant = token.text in _CONSTANTS
        if constant and (after_symbol or token.text in ("null", "nan") or not self._names_column()):
            return self._value()
        if token.text in WORDS and not self._names_column():
            self._fail(f"{token.text!r} stands where a column name or a value was expected")
        return Column(self._name())

    def _name(self) -> str:
        token = self._take()
        return token.text[1:-1].replace("``", "`") if token.kind == "quoted" else token.text

    def _list(self) -> list[Value]:
        closing = _BRACKETS[self._take().text]
        values: list[Value] = []
        while not self._is(closing):
            values.append(self._value())
            if not self._is(","):
                break
            self._take()
        self._close(closing)
        return values

    def _value(self) -> Value:
        token = self._take()
        if token.kind == "text":
            return self._unescaped(token)
        if token.kind == "name" and token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        sign = 1
        if token.kind == "symbol" and token.text in "+-" and self._next.kind == "number":
            sign, token = -1 if token.text == "-" else 1, self._take()
        if token.kind != "number":
            self._at -= 1
            self._fail("values are numbers, quoted text, True, False, null, or lists of them")
        return sign * self._number(token)

    def _number(self, token: _Token) -> int | float:
        whole = _NUMBER.fullmatch(token.text) is not None
        if len(token.text) > _DIGITS:
            self._fail(f"a number has at most {_DIGITS} digits", token.place)
        try:
            number = int(token.text) if whole else float(token.text)
        except ValueError:
            self._fail("a number is written as 1000, 1_000, 0.5 or 1e6", token.place)
        if token.text.isdigit() and not whole:
            self._fail("a number has no leading zeros; a text stands in quotes", token.place)
        if isinstance(number, float) and math.isinf(number):
            self._fail("the number is too large", token.place)
        return number

    def _unescaped(self, token: _Token) -> str:
        def character(match: re.Match[str]) -> str:
            plain, *codes, other = match.groups()
            if plain is not None:
                return {"n": "\n", "r": "\r", "t": "\t"}.get(plain, plain)
            code = int(next((c for c in codes if c), "110000"), 16)
            if other is not None or code > 0x10FFFF or 0xD800 <= code < 0xE000:
                self._fail(r"a backslash in a text is written \\ (others: \' \" \n \r \t \xHH \uHHHH)", token.place)
            return chr(code)

        return _ESCAPE.sub(character, token.text[1:-1])

    def _fail(self, why: str, place: int | None = None) -> NoReturn:
        at = self._next.place if place is None else place
        shown = self.text if len(self.text) <= 300 else f"{self.text[:300]}..."
        raise TextError(f"cannot read the condition {shown!r}: {why}, near character {at + 1}{_HELP}")


def _unreadable(character: str) -> str:
    """What is wrong with a character that nothing starts with."""
    if character in "\"'`":
        return f"a text or name in {character} does not end, or is empty"
    hints = {
        "#": "there are no comments; a text stands in quotes, a name with # in backquotes",
        "=": "equal is written ==",
        "&": "tests are joined by 'and'",
        "|": "'or' is not supported: for one column write `column in [a, b]`, else sample twice",
    }
    return hints.get(
        character,
        f"{character!r} is not of the language: values are numbers, quoted text, True, False, null, or lists of them; "
        "the only functions are isnull(column) and notnull(column)",
    )
